"""A shard's commit log: entries get an index and a place here, and leave as write jobs for another thread.

One thread (the loop) calls everything but `WriteJob.run`; nothing here blocks. `append` gathers entries; `take_job`
hands all that was gathered since the last job to the writer, which writes it with one `writev` per segment and, under
`flush: sync`, one `fdatasync`; `complete` takes the outcome back. At most one job is under way, so whatever arrives
meanwhile becomes the next group commit. New segments are made of spares that another thread allocates ahead: an entry
is refused before it gets an index when no spare is left for its kind, so a full disk never tears a log. The last spares
are for commands alone, and so are the segments made of them: retention must go on when producing cannot.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Sequence

from penstock.codec.entry import (
    ENTRY_HEADER_SIZE,
    KIND_BATCH,
    KIND_COMMAND,
    UNDURABLE_MAX,
    EntryHeader,
    encode_header,
)
from penstock.log import epochs, shipping
from penstock.log.disk import Buffer, Disk
from penstock.log.errors import DiskFullError
from penstock.log.receiving import UNDURABLE, UNDURABLE_AT, check_entries
from penstock.log.reset import ResetJob
from penstock.log.segment import SEGMENT_HEADER_SIZE, Segment
from penstock.log.segment_index import SegmentIndex
from penstock.log.shipping import Shipment
from penstock.log.snapshots import Snapshot, SnapshotStore
from penstock.log.tail_cache import Payload, TailCache
from penstock.log.truncation import Truncation, cut_segments, trim_writes
from penstock.log.write_job import Cut, Write, WriteJob
from penstock.model.record_batch import PLACE

# Spares that only commands may use, so that retention works on a full disk.
SPARES_RESERVED_FOR_COMMANDS = 2
# Spares that are kept ready: the reserved ones and those that batches fill while the next are being allocated.
SPARES_READY = SPARES_RESERVED_FOR_COMMANDS + 3

# An appended entry, its payload, and the segment that it went to.
Appended = tuple[EntryHeader, memoryview, Segment]


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
        # What the next job does: files to be cut, then writes.
        self._cuts: list[Cut] = []
        self._writes: list[Write] = []
        self._pending_bytes = 0
        self._job: WriteJob | None = None
        self._reset: ResetJob | None = None
        # What the sync that is under way outside of jobs can make durable.
        self._syncing_index = self.written_index

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
        return index

    def append_command(self, payload: bytes) -> int:
        """Appends an encoded command; returns its index. Raises DiskFullError."""
        return self._place(KIND_COMMAND, 0, (payload,), len(payload))[1]

    def _place(self, kind: int, partition: int, payload: Payload, size: int) -> tuple[Segment, int, int]:
        if not self.has_room(size, kind):
            raise DiskFullError("no segment is left that this entry may use")
        entry_bytes = size + ENTRY_HEADER_SIZE
        segment = self._segment_for(entry_bytes)
        index = self.next_index
        header = encode_header(index, self.epoch, kind, partition, payload, self.durable_index)
        position = self._note(segment, index, self.epoch, header, payload, entry_bytes)
        buffers = self._buffers(segment, position)
        buffers.append(header)
        buffers.extend(payload)
        self._pending_bytes += entry_bytes
        return segment, index, position

    def _segment_for(self, entry_bytes: int) -> Segment:
        if not self.segments or self.active.room_bytes < entry_bytes:
            self._roll()
        return self.segments[-1]

    def _note(
        self, segment: Segment, index: int, epoch: int, header: Buffer, payload: Payload, entry_bytes: int
    ) -> int:
        """Gives the next entry its place, which is returned; the caller has its bytes written there."""
        position = segment.write_position
        assert segment.index is not None
        segment.index.add_entry(index, position, epoch)
        self.cache.put((segment.base_index, position), header, payload, entry_bytes)
        segment.write_position = position + entry_bytes
        segment.last_index = index
        self.next_index = index + 1
        return position

    def _buffers(self, segment: Segment, position: int) -> list[Buffer]:
        """Where to put what the next job writes to that segment, which begins or goes on at `position`."""
        writes = self._writes
        if not writes or writes[-1].segment is not segment:
            writes.append(Write(segment, position, []))
        return writes[-1].buffers

    def _roll(self) -> None:
        assert self._reset is None, "nothing may be appended while the log is being reset"
        previous = self.segments[-1] if self.segments else None
        replaced = None
        if previous is not None and previous.last_index < previous.base_index:
            # Empty and yet too small: its tail was cut. The new file takes the place of the same name.
            replaced = self.segments.pop()
        elif previous is not None and (not self._writes or self._writes[-1].segment is not previous):
            # Even with nothing pending for it, the segment left behind is synced by the next job.
            self._writes.append(Write(previous, previous.write_position, []))
        epoch_before = previous.last_epoch if previous is not None else 0
        segment = Segment(self.disk, self.next_index, None, self.segment_bytes, epoch_before)
        self.segments.append(segment)
        spare = self.spares.popleft()
        self._writes.append(Write(segment, segment.write_position, [], spare, replaced))

    def append_entries(self, data: bytes | bytearray | memoryview) -> list[Appended]:
        """Appends a leader's entries, whole and back to back; returns (header, payload, segment) of each appended.

        The list is shorter than what was given when the disk has room for a part only (commands may still go where
        batches may not). A writable buffer is taken over: the notes of how much is durable are rewritten in place, and
        the payloads are views of it; of bytes, one copy is made. Raises EntriesRefusedError and DiskFullError, with
        nothing appended.
        """
        view = memoryview(data)
        if view.readonly:
            view = memoryview(bytearray(view))
        epoch = epochs.epoch_of(self.segments, self.next_index - 1)
        headers = check_entries(view, self.next_index, epoch, self.payload_bytes_max)
        if headers and not self.has_room(headers[0].length, headers[0].kind):
            raise DiskFullError("no segment is left that these entries may use")
        return self._receive(view, headers)

    def _receive(self, view: memoryview, headers: Sequence[EntryHeader]) -> list[Appended]:
        appended: list[Appended] = []
        # Neighbours that go to the same segment are written as one buffer, which begins at `begin`.
        begin = at = position = 0
        segment: Segment | None = None
        durable = self.durable_index
        for header in headers:
            _, _, length, index, epoch, kind, _, _, partition = header
            if not self.has_room(length, kind):
                break
            entry_bytes = length + ENTRY_HEADER_SIZE
            if segment is None or segment.room_bytes < entry_bytes:
                if segment is not None:
                    self._buffers(segment, position).append(view[begin:at])
                segment = self._segment_for(entry_bytes)
                begin, position = at, segment.write_position
            start, end = at + ENTRY_HEADER_SIZE, at + entry_bytes
            UNDURABLE.pack_into(view, at + UNDURABLE_AT, min(index - durable, UNDURABLE_MAX))
            payload = view[start:end]
            place = self._note(segment, index, epoch, view[at:start], (payload,), entry_bytes)
            if kind == KIND_BATCH:
                assert segment.index is not None
                base, last_delta, timestamp = PLACE.unpack_from(view, start)
                offsets_end = base + last_delta + 1
                segment.index.add_batch(partition, base, offsets_end, place, entry_bytes, timestamp, epoch)
            appended.append((header, payload, segment))
            at = end
        if segment is not None:
            self._buffers(segment, position).append(view[begin:at])
        self._pending_bytes += at
        return appended

    # --- epochs ----------------------------------------------------------------------------------

    def epoch_of(self, index: int) -> int:
        """The epoch of an entry from `first_index` - 1 to the newest. Raises IndexError for any other."""
        return epochs.epoch_of(self.segments, index)

    @property
    def epoch_runs(self) -> epochs.EpochRuns:
        """(epoch, first index) for every epoch that an entry of the log has."""
        return epochs.epoch_runs(self.segments)

    # --- truncation ------------------------------------------------------------------------------

    def truncate(self, from_index: int, loaded: SegmentIndex | None = None) -> Truncation:
        """Takes away the entries from `from_index` on, which is at least `first_index`. The log is as if they had never
        been, at once, also while a job is under way; the next job cuts the files before it writes what is appended
        meanwhile, so what is complete behind it is durable without them. Raises SealedSegmentError (nothing is done)."""
        if not self.first_index <= from_index <= self.next_index:
            raise ValueError(f"the log holds {self.first_index} to {self.next_index - 1}, not {from_index}")
        if from_index == self.next_index:
            return Truncation(from_index, {}, ())
        number = epochs.segment_number(self.segments, from_index)
        segment, later = self.segments[number], self.segments[number + 1 :]
        cut = cut_segments(self.segments[number:], from_index, loaded)
        del self.segments[number + 1 :]
        in_files = max(self.written_index, self._job.last_index if self._job is not None else 0)
        if from_index <= in_files:
            # All that is pending lies behind. The file ends with its entries from now on, so it has no room either.
            begun = [each for each in later if each.base_index <= in_files]
            begun += [write.replaced for write in self._writes if write.replaced is not None]
            self._writes, spares = trim_writes(self._writes, segment, [segment, *later])
            self._cuts.append(Cut(segment, segment.write_position, tuple(begun)))
            segment.size_bytes = segment.write_position
        else:
            self._writes, spares = trim_writes(self._writes, segment, later)
        self.spares.extendleft(reversed(spares))
        self._pending_bytes = sum(len(buffer) for write in self._writes for buffer in write.buffers)
        self._forget_from(from_index)
        return cut

    def _forget_from(self, index: int) -> None:
        last = index - 1
        self.cache.cut(index)
        self.next_index = index
        self.written_index = min(self.written_index, last)
        self.durable_index = min(self.durable_index, last)
        self._syncing_index = min(self._syncing_index, last)
        if self._job is not None:
            self._job.last_index = min(self._job.last_index, last)

    @property
    def has_work(self) -> bool:
        """Whether `take_job` has something to do once no job is under way: writes, or files to be cut."""
        return bool(self._writes or self._cuts)

    # --- shipping --------------------------------------------------------------------------------

    def fitting(self, first_index: int, bytes_max: int) -> int:
        """The last index up to which whole entries from `first_index` (which is there) fit into `bytes_max`; at least
        `first_index`. Cheap; in sealed segments it may say up to 128 KiB less."""
        return shipping.fitting(self.segments, first_index, bytes_max)

    def entries(self, first_index: int, last_index: int) -> Shipment:
        """The entries from `first_index` to `last_index`, which are all there, as they go to another replica."""
        cached = max(self.cache.first_index, first_index)
        ranges = shipping.file_ranges(self.segments, first_index, min(last_index, cached - 1))
        return Shipment(first_index, last_index, ranges, self.cache.buffers(cached, last_index))

    def digest(self, first_index: int, last_index: int) -> Callable[[], str]:
        """A function for a reader's thread that gives a hash of these (written) entries: the same on every replica that
        holds the same ones, whatever its segments. It raises LogDamagedError, EntriesGoneError, OSError."""
        return shipping.digest(self.segments, first_index, last_index)

    # --- starting over ---------------------------------------------------------------------------

    def begin_reset(
        self,
        base_index: int,
        base_epoch: int,
        store: SnapshotStore,
        snapshots: Sequence[Snapshot],
        index: int,
    ) -> ResetJob:
        """A job that replaces all snapshots by those received, as of `index`, and the log by an empty one that goes on
        at `base_index` + 1, where `base_epoch` is the epoch of entry `base_index`, which is at most `index`. No write
        job, checkpoint or removal may be under way; nothing may be appended until `complete_reset`."""
        assert self._job is None, "the job under way has to be completed before a reset"
        assert self._reset is None, "a reset is under way"
        for segment in self.segments:
            segment.removed, segment.followed = True, False
            segment.cuts += 1
        spares = [*self.spares, *(write.spare for write in self._writes if write.spare is not None)]
        self.segments, self.spares = [], deque()
        self._cuts, self._writes, self._pending_bytes = [], [], 0
        base = Segment(self.disk, base_index + 1, None, self.segment_bytes, base_epoch)
        self._reset = ResetJob(self.disk, self.shard_uid, base, spares, store, snapshots, index)
        return self._reset

    def complete_reset(self, job: ResetJob) -> None:
        """Takes the outcome of a reset back. Whoever looks after partitions has to build them anew."""
        assert job is self._reset
        self._reset = None
        self.segments = [job.segment]
        self.spares.extend(job.spares)
        self.next_index = job.segment.base_index
        self.written_index = self.durable_index = self._syncing_index = self.next_index - 1
        self.bytes_since_sync = 0
        self.cache.clear(self.next_index)

    # --- writing ---------------------------------------------------------------------------------

    def take_job(self, *, sync: bool | None = None) -> WriteJob | None:
        """All that was appended or truncated since the last job, or None (nothing to do, or a job is under way)."""
        if self._job is not None or not self.has_work:
            return None
        cuts, self._cuts = self._cuts, []
        writes, self._writes = self._writes, []
        self._pending_bytes = 0
        self._job = WriteJob(
            self.disk,
            self.shard_uid,
            cuts,
            writes,
            self.next_index - 1,
            sync=self.sync if sync is None else sync,
        )
        return self._job

    def complete(self, job: WriteJob) -> None:
        """Takes a job's outcome back: what is written, what is durable."""
        self._job = None
        self.written_index = job.last_index
        self.cache.written(job.last_index)
        if job.sync:
            self.durable_index = job.last_index
            self.bytes_since_sync = 0
        else:
            self.bytes_since_sync += job.bytes_written
        for segment in reversed(self.segments[:-1]):
            if segment.followed:
                break
            # An entry of the next segment is written, so that one's file and name are durable.
            segment.followed = segment.last_index < self.written_index

    def mark_durable(self, index: int) -> None:
        """The sync that `unsynced_segment` was asked for made everything up to `index` durable, as far as it was not
        truncated meanwhile."""
        self.durable_index = max(self.durable_index, min(index, self._syncing_index))

    def unsynced_segment(self) -> Segment | None:
        """The one segment that holds what is written and not synced: earlier ones were synced when they were left behind,
        later ones are still being opened by the job under way. Whoever syncs it calls `mark_durable` next."""
        self._syncing_index = self.written_index
        if self.written_index <= self.durable_index:
            return None
        return next(
            (segment for segment in reversed(self.segments) if segment.base_index <= self.written_index), None
        )

    # --- what is kept ----------------------------------------------------------------------------

    def unsealed_segments(self, committed_index: int | None = None) -> list[Segment]:
        """Segments that are no longer written to and have no index file yet; where given, only those up to the committed
        entry, which no leader can ask to be truncated. The next segment of each is durable."""
        return [
            segment
            for segment in self.segments
            if segment.followed
            and segment.index is not None
            and (committed_index is None or segment.last_index <= committed_index)
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
