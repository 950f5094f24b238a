"""Fetch: whole committed batches from memory where they are there, from files in a thread where not, or a wait.

A fetch is tried once this broker is sure to lead; if it has too little and time left, it waits for the high watermark of one of its partitions to move
(or for its time to run out) and is tried again. What is in memory is answered without any copy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from penstock.log.errors import LogDamagedError
from penstock.log.reader import Extent, load_run, read_payloads
from penstock.log.segment_index import PartitionRun
from penstock.model.errors import ErrorCode, PenstockError
from penstock.partition.partition import MissingRun, Partition, WantedRun
from penstock.runtime.shard import Shard
from penstock.service.api import Buffer, FetchedPartition, FetchPartition

logger = logging.getLogger(__name__)


class FetchLimits(msgspec.Struct, frozen=True):
    """Bounds on one fetch, whatever the client asks."""

    bytes_max: int = 55 * 1024 * 1024
    wait_ms_max: int = 600_000
    run_loads_max: int = 1000


class Fetching:
    """Serves fetches on one shard."""

    def __init__(self, shard: Shard, limits: FetchLimits) -> None:
        self._shard = shard
        self._limits = limits
        self._loop = asyncio.get_running_loop()

    def fetch(
        self, partitions: Sequence[FetchPartition], *, min_bytes: int, max_bytes: int, max_wait_ms: int
    ) -> asyncio.Future[list[FetchedPartition]]:
        """The future is done when there is enough, an error to tell, or the time is over."""
        fetch = _Fetch(
            self._shard,
            self._loop,
            self._limits,
            partitions,
            min_bytes=min_bytes,
            max_bytes=max(min(max_bytes, self._limits.bytes_max), 1),
        )
        fetch.start(min(max_wait_ms, self._limits.wait_ms_max))
        return fetch.future


class _Fetch:
    def __init__(
        self,
        shard: Shard,
        loop: asyncio.AbstractEventLoop,
        limits: FetchLimits,
        asked: Sequence[FetchPartition],
        *,
        min_bytes: int,
        max_bytes: int,
    ) -> None:
        self._shard = shard
        self._loop = loop
        self._limits = limits
        self._asked = asked
        self._min_bytes = min_bytes
        self._max_bytes = max_bytes
        self._timer: asyncio.TimerHandle | None = None
        self._waits_on: list[Partition] = []
        # The partitions that were asked for and are served here.
        self._partitions: list[Partition] = []
        self._last_try = False
        self._loads = 0
        self.future: asyncio.Future[list[FetchedPartition]] = loop.create_future()
        # A client that goes away does not wait on.
        self.future.add_done_callback(self._release)

    def start(self, wait_ms: int) -> None:
        self._last_try = wait_ms <= 0
        if not self._last_try:
            self._timer = self._loop.call_later(wait_ms / 1000, self._time_is_over)
        self._attempt()

    def _time_is_over(self) -> None:
        self._last_try = True
        self._timer = None
        if self._waits_on:
            self._stop_waiting()
            self._attempt()

    def _woken(self) -> None:
        # Several partitions may wake one fetch in one commit, and the commit goes on: look again at the turn's end.
        if self._waits_on:
            self._stop_waiting()
            self._loop.call_soon(self._attempt)

    def _stop_waiting(self) -> None:
        if self._waits_on:
            self._shard.counters.fetches_waiting -= 1
        for partition in self._waits_on:
            partition.waiters.pop(self, None)
        self._waits_on = []

    def _attempt(self) -> None:
        self._shard.when_sure(self._try)

    def _try(self) -> None:
        if self.future.done():
            return
        try:
            self._collect()
        except BaseException as error:  # a defect: the listener reports it and answers
            self._finish_with(error)

    def _collect(self) -> None:
        """Finds what there is. Partitions share the room fairly: then the batches that one fetch brings stand near
        each other in the log, which is read in one go, where taking many of one partition would skip over all others."""
        results, readable, failed = self._look_up()
        extents: list[Extent] = []
        reads: list[tuple[FetchedPartition, list[Extent]]] = []
        unloaded: list[WantedRun] = []
        total, left = 0, len(readable)
        for asked, partition, result in readable:
            room = min(asked.max_bytes, (self._max_bytes - total) // left)
            left -= 1
            if room <= 0 and total > 0:
                continue
            try:
                found = partition.extents(asked.offset, room, partition.high_watermark)
            except MissingRun as missing:
                unloaded.append(missing.wanted)
                continue
            if found and total + found[0].size_bytes > self._max_bytes and total > 0:
                continue
            total += sum([extent.size_bytes for extent in found])
            extents.extend(found)
            reads.append((result, found))
        # Runs are loaded once a fetch; with something found after that, the rest waits for the next one: loading again
        # could push out what was loaded first.
        if unloaded and (total == 0 or self._loads == 0):
            self._load(unloaded)
            return
        if (
            total < self._min_bytes
            and not unloaded
            and not failed
            and not self._last_try
            and self._partitions
        ):
            self._wait(self._partitions)
            return
        self._read(results, reads, extents)

    def _look_up(
        self,
    ) -> tuple[list[FetchedPartition], list[tuple[FetchPartition, Partition, FetchedPartition]], bool]:
        """(a result for everything asked, what has something to read, whether anything failed)."""
        results: list[FetchedPartition] = []
        readable = []
        failed = False
        self._partitions = []
        for asked in self._asked:
            result = FetchedPartition(asked.topic, asked.partition)
            results.append(result)
            try:
                partition = self._check(asked, result)
            except PenstockError as error:
                result.error = error.code
                failed = True
                continue
            self._partitions.append(partition)
            if asked.offset < partition.high_watermark:
                readable.append((asked, partition, result))
        return results, readable, failed

    def _check(self, asked: FetchPartition, result: FetchedPartition) -> Partition:
        partition = self._shard.table.require(asked.topic, asked.partition)
        self._shard.check_leading()
        check_leader_epoch(asked.leader_epoch, partition.epoch_base + self._shard.epoch)
        if not partition.log_start <= asked.offset <= partition.end_offset:
            result.high_watermark = partition.high_watermark
            result.log_start_offset = partition.log_start
            raise PenstockError(ErrorCode.OFFSET_OUT_OF_RANGE, f"offset {asked.offset} is not in the log")
        result.high_watermark = partition.high_watermark
        result.log_start_offset = partition.log_start
        return partition

    def _wait(self, partitions: list[Partition]) -> None:
        self._waits_on = partitions
        self._shard.counters.fetches_waiting += 1
        for partition in partitions:
            partition.waiters[self] = self._woken

    def _load(self, missing: list[WantedRun]) -> None:
        self._loads += 1
        if self._loads > self._limits.run_loads_max:
            self._finish_with(RuntimeError("a fetch had to load index runs more often than run_loads_max"))
            return
        cache = self._shard.table.cache
        chosen = missing[: cache.fitting([item.summary for item in missing])]
        read = self._shard.threads.read(lambda: [_try_load(item) for item in chosen])

        def loaded(done: asyncio.Future[list[PartitionRun | LogDamagedError | OSError]]) -> None:
            error = done.exception()
            if error is not None:
                self._finish_with(error)
                return
            for item, run in zip(chosen, done.result(), strict=True):
                if isinstance(run, PartitionRun):
                    cache.put(item.segment, item.partition, run)
                elif not item.segment.removed:
                    self._storage_failed(run)
                    return
            self._attempt()

        read.add_done_callback(loaded)

    def _read(
        self,
        results: list[FetchedPartition],
        reads: list[tuple[FetchedPartition, list[Extent]]],
        extents: list[Extent],
    ) -> None:
        cache = self._shard.log.cache
        missing = []
        for result, found in reads:
            buffers: list[Buffer] = []
            for extent in found:
                payload = cache.get((extent.segment.base_index, extent.position))
                if payload is None:
                    missing.append((result, found))
                    break
                buffers.extend(payload)
            else:
                result.records = buffers
        if not missing:
            self._finish(results)
            return
        wanted = [extent for _, found in missing for extent in found]
        read = self._shard.threads.read(lambda: read_payloads(wanted))

        def done(outcome: asyncio.Future[list[memoryview]]) -> None:
            error = outcome.exception()
            if error is not None:
                self._storage_failed(error)
                return
            payloads = iter(outcome.result())
            for result, found in missing:
                result.records = [next(payloads) for _ in found]
            self._finish(results)

        read.add_done_callback(done)

    def _storage_failed(self, error: BaseException) -> None:
        if not isinstance(error, LogDamagedError | OSError):
            self._finish_with(error)
            return
        logger.error("a fetch could not read the log: %s", error)
        self._finish(
            [
                FetchedPartition(asked.topic, asked.partition, ErrorCode.KAFKA_STORAGE_ERROR)
                for asked in self._asked
            ]
        )

    def _release(self, _: asyncio.Future[list[FetchedPartition]]) -> None:
        self._stop_waiting()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self, results: list[FetchedPartition]) -> None:
        if not self.future.done():
            self.future.set_result(results)

    def _finish_with(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def _try_load(wanted: WantedRun) -> PartitionRun | LogDamagedError | OSError:
    try:
        return load_run(wanted.segment, wanted.summary)
    except (LogDamagedError, OSError) as error:
        return error


def check_leader_epoch(asked: int, current: int) -> None:
    """KIP-320. Raises PenstockError when client and broker do not speak of the same leadership; -1 asks nothing."""
    if asked < 0 or asked == current:
        return
    if asked < current:
        raise PenstockError(
            ErrorCode.FENCED_LEADER_EPOCH, f"leader epoch {asked} is over, {current} is current"
        )
    raise PenstockError(ErrorCode.UNKNOWN_LEADER_EPOCH, f"leader epoch {asked} is not known here yet")
