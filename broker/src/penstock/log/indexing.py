"""From a segment's bytes to its index: the one pass that recovery makes, and whoever finds an index file damaged.

Every entry is checked on the way. What the pass means for the log (a torn tail, damage) is left to the caller.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.codec.entry import ENTRY_HEADER_SIZE, KIND_BATCH, EntryHeader
from penstock.log.errors import LogDamagedError
from penstock.log.scan import SegmentScan
from penstock.log.segment import Segment
from penstock.log.segment_index import SegmentIndex
from penstock.model.record_batch import HEADER_SIZE, PLACE

OnEntry = Callable[[EntryHeader, memoryview], None]


def index_segment(
    segment: Segment, on_entry: OnEntry | None = None, covered: int = 0
) -> tuple[SegmentScan, SegmentIndex]:
    """Reads the whole segment; entries behind `covered` are handed to `on_entry`. Raises LogDamagedError, OSError."""
    assert segment.file is not None
    data = segment.file.read_at(0, segment.size_bytes)
    view = memoryview(data)
    scan = SegmentScan(segment.name, data, segment.base_index)
    index = SegmentIndex()
    place, add_batch, add_entry = PLACE.unpack_from, index.add_batch, index.add_entry
    for header, position in scan:
        _, _, length, log_index, epoch, kind, _, _, partition = header
        start = position + ENTRY_HEADER_SIZE
        end = start + length
        add_entry(log_index, position, epoch)
        if kind == KIND_BATCH:
            if length < HEADER_SIZE:
                raise LogDamagedError(
                    f"{segment.name} holds a batch shorter than its header at position {position}"
                )
            base, last_delta, max_timestamp = place(data, start)
            add_batch(partition, base, base + last_delta + 1, position, end - position, max_timestamp, epoch)
        if on_entry is not None and log_index > covered:
            try:
                on_entry(header, view[start:end])
            except LogDamagedError as error:
                where = f"{segment.name}, entry {log_index} at position {position}"
                raise LogDamagedError(f"{where}: {error}") from error
    return scan, index
