"""Reading entries' payloads back from segment files, in a reader's thread.

Entries that stand near each other come with one read; each is checked against its CRC before it is handed on. An index
file that is damaged or gone is made again from its segment, which has checksums of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from penstock.base.crc import crc32c
from penstock.codec.entry import CHECKED, COVERED_FROM, ENTRY_HEADER_SIZE
from penstock.log.errors import LogDamagedError
from penstock.log.index_file import decode_run, encode_index, run_size
from penstock.log.indexing import index_segment
from penstock.log.segment import Segment, index_name
from penstock.log.segment_index import PartitionRun, RunSummary, SegmentIndex

logger = logging.getLogger(__name__)

# Entries with at most this many bytes between them are fetched by one read: copying so much out of the page cache costs
# less than one more system call, after which the thread has to wait for the interpreter again.
READ_GAP_BYTES_MAX = 64 * 1024
READ_BYTES_MAX = 4 * 1024 * 1024
# What was read is copied where it would hold more than this many times its size in memory until it is sent.
READ_RATIO_MAX = 4


class Extent(NamedTuple):
    """A whole entry in a segment's file; `partition` is what its header must say."""

    segment: Segment
    position: int
    size_bytes: int
    partition: int


def read_payloads(extents: Sequence[Extent]) -> list[memoryview]:
    """The payloads, in the order of the extents, which may be any: a fetch asks for one partition after the other, and
    their batches stand in the order in which they came. Raises LogDamagedError, OSError."""
    order = sorted(range(len(extents)), key=lambda n: (extents[n].segment.base_index, extents[n].position))
    ascending = [extents[number] for number in order]
    payloads: list[memoryview] = [memoryview(b"")] * len(extents)
    start = 0
    while start < len(ascending):
        end = _group_end(ascending, start)
        first, last = ascending[start], ascending[end - 1]
        assert first.segment.file is not None
        data = first.segment.file.read_at(first.position, last.position + last.size_bytes - first.position)
        view = memoryview(data)
        wanted = sum([extent.size_bytes for extent in ascending[start:end]])
        for number, extent in zip(order[start:end], ascending[start:end], strict=True):
            payload = _payload(view, extent.position - first.position, extent)
            payloads[number] = payload if wanted * READ_RATIO_MAX >= len(data) else memoryview(bytes(payload))
        start = end
    return payloads


def _group_end(extents: Sequence[Extent], start: int) -> int:
    first = extents[start]
    end = start + 1
    while end < len(extents):
        previous, extent = extents[end - 1], extents[end]
        if (
            extent.segment is not first.segment
            or extent.position - previous.position - previous.size_bytes > READ_GAP_BYTES_MAX
            or extent.position + extent.size_bytes - first.position > READ_BYTES_MAX
        ):
            break
        end += 1
    return end


def _payload(view: memoryview, at: int, extent: Extent) -> memoryview:
    end = at + extent.size_bytes
    if end <= len(view):
        crc, length, partition = CHECKED.unpack_from(view, at)
        matches = partition == extent.partition and length + ENTRY_HEADER_SIZE == extent.size_bytes
        if matches and crc32c(view[at + COVERED_FROM : end]) == crc:
            return view[at + ENTRY_HEADER_SIZE : end]
    raise LogDamagedError(
        f"{extent.segment.name} is damaged at position {extent.position}: the entry there does not match its checksum;"
        " restore the volume from a replica or a backup"
    )


def load_run(segment: Segment, summary: RunSummary) -> PartitionRun:
    """A sealed segment's arrays for one partition, from the index file. Raises LogDamagedError, OSError."""
    try:
        file = segment.disk.open(index_name(segment.base_index))
        try:
            return decode_run(summary, file.read_at(summary.file_position, run_size(summary)))
        finally:
            file.close()
    except (LogDamagedError, FileNotFoundError) as error:
        if segment.removed:
            raise
        logger.warning("the index of %s is made anew: %s", segment.name, error)
        return _rebuild_run(segment, summary)


def _rebuild_run(segment: Segment, summary: RunSummary) -> PartitionRun:
    index = load_index(segment)
    encoded = encode_index(index, segment.base_index, segment.write_position)
    try:
        with segment.index_lock:
            if segment.followed and not segment.removed:
                segment.disk.write_atomic(index_name(segment.base_index), encoded)
    except OSError as error:
        # The answer does not need the file; it is tried again with the next read.
        logger.warning("the index of %s could not be written: %s", segment.name, error)
    return decode_run(summary, encoded[summary.file_position : summary.file_position + run_size(summary)])


def load_index(segment: Segment) -> SegmentIndex:
    """A sealed segment's whole index, made from its entries: what a truncation into it needs. Raises LogDamagedError,
    OSError."""
    scan, index = index_segment(segment)
    if scan.next_index - 1 < segment.last_index:
        raise LogDamagedError(
            f"{segment.name} is damaged at position {scan.end_position}: entry {scan.next_index} cannot be read;"
            " restore the volume from a replica or a backup"
        )
    return index
