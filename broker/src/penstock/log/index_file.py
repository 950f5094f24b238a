"""The file beside a sealed segment: a directory that is kept in memory, and the runs' arrays, read when they are needed.

Everything in it is derived from the segment, which has checksums of its own: a file that is damaged, or of a version
that this release does not know, is made again.
"""

from __future__ import annotations

import struct
import sys
from array import array

import msgspec

from penstock.base.crc import crc32c
from penstock.log.errors import LogDamagedError
from penstock.log.segment_index import BATCH_BYTES, Marks, PartitionRun, RunSummary, SegmentIndex

# Magic, version, -, run count, first index, last index, end position, epochs, marks, bytes of the directory.
_FILE_HEADER = struct.Struct("<8sHHIQQIIII")
_FILE_MAGIC = b"PNSTKIDX"
_FILE_VERSION = 2
_RUN = struct.Struct("<IIqqqqQI")  # partition, batches, first, end, max timestamp, bytes, position, epochs
_RUN_EPOCH = struct.Struct("<Iq")
_EPOCH = struct.Struct("<IQ")
_MARK_BYTES = 8
_CRC = struct.Struct("<I")

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("Penstock's index files are little-endian and so must the machine be")


class Directory(msgspec.Struct, gc=False):
    """What stays in memory of a sealed segment. Entries end at `end_position`; `epochs` are (epoch, first index)."""

    first_index: int
    last_index: int
    end_position: int
    summaries: dict[int, RunSummary]
    epochs: list[tuple[int, int]]
    marks: Marks


def encode_index(index: SegmentIndex, first_index: int, end_position: int) -> bytes:
    """The index file of a segment that is no longer written to."""
    runs = sorted(index.runs.items())
    marks = Marks.among(index.positions)
    directory_size = (
        sum(_RUN.size + _RUN_EPOCH.size * len(run.epochs) for _, run in runs)
        + _EPOCH.size * len(index.epochs)
        + _MARK_BYTES * len(marks.numbers)
    )
    position = _FILE_HEADER.size + directory_size + _CRC.size
    head = bytearray(
        _FILE_HEADER.pack(
            _FILE_MAGIC,
            _FILE_VERSION,
            0,
            len(runs),
            first_index,
            first_index + len(index.positions) - 1,
            end_position,
            len(index.epochs),
            len(marks.numbers),
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
            head += _RUN_EPOCH.pack(*epoch)
        start = len(data)
        for column in (run.base_offsets, run.positions, run.sizes, run.max_timestamps):
            data += column.tobytes()
        data += _CRC.pack(crc32c(data[start:]))
        position += len(data) - start
    for epoch in index.epochs:
        head += _EPOCH.pack(*epoch)
    head += marks.numbers.tobytes() + marks.positions.tobytes()
    head += _CRC.pack(crc32c(head))
    return bytes(head + data)


def index_directory_size(head: bytes) -> int:
    """How many bytes the directory takes, by the file's first bytes. Raises LogDamagedError."""
    if len(head) < _FILE_HEADER.size:
        raise LogDamagedError("the index file is shorter than its header")
    fields = _FILE_HEADER.unpack_from(head)
    if fields[0] != _FILE_MAGIC or fields[1] != _FILE_VERSION:
        raise LogDamagedError("the index file is damaged or has a version that this release does not read")
    directory_size: int = fields[-1]
    return _FILE_HEADER.size + directory_size + _CRC.size


def decode_directory(head: bytes) -> Directory:
    """The directory at the begin of an index file. Raises LogDamagedError."""
    size = index_directory_size(head)
    if len(head) < size or crc32c(head[: size - _CRC.size]) != _CRC.unpack_from(head, size - _CRC.size)[0]:
        raise LogDamagedError("the index file's directory does not match its checksum")
    _, _, _, run_count, first, last, end_position, epoch_count, mark_count, _ = _FILE_HEADER.unpack_from(head)
    summaries: dict[int, RunSummary] = {}
    at = _FILE_HEADER.size
    for _ in range(run_count):
        partition, batches, start, end, max_timestamp, size_bytes, position, epochs = _RUN.unpack_from(
            head, at
        )
        at += _RUN.size
        summary = RunSummary(start, end, max_timestamp, size_bytes, batches, position)
        for _ in range(epochs):
            epoch, offset = _RUN_EPOCH.unpack_from(head, at)
            summary.epochs.append((epoch, offset))
            at += _RUN_EPOCH.size
        summaries[partition] = summary
    segment_epochs = []
    for _ in range(epoch_count):
        epoch, index = _EPOCH.unpack_from(head, at)
        segment_epochs.append((epoch, index))
        at += _EPOCH.size
    columns = array("I", head[at : at + _MARK_BYTES * mark_count])
    marks = Marks(columns[:mark_count], columns[mark_count:])
    return Directory(first, last, end_position, summaries, segment_epochs, marks)


def run_size(summary: RunSummary) -> int:
    """Bytes to read at `summary.file_position` for `decode_run`."""
    return summary.batches * BATCH_BYTES + _CRC.size


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
    run.summary = summary
    return run


def summarise(encoded: bytes) -> Directory:
    """The directory of an index file that was just encoded."""
    return decode_directory(encoded[: index_directory_size(encoded)])
