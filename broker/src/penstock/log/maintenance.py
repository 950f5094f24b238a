"""File work beside the log's writing, for a background thread: spare segments, index files, removal, synchronising.

Index files are written here and not by the log's writer, so that sealing a segment neither delays a group commit nor,
on a full disk, ends the broker: until its index file is written, a segment keeps its index in memory.
"""

from __future__ import annotations

import errno
import uuid

from penstock.log.disk import Disk, File
from penstock.log.index_file import encode_index, summarise
from penstock.log.segment import SPARE_SUFFIX, SealedIndex, Segment, encode_segment_header, index_name

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})

# How long whoever needs room on a full disk waits before it tries again.
DISK_FULL_RETRY_SECONDS = 0.5


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


def usable_spares(disk: Disk, segment_bytes: int) -> list[str]:
    """Spares of the size that is asked for; others are removed. One that is smaller was being allocated when the broker
    stopped, or comes from other settings: a segment made of it could hit a full disk in the middle of a write."""
    usable = []
    for name in sorted(name for name in disk.names() if name.endswith(SPARE_SUFFIX)):
        file = disk.open(name)
        size = file.size()
        file.close()
        if size == segment_bytes:
            usable.append(name)
        else:
            disk.remove(name)
    return usable


def open_spare(disk: Disk, shard_uid: uuid.UUID, segment: Segment, spare: str) -> File:
    """Makes a spare the segment's file. The header is durable before the name is: a file that is named a segment always
    has one. Raises OSError."""
    file = disk.open(spare)
    file.write_at(0, [encode_segment_header(segment.base_index, shard_uid, segment.epoch_before)])
    file.sync()
    disk.rename(spare, segment.name)
    disk.sync_folder()
    return file


def write_index(segment: Segment) -> SealedIndex | None:
    """Writes the index file of a segment that is no longer written to; returns what `Segment.seal` wants. The file is a
    proof that the next segment's exists, so none is written (None) when that was truncated meanwhile. Raises OSError."""
    with segment.index_lock:
        index = segment.index
        if index is None or segment.removed or not segment.followed:
            return None
        encoded = encode_index(index, segment.base_index, segment.write_position)
        segment.disk.write_atomic(index_name(segment.base_index), encoded)
        return SealedIndex(index, summarise(encoded))


def remove_index(segment: Segment) -> None:
    """Removes the segment's index file, if there is one; the caller synchronises the folder."""
    with segment.index_lock:
        segment.disk.remove(index_name(segment.base_index))


def remove_segment(disk: Disk, segment: Segment) -> None:
    """Removes the files of a segment that was dropped from the log."""
    # The log file goes first: an index without its segment is swept at the next start.
    disk.remove(segment.name)
    remove_index(segment)
    disk.sync_folder()


def sync_segment(segment: Segment) -> None:
    """Makes everything written to the segment durable (flush: async). An error is final."""
    assert segment.file is not None
    segment.file.sync()
