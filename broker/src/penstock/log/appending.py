"""The newest end of the commit log: where an entry goes, whether there is room, and what waits to be written.

New segments are made of spares that another thread allocates ahead: an entry is refused before it gets an index when no
spare is left for its kind, so a full disk never tears a log. The last spares are for commands alone, and so are the
segments made of them: retention must go on when producing cannot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from penstock.codec.entry import (
    ENTRY_HEADER_SIZE,
    KIND_BATCH,
    KIND_COMMAND,
    UNDURABLE_MAX,
    EntryHeader,
    encode_header,
)
from penstock.log import epochs
from penstock.log.disk import Buffer, Disk
from penstock.log.errors import DiskFullError
from penstock.log.receiving import UNDURABLE, UNDURABLE_AT, check_entries, check_place
from penstock.log.segment import SEGMENT_HEADER_SIZE, Segment
from penstock.log.tail_cache import Payload, TailCache
from penstock.log.write_job import Write
from penstock.model.record_batch import PLACE

# Spares that only commands may use, so that retention works on a full disk.
SPARES_RESERVED_FOR_COMMANDS = 2
# Spares that are kept ready: the reserved ones and those that batches fill while the next are being allocated.
SPARES_READY = SPARES_RESERVED_FOR_COMMANDS + 3

# An appended entry, its payload, and the segment that it went to.
Appended = tuple[EntryHeader, memoryview, Segment]


class LogTail:
    """Appending. What is appended is in memory (`cache`, and the pending writes) until a job has written it."""

    def __init__(
        self, disk: Disk, segments: list[Segment], spares: Sequence[str], segment_bytes: int, cache: TailCache
    ) -> None:
        self.disk = disk
        self.segments = segments
        self.spares: deque[str] = deque(spares)
        self.segment_bytes = segment_bytes
        self.cache = cache
        # Of this member's own leadership: what it appends is of this epoch.
        self.epoch = 0
        self.next_index = segments[-1].last_index + 1 if segments else 1
        cache.clear(self.next_index)
        # Every entry up to this one survives a crash; noted in those that follow.
        self.durable_index = self.next_index - 1
        self._writes: list[Write] = []
        self._pending_bytes = 0
        # Nothing may be appended meanwhile.
        self._being_reset = False

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
        assert not self._being_reset, "nothing may be appended while the log is being reset"
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

    def append_entries(
        self, data: bytes | bytearray | memoryview, checked: Sequence[EntryHeader] | None = None
    ) -> list[Appended]:
        """Appends a leader's entries, whole and back to back; returns (header, payload, segment) of each appended.
        `checked` are their headers where `check_entries` has given them already.

        The list is shorter than what was given when the disk has room for a part only (commands may still go where
        batches may not). A writable buffer is taken over: the notes of how much is durable are rewritten in place, and
        the payloads are views of it; of bytes, one copy is made. Raises EntriesRefusedError and DiskFullError, with
        nothing appended.
        """
        view = memoryview(data)
        if view.readonly:
            view = memoryview(bytearray(view))
        epoch = epochs.epoch_of(self.segments, self.next_index - 1)
        if checked is None:
            headers: Sequence[EntryHeader] = check_entries(
                view, self.next_index, epoch, self.payload_bytes_max
            )
        else:
            headers = checked
            check_place(headers, self.next_index, epoch)
        appended: list[Appended] = []
        at = 0
        while len(appended) < len(headers):
            header = headers[len(appended)]
            if not self.has_room(header.length, header.kind):
                if not appended:
                    raise DiskFullError("no segment is left that these entries may use")
                break
            segment = self._segment_for(header.size_bytes)
            position = segment.write_position
            self._receive(segment, view[at:], headers[len(appended) :], appended)
            # Neighbours are written as one buffer.
            size = segment.write_position - position
            self._buffers(segment, position).append(view[at : at + size])
            self._pending_bytes += size
            at += size
        return appended

    def _receive(
        self, segment: Segment, view: memoryview, headers: Sequence[EntryHeader], appended: list[Appended]
    ) -> None:
        """Gives the entries at the begin of `view` their places in the segment, as far as it may take them. This loop runs for
        every entry that a follower gets, so it calls nothing that it can do itself."""
        index = segment.index
        assert index is not None
        base, size, position = segment.base_index, segment.size_bytes, segment.write_position
        durable, batches_too = self.durable_index, len(self.spares) >= SPARES_RESERVED_FOR_COMMANDS
        note, place_of, positions = UNDURABLE.pack_into, PLACE.unpack_from, index.positions
        epoch_noted = index.epochs[-1][0] if index.epochs else None
        at = 0
        for header in headers:
            _, _, length, log_index, epoch, kind, _, _, partition = header
            entry_bytes = length + ENTRY_HEADER_SIZE
            if position + entry_bytes > size or (kind != KIND_COMMAND and not batches_too):
                break
            start, end = at + ENTRY_HEADER_SIZE, at + entry_bytes
            note(view, at + UNDURABLE_AT, min(log_index - durable, UNDURABLE_MAX))
            payload = view[start:end]
            positions.append(position)
            if epoch != epoch_noted:
                epoch_noted = epoch
                index.epochs.append((epoch, log_index))
            self.cache.put((base, position), view[at:start], (payload,), entry_bytes)
            if kind == KIND_BATCH:
                first, last_delta, timestamp = place_of(payload)
                index.add_batch(
                    partition, first, first + last_delta + 1, position, entry_bytes, timestamp, epoch
                )
            appended.append((header, payload, segment))
            position += entry_bytes
            at = end
            segment.last_index = log_index
        segment.write_position = position
        self.next_index = segment.last_index + 1
