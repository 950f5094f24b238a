"""A shard's commit log: entries get an index and a place here, and leave as write jobs for another thread.

One thread (the loop) calls everything but `WriteJob.run`; nothing here blocks. `append` gathers entries; `take_job`
hands all that was gathered since the last job to the writer, which writes it with one `writev` per segment and, under
`flush: sync`, one `fdatasync`; `complete` takes the outcome back. At most one job is under way, so whatever arrives
meanwhile becomes the next group commit. New segments are made of spares that another thread allocates ahead: an entry
is refused before it gets an index when no spare is left for its kind, so a full disk never tears a log. The last spares
are for commands alone, and so are the segments made of them: retention must go on when producing cannot.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Sequence

import msgspec

from penstock.codec.entry import ENTRY_HEADER_SIZE, KIND_BATCH, KIND_COMMAND, EntryHeader, encode_header
from penstock.log.disk import Buffer, Disk
from penstock.log.epochs import EpochRuns
from penstock.log.errors import DiskFullError
from penstock.log.reset import ResetJob
from penstock.log.segment import (
    SEGMENT_HEADER_SIZE,
    Segment,
    encode_segment_header,
)
from penstock.log.segment_index import SegmentIndex
from penstock.log.shipping import DigestJob, Shipment
from penstock.log.snapshots import Snapshot, SnapshotStore
from penstock.log.tail_cache import Payload, TailCache
from penstock.log.truncation import Truncation

# An appended entry, and the segment that it went to.
Appended = tuple[EntryHeader, memoryview, Segment]

# Spares that only commands may use, so that retention works on a full disk.
SPARES_RESERVED_FOR_COMMANDS = 2
# Spares that are kept ready: the reserved ones and those that batches fill while the next are being allocated.
SPARES_READY = SPARES_RESERVED_FOR_COMMANDS + 3


class _Write(msgspec.Struct):
    """Buffers that go to one segment, back to back; `spare` names the file that the segment is made of first."""

    segment: Segment
    position: int
    buffers: list[Buffer]
    spare: str | None = None


class WriteJob:
    """One group commit. `run` blocks and belongs to the writer's thread."""

    def __init__(
        self, disk: Disk, shard_uid: uuid.UUID, writes: list[_Write], last_index: int, sync: bool
    ) -> None:
        self._disk = disk
        self._shard_uid = shard_uid
        self._writes = writes
        self.last_index = last_index
        self.sync = sync
        self.bytes_written = 0
        self.syncs = 0
        self.sync_seconds = 0.0

    @property
    def fills_segment(self) -> bool:
        """Whether the job leaves a segment behind."""
        return len(self._writes) > 1

    @property
    def touches_files(self) -> bool:
        """Whether the job opens or leaves a segment besides writing to one."""
        return self.fills_segment or any(write.spare is not None for write in self._writes)

    def run(self) -> WriteJob:
        """Writes; syncs where asked, and always what a segment leaves behind. Raises OSError, which is final."""
        for number, write in enumerate(self._writes):
            segment = write.segment
            if write.spare is not None:
                self._open_spare(segment, write.spare)
            assert segment.file is not None
            if write.buffers:
                self.bytes_written += segment.file.write_at(write.position, write.buffers)
            left_behind = number < len(self._writes) - 1
            if left_behind or self.sync:
                began = time.monotonic()
                segment.file.sync()
                self.syncs += 1
                self.sync_seconds += time.monotonic() - began
        return self

    def _open_spare(self, segment: Segment, spare: str) -> None:
        # The header is durable before the name is: a file that is named a segment always has one.
        segment.file = self._disk.open(spare)
        segment.file.write_at(0, [encode_segment_header(segment.base_index, self._shard_uid)])
        segment.file.sync()
        self._disk.rename(spare, segment.name)
        self._disk.sync_folder()


class CommitLog:
    """The log as the loop sees it. Build it with `penstock.log.recovery.open_log`."""

    def __init__(
        self,
        disk: Disk,
        shard_uid: uuid.UUID,
        *,
        segments: list[Segment],
        spares: Sequence[str],
        segment_bytes: int,
        cache: TailCache,
        sync: bool,
    ) -> None:
        self.disk = disk
        self.shard_uid = shard_uid
        self.segments = segments
        self.spares: deque[str] = deque(spares)
        self.segment_bytes = segment_bytes
        self.cache = cache
        self.sync = sync
        self.epoch = 0
        self.next_index = segments[-1].last_index + 1 if segments else 1
        self.written_index = self.next_index - 1
        self.durable_index = self.next_index - 1
        self.bytes_since_sync = 0
        self._writes: list[_Write] = []
        self._pending_bytes = 0
        self._job_under_way = False

    # --- appending -------------------------------------------------------------------------------

    @property
    def payload_bytes_max(self) -> int:
        """The largest payload that a segment can hold."""
        return self.segment_bytes - SEGMENT_HEADER_SIZE - ENTRY_HEADER_SIZE

    @property
    def active(self) -> Segment:
        """The segment that is written to."""
        return self.segments[-1]

    @property
    def pending_bytes(self) -> int:
        """Appended and not yet handed to a job."""
        return self._pending_bytes

    def spares_for_batches(self) -> bool:
        """Whether a batch could open a new segment."""
        return len(self.spares) > SPARES_RESERVED_FOR_COMMANDS

    def has_room(self, payload_bytes: int, kind: int) -> bool:
        """Whether an entry of that kind and size can be appended now."""
        spares = len(self.spares) - (0 if kind == KIND_COMMAND else SPARES_RESERVED_FOR_COMMANDS)
        if self.segments and self.active.room_bytes >= payload_bytes + ENTRY_HEADER_SIZE:
            # Below zero, the active segment was opened with a reserved spare: its rest is for commands too.
            return spares >= 0
        return spares > 0 and payload_bytes <= self.payload_bytes_max

    def has_room_for_commands(self, payload_sizes: Sequence[int]) -> bool:
        """Whether all these commands can be appended now, one after the other."""
        room = self.active.room_bytes if self.segments else 0
        spares = len(self.spares)
        for size in payload_sizes:
            if size > self.payload_bytes_max:
                return False
            room -= size + ENTRY_HEADER_SIZE
            if room < 0:
                spares -= 1
                room = self.payload_bytes_max - size
        return spares >= 0

    def append_batch(
        self, partition: int, payload: Payload, size_bytes: int, base: int, end: int, max_timestamp: int
    ) -> int:
        """Appends a record batch of offsets [base, end); returns its index. Raises DiskFullError."""
        segment, index, position = self._place(KIND_BATCH, partition, payload, size_bytes)
        assert segment.index is not None
        entry_bytes = size_bytes + ENTRY_HEADER_SIZE
        segment.index.add_batch(partition, base, end, position, entry_bytes, max_timestamp, self.epoch)
        self.cache.put((segment.base_index, position), payload, entry_bytes)
        return index

    def append_command(self, payload: bytes) -> int:
        """Appends an encoded command; returns its index. Raises DiskFullError."""
        segment, index, _ = self._place(KIND_COMMAND, 0, (payload,), len(payload))
        assert segment.index is not None
        segment.index.last_command_index = index
        return index

    def _place(self, kind: int, partition: int, payload: Payload, size: int) -> tuple[Segment, int, int]:
        if not self.has_room(size, kind):
            raise DiskFullError("no segment is left that this entry may use")
        if not self.segments or self.active.room_bytes < size + ENTRY_HEADER_SIZE:
            self._roll()
        segment = self.active
        index = self.next_index
        position = segment.write_position
        header = encode_header(index, self.epoch, kind, partition, payload, self.durable_index)
        writes = self._writes
        if not writes or writes[-1].segment is not segment:
            writes.append(_Write(segment, position, []))
        buffers = writes[-1].buffers
        buffers.append(header)
        buffers.extend(payload)
        segment.write_position = position + size + ENTRY_HEADER_SIZE
        segment.last_index = index
        self._pending_bytes += size + ENTRY_HEADER_SIZE
        self.next_index = index + 1
        return segment, index, position

    def _roll(self) -> None:
        previous = self.segments[-1] if self.segments else None
        if previous is not None and previous.last_index < previous.base_index:
            # Empty and yet too small: a crash came while its tail was cut. The new file takes the place of the same name.
            self.segments.pop()
        elif previous is not None and (not self._writes or self._writes[-1].segment is not previous):
            # Even with nothing pending for it, the segment left behind is synced by the next job.
            self._writes.append(_Write(previous, previous.write_position, []))
        segment = Segment(self.disk, self.next_index, None, self.segment_bytes)
        self.segments.append(segment)
        spare = self.spares.popleft()
        self._writes.append(_Write(segment, segment.write_position, [], spare))

    def append_entries(self, data: bytes | bytearray | memoryview) -> list[Appended]:
        """Appends a leader's entries, whole and back to back; returns (header, payload, segment) of each appended.

        The list is shorter than what was given when the disk has room for a part only (commands may still go where
        batches may not). A writable buffer is taken over: the notes of how much is durable are rewritten in place, and
        the payloads are views of it; of bytes, one copy is made. Raises EntriesRefusedError and DiskFullError, with
        nothing appended.
        """
        raise AssertionError

    # --- epochs ----------------------------------------------------------------------------------

    def epoch_of(self, index: int) -> int:
        """The epoch of an entry from `first_index` - 1 to the newest. Raises IndexError for any other."""
        raise AssertionError

    @property
    def epoch_runs(self) -> EpochRuns:
        """(epoch, first index) for every epoch that an entry of the log has."""
        raise AssertionError

    # --- truncation ------------------------------------------------------------------------------

    def truncate(self, from_index: int, loaded: SegmentIndex | None = None) -> Truncation:
        """Takes away the entries from `from_index` on, which is at least `first_index`. The log is as if they had never
        been, at once, also while a job is under way; the next job cuts the files before it writes what is appended
        meanwhile, so what is complete behind it is durable without them. Raises SealedSegmentError (nothing is done)."""
        raise AssertionError

    @property
    def has_work(self) -> bool:
        """Whether `take_job` has something to do once no job is under way: writes, or files to be cut."""
        raise AssertionError

    # --- shipping --------------------------------------------------------------------------------

    def fitting(self, first_index: int, bytes_max: int) -> int:
        """The last index up to which whole entries from `first_index` (which is there) fit into `bytes_max`; at least
        `first_index`. Cheap; in sealed segments it may say up to 128 KiB less."""
        raise AssertionError

    def entries(self, first_index: int, last_index: int) -> Shipment:
        """The entries from `first_index` to `last_index`, which are all there, as they go to another replica."""
        raise AssertionError

    def digest(self, first_index: int, last_index: int) -> DigestJob:
        """A function for a reader's thread that gives a hash of these (written) entries: the same on every replica that
        holds the same ones, whatever its segments. It raises LogDamagedError, EntriesGoneError, OSError."""
        raise AssertionError

    # --- starting over ---------------------------------------------------------------------------

    def begin_reset(
        self, base_index: int, base_epoch: int, store: SnapshotStore, snapshots: Sequence[Snapshot], index: int
    ) -> ResetJob:
        """A job that replaces all snapshots by those received, as of `index`, and the log by an empty one that goes on
        at `base_index` + 1, where `base_epoch` is the epoch of entry `base_index`, which is at most `index`. No write
        job, checkpoint or removal may be under way; nothing may be appended until `complete_reset`."""
        raise AssertionError

    def complete_reset(self, job: ResetJob) -> None:
        """Takes the outcome of a reset back. Whoever looks after partitions has to build them anew."""
        raise AssertionError

    # --- writing ---------------------------------------------------------------------------------

    def take_job(self, *, sync: bool | None = None) -> WriteJob | None:
        """All that was appended since the last job, or None (nothing to do, or a job is under way)."""
        if self._job_under_way or not self._writes:
            return None
        self._job_under_way = True
        writes, self._writes = self._writes, []
        self._pending_bytes = 0
        return WriteJob(
            self.disk, self.shard_uid, writes, self.next_index - 1, self.sync if sync is None else sync
        )

    def complete(self, job: WriteJob) -> None:
        """Takes a job's outcome back: what is written, what is durable."""
        self._job_under_way = False
        self.written_index = job.last_index
        if job.sync:
            self.durable_index = job.last_index
            self.bytes_since_sync = 0
        else:
            self.bytes_since_sync += job.bytes_written

    def mark_durable(self, index: int) -> None:
        """A sync outside of a job (flush: async) made everything up to `index` durable."""
        self.durable_index = max(self.durable_index, index)

    def unsynced_segment(self) -> Segment | None:
        """The one segment that holds what is written and not synced: earlier ones were synced when they were left behind,
        later ones are still being opened by the job under way."""
        if self.written_index <= self.durable_index:
            return None
        return next(
            (segment for segment in reversed(self.segments) if segment.base_index <= self.written_index), None
        )

    # --- what is kept ----------------------------------------------------------------------------

    def unsealed_segments(self) -> list[Segment]:
        """Segments that are no longer written to and have no index file yet. The next segment of each is durable."""
        return [
            segment
            for segment in self.segments[:-1]
            if segment.index is not None and segment.last_index < self.written_index
        ]

    @property
    def first_index(self) -> int:
        """The oldest entry that is still there."""
        return self.segments[0].base_index if self.segments else self.next_index

    @property
    def size_bytes(self) -> int:
        """Bytes of entries over all segments."""
        return sum(segment.write_position for segment in self.segments)

    def drop_first(self) -> Segment:
        """Takes the oldest sealed segment out of the log; the caller removes its files."""
        segment = self.segments.pop(0)
        segment.removed = True
        return segment
