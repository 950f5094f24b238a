"""The driver of one shard: appends go into its log, commits come out and are applied.

The loop owns everything here. What arrives in one turn is appended at once and handed to the writer's thread at the
end of the turn as one group commit; when the job is back, the commit rule says how far the log counts, the entries up
to there are applied in order, and whoever waited for them is answered.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from penstock.catalog.partitions import LogStartsMoved, Partitions, PartitionsDropped, PartitionsOpened
from penstock.catalog.topics import Catalog
from penstock.log.commit_log import CommitLog, WriteJob
from penstock.log.errors import DiskFullError
from penstock.model.commands import Command, StateMachine
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import NO_PRODUCER_ID, BatchHeader
from penstock.partition.partition import Partition
from penstock.partition.table import PartitionTable
from penstock.replication.commit_rule import standalone_commit_index
from penstock.runtime.command_codec import CommandCodec
from penstock.runtime.threads import Threads
from penstock.session.producers import ProducerSessions
from penstock.telemetry.counters import Counters

_BATCH_PREFIX = struct.Struct(">qii")  # base offset, batch length, partition leader epoch
_DISK_FULL = "the broker's disk is full: free space or grow the volume"
# A batch that is a view of something more than this many times its size is copied, so that what is kept for consumers
# holds in memory what it says, and not whole requests.
VIEW_RATIO_MAX = 4
# A write of at most this many bytes is done on the loop under flush: async: the page cache takes it at once, and a
# thread's turn-around would cost more.
INLINE_WRITE_BYTES_MAX = 1024 * 1024


class _BatchInFlight(msgspec.Struct, gc=False):
    index: int
    partition: Partition
    end_offset: int
    header: BatchHeader | None


class _CommandInFlight(msgspec.Struct, gc=False):
    index: int
    command: Command


class Machines(msgspec.Struct):
    """The shard's state machines. `others` are told of their own commands only."""

    catalog: Catalog
    partitions: Partitions
    producers: ProducerSessions
    others: Sequence[StateMachine] = ()

    def all(self) -> list[StateMachine]:
        """Every machine, in the order in which they are restored."""
        return [self.catalog, self.partitions, self.producers, *self.others]


class Shard:
    """See the module's text. `on_fatal` is called with the error when the log cannot be written any more."""

    def __init__(
        self,
        log: CommitLog,
        machines: Machines,
        table: PartitionTable,
        threads: Threads,
        counters: Counters,
        *,
        pending_bytes_max: int,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.log = log
        self.machines = machines
        self.table = table
        self.threads = threads
        self.counters = counters
        self.commit_index = log.next_index - 1
        self.codec = CommandCodec(machines.all())
        # Copies that count now; a shard of one broker has its own.
        self.in_sync_count = 1
        # Set by the disk watch: produce is refused, commands still go on.
        self.refuse_batches: str | None = None
        # Called after a segment was left behind full: it wants an index file, and a checkpoint is due.
        self.on_segment_filled: Callable[[], None] = lambda: None
        self.on_written: Callable[[], None] = lambda: None
        self._pending_bytes_max = pending_bytes_max
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._in_flight: deque[_BatchInFlight | _CommandInFlight] = deque()
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._flush_due = False

    # --- appending -------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch of this leadership."""
        return self.log.epoch

    def append(
        self, partition: Partition, header: BatchHeader, records: tuple[memoryview, ...]
    ) -> tuple[int, int]:
        """Appends one checked batch; returns (index, base offset).

        `records` are the batch's bytes from byte 16 on, in one or more buffers: everything but base offset, length
        and leader epoch, which are filled in here. Raises PenstockError when the log cannot take it.
        """
        if self.refuse_batches is not None:
            raise PenstockError(ErrorCode.KAFKA_STORAGE_ERROR, self.refuse_batches)
        if self.log.pending_bytes > self._pending_bytes_max:
            raise PenstockError(ErrorCode.REQUEST_TIMED_OUT, "the disk cannot keep up: try again later")
        base = partition.end_offset
        end = base + header.last_offset_delta + 1
        size = header.size_bytes
        if size > self.log.payload_bytes_max:
            raise PenstockError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"the record batch has {size} bytes, a segment of the log holds {self.log.payload_bytes_max}:"
                " send smaller batches or raise log.segment.bytes",
            )
        records = tuple(map(_unpinned, records))
        prefix = _BATCH_PREFIX.pack(base, header.batch_length, partition.epoch_base + self.log.epoch)
        try:
            index = self.log.append_batch(
                partition.key, (prefix, *records), size, base, end, header.max_timestamp
            )
        except DiskFullError as error:
            raise PenstockError(ErrorCode.KAFKA_STORAGE_ERROR, _DISK_FULL) from error
        partition.appended(self.log.active, end, size)
        produced = None
        if header.producer_id != NO_PRODUCER_ID:
            produced = header._replace(base_offset=base)
            self.machines.producers.stage_batch(index, partition.key, produced)
        self._in_flight.append(_BatchInFlight(index, partition, end, produced))
        self._flush_soon()
        return index, base

    def propose(self, commands: Sequence[Command]) -> asyncio.Future[None]:
        """Appends commands; the future is done when all are committed and applied. Raises PenstockError at once
        (nothing appended) when the log cannot take them."""
        payloads = [self.codec.encode(command) for command in commands]
        sizes = [len(payload) for payload in payloads]
        if not self.log.has_room_for_commands(sizes):
            largest, allowed = max(sizes), self.log.payload_bytes_max
            raise PenstockError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                _DISK_FULL
                if largest <= allowed
                else f"the change makes an entry of {largest} bytes, a segment of the log holds {allowed}:"
                " make it in smaller steps or raise log.segment.bytes",
            )
        future = self._loop.create_future()
        if not commands:
            future.set_result(None)
            return future
        for command, payload in zip(commands, payloads, strict=True):
            index = self.log.append_command(payload)
            self.codec.machine_of(command).stage(index, command)
            self._in_flight.append(_CommandInFlight(index, command))
        self.when_committed(self.log.next_index - 1, lambda: _finish(future))
        self._flush_soon()
        return future

    def when_committed(self, index: int, callback: Callable[[], None]) -> None:
        """Calls back once the entry is committed and applied (at once when it is)."""
        if index <= self.commit_index:
            callback()
            return
        if self._waiting:
            # Callbacks are kept in order of index; one for an older entry waits a little longer instead.
            index = max(index, self._waiting[-1][0])
        self._waiting.append((index, callback))

    # --- writing ---------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        pending = self.log.pending_bytes
        job = self.log.take_job()
        if job is None:
            return
        self.counters.log_appends += 1
        if not job.sync and pending <= INLINE_WRITE_BYTES_MAX and not job.touches_files:
            try:
                job.run()
            except OSError as error:
                self._written(job, error)
            else:
                self._written(job, None)
        else:
            self.threads.writer.submit(job.run, self._written)

    def _written(self, job: WriteJob | None, error: BaseException | None) -> None:
        if error is not None or job is None:
            self._on_fatal(error or RuntimeError("the log's writer ended without an outcome"))
            return
        self.log.complete(job)
        self.counters.log_append_bytes += job.bytes_written
        self.counters.fsyncs += job.syncs
        self.counters.fsync_seconds += job.sync_seconds
        self.advance()
        if job.fills_segment:
            self.on_segment_filled()
        self.on_written()
        if self.log.pending_bytes and not self._flush_due:
            self._flush()

    def advance(self) -> None:
        """Applies what became committed and answers who waited for it."""
        commit = standalone_commit_index(
            written_index=self.log.written_index, durable_index=self.log.durable_index, sync=self.log.sync
        )
        in_flight = self._in_flight
        touched: dict[Partition, int] = {}
        while in_flight and in_flight[0].index <= commit:
            entry = in_flight.popleft()
            if type(entry) is _BatchInFlight:
                if entry.header is not None:
                    self.machines.producers.apply_batch(entry.index, entry.partition.key, entry.header)
                touched[entry.partition] = entry.end_offset
            else:
                assert type(entry) is _CommandInFlight
                self._apply(entry.index, entry.command)
        self.commit_index = max(self.commit_index, commit)
        for partition, end in touched.items():
            partition.commit(end)
        waiting = self._waiting
        while waiting and waiting[0][0] <= commit:
            waiting.popleft()[1]()

    def _apply(self, index: int, command: Command) -> None:
        self.codec.machine_of(command).apply(index, command)
        match command:
            case PartitionsOpened(partitions=states):
                for state in states:
                    self.table.open(state)
            case PartitionsDropped(keys=keys):
                for key in keys:
                    self.table.drop(key)
            case LogStartsMoved(starts=starts):
                for key, start in starts.items():
                    moved = self.table.by_key.get(key)
                    if moved is not None:
                        moved.move_start(start)
            case _:
                pass

    def fail(self, error: BaseException) -> None:
        """The storage can no longer be trusted: nothing is acknowledged any more and the broker ends."""
        self._on_fatal(error)

    @property
    def idle(self) -> bool:
        """Whether everything appended is committed."""
        return not self._in_flight


def _unpinned(view: memoryview) -> memoryview:
    whole = memoryview(view.obj).nbytes
    return view if view.nbytes * VIEW_RATIO_MAX >= whole else memoryview(bytes(view))


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
