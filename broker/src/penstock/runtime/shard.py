"""The driver of one shard's log and state: entries go into the log, commits come out and are applied.

The loop owns everything here. What arrives in one turn is appended at once and handed to the writer's thread at the
end of the turn as one group commit. Whoever decides what is committed (`runtime.replica`) is told of both through the
hooks and calls `advance`; then the entries up to there are applied in order, and whoever waited for them is answered.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence

from penstock.catalog.partitions import LogStartsMoved, PartitionsDropped, PartitionsOpened
from penstock.codec.entry import ENTRY_HEADER_SIZE, KIND_BATCH
from penstock.log.commit_log import CommitLog
from penstock.log.errors import DiskFullError, ReleaseTooOldError
from penstock.log.segment_index import SegmentIndex
from penstock.log.snapshots import Snapshot
from penstock.log.write_job import WriteJob
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import NO_PRODUCER_ID, BatchHeader
from penstock.partition.partition import Partition
from penstock.partition.table import PartitionTable
from penstock.raft.configuration import Change, Configuration
from penstock.replication.comparing import StateHashed
from penstock.replication.members import (
    FeatureLevelRaised,
    LeadershipBegan,
    MemberChanged,
    ShardRecovered,
)
from penstock.runtime.command_codec import CommandCodec
from penstock.runtime.in_flight import BatchInFlight, CommandInFlight, InFlight, batch_in_flight
from penstock.runtime.machines import Machines
from penstock.runtime.received import ReceivedEntries
from penstock.runtime.threads import Threads
from penstock.runtime.waiters import Callback, IndexWaiters
from penstock.telemetry.counters import Counters
from penstock.telemetry.samples import Queue

_BATCH_PREFIX = struct.Struct(">qii")  # base offset, batch length, partition leader epoch
_DISK_FULL = "the broker's disk is full: free space or grow the volume"
# A batch that is a view of something more than this many times its size is copied, so that what is kept for consumers
# holds in memory what it says, and not whole requests.
VIEW_RATIO_MAX = 4
# A write of at most this many bytes is done on the loop under flush: async: the page cache takes it at once, and a
# thread's turn-around would cost more.
INLINE_WRITE_BYTES_MAX = 1024 * 1024


class Shard:
    """See the module's text. `on_fatal` is called with the error when the log cannot be written any more."""

    def __init__(
        self,
        log: CommitLog,
        machines: Machines,
        table: PartitionTable,
        threads: Threads,
        counters: Counters,
        in_flight: InFlight,
        *,
        commit_index: int,
        state_index: int,
        pending_bytes_max: int,
        uncommitted_bytes_max: int,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.log = log
        self.machines = machines
        self.table = table
        self.threads = threads
        self.counters = counters
        self.in_flight = in_flight
        self.codec = CommandCodec(machines.all())
        # The state is as of this entry, although less may be known to be committed: a leader sent it.
        self.state_index = state_index
        # Whether this broker may append: it leads, and everything of earlier epochs is committed and applied.
        self.leading = False
        # Whether the log could not be written: nothing more is.
        self.failed = False
        # Copies that count now.
        self.in_sync_count = 1
        # Set by the disk watch: produce is refused, commands still go on.
        self.refuse_batches: str | None = None
        # Called after a segment was left behind full: it wants an index file, and a checkpoint is due.
        self.on_segment_filled: Callable[[], None] = lambda: None
        self.on_written: Callable[[], None] = lambda: None
        # The replica's: before what was appended is handed to the writer, and when more of the log is stored.
        self.on_appended: Callable[[], None] = lambda: None
        self.on_stored: Callable[[], None] = lambda: None
        # The disk itself has finished something; a write that only reached the page cache says nothing about it.
        self.on_synced: Callable[[], None] = lambda: None
        # Before anybody is told that something is stored or committed.
        self.before_answering: Callable[[], None] = lambda: None
        # The oldest entries left the log.
        self.on_dropped: Callable[[], None] = lambda: None
        # Calls back once reads may be answered, or refused (`ReadGate.when_sure`).
        self.when_sure: Callable[[Callable[[], None]], None] = lambda then: then()
        self.reads_waiting: Callable[[], int] = lambda: 0
        # Told of a change of the members, and of the first entry of a leadership, when they are applied.
        self.on_member_changed: Callable[[], None] = lambda: None
        self.on_led: Callable[[int, LeadershipBegan], None] = lambda index, command: None
        # Told of the entries at which replicas compare their state, and when a leader's state replaced this one.
        self.on_state_hashed: Callable[[int, StateHashed], None] = lambda index, command: None
        self.on_state_replaced: Callable[[], None] = lambda: None
        self._committed = IndexWaiters(commit_index)
        self._stored = IndexWaiters(log.next_index - 1)
        self._pending_bytes_max = pending_bytes_max
        self._uncommitted_bytes_max = uncommitted_bytes_max
        # Bytes of entries that wait for other replicas; what was committed since it was counted is still in it.
        self._uncommitted_bytes = 0
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._flush_due = False
        self._commit_known = commit_index
        # Bytes of entries that this broker appended as the leader, ever.
        self.appended_bytes = 0

    # --- who leads -------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The newest epoch that this broker knows."""
        return self.log.epoch

    @property
    def commit_index(self) -> int:
        """Everything up to here is committed and applied."""
        return self._committed.reached

    def configuration_in_log(self) -> Configuration:
        """The members as of the log's end, committed or not: one step ahead of the committed ones at most."""
        configuration = self.machines.members.configuration
        for index, command in self.in_flight.changes():
            # A leader's state may cover entries that follow it.
            if index > self.state_index:
                configuration = configuration.changed([Change(command.change, command.member)])
        return configuration

    def check_leading(self) -> None:
        """Raises PenstockError(NOT_LEADER_OR_FOLLOWER) unless this broker serves clients."""
        if not self.leading:
            raise PenstockError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                "this broker does not lead the shard now: ask the cluster for its leader again",
            )

    async def surely_leading(self) -> None:
        """Returns once reads may be answered; raises PenstockError(NOT_LEADER_OR_FOLLOWER) where they are refused."""
        sure = self._loop.create_future()
        self.when_sure(lambda: _finish(sure, None))
        await sure
        self.check_leading()

    def stage_in_flight(self) -> None:
        """What earlier leaders appended counts for the decisions of this one."""
        self.in_flight.stage(self.codec, self.machines.producers)

    def stop_leading(self, error: PenstockError) -> None:
        """Somebody else leads, or nobody: what is staged is dropped, and who waits is told `error`."""
        self.leading = False
        for machine in self.machines.all():
            machine.drop_staged()
        self._committed.fail(error)
        self._stored.fail(error)
        for partition in list(self.table):
            partition.wake()

    def fail_uncommitted(self, error: PenstockError) -> None:
        """Whoever waits for a commit is told `error`: what it waits for may be committed with fewer copies than it was
        promised."""
        self._committed.fail(error)

    # --- appending -------------------------------------------------------------------------------

    def append(
        self, partition: Partition, header: BatchHeader, records: tuple[memoryview, ...]
    ) -> tuple[int, int]:
        """Appends one checked batch; returns (index, base offset).

        `records` are the batch's bytes from byte 16 on, in one or more buffers: everything but base offset, length
        and leader epoch, which are filled in here. Raises PenstockError when the log cannot take it.
        """
        if not self.leading:
            self.check_leading()
        if self.refuse_batches is not None:
            raise PenstockError(ErrorCode.KAFKA_STORAGE_ERROR, self.refuse_batches)
        if self.log.pending_bytes > self._pending_bytes_max:
            raise PenstockError(ErrorCode.REQUEST_TIMED_OUT, "the disk cannot keep up: try again later")
        base = partition.end_offset
        end = base + header.last_offset_delta + 1
        size = header.size_bytes
        self._check_uncommitted(size + ENTRY_HEADER_SIZE)
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
        self.appended_bytes += size + ENTRY_HEADER_SIZE
        self._uncommitted_bytes += size + ENTRY_HEADER_SIZE
        partition.appended(self.log.active, end, size)
        produced = None
        if header.producer_id != NO_PRODUCER_ID:
            produced = header._replace(base_offset=base)
            self.machines.producers.stage_batch(index, partition.key, produced)
        self.in_flight.add(BatchInFlight(index, partition.key, end, produced))
        self.flush_soon()
        return index, base

    def propose(self, commands: Sequence[Command]) -> asyncio.Future[None]:
        """Appends commands; the future is done when all are committed and applied, or fails with PenstockError. Raises
        PenstockError at once (nothing appended) when the log cannot take them or this broker does not lead."""
        self.check_leading()
        future = self._loop.create_future()
        if not commands:
            future.set_result(None)
            return future
        index = self.append_commands(commands)
        self.when_committed(index, lambda error: _finish(future, error))
        return future

    def append_commands(self, commands: Sequence[Command]) -> int:
        """Appends and stages commands, whoever leads; returns the last one's index. Raises PenstockError (nothing
        appended) when the log cannot take them."""
        level = max(self.machines.members.level, 1)
        for command in commands:
            assert command.feature_level <= level, f"{type(command).__name__} in a shard of level {level}"
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
        for command, payload in zip(commands, payloads, strict=True):
            index = self.log.append_command(payload)
            self.appended_bytes += len(payload) + ENTRY_HEADER_SIZE
            self.codec.machine_of(command).stage(index, command)
            self.in_flight.add(CommandInFlight(index, command))
        self.flush_soon()
        return self.log.next_index - 1

    def when_committed(self, index: int, callback: Callback) -> None:
        """Calls back with None once the entry is committed and applied (at once when it is), or with the error that
        makes its fate unknown."""
        self._committed.wait(index, callback)

    def when_stored(self, index: int, callback: Callback) -> None:
        """The same for this broker's own log: on disk under `flush: sync`, written under `async`."""
        self._stored.wait(index, callback)

    # --- following -------------------------------------------------------------------------------

    def follow(self, entries: ReceivedEntries) -> int:
        """Appends a leader's entries; returns the last index that the log holds then, which is
        lower than what came when the disk is full. Raises EntriesRefusedError, DiskFullError (nothing appended), and
        ReleaseTooOldError for a command that this release does not know."""
        codec, table, in_flight = self.codec, self.table.by_key, self.in_flight
        for header, payload, segment in self.log.append_entries(entries.data, entries.headers):
            if header.kind == KIND_BATCH:
                batch, _ = batch_in_flight(header, payload)
                in_flight.add(batch)
                partition = table.get(header.partition)
                if partition is not None:
                    partition.appended(segment, batch.end_offset, header.length)
            else:
                in_flight.add(CommandInFlight(header.log_index, codec.decode(payload)))
        self.flush_soon()
        return self.log.next_index - 1

    def begin_anew(self, base_index: int, covered_index: int, snapshots: Sequence[Snapshot]) -> None:
        """The log was replaced by an empty one behind `base_index`, and the state by a leader's as of `covered_index`."""
        self.machines.restore({snapshot.name: snapshot for snapshot in snapshots})
        self.on_state_replaced()
        self.state_index = covered_index
        self.in_flight.clear()
        self.table.clear()
        for state in self.machines.partitions.states.committed.values():
            self.table.open(state)
        self._commit_known = self._committed.reached = self._stored.reached = base_index

    def truncate(self, from_index: int, loaded: SegmentIndex | None = None) -> None:
        """Takes away entries that another leader holds otherwise; none of them is committed. Raises SealedSegmentError."""
        cut = self.log.truncate(from_index, loaded)
        self.in_flight.truncate(from_index)
        self.table.truncated(cut)
        self._stored.reached = min(self._stored.reached, from_index - 1)
        self.flush_soon()

    # --- writing ---------------------------------------------------------------------------------

    @property
    def stored_index(self) -> int:
        """The last entry that this broker's copy counts for."""
        return self.log.durable_index if self.log.sync else self.log.written_index

    def flush_soon(self) -> None:
        """Hands what was appended to the writer at the end of the loop's turn."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self.on_appended()
        self._count_uncommitted()
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

    def _check_uncommitted(self, size_bytes: int) -> None:
        """Whether so much more may wait for other replicas; where nothing waits, anything may."""
        allowed = self._uncommitted_bytes_max - size_bytes
        if self._uncommitted_bytes > allowed:
            # Nothing may have been appended, and so nothing counted, since the others came back.
            self._count_uncommitted()
            if self._uncommitted_bytes > max(allowed, 0):
                raise PenstockError(
                    ErrorCode.NOT_ENOUGH_REPLICAS,
                    "the other replicas cannot keep up, log.uncommitted.bytes.max is reached: try again later",
                )

    def _count_uncommitted(self) -> None:
        first, last = self.commit_index + 1, self.log.next_index - 1
        self._uncommitted_bytes = (
            self.log.span_bytes(first, last) if self.log.first_index <= first <= last else 0
        )

    def _written(self, job: WriteJob | None, error: BaseException | None) -> None:
        if error is not None or job is None:
            self.fail(error or RuntimeError("the log's writer ended without an outcome"))
            return
        self.log.complete(job)
        self.counters.log_append_bytes += job.bytes_written
        self.counters.fsyncs += job.syncs
        self.counters.fsync_seconds += job.sync_seconds
        if job.syncs:
            self.on_synced()
        self.before_answering()
        self._stored.reach(self.stored_index)
        self.on_stored()
        if job.fills_segment:
            self.on_segment_filled()
        self.on_written()
        if self.log.has_work and not self._flush_due:
            self._flush()

    # --- committing ------------------------------------------------------------------------------

    def advance(self, commit_index: int) -> bool:
        """Applies what became committed and answers who waited for it; gives whether commands were among it. What is
        committed and not in this broker's log yet is applied when it is."""
        self.before_answering()
        self._commit_known = max(self._commit_known, commit_index)
        commit = min(self._commit_known, self.log.next_index - 1)
        touched: dict[int, int] = {}
        commands = False
        for entry in self.in_flight.pop_committed(commit):
            known = entry.index <= self.state_index
            if type(entry) is BatchInFlight:
                if entry.header is not None and not known:
                    self.machines.producers.apply_batch(entry.index, entry.partition, entry.header)
                touched[entry.partition] = entry.end_offset
            else:
                assert type(entry) is CommandInFlight
                commands = True
                if not known:
                    self._apply(entry.index, entry.command)
        for key, end in touched.items():
            partition = self.table.by_key.get(key)
            if partition is not None:
                partition.commit(end)
        self._committed.reach(commit)
        return commands

    def _apply(self, index: int, command: Command) -> None:
        self.codec.machine_of(command).apply(index, command)
        match command:
            case PartitionsOpened(partitions=states):
                for state in states:
                    if state.key not in self.table.by_key:
                        self._attach(self.table.open(state), index)
            case PartitionsDropped(keys=keys):
                for key in keys:
                    self.table.drop(key)
            case LogStartsMoved(starts=starts):
                for key, start in starts.items():
                    moved = self.table.by_key.get(key)
                    if moved is not None:
                        moved.move_start(start)
            case MemberChanged() | ShardRecovered():
                self.on_member_changed()
            case LeadershipBegan():
                self.on_led(index, command)
            case FeatureLevelRaised():
                self._check_level()
            case StateHashed():
                self.on_state_hashed(index, command)
            case _:
                pass

    def _check_level(self) -> None:
        try:
            self.machines.check_level()
        except ReleaseTooOldError as error:
            # What comes next could be anything; a newer release goes on from here.
            self.fail(error)

    def _attach(self, partition: Partition, opened_at: int) -> None:
        """A follower may hold batches of a partition before it learns that the partition's opening is committed."""
        for segment in self.log.segments:
            if segment.last_index > opened_at and segment.run(partition.key) is not None:
                partition.attach(segment)

    def fail(self, error: BaseException) -> None:
        """The storage can no longer be trusted: nothing is acknowledged any more and the broker ends."""
        self.failed = True
        self._on_fatal(error)

    def queues(self) -> list[Queue]:
        """What waits for the log's disk and for the other members. Entries that wait are bounded by their bytes."""
        log, pending_max, uncommitted_max = self.log, self._pending_bytes_max, self._uncommitted_bytes_max
        return [
            Queue("entries_for_disk", "items", lambda: log.next_index - 1 - log.written_index),
            Queue("entries_for_disk", "bytes", lambda: log.pending_bytes, pending_max),
            Queue("entries_for_commit", "items", lambda: max(log.next_index - 1 - self.commit_index, 0)),
            Queue("entries_for_commit", "bytes", self._bytes_for_commit, uncommitted_max),
            Queue("requests_for_disk", "items", lambda: len(self._stored)),
            Queue("requests_for_commit", "items", lambda: len(self._committed)),
            Queue("fetches_for_messages", "items", lambda: self.counters.fetches_waiting),
            Queue("reads_for_leadership", "items", lambda: self.reads_waiting()),
            Queue("reads_for_thread", "items", lambda: self.threads.reads_open),
        ]

    def _bytes_for_commit(self) -> int:
        self._count_uncommitted()
        return self._uncommitted_bytes

    @property
    def idle(self) -> bool:
        """Whether everything appended is written, and committed where this broker leads."""
        written = self.log.written_index == self.log.next_index - 1
        return written and (not self.in_flight or not self.leading)


def _unpinned(view: memoryview) -> memoryview:
    whole = memoryview(view.obj).nbytes
    return view if view.nbytes * VIEW_RATIO_MAX >= whole else memoryview(bytes(view))


def _finish(future: asyncio.Future[None], error: PenstockError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
