"""Taking entries off the log's end because a leader holds others in their place.

The log forgets them at once; their bytes go with the next write job, before anything that is appended afterwards, so
that no order of jobs can be wrong. Segments behind the cut are removed, newest first, and the segment that is cut is
made as short as its entries: what follows goes to a new segment, and nothing has to be zeroed. A crash anywhere on the
way leaves the log whole up to the cut, with some or none of what stood behind it.
"""

from __future__ import annotations

import msgspec

from penstock.log.segment import Segment


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
