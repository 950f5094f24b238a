"""Opening a log folder: which segments there are, what the last one holds, what has to be cut or refused.

Sealed segments are trusted by their index file (its CRC, and the chain of indexes from segment to segment) and read
only where the snapshots do not cover them; the last one is read whole. Every intact entry behind the snapshots is
handed to `on_entry`, in order, so that one pass checks, indexes and replays. A segment without an index file keeps its
index in memory, and whoever runs the log writes the file (`CommitLog.unsealed_segments`).
"""

from __future__ import annotations

import uuid

import msgspec

from penstock.codec.entry import EntryHeader
from penstock.log.commit_log import CommitLog
from penstock.log.disk import Disk
from penstock.log.errors import LogDamagedError
from penstock.log.index_file import Directory, decode_directory, index_directory_size
from penstock.log.indexing import OnEntry, index_segment
from penstock.log.maintenance import disk_is_full, usable_spares
from penstock.log.scan import SegmentScan
from penstock.log.segment import (
    INDEX_SUFFIX,
    SEGMENT_HEADER_SIZE,
    SEGMENT_SUFFIX,
    Segment,
    base_index_of,
    check_segment_header,
    index_name,
    segment_name,
)
from penstock.log.snapshots import CHECKPOINT_NAME, SNAPSHOT_SUFFIX
from penstock.log.tail_cache import TailCache

# Read first of an index file; a directory that is longer is read in a second step.
_INDEX_HEAD_BYTES = 64 * 1024


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
    seeding: bool = False,
) -> tuple[CommitLog, RecoveryReport]:
    """The log, ready for appending. `epoch` is the newest one ever persisted; entries up to `covered_index` are in
    the snapshots; `seeding` says that the log may end before those. Raises LogDamagedError with a sentence that names
    file and position."""
    report = RecoveryReport(sentences=[])
    names = frozenset(disk.names())
    _sweep(disk, names)
    bases = sorted(base_index_of(name) for name in names if name.endswith(SEGMENT_SUFFIX))
    _check_newest(bases, names, covered_index)
    segments: list[Segment] = []
    for position, base in enumerate(bases):
        last = position == len(bases) - 1
        segment = _open_segment(disk, base, shard_uid, segments[-1] if segments else None)
        if last:
            _read_last(segment, epoch, covered_index, on_entry, report, seeding=seeding)
        else:
            _read_sealed(
                segment,
                next_base=bases[position + 1],
                indexed=index_name(base) in names,
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
        spares=usable_spares(disk, options.segment_bytes),
        segment_bytes=options.segment_bytes,
        cache=TailCache(options.cache_bytes_max),
        sync=options.sync,
    )
    return log, report


def discard_log(disk: Disk) -> None:
    """Removes segments, indexes and snapshots: of a member whose log is damaged and that is to be seeded anew. After a
    crash on the way, what is left may look like a log: whoever calls this remembers durably that the member has
    forgotten, and calls it again. Raises OSError."""
    for name in reversed(disk.names()):
        if name == CHECKPOINT_NAME or name.endswith((SEGMENT_SUFFIX, INDEX_SUFFIX, SNAPSHOT_SUFFIX)):
            disk.remove(name)
    disk.sync_folder()


def _check_newest(bases: list[int], names: frozenset[str], covered: int) -> None:
    """Raises LogDamagedError when the newest segment's file is not there: nothing behind it could tell."""
    if not bases and covered:
        raise LogDamagedError(
            f"the snapshots cover entries up to {covered}, but the folder holds no segment of the log:"
            " restore its files or the volume"
        )
    if bases and index_name(bases[-1]) in names:
        raise LogDamagedError(
            f"{index_name(bases[-1])} shows that another segment followed {segment_name(bases[-1])}, but it is missing:"
            " restore it or the volume"
        )


def _sweep(disk: Disk, names: frozenset[str]) -> None:
    segments = {name.removesuffix(SEGMENT_SUFFIX) for name in names if name.endswith(SEGMENT_SUFFIX)}
    for name in sorted(names):
        orphan = name.endswith(INDEX_SUFFIX) and name.removesuffix(INDEX_SUFFIX) not in segments
        if orphan or name.endswith(".new"):
            disk.remove(name)


def _open_segment(disk: Disk, base: int, shard_uid: uuid.UUID, previous: Segment | None) -> Segment:
    name = segment_name(base)
    file = disk.open(name)
    epoch_before = check_segment_header(name, file.read_at(0, SEGMENT_HEADER_SIZE), shard_uid)
    expected = previous.last_epoch if previous is not None else None
    if epoch_before is None:
        # Of an older release. An epoch that nobody has is never taken for one that matches.
        epoch_before = expected or 0
    if expected is not None and epoch_before != expected:
        assert previous is not None
        raise LogDamagedError(
            f"{name} follows an entry of epoch {epoch_before}, but {previous.name} ends with one of epoch {expected}:"
            " one of them is of another history; restore the volume from a replica or a backup"
        )
    return Segment(disk, base, file, file.size(), epoch_before)


def _read_sealed(
    segment: Segment,
    *,
    next_base: int,
    indexed: bool,
    covered: int,
    on_entry: OnEntry,
    report: RecoveryReport,
) -> None:
    segment.followed = True
    directory = _load_directory(segment, next_base) if indexed else None
    if directory is not None and next_base - 1 <= covered:
        segment.last_index = directory.last_index
        segment.write_position = directory.end_position
    else:
        scan = _scan(segment, covered, on_entry, report)
        if segment.last_index != next_base - 1:
            raise LogDamagedError(_broken_chain(segment, scan, next_base))
    if directory is not None:
        segment.use_directory(directory)
    else:
        report.sentences.append(f"the index of {segment.name} is made anew")


def _broken_chain(segment: Segment, scan: SegmentScan, next_base: int) -> str:
    following = segment_name(next_base)
    if scan.tail_is_blank:
        return (
            f"{segment.name} ends with entry {segment.last_index}, but the next file is {following}: a segment is missing"
            " or was cut; restore it or the volume"
        )
    return (
        f"{segment.name} is damaged at position {scan.end_position}: entry {scan.next_index} cannot be read, and the log"
        f" goes on in {following}; restore the volume from a replica or a backup"
    )


def _load_directory(segment: Segment, next_base: int) -> Directory | None:
    """The directory of the index file; None when that cannot be trusted."""
    file = segment.disk.open(index_name(segment.base_index))
    try:
        head = file.read_at(0, _INDEX_HEAD_BYTES)
        wanted = index_directory_size(head)
        if wanted > len(head):
            head = file.read_at(0, min(wanted, file.size()))
        directory = decode_directory(head)
    except LogDamagedError:
        # The index is derived: a damaged one is made again from the segment, which has checksums of its own.
        return None
    finally:
        file.close()
    matches = directory.first_index == segment.base_index and directory.last_index == next_base - 1
    return directory if matches else None


def _scan(segment: Segment, covered: int, on_entry: OnEntry, report: RecoveryReport) -> SegmentScan:
    def count(header: EntryHeader, payload: memoryview) -> None:
        report.entries_read += 1
        on_entry(header, payload)

    scan, segment.index = index_segment(segment, count, covered)
    segment.write_position = scan.end_position
    segment.last_index = scan.next_index - 1
    return scan


def _read_last(
    segment: Segment, epoch: int, covered: int, on_entry: OnEntry, report: RecoveryReport, *, seeding: bool
) -> None:
    scan = _scan(segment, covered, on_entry, report)
    assert segment.file is not None
    if segment.last_index < covered and not seeding:
        raise LogDamagedError(
            f"{segment.name} ends with entry {segment.last_index} at position {scan.end_position}, but a snapshot covers"
            f" entries up to {covered}: acknowledged entries are gone; restore the volume from a replica or a backup"
        )
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
        try:
            segment.file.allocate(segment.size_bytes)
        except OSError as error:
            if not disk_is_full(error):
                raise
            # Somebody else took the room meanwhile: this segment is full then, and the next entry needs another.
            segment.size_bytes = scan.end_position
    # What survived a crash may still be in the page cache only: from here on it counts as durable.
    segment.file.sync()
