"""One file of the commit log: a header of 64 bytes, then entries back to back, then zeros to its preallocated size.

A segment is named by the index of its first entry. It is active (last of the log, written to, its index in memory),
then sealed (its index in a file beside it, a directory of summaries in memory).
"""

from __future__ import annotations

import struct
import uuid

from penstock.base.crc import crc32c
from penstock.log.disk import Disk, File
from penstock.log.errors import LogDamagedError
from penstock.log.segment_index import PartitionRun, RunSummary, SegmentIndex

SEGMENT_HEADER_SIZE = 64
_HEADER = struct.Struct("<8sHHIQ16s")  # magic, version, -, -, base index, shard uid
_MAGIC = b"PENSTOCK"
_VERSION = 1
_CRC = struct.Struct("<I")

SEGMENT_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
SPARE_SUFFIX = ".spare"


def segment_name(base_index: int) -> str:
    """`00000000000000000001.log`"""
    return f"{base_index:020d}{SEGMENT_SUFFIX}"


def index_name(base_index: int) -> str:
    """`00000000000000000001.index`"""
    return f"{base_index:020d}{INDEX_SUFFIX}"


def base_index_of(name: str) -> int:
    """The index in a segment's file name. Raises LogDamagedError for a name that is none."""
    stem = name.removesuffix(SEGMENT_SUFFIX)
    if len(stem) != 20 or not stem.isdigit():
        raise LogDamagedError(f"{name} is not a segment's file name: move it out of the log folder")
    return int(stem)


def encode_segment_header(base_index: int, shard_uid: uuid.UUID) -> bytes:
    """The file's first 64 bytes."""
    head = _HEADER.pack(_MAGIC, _VERSION, 0, 0, base_index, shard_uid.bytes)
    head = head.ljust(SEGMENT_HEADER_SIZE - _CRC.size, b"\0")
    return head + _CRC.pack(crc32c(head))


def check_segment_header(name: str, head: bytes, shard_uid: uuid.UUID) -> None:
    """Raises LogDamagedError with a sentence unless the file is this shard's segment of that name."""
    if len(head) < SEGMENT_HEADER_SIZE:
        raise LogDamagedError(f"{name} is shorter than a segment's header")
    body, (crc,) = head[: SEGMENT_HEADER_SIZE - _CRC.size], _CRC.unpack_from(head, SEGMENT_HEADER_SIZE - 4)
    if crc32c(body) != crc:
        raise LogDamagedError(f"{name} is damaged in its header (position 0): restore the file or the volume")
    magic, version, _, _, base_index, uid = _HEADER.unpack_from(head)
    if magic != _MAGIC or version != _VERSION:
        raise LogDamagedError(
            f"{name} has format {version}, which this release does not read: upgrade Penstock"
        )
    if base_index != base_index_of(name):
        raise LogDamagedError(f"{name} says inside that it begins at entry {base_index}: it was renamed")
    if uid != shard_uid.bytes:
        raise LogDamagedError(f"{name} belongs to shard {uuid.UUID(bytes=uid)}, not to {shard_uid}")


class Segment:
    """A segment in use. `write_position` is where the next entry goes; `last_index` is base - 1 while it is empty."""

    __slots__ = ("base_index", "disk", "file", "index", "last_command_index", "last_index", "name", "removed",
                 "size_bytes", "summaries", "write_position")  # fmt: skip

    def __init__(self, disk: Disk, base_index: int, file: File | None, size_bytes: int) -> None:
        self.disk = disk
        self.base_index = base_index
        self.name = segment_name(base_index)
        # None until the writer has renamed the spare that this segment is made of.
        self.file = file
        self.size_bytes = size_bytes
        self.write_position = SEGMENT_HEADER_SIZE
        self.last_index = base_index - 1
        self.last_command_index = 0
        self.index: SegmentIndex | None = SegmentIndex()
        self.summaries: dict[int, RunSummary] = {}
        self.removed = False

    @property
    def room_bytes(self) -> int:
        """How large an entry still fits."""
        return self.size_bytes - self.write_position

    def run(self, partition: int) -> PartitionRun | RunSummary | None:
        """The partition's batches in this segment: all of them, or a summary once sealed."""
        if self.index is not None:
            return self.index.runs.get(partition)
        return self.summaries.get(partition)

    def partitions(self) -> list[int]:
        """Keys of all partitions with a batch here."""
        return list(self.index.runs if self.index is not None else self.summaries)

    def seal(self, summaries: dict[int, RunSummary]) -> None:
        """Lets go of the arrays: from now on they are read from the index file."""
        if self.index is not None:
            self.last_command_index = self.index.last_command_index
        self.summaries = summaries
        self.index = None
