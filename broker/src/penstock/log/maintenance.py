"""File work beside the log's writing, for a background thread: spare segments, removal, synchronising at intervals."""

from __future__ import annotations

import errno

from penstock.log.disk import Disk
from penstock.log.segment import SPARE_SUFFIX, Segment, index_name

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def spare_name(number: int) -> str:
    """`00000000000000000007.spare`"""
    return f"{number:020d}{SPARE_SUFFIX}"


def make_spare(disk: Disk, number: int, size_bytes: int) -> str | None:
    """Allocates one spare segment; None when the disk has no room for it. Other errors are raised."""
    name = spare_name(number)
    file = disk.open(name, create=True)
    try:
        file.allocate(size_bytes)
        file.sync()
    except OSError as error:
        file.close()
        disk.remove(name)
        if error.errno in _NO_SPACE:
            return None
        raise
    file.close()
    disk.sync_folder()
    return name


def remove_segment(disk: Disk, segment: Segment) -> None:
    """Removes the files of a segment that was dropped from the log."""
    # The log file goes first: an index without its segment is swept at the next start.
    disk.remove(segment.name)
    disk.remove(index_name(segment.base_index))
    disk.sync_folder()


def sync_segments(segments: list[Segment]) -> None:
    """Makes everything written to these segments durable (flush: async). An error is final."""
    for segment in segments:
        if segment.file is not None and not segment.removed:
            segment.file.sync()
