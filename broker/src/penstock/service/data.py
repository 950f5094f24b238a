"""Produce: from checked batches to answers, by way of the shard's log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from penstock.catalog.partitions import starts_moved
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import HEADER_SIZE, NO_PRODUCER_ID
from penstock.partition.batches import KEPT_FROM, split_batches, with_append_time
from penstock.partition.partition import Partition
from penstock.runtime.clock import Clock
from penstock.runtime.shard import Shard
from penstock.runtime.waiters import Callback
from penstock.service.api import (
    AppendResult,
    DeletedRecords,
    EpochEnd,
    FetchedPartition,
    FetchPartition,
    Position,
    PositionQuery,
    ProduceBatches,
)
from penstock.service.context import RequestContext
from penstock.service.fetching import Fetching, FetchLimits
from penstock.service.positions import PositionLookup
from penstock.service.produce_trace import ProduceTrace
from penstock.service.settings import Settings
from penstock.service.tracing import BrokerTracing
from penstock.session.producers import ProducersExpired, WriteTimes

ACKS_NONE = 0
ACKS_LEADER = 1
ACKS_ALL = -1
# No producer waits longer than this for its acknowledgement, whatever it asks.
PRODUCE_WAIT_MS_MAX = 600_000


class DataServiceImpl:
    """Implements `penstock.service.api.DataService` on one shard."""

    def __init__(self, shard: Shard, settings: Settings, clock: Clock, limits: FetchLimits) -> None:
        self._shard = shard
        self._settings = settings
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._fetching = Fetching(shard, limits)
        self._positions = PositionLookup(shard)
        self._write_times = WriteTimes()
        # None where nothing is traced: then this is all that tracing costs.
        self.tracing: BrokerTracing | None = None

    # --- produce ---------------------------------------------------------------------------------

    def produce(
        self,
        context: RequestContext,
        batches: Sequence[ProduceBatches],
        acks: int,
        timeout_ms: int,
        transactional_id: str | None = None,
    ) -> Awaitable[list[AppendResult]]:
        """See `DataService.produce`."""
        future: asyncio.Future[list[AppendResult]] = self._loop.create_future()
        refusal = _refusal(acks, transactional_id)
        if refusal is not None:
            future.set_result([self._failed(item, refusal) for item in batches])
            return future
        results: list[AppendResult] = []
        last_index = 0
        trace = None if self.tracing is None else self.tracing.receiving(context, acks)
        for item in batches:
            try:
                self._shard.check_leading()
                index, result = self._append(item, trace)
            except PenstockError as error:
                result = self._failed(item, error)
                if trace is not None:
                    trace.refused(item, error)
            else:
                last_index = max(last_index, index)
            results.append(result)
        if trace is not None and trace.following:
            trace.answer(future)
        if acks == ACKS_NONE or last_index <= self._shard.commit_index:
            future.set_result(results)
            return future
        wait = self._shard.when_committed if acks == ACKS_ALL else self._shard.when_stored
        self._answer_when(wait, future, results, last_index, timeout_ms, needs_copies=acks == ACKS_ALL)
        return future

    def _append(self, item: ProduceBatches, trace: ProduceTrace | None) -> tuple[int, AppendResult]:
        partition = self._shard.table.require(item.topic, item.partition)
        if item.records is None:
            raise PenstockError(ErrorCode.INVALID_RECORD, "the request holds no record batch")
        settings = self._settings.topic(item.topic)
        if settings.own:
            raise PenstockError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"topic {item.topic} is the brokers' own: clients may read it, and not write to it",
            )
        if settings.min_in_sync > self._shard.in_sync_count:
            raise PenstockError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"topic {item.topic} has min.insync.replicas={settings.min_in_sync}, but {self._shard.in_sync_count}"
                " copies are in sync: lower the setting or add replicas",
            )
        batches = split_batches(item.records, settings.max_message_bytes)
        first_offset, last_index, append_time = -1, 0, -1
        for header, batch in batches:
            if header.producer_id != NO_PRODUCER_ID:
                known = self._shard.machines.producers.check(partition.key, header)
                if known is not None:
                    first_offset = known.base_offset if first_offset < 0 else first_offset
                    last_index = max(last_index, known.log_index)
                    if trace is not None:
                        trace.repeated(partition, header, batch, known.base_offset)
                    continue
            records: tuple[memoryview, ...] = (batch[KEPT_FROM:],)
            if settings.log_append_time:
                append_time = self._clock.now_ms()
                header, head = with_append_time(header, batch, append_time)
                records = (head[KEPT_FROM:], batch[HEADER_SIZE:])
            last_index, base = self._shard.append(partition, header, records)
            first_offset = base if first_offset < 0 else first_offset
            if trace is not None and not trace.batches.passes(settings, partition, header, batch, base):
                trace.appended(partition, header, batch, last_index, base)
            self._shard.counters.messages_in += header.record_count
            self._shard.counters.batches_in += 1
        return last_index, AppendResult(
            item.topic,
            item.partition,
            base_offset=first_offset,
            log_append_time_ms=append_time,
            log_start_offset=partition.log_start,
        )

    def _answer_when(
        self,
        wait: Callable[[int, Callback], None],
        future: asyncio.Future[list[AppendResult]],
        results: list[AppendResult],
        index: int,
        timeout_ms: int,
        *,
        needs_copies: bool,
    ) -> None:
        def expire() -> None:
            late = PenstockError(ErrorCode.REQUEST_TIMED_OUT, "the batch was not committed in time")
            finish(late)

        def finish(error: PenstockError | None) -> None:
            timer.cancel()
            if future.done():
                return
            if error is not None:
                future.set_result([self._late(result, error) for result in results])
            else:
                future.set_result([self._counted(result) for result in results] if needs_copies else results)

        timer = self._loop.call_later(min(max(timeout_ms, 1), PRODUCE_WAIT_MS_MAX) / 1000, expire)
        wait(index, finish)

    def _counted(self, result: AppendResult) -> AppendResult:
        """A batch that was committed while there were fewer copies than its topic asks for may be on so many."""
        copies = self._shard.in_sync_count
        least = self._settings.topic(result.topic).min_in_sync
        if copies >= least:
            return result
        return self._late(
            result,
            PenstockError(
                ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                f"topic {result.topic} has min.insync.replicas={least}, but only {copies} copies were in sync when the"
                " batch was committed",
            ),
        )

    def _failed(self, item: ProduceBatches, error: PenstockError) -> AppendResult:
        self._shard.counters.refused(error.code.name)
        return AppendResult(item.topic, item.partition, error.code, message=error.sentence)

    def _late(self, result: AppendResult, error: PenstockError) -> AppendResult:
        if result.error is not ErrorCode.NONE:
            return result
        self._shard.counters.refused(error.code.name)
        return AppendResult(result.topic, result.partition, error.code, message=error.sentence)

    async def init_producer_id(
        self, context: RequestContext, transactional_id: str | None, producer_id: int, producer_epoch: int
    ) -> tuple[int, int]:
        """See `DataService.init_producer_id`."""
        if transactional_id is not None:
            raise PenstockError(
                ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                "transactions are not served by this release: leave transactional.id unset",
            )
        new_id, command = self._shard.machines.producers.decide_allocate()
        await self._shard.propose([command])
        return new_id, 0

    def idle_producers(self, idle_ms: int) -> list[ProducersExpired]:
        """The commands that forget producers which were idle for that long. To be called at intervals."""
        idle_index = self._write_times.note(self._clock.monotonic_ms(), self._shard.commit_index, idle_ms)
        return self._shard.machines.producers.decide_expire(idle_index)

    # --- reading ---------------------------------------------------------------------------------

    def fetch(
        self,
        context: RequestContext,
        partitions: Sequence[FetchPartition],
        *,
        min_bytes: int,
        max_bytes: int,
        max_wait_ms: int,
    ) -> Awaitable[list[FetchedPartition]]:
        """See `DataService.fetch`."""
        self._shard.counters.fetches += 1
        answer = self._fetching.fetch(
            partitions, min_bytes=min_bytes, max_bytes=max_bytes, max_wait_ms=max_wait_ms
        )
        if self.tracing is not None:
            self.tracing.reading.fetching(context, answer)
        return answer

    async def list_offsets(self, context: RequestContext, queries: Sequence[PositionQuery]) -> list[Position]:
        """See `DataService.list_offsets`."""
        return [await self._positions.find(query) for query in queries]

    async def epoch_ends(
        self, context: RequestContext, queries: Sequence[tuple[str, int, int, int]]
    ) -> list[EpochEnd]:
        """See `DataService.epoch_ends`."""
        return [self._positions.epoch_end(*query) for query in queries]

    async def delete_records(
        self, context: RequestContext, offsets: Sequence[tuple[str, int, int]], timeout_ms: int
    ) -> list[DeletedRecords]:
        """See `DataService.delete_records`."""
        results: list[DeletedRecords] = []
        starts: dict[int, int] = {}
        for topic, number, offset in offsets:
            try:
                partition = self._shard.table.require(topic, number)
                starts[partition.key] = _new_start(partition, offset)
                results.append(DeletedRecords(topic, number, low_watermark=starts[partition.key]))
            except PenstockError as error:
                results.append(DeletedRecords(topic, number, error.code))
        if starts:
            await self._shard.propose(starts_moved(starts))
        return results


def _new_start(partition: Partition, offset: int) -> int:
    wanted = partition.high_watermark if offset == -1 else offset
    if not 0 <= wanted <= partition.high_watermark:
        raise PenstockError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"offset {offset} is beyond the high watermark {partition.high_watermark}",
        )
    return max(wanted, partition.log_start)


def _refusal(acks: int, transactional_id: str | None) -> PenstockError | None:
    if acks not in (ACKS_NONE, ACKS_LEADER, ACKS_ALL):
        return PenstockError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks is 0, 1 or -1 (all), not {acks}")
    if transactional_id is not None:
        return PenstockError(
            ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions are not served by this release"
        )
    return None
