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
from penstock.model.record_batch import HEADER_SIZE, parse_header

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
    for header, position in scan:
        start, end = position + ENTRY_HEADER_SIZE, position + header.size_bytes
        if header.kind == KIND_BATCH:
            if header.length < HEADER_SIZE:
                raise LogDamagedError(
                    f"{segment.name} holds a batch shorter than its header at position {position}"
                )
            batch = parse_header(data, start)
            base = batch.base_offset
            index.add_batch(
                header.partition, base, base + batch.last_offset_delta + 1, position, header.size_bytes,
                batch.max_timestamp, header.epoch,
            )  # fmt: skip
        else:
            index.last_command_index = header.log_index
        if on_entry is not None and header.log_index > covered:
            try:
                on_entry(header, view[start:end])
            except LogDamagedError as error:
                where = f"{segment.name}, entry {header.log_index} at position {position}"
                raise LogDamagedError(f"{where}: {error}") from error
    return scan, index
