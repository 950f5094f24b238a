"""Reading a segment's bytes entry by entry, and judging where and why the reading ends.

Recovery must tell two things apart that look alike at the first bad byte. A *torn tail* is what a crash leaves of
writes that were never acknowledged: it is cut. *Damage* below what was known to be durable is data that somebody was
promised: it is refused. Every entry notes up to which index the log was durable when it was written, so any intact
entry behind the bad place that vouches for the missing one proves damage.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.base.crc import crc32c
from penstock.codec.entry import (
    COVERED_FROM,
    ENTRY_HEADER,
    ENTRY_HEADER_SIZE,
    ENTRY_VERSION,
    KINDS,
    EntryHeader,
    entry_is_intact,
    parse_entry_header,
)
from penstock.log.errors import LogDamagedError
from penstock.log.segment import SEGMENT_HEADER_SIZE

# Where the index stands in an entry's header, and how many of its low bytes may differ between neighbours.
_INDEX_AT = 12
_INDEX_LOW_BYTES = 2
# Leaderships before the newest whose entries are looked for behind a bad place, besides those seen before it.
_EPOCHS_BACK_MAX = 16
# What is read at once when looking for the last byte that is not zero.
_BLANK_STEP_BYTES = 64 * 1024


class SegmentScan:
    """One pass over a segment's bytes. Iterate it; afterwards `end_position` is where the intact entries end."""

    def __init__(self, name: str, data: bytes, base_index: int) -> None:
        self.name = name
        self._data = data
        self._view = memoryview(data)
        self.next_index = base_index
        self.end_position = SEGMENT_HEADER_SIZE
        self._epochs: set[int] = set()

    def __iter__(self) -> Iterator[tuple[EntryHeader, int]]:
        """Every intact entry's header and position, in order."""
        view, size = self._view, len(self._data)
        position, expected = self.end_position, self.next_index
        unpack, make, epochs = ENTRY_HEADER.unpack_from, EntryHeader._make, self._epochs
        # This loop reads a full segment at each start, so it calls nothing that it can do itself.
        while position + ENTRY_HEADER_SIZE <= size:
            header = make(unpack(view, position))
            crc, _, length, log_index, epoch, kind, version, _, _ = header
            end = position + ENTRY_HEADER_SIZE + length
            if log_index != expected or end > size or crc32c(view[position + COVERED_FROM : end]) != crc:
                break
            if kind not in KINDS or version > ENTRY_VERSION:
                raise LogDamagedError(
                    f"{self.name} holds at position {position} an entry of kind {kind}, version"
                    f" {version}, which this release does not know: upgrade Penstock"
                )
            epochs.add(epoch)
            expected += 1
            self.end_position, self.next_index = end, expected
            yield header, position
            position = end

    @property
    def tail_is_blank(self) -> bool:
        """Whether nothing but zeros follows the intact entries."""
        return not self._data.count(0, self.end_position) < len(self._data) - self.end_position

    def refuse_damage(self, epoch: int) -> None:
        """Raises LogDamagedError when an intact entry behind the end vouches for what is missing there.

        `epoch` is the newest one that entries of this log can carry.
        """
        epochs = self._epochs.union(range(max(epoch - _EPOCHS_BACK_MAX, 0), epoch + 1))
        for witness, position in self._later_entries(epochs):
            if witness.durable_index >= self.next_index:
                raise LogDamagedError(
                    f"{self.name} is damaged at position {self.end_position}: entry {self.next_index} cannot be read,"
                    f" although entry {witness.log_index} at position {position} shows that it had been durable;"
                    " restore the volume from a replica or a backup"
                )

    def _later_entries(self, epochs: set[int]) -> Iterator[tuple[EntryHeader, int]]:
        end = self._written_end()
        high = self.next_index >> (8 * _INDEX_LOW_BYTES)
        highest = (self.next_index + (end - self.end_position) // ENTRY_HEADER_SIZE) >> (8 * _INDEX_LOW_BYTES)
        for upper in range(high, highest + 1):
            for epoch in sorted(epochs, reverse=True):
                pattern = upper.to_bytes(8 - _INDEX_LOW_BYTES, "little") + epoch.to_bytes(4, "little")
                yield from self._matches(pattern, end)

    def _written_end(self) -> int:
        """Behind the last byte that is not zero."""
        end = len(self._data)
        while end > self.end_position:
            start = max(end - _BLANK_STEP_BYTES, self.end_position)
            written = len(self._data[start:end].rstrip(b"\0"))
            if written:
                return start + written
            end = start
        return end

    def _matches(self, pattern: bytes, limit: int) -> Iterator[tuple[EntryHeader, int]]:
        offset = _INDEX_AT + _INDEX_LOW_BYTES
        found = self._data.find(pattern, self.end_position + offset, limit)
        while found >= 0:
            position = found - offset
            if position + ENTRY_HEADER_SIZE <= len(self._data):
                header = parse_entry_header(self._view, position)
                end = position + ENTRY_HEADER_SIZE + header.length
                if (
                    header.kind in KINDS
                    and header.log_index > self.next_index
                    and end <= len(self._data)
                    and entry_is_intact(self._view, position, header)
                ):
                    yield header, position
            found = self._data.find(pattern, found + 1, limit)
