"""Taking entries off the log's end because a leader holds others in their place.

The log forgets them at once; their bytes go with the next write job, before anything that is appended afterwards, so
that no order of jobs can be wrong. Segments behind the cut are removed, newest first, and the segment that is cut is
made as short as its entries: what follows goes to a new segment, and nothing has to be zeroed. A crash anywhere on the
way leaves the log whole up to the cut, with all, some or none of what stood behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.log.disk import Buffer
from penstock.log.segment import SEGMENT_HEADER_SIZE, Segment
from penstock.log.segment_index import SegmentIndex
from penstock.log.write_job import Write


class SealedSegmentError(Exception):
    """The cut goes through a sealed segment, whose index has to be loaded first: run `load_index(segment)` in a reader's
    thread and give its outcome to `truncate`."""

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment.name)
        self.segment = segment


class Truncation(msgspec.Struct, frozen=True):
    """What a truncation took away. `ends` has every partition that lost a batch and its new end offset; `segments` are
    those that were cut or removed, oldest first."""

    from_index: int
    ends: dict[int, int]
    segments: tuple[Segment, ...]


def cut_segments(segments: Sequence[Segment], from_index: int, loaded: SegmentIndex | None) -> Truncation:
    """Cuts the first of these segments (it has the place of `from_index`) and takes the others out of use. Raises
    SealedSegmentError, with nothing changed."""
    segment, later = segments[0], segments[1:]
    index = segment.index
    if from_index == segment.base_index:
        index = index or SegmentIndex()
    elif index is None:
        if loaded is None:
            raise SealedSegmentError(segment)
        index = loaded
    kept = index.cut(segment.base_index, from_index)
    ends = _ends(segments, kept)
    segment.index, segment.directory = kept, None
    segment.write_position = _position(index, segment, from_index)
    segment.last_index = from_index - 1
    for each in segments:
        each.followed = False
        each.cuts += 1
    for each in later:
        each.removed = True
    return Truncation(from_index, ends, tuple(segments))


def _position(index: SegmentIndex, segment: Segment, from_index: int) -> int:
    number = from_index - segment.base_index
    if number == 0:
        return SEGMENT_HEADER_SIZE
    return index.positions[number] if number < len(index.positions) else segment.write_position


def _ends(segments: Sequence[Segment], kept: SegmentIndex) -> dict[int, int]:
    ends: dict[int, int] = {}
    for segment in segments:
        for partition in segment.partitions():
            run = segment.run(partition)
            assert run is not None
            left = kept.runs.get(partition) if segment is segments[0] else None
            end = run.first_offset if left is None else left.end_offset
            if end < run.end_offset:
                ends.setdefault(partition, end)
    return ends


def trim_writes(
    writes: Sequence[Write], segment: Segment, removed: Sequence[Segment]
) -> tuple[list[Write], list[str]]:
    """What is left of writes that nobody has begun when `segment` was cut and others were taken out of use; and the spares
    that are free again."""
    kept, spares = [], []
    for write in writes:
        if write.segment in removed:
            if write.spare is not None:
                spares.append(write.spare)
            continue
        if write.segment is segment:
            write.buffers = _first_bytes(write.buffers, segment.write_position - write.position)
        kept.append(write)
    return kept, spares


def _first_bytes(buffers: list[Buffer], size: int) -> list[Buffer]:
    """The first `size` bytes, which may end inside of a buffer: a leader's entries come in one."""
    kept: list[Buffer] = []
    for buffer in buffers:
        if size <= 0:
            break
        kept.append(buffer if len(buffer) <= size else memoryview(buffer)[:size])
        size -= len(buffer)
    return kept
