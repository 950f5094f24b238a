"""Where each partition's batches stand inside one segment: packed arrays, 24 bytes a batch.

A `PartitionRun` lists one partition's batches in one segment in offset order. While the segment is being written the
runs grow in memory; when it is sealed they are written beside it, and afterwards only the directory (a few numbers a
partition) stays in memory, while the arrays are read back on demand.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right

from penstock.base.crc import crc32c
from penstock.codec.entry import ENTRY_HEADER_SIZE
from penstock.log.errors import LogDamagedError

_FILE_HEADER = struct.Struct("<8sHHIQQQI")  # magic, version, -, run count, first, last, last command index, -
_FILE_MAGIC = b"PNSTKIDX"
_FILE_VERSION = 1
_RUN = struct.Struct("<IIqqqqQI")  # partition, batches, first, end, max timestamp, bytes, position, epochs
_EPOCH = struct.Struct("<Iq")
_CRC = struct.Struct("<I")
_BATCH_BYTES = 24

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("Penstock's index files are little-endian and so must the machine be")


class PartitionRun:
    """One partition's batches in one segment. Positions and sizes are those of whole entries in the file; `size_bytes` is
    the sum of the batches alone, as retention counts them."""

    __slots__ = ("base_offsets", "end_offset", "epochs", "max_timestamp", "max_timestamps", "positions",
                 "size_bytes", "sizes")  # fmt: skip

    def __init__(self) -> None:
        self.base_offsets = array("q")
        self.positions = array("I")
        self.sizes = array("I")
        self.max_timestamps = array("q")
        self.end_offset = 0
        self.max_timestamp = -1
        self.size_bytes = 0
        # (epoch, first offset in it), ascending; the source of OffsetForLeaderEpoch.
        self.epochs: list[tuple[int, int]] = []

    def add(self, base: int, end: int, position: int, size: int, max_timestamp: int, epoch: int) -> None:
        """Notes a batch of offsets [base, end)."""
        self.base_offsets.append(base)
        self.positions.append(position)
        self.sizes.append(size)
        self.max_timestamps.append(max_timestamp)
        self.end_offset = end
        self.size_bytes += size - ENTRY_HEADER_SIZE
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
        if not self.epochs or self.epochs[-1][0] != epoch:
            self.epochs.append((epoch, base))

    def __len__(self) -> int:
        return len(self.base_offsets)

    @property
    def first_offset(self) -> int:
        """Offset of the first record in this run."""
        return self.base_offsets[0]

    def slot_of(self, offset: int) -> int:
        """Which batch holds `offset`; the caller made sure that one does."""
        return max(bisect_right(self.base_offsets, offset) - 1, 0)

    @property
    def memory_bytes(self) -> int:
        """What the arrays take."""
        return len(self.base_offsets) * _BATCH_BYTES


class RunSummary:
    """What stays in memory of a sealed segment's run."""

    __slots__ = ("batches", "end_offset", "epochs", "file_position", "first_offset", "max_timestamp",
                 "size_bytes")  # fmt: skip

    def __init__(
        self, first: int, end: int, max_timestamp: int, size: int, batches: int, position: int
    ) -> None:
        self.first_offset = first
        self.end_offset = end
        self.max_timestamp = max_timestamp
        self.size_bytes = size
        self.batches = batches
        self.file_position = position
        self.epochs: list[tuple[int, int]] = []

    @property
    def memory_bytes(self) -> int:
        """What the run's arrays take once they are loaded."""
        return self.batches * _BATCH_BYTES


class SegmentIndex:
    """All runs of one segment, and the last command that stands in it (0 for none)."""

    __slots__ = ("last_command_index", "runs")

    def __init__(self) -> None:
        self.runs: dict[int, PartitionRun] = {}
        self.last_command_index = 0

    def add_batch(
        self, partition: int, base: int, end: int, position: int, size: int, max_timestamp: int, epoch: int
    ) -> PartitionRun:
        """Notes a batch; returns its run (a new one for a partition not seen in this segment)."""
        run = self.runs.get(partition)
        if run is None:
            run = self.runs[partition] = PartitionRun()
        run.add(base, end, position, size, max_timestamp, epoch)
        return run


def encode_index(index: SegmentIndex, first_index: int, last_index: int) -> bytes:
    """The index file of a sealed segment."""
    runs = sorted(index.runs.items())
    directory_size = sum(_RUN.size + _EPOCH.size * len(run.epochs) for _, run in runs)
    position = _FILE_HEADER.size + directory_size + _CRC.size
    head = bytearray(
        _FILE_HEADER.pack(
            _FILE_MAGIC,
            _FILE_VERSION,
            0,
            len(runs),
            first_index,
            last_index,
            index.last_command_index,
            directory_size,
        )
    )
    data = bytearray()
    for partition, run in runs:
        head += _RUN.pack(
            partition, len(run), run.first_offset, run.end_offset, run.max_timestamp, run.size_bytes, position,
            len(run.epochs),
        )  # fmt: skip
        for epoch in run.epochs:
            head += _EPOCH.pack(*epoch)
        start = len(data)
        for column in (run.base_offsets, run.positions, run.sizes, run.max_timestamps):
            data += column.tobytes()
        data += _CRC.pack(crc32c(memoryview(data)[start:]))
        position += len(data) - start
    return bytes(head) + _CRC.pack(crc32c(head)) + bytes(data)


def index_directory_size(head: bytes) -> int:
    """How many bytes the header, the directory and its CRC take, read off the file's first bytes."""
    if len(head) < _FILE_HEADER.size:
        raise LogDamagedError("the index file is shorter than its header")
    magic, version, _, _, _, _, _, directory_size = _FILE_HEADER.unpack_from(head)
    if magic != _FILE_MAGIC or version != _FILE_VERSION:
        raise LogDamagedError("the index file has an unknown format")
    return _FILE_HEADER.size + int(directory_size) + _CRC.size


def decode_directory(head: bytes) -> tuple[dict[int, RunSummary], int, int, int]:
    """(summaries by partition, first index, last index, last command index). Raises LogDamagedError."""
    size = index_directory_size(head)
    if len(head) < size or crc32c(head[: size - _CRC.size]) != _CRC.unpack_from(head, size - _CRC.size)[0]:
        raise LogDamagedError("the index file's directory does not match its checksum")
    _, _, _, count, first, last, last_command, _ = _FILE_HEADER.unpack_from(head)
    summaries: dict[int, RunSummary] = {}
    at = _FILE_HEADER.size
    for _ in range(count):
        partition, batches, start, end, max_timestamp, size_bytes, position, epochs = _RUN.unpack_from(
            head, at
        )
        at += _RUN.size
        summary = RunSummary(start, end, max_timestamp, size_bytes, batches, position)
        for _ in range(epochs):
            epoch, offset = _EPOCH.unpack_from(head, at)
            summary.epochs.append((epoch, offset))
            at += _EPOCH.size
        summaries[partition] = summary
    return summaries, first, last, last_command


def run_size(summary: RunSummary) -> int:
    """Bytes to read at `summary.file_position` for `decode_run`."""
    return summary.batches * _BATCH_BYTES + _CRC.size


def decode_run(summary: RunSummary, data: bytes) -> PartitionRun:
    """The arrays of one run. Raises LogDamagedError."""
    count = summary.batches
    if (
        len(data) != run_size(summary)
        or crc32c(data[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - 4)[0]
    ):
        raise LogDamagedError("a run of the index file does not match its checksum")
    run = PartitionRun()
    at = 0
    for column in (run.base_offsets, run.positions, run.sizes, run.max_timestamps):
        width = column.itemsize * count
        column.frombytes(data[at : at + width])
        at += width
    run.end_offset = summary.end_offset
    run.max_timestamp = summary.max_timestamp
    run.size_bytes = summary.size_bytes
    run.epochs = list(summary.epochs)
    return run


def summarise(index: SegmentIndex, encoded: bytes) -> dict[int, RunSummary]:
    """The directory of an index that was just encoded."""
    return decode_directory(encoded[: index_directory_size(encoded)])[0]
