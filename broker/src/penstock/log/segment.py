"""One file of the commit log: a header of 64 bytes, then entries back to back, then zeros to its preallocated size.

A segment is named by the index of its first entry. It is active (last of the log, written to, its index in memory),
then sealed (its index in a file beside it, that file's directory in memory).
"""

from __future__ import annotations

import struct
import threading
import uuid

import msgspec

from penstock.base.crc import crc32c
from penstock.log.disk import Disk, File
from penstock.log.errors import LogDamagedError
from penstock.log.index_file import Directory
from penstock.log.segment_index import PartitionRun, RunSummary, SegmentIndex

SEGMENT_HEADER_SIZE = 64
# Magic, version, -, epoch of the entry before the first, base index, shard uid.
_HEADER = struct.Struct("<8sHHIQ16s")
_MAGIC = b"PENSTOCK"
_VERSION = 2
# Does not say which epoch the entry before was of.
_VERSION_WITHOUT_EPOCH = 1
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


def encode_segment_header(base_index: int, shard_uid: uuid.UUID, epoch_before: int = 0) -> bytes:
    """The file's first 64 bytes. `epoch_before` is the epoch of entry `base_index` - 1."""
    head = _HEADER.pack(_MAGIC, _VERSION, 0, epoch_before, base_index, shard_uid.bytes)
    head = head.ljust(SEGMENT_HEADER_SIZE - _CRC.size, b"\0")
    return head + _CRC.pack(crc32c(head))


def check_segment_header(name: str, head: bytes, shard_uid: uuid.UUID) -> int | None:
    """The epoch of the entry before the segment's first, None where an older release did not note it. Raises
    LogDamagedError with a sentence unless the file is this shard's segment of that name."""
    if len(head) < SEGMENT_HEADER_SIZE:
        raise LogDamagedError(f"{name} is shorter than a segment's header")
    body, (crc,) = head[: SEGMENT_HEADER_SIZE - _CRC.size], _CRC.unpack_from(head, SEGMENT_HEADER_SIZE - 4)
    if crc32c(body) != crc:
        raise LogDamagedError(f"{name} is damaged in its header (position 0): restore the file or the volume")
    magic, version, _, epoch_before, base_index, uid = _HEADER.unpack_from(head)
    if magic != _MAGIC or version not in (_VERSION, _VERSION_WITHOUT_EPOCH):
        raise LogDamagedError(
            f"{name} has format {version}, which this release does not read: upgrade Penstock"
        )
    if base_index != base_index_of(name):
        raise LogDamagedError(f"{name} says inside that it begins at entry {base_index}: it was renamed")
    if uid != shard_uid.bytes:
        raise LogDamagedError(f"{name} belongs to shard {uuid.UUID(bytes=uid)}, not to {shard_uid}")
    return None if version == _VERSION_WITHOUT_EPOCH else int(epoch_before)


class SealedIndex(msgspec.Struct, frozen=True):
    """The outcome of writing an index file: the directory of what `index` was then."""

    index: SegmentIndex
    directory: Directory


class Segment:
    """A segment in use. `write_position` is where the next entry goes; `last_index` is base - 1 while it is empty."""

    __slots__ = ("base_index", "cuts", "directory", "disk", "epoch_before", "file", "followed", "index", "index_lock",
                 "last_index", "name", "removed", "size_bytes", "write_position")  # fmt: skip

    def __init__(
        self, disk: Disk, base_index: int, file: File | None, size_bytes: int, epoch_before: int = 0
    ) -> None:
        self.disk = disk
        self.base_index = base_index
        self.name = segment_name(base_index)
        # None until the writer has renamed the spare that this segment is made of.
        self.file = file
        self.size_bytes = size_bytes
        self.epoch_before = epoch_before
        self.write_position = SEGMENT_HEADER_SIZE
        self.last_index = base_index - 1
        # All of it while it is in memory; the directory alone once it is sealed.
        self.index: SegmentIndex | None = SegmentIndex()
        self.directory: Directory | None = None
        # Whether a later segment is durable: only then may there be an index file.
        self.followed = False
        self.removed = False
        # How often entries were taken off: who planned a read before is told from who finds damage.
        self.cuts = 0
        # Held while the index file is written or removed, by whichever thread does it.
        self.index_lock = threading.Lock()

    @property
    def room_bytes(self) -> int:
        """How large an entry still fits."""
        return self.size_bytes - self.write_position

    @property
    def summaries(self) -> dict[int, RunSummary]:
        """Of each partition's run, once sealed."""
        return self.directory.summaries if self.directory is not None else {}

    @property
    def epochs(self) -> list[tuple[int, int]]:
        """(epoch, index of the first entry of it here), ascending."""
        if self.index is not None:
            return self.index.epochs
        assert self.directory is not None
        return self.directory.epochs

    @property
    def last_epoch(self) -> int:
        """The epoch of the newest entry here; of the one before the segment while it is empty."""
        epochs = self.epochs
        return epochs[-1][0] if epochs else self.epoch_before

    def run(self, partition: int) -> PartitionRun | RunSummary | None:
        """The partition's batches in this segment: all of them, or a summary once sealed."""
        if self.index is not None:
            return self.index.runs.get(partition)
        return self.summaries.get(partition)

    def partitions(self) -> list[int]:
        """Keys of all partitions with a batch here."""
        return list(self.index.runs if self.index is not None else self.summaries)

    def seal(self, sealed: SealedIndex | None) -> None:
        """Lets go of the arrays: from now on they are read from the index file. Nothing happens when the segment was cut
        since that file was begun."""
        if sealed is not None and self.followed and sealed.index is self.index:
            self.use_directory(sealed.directory)

    def use_directory(self, directory: Directory) -> None:
        """Goes on with an index file's directory alone."""
        self.directory = directory
        self.index = None
