"""Opening a log folder: which segments there are, what the last one holds, what has to be cut or refused.

Sealed segments are trusted by their index file (its CRC, and the chain of indexes from segment to segment) and read
only where the snapshots do not cover them; the last one is read whole. Every intact entry behind the snapshots is
handed to `on_entry`, in order, so that one pass checks, indexes and replays.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import msgspec

from penstock.codec.entry import ENTRY_HEADER_SIZE, KIND_BATCH, EntryHeader
from penstock.log.commit_log import CommitLog
from penstock.log.disk import Disk
from penstock.log.errors import LogDamagedError
from penstock.log.scan import SegmentScan
from penstock.log.segment import (
    INDEX_SUFFIX,
    SEGMENT_HEADER_SIZE,
    SEGMENT_SUFFIX,
    SPARE_SUFFIX,
    Segment,
    base_index_of,
    check_segment_header,
    index_name,
    segment_name,
)
from penstock.log.segment_index import (
    SegmentIndex,
    decode_directory,
    encode_index,
    index_directory_size,
    summarise,
)
from penstock.log.tail_cache import TailCache
from penstock.model.record_batch import HEADER_SIZE, parse_header

# Read first of an index file; a directory that is longer is read in a second step.
_INDEX_HEAD_BYTES = 64 * 1024

OnEntry = Callable[[EntryHeader, memoryview], None]


class LogOptions(msgspec.Struct, frozen=True):
    """How the log is kept. Sizes in bytes; `sync` is `flush: sync`."""

    segment_bytes: int
    cache_bytes_max: int
    sync: bool


class RecoveryReport(msgspec.Struct):
    """What was found; `sentences` is for people."""

    entries_read: int = 0
    cut_bytes: int = 0
    sentences: list[str] = []


def open_log(
    disk: Disk,
    shard_uid: uuid.UUID,
    options: LogOptions,
    *,
    epoch: int,
    covered_index: int,
    on_entry: OnEntry,
) -> tuple[CommitLog, RecoveryReport]:
    """The log, ready for appending. `epoch` is the newest one ever persisted; entries up to `covered_index` are in
    the snapshots. Raises LogDamagedError with a sentence that names file and position."""
    report = RecoveryReport(sentences=[])
    names = disk.names()
    _sweep(disk, names)
    bases = sorted(base_index_of(name) for name in names if name.endswith(SEGMENT_SUFFIX))
    segments: list[Segment] = []
    for position, base in enumerate(bases):
        last = position == len(bases) - 1
        if segments and segments[-1].last_index + 1 != base:
            raise LogDamagedError(
                f"{segment_name(segments[-1].base_index)} ends with entry {segments[-1].last_index}, but the next file is"
                f" {segment_name(base)}: a segment is missing or was cut; restore it or the volume"
            )
        segment = _open_segment(disk, base, shard_uid)
        if last:
            _read_last(segment, epoch, covered_index, on_entry, report)
        else:
            _read_sealed(
                segment,
                next_base=bases[position + 1],
                covered=covered_index,
                on_entry=on_entry,
                report=report,
            )
        segments.append(segment)
    first = segments[0].base_index if segments else 1
    if first > covered_index + 1:
        raise LogDamagedError(
            f"the log begins with entry {first}, but the snapshots cover only entries up to {covered_index}:"
            " restore the missing segments or snapshots"
        )
    log = CommitLog(
        disk,
        shard_uid,
        segments=segments,
        spares=sorted(name for name in disk.names() if name.endswith(SPARE_SUFFIX)),
        segment_bytes=options.segment_bytes,
        cache=TailCache(options.cache_bytes_max),
        sync=options.sync,
    )
    if not segments:
        log.next_index = covered_index + 1
        log.written_index = log.durable_index = covered_index
    return log, report


def _sweep(disk: Disk, names: list[str]) -> None:
    segments = {name.removesuffix(SEGMENT_SUFFIX) for name in names if name.endswith(SEGMENT_SUFFIX)}
    for name in names:
        orphan = name.endswith(INDEX_SUFFIX) and name.removesuffix(INDEX_SUFFIX) not in segments
        if orphan or name.endswith(".new"):
            disk.remove(name)


def _open_segment(disk: Disk, base: int, shard_uid: uuid.UUID) -> Segment:
    name = segment_name(base)
    file = disk.open(name)
    check_segment_header(name, file.read_at(0, SEGMENT_HEADER_SIZE), shard_uid)
    return Segment(disk, base, file, file.size())


def _read_sealed(
    segment: Segment, *, next_base: int, covered: int, on_entry: OnEntry, report: RecoveryReport
) -> None:
    directory = _load_directory(segment, next_base)
    if directory is None or next_base - 1 > covered:
        scan = _scan(segment, covered, on_entry, report)
        if segment.last_index != next_base - 1:
            raise LogDamagedError(
                f"{segment.name} is damaged at position {scan.end_position}: entry {scan.next_index} cannot be read, and"
                f" the log goes on in {segment_name(next_base)}; restore the volume from a replica or a backup"
            )
        assert segment.index is not None
        encoded = encode_index(segment.index, segment.base_index, segment.last_index)
        if directory is None:
            segment.disk.write_atomic(index_name(segment.base_index), encoded)
            report.sentences.append(f"rebuilt the index of {segment.name}")
        segment.seal(summarise(segment.index, encoded))


def _load_directory(segment: Segment, next_base: int) -> bool | None:
    """Fills the segment from its index file; None when there is none that can be trusted."""
    name = index_name(segment.base_index)
    if name not in segment.disk.names():
        return None
    file = segment.disk.open(name)
    try:
        head = file.read_at(0, _INDEX_HEAD_BYTES)
        wanted = index_directory_size(head)
        if wanted > len(head):
            head = file.read_at(0, min(wanted, file.size()))
        summaries, first, last, last_command = decode_directory(head)
    except LogDamagedError:
        # The index is derived: a damaged one is made again from the segment, which has checksums of its own.
        return None
    finally:
        file.close()
    if first != segment.base_index or last != next_base - 1:
        return None
    segment.seal(summaries)
    segment.last_command_index = last_command
    segment.last_index = last
    segment.write_position = segment.size_bytes
    return True


def _scan(segment: Segment, covered: int, on_entry: OnEntry, report: RecoveryReport) -> SegmentScan:
    assert segment.file is not None
    data = segment.file.read_at(0, segment.size_bytes)
    view = memoryview(data)
    scan = SegmentScan(segment.name, data, segment.base_index)
    index = segment.index = SegmentIndex()
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
        if header.log_index > covered:
            on_entry(header, view[start:end])
            report.entries_read += 1
    segment.write_position = scan.end_position
    segment.last_index = scan.next_index - 1
    segment.last_command_index = index.last_command_index
    return scan


def _read_last(segment: Segment, epoch: int, covered: int, on_entry: OnEntry, report: RecoveryReport) -> None:
    scan = _scan(segment, covered, on_entry, report)
    assert segment.file is not None
    if not scan.tail_is_blank:
        scan.refuse_damage(epoch)
        cut = segment.size_bytes - scan.end_position
        report.cut_bytes += cut
        report.sentences.append(
            f"cut a torn tail off {segment.name} at position {scan.end_position}: entry {scan.next_index} and what"
            " follows were being written when the broker stopped and were never acknowledged"
        )
        # Cutting and allocating again leaves zeros, so that old bytes are never taken for entries later.
        segment.file.truncate(scan.end_position)
        segment.file.allocate(segment.size_bytes)
    if segment.last_index < covered:
        raise LogDamagedError(
            f"{segment.name} ends with entry {segment.last_index} at position {scan.end_position}, but a snapshot covers"
            f" entries up to {covered}: acknowledged entries are gone; restore the volume from a replica or a backup"
        )
    # What survived a crash may still be in the page cache only: from here on it counts as durable.
    segment.file.sync()
