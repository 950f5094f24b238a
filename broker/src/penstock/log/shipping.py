"""Entries for other replicas: which bytes they are, where they stand, and reading them in a reader's thread.

Entries are shipped as they stand in this replica's file, whole and back to back. What is in memory is handed out as the
buffers it was written from; older entries are read from the segments and checked one by one: a damaged entry must not
reach another replica. An index leads to a place exactly while a segment's positions are in memory, and to a mark at most
`MARK_BYTES` and an entry away once it is sealed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple, NoReturn

from penstock.base.crc import crc32c
from penstock.codec.entry import COVERED_FROM, ENTRY_HEADER, ENTRY_HEADER_SIZE
from penstock.log.disk import Buffer
from penstock.log.epochs import segment_number
from penstock.log.errors import EntriesGoneError, LogDamagedError
from penstock.log.reader import READ_BYTES_MAX
from penstock.log.segment import Segment

# Bytes of a digest of entries.
_DIGEST_BYTES = 16
_CRC_BYTES = 4


class FileRange(NamedTuple):
    """Consecutive entries of one segment. The bytes in [position, end_position) hold them all, and begin with entry
    `begin_index`; `cuts` is how often the segment had been cut when this was planned."""

    segment: Segment
    cuts: int
    first_index: int
    last_index: int
    begin_index: int
    position: int
    end_position: int

    def read(self) -> memoryview:
        """The bytes from `position` on. Raises OSError."""
        assert self.segment.file is not None
        return memoryview(self.segment.file.read_at(self.position, self.end_position - self.position))

    def checked(self, view: memoryview) -> Iterator[tuple[int, int]]:
        """Where each of the entries begins and ends in what was read, after its check. Raises LogDamagedError, or
        EntriesGoneError when the segment was cut meanwhile."""
        at, size, first = 0, len(view), self.first_index
        unpack = ENTRY_HEADER.unpack_from
        for index in range(self.begin_index, self.last_index + 1):
            if at + ENTRY_HEADER_SIZE > size:
                self._fail(index, at)
            crc, _, length, log_index, _, _, _, _, _ = unpack(view, at)
            end = at + ENTRY_HEADER_SIZE + length
            if log_index != index or end > size:
                self._fail(index, at)
            if index >= first:
                if crc32c(view[at + COVERED_FROM : end]) != crc:
                    self._fail(index, at)
                yield at, end
            at = end
        if self.segment.cuts != self.cuts:
            raise EntriesGoneError(f"entries of {self.segment.name} were truncated while they were read")

    def _fail(self, index: int, at: int) -> NoReturn:
        name = self.segment.name
        if self.segment.cuts != self.cuts:
            raise EntriesGoneError(f"entries of {name} were truncated while they were read")
        raise LogDamagedError(
            f"{name} is damaged at position {self.position + at}: entry {index} cannot be read;"
            " restore the volume from a replica or a backup"
        )

    def entries(self) -> memoryview:
        """The entries, whole and checked. Raises LogDamagedError, EntriesGoneError, OSError."""
        view = self.read()
        begin = end = 0
        for number, (at, after) in enumerate(self.checked(view)):
            if number == 0:
                begin = at
            end = after
        return view[begin:end]


class Shipment:
    """Entries `first_index` to `last_index`, whole, in order: ranges of files, then buffers in memory."""

    __slots__ = ("_ranges", "buffers", "first_index", "last_index")

    def __init__(
        self, first_index: int, last_index: int, ranges: Sequence[FileRange], buffers: list[Buffer]
    ) -> None:
        self.first_index = first_index
        self.last_index = last_index
        self._ranges = ranges
        # The entries that are in memory: all of them, or the newest.
        self.buffers = buffers

    @property
    def in_memory(self) -> bool:
        """Whether `buffers` is all of it, so that nothing has to be read."""
        return not self._ranges

    def read(self) -> list[Buffer]:
        """All entries, in a reader's thread. Raises LogDamagedError with file and position, EntriesGoneError when the
        entries were truncated meanwhile, OSError."""
        return [*(each.entries() for each in self._ranges), *self.buffers]


def _begin_before(segment: Segment, index: int) -> tuple[int, int]:
    """(index, position) of an entry at or before that one."""
    number = index - segment.base_index
    if segment.index is not None:
        return index, segment.index.positions[number]
    assert segment.directory is not None
    number, position = segment.directory.marks.before(number)
    return segment.base_index + number, position


def _end_behind(segment: Segment, index: int) -> int:
    """A position at or behind the end of that entry."""
    number = index - segment.base_index
    if segment.index is not None:
        positions = segment.index.positions
        return positions[number + 1] if number + 1 < len(positions) else segment.write_position
    assert segment.directory is not None
    mark = segment.directory.marks.after(number)
    return mark[1] if mark is not None else segment.write_position


def _last_ending_by(segment: Segment, position: int) -> int:
    """An entry that ends at or before that position: in memory, the last one."""
    if segment.index is not None:
        number = bisect_right(segment.index.positions, position) - 1
    else:
        assert segment.directory is not None
        number, _ = segment.directory.marks.up_to(position)
    return segment.base_index + number - 1


def fitting(segments: Sequence[Segment], first_index: int, bytes_max: int) -> int:
    """The last entry up to which all from `first_index` fit into so many bytes; at least `first_index`."""
    last, left = first_index, bytes_max
    for number in range(segment_number(segments, first_index), len(segments)):
        segment = segments[number]
        if segment.last_index < segment.base_index:
            break
        _, begin = _begin_before(segment, max(first_index, segment.base_index))
        rest = segment.write_position - begin
        if rest > left:
            return max(last, _last_ending_by(segment, begin + left))
        left -= rest
        last = segment.last_index
    return last


def span_bytes(segments: Sequence[Segment], first_index: int, last_index: int) -> int:
    """About how many bytes these entries have: exact in memory, rounded to marks in sealed segments."""
    total = 0
    for number in range(segment_number(segments, first_index), segment_number(segments, last_index) + 1):
        segment = segments[number]
        _, begin = _begin_before(segment, max(first_index, segment.base_index))
        total += _end_behind(segment, min(last_index, segment.last_index)) - begin
    return total


def file_ranges(segments: Sequence[Segment], first_index: int, last_index: int) -> list[FileRange]:
    """Where these entries stand, which are all written; one range for each segment."""
    ranges = []
    number = segment_number(segments, first_index)
    while first_index <= last_index:
        segment = segments[number]
        last = min(segment.last_index, last_index)
        begin_index, position = _begin_before(segment, first_index)
        ranges.append(
            FileRange(
                segment, segment.cuts, first_index, last, begin_index, position, _end_behind(segment, last)
            )
        )
        first_index = last + 1
        number += 1
    return ranges


def digest(segments: Sequence[Segment], first_index: int, last_index: int) -> Callable[[], str]:
    """A function that hashes these entries, which are all written: their checksums and what stands in their headers."""
    ranges = []
    while first_index <= last_index:
        # Read piece by piece, so that a long comparison takes no memory.
        last = min(fitting(segments, first_index, READ_BYTES_MAX), last_index)
        ranges += file_ranges(segments, first_index, last)
        first_index = last + 1

    def run() -> str:
        total = blake2b(digest_size=_DIGEST_BYTES)
        for each in ranges:
            view = each.read()
            for at, _ in each.checked(view):
                # The checksum covers the payload; left out is the note that each replica makes for itself.
                total.update(view[at : at + _CRC_BYTES])
                total.update(view[at + COVERED_FROM : at + ENTRY_HEADER_SIZE])
        return total.hexdigest()

    return run
