"""File work beside the log's writing, for a background thread: spare segments, index files, removal, synchronising.

Index files are written here and not by the log's writer, so that sealing a segment neither delays a group commit nor,
on a full disk, ends the broker: until its index file is written, a segment keeps its index in memory.
"""

from __future__ import annotations

import errno

from penstock.log.disk import Disk
from penstock.log.segment import SPARE_SUFFIX, Segment, index_name
from penstock.log.segment_index import RunSummary, encode_index, summarise

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def disk_is_full(error: OSError) -> bool:
    """Whether freeing space would help; every other error of a disk is final."""
    return error.errno in _NO_SPACE


def spare_name(number: int) -> str:
    """`00000000000000000007.spare`"""
    return f"{number:020d}{SPARE_SUFFIX}"


def spare_number(name: str) -> int:
    """The number in a spare's name."""
    return int(name.removesuffix(SPARE_SUFFIX))


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
        if disk_is_full(error):
            return None
        raise
    file.close()
    disk.sync_folder()
    return name


def write_index(segment: Segment) -> dict[int, RunSummary]:
    """Writes the index file of a segment that is no longer written to; returns what `Segment.seal` wants. The file is a
    proof that the next segment's exists, so this comes after it was opened. Raises OSError."""
    assert segment.index is not None
    encoded = encode_index(segment.index, segment.base_index, segment.last_index)
    segment.disk.write_atomic(index_name(segment.base_index), encoded)
    return summarise(segment.index, encoded)


def remove_segment(disk: Disk, segment: Segment) -> None:
    """Removes the files of a segment that was dropped from the log."""
    # The log file goes first: an index without its segment is swept at the next start.
    disk.remove(segment.name)
    disk.remove(index_name(segment.base_index))
    disk.sync_folder()


def sync_segment(segment: Segment) -> None:
    """Makes everything written to the segment durable (flush: async). An error is final."""
    assert segment.file is not None
    segment.file.sync()
