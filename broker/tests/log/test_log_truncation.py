"""Entries taken off the end: at once for the loop, durably with the next job, and no order of jobs can be wrong."""

from __future__ import annotations

import pytest

from log_harness import SEGMENT_BYTES, Log
from penstock.catalog.partitions import PartitionState
from penstock.log.errors import DiskFullError
from penstock.log.maintenance import sync_segment, write_index
from penstock.log.reader import load_index, load_run
from penstock.log.segment import index_name, segment_name
from penstock.log.truncation import SealedSegmentError
from penstock.partition.partition import MissingRun, RunCache
from penstock.partition.table import PartitionTable
from penstock.testing.simulated_disk import SimulatedDisk

VALUE = b"x" * 500


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(0)


def fill(disk: SimulatedDisk, entries: int, *, commit: bool = True, sync: bool = True) -> Log:
    """Entries of two partitions, six to a segment."""
    log = Log(disk, sync=sync)
    for number in range(entries):
        log.append(number % 2, number // 2, [VALUE])
        if commit:
            log.commit()
        log.fill_spares()
    return log


def indexes(log: Log) -> list[int]:
    """What a start finds."""
    return [header.log_index for header, _ in log.replayed]


def test_what_is_cut_is_gone_at_once_and_after_a_start(disk: SimulatedDisk) -> None:
    log = fill(disk, 4)
    cut = log.log.truncate(3)
    assert (log.log.next_index, log.log.written_index, log.log.durable_index) == (3, 2, 2)
    assert cut.ends == {0: 1, 1: 1}
    assert log.log.has_work
    log.commit()
    assert not log.log.has_work
    assert indexes(Log(disk)) == [1, 2]


@pytest.mark.parametrize("from_index", [1, 2, 6, 7, 8, 12, 13, 14, 20])
@pytest.mark.parametrize("again", [0, 1, 9])
def test_other_entries_take_the_place_of_those_that_were_cut(
    disk: SimulatedDisk, from_index: int, again: int
) -> None:
    log = fill(disk, 20)
    log.log.epoch = 2
    cut_segment = next(s for s in reversed(log.log.segments) if s.base_index <= from_index)
    sealed = cut_segment.index is None and cut_segment.base_index < from_index
    if sealed:
        with pytest.raises(SealedSegmentError):
            log.log.truncate(from_index)
        assert log.log.next_index == 21
    log.log.truncate(from_index, load_index(cut_segment) if sealed else None)
    for number in range(again):
        log.append(2, number, [b"other"])
    log.commit()
    opened = Log(disk, epoch=3)
    assert indexes(opened) == list(range(1, from_index + again))
    assert [payload for _, partition, payload in opened.batches() if partition == 2] == [
        payload for _, partition, payload in opened.batches()[from_index - 1 :]
    ]
    assert opened.log.epoch_runs == log.log.epoch_runs
    assert opened.report.sentences == []
    names = {name for name in disk.names() if not name.endswith(".spare")}
    bases = [segment.base_index for segment in opened.log.segments]
    assert {name for name in names if name.endswith(".log")} == {segment_name(base) for base in bases}
    assert index_name(bases[-1]) not in names


def test_a_cut_through_a_sealed_segment_asks_for_its_index(disk: SimulatedDisk) -> None:
    log = fill(disk, 20)
    segment = log.log.segments[1]
    assert segment.index is None
    with pytest.raises(SealedSegmentError) as caught:
        log.log.truncate(10)
    assert caught.value.segment is segment
    cut = log.log.truncate(10, load_index(segment))
    assert [each.base_index for each in cut.segments] == [7, 13, 19]
    assert cut.ends == {0: 5, 1: 4}
    assert segment.index is not None
    assert len(segment.index.positions) == 3
    log.commit()
    assert index_name(7) not in disk.names()
    # Filled again, it is sealed again.
    log.append(0, 5, [VALUE])
    log.commit()
    assert segment.index is None
    assert index_name(7) in disk.names()
    assert list(load_run(segment, segment.summaries[0]).base_offsets) == [3, 4]


def test_a_cut_where_a_sealed_segment_begins_asks_for_nothing(disk: SimulatedDisk) -> None:
    log = fill(disk, 20)
    log.log.truncate(7)
    assert [segment.base_index for segment in log.log.segments] == [1, 7]
    # The first segment stays sealed: the empty one behind it is what its index file promises.
    assert log.log.segments[0].index is None
    assert log.log.active.last_index == 6
    log.commit()
    assert Log(disk).log.next_index == 7


def test_an_empty_segment_and_what_replaces_it_are_cut_together(disk: SimulatedDisk) -> None:
    """The file of the empty segment is still there when the one that takes its name is dropped unwritten."""
    log = fill(disk, 8)
    log.log.truncate(7)
    log.commit()
    log.append(0, 3, [VALUE])
    assert log.log.active.base_index == 7
    log.log.truncate(3, load_index(log.log.segments[0]))
    log.commit()
    assert indexes(Log(disk)) == [1, 2]
    assert segment_name(7) not in disk.names()


def test_what_nobody_began_to_write_leaves_no_trace(disk: SimulatedDisk) -> None:
    """Pending entries are taken back, and so are the spares of segments that were to be opened for them."""
    log = fill(disk, 2)
    before = (list(log.log.spares), log.log.active.write_position, log.log.active.room_bytes)
    for number in range(1, 13):
        log.append(0, number, [VALUE])
    assert len(log.log.segments) == 3
    cut = log.log.truncate(3)
    assert cut.ends == {0: 1}
    assert (list(log.log.spares), log.log.active.write_position, log.log.active.room_bytes) == before
    assert log.log.pending_bytes == 0
    log.append(0, 1, [b"other"])
    log.commit()
    opened = Log(disk)
    assert indexes(opened) == [1, 2, 3]
    assert b"other" in opened.replayed[2][1]


def test_part_of_what_is_pending_stays(disk: SimulatedDisk) -> None:
    log, source = Log(disk), fill(SimulatedDisk(1), 5)
    log.append(0, 0, [b"one"])
    log.log.truncate(1)
    # Entries of a leader come in one buffer, which is cut in its middle.
    log.log.append_entries(source.shipped(1, 5))
    log.log.truncate(4)
    assert log.log.pending_bytes == len(source.shipped(1, 3))
    log.commit()
    assert indexes(Log(disk)) == [1, 2, 3]
    assert log.log.digest(1, 3)() == source.log.digest(1, 3)()


def test_a_cut_while_a_job_is_under_way(disk: SimulatedDisk) -> None:
    """The job writes entries that no longer count; what comes in their place is written after they are cut off."""
    log = fill(disk, 2)
    for number in range(1, 12):
        log.append(0, number, [VALUE])
    job = log.log.take_job()
    assert job is not None
    log.log.truncate(5)
    for number in range(3):
        log.append(2, number, [b"other"])
    assert log.log.take_job() is None
    log.log.complete(job.run())
    assert (log.log.written_index, log.log.durable_index, log.log.next_index) == (4, 4, 8)
    log.commit()
    assert (log.log.written_index, log.log.durable_index) == (7, 7)
    opened = Log(disk)
    assert indexes(opened) == list(range(1, 8))
    assert [partition for _, partition, _ in opened.batches()] == [0, 1, 0, 0, 2, 2, 2]


def test_cuts_of_cuts_while_a_job_is_under_way(disk: SimulatedDisk) -> None:
    log = fill(disk, 2)
    for number in range(1, 17):
        log.append(0, number, [VALUE])
    job = log.log.take_job()
    assert job is not None
    for from_index, count in ((16, 2), (15, 9), (12, 0), (8, 3), (10, 1), (4, 8)):
        log.log.truncate(from_index)
        for number in range(count):
            log.append(2, number, [VALUE if from_index < 8 else b"gone"])
        log.fill_spares()
    log.log.complete(job.run())
    assert log.log.written_index == 3
    log.commit()
    opened = Log(disk)
    assert indexes(opened) == list(range(1, 12))
    assert not any(b"gone" in payload for _, payload in opened.replayed)


def test_a_cut_job_is_not_for_the_loop(disk: SimulatedDisk) -> None:
    log = fill(disk, 2)
    log.log.truncate(2)
    job = log.log.take_job()
    assert job is not None
    assert job.touches_files
    assert not job.fills_segment


def test_a_sync_under_way_makes_nothing_durable_that_was_cut_meanwhile(disk: SimulatedDisk) -> None:
    log = fill(disk, 5, sync=False)
    segment = log.log.unsynced_segment()
    assert segment is not None
    index = log.log.written_index
    log.log.truncate(3)
    for number in range(1, 6):
        log.append(0, number, [VALUE])
    log.commit()
    sync_segment(segment)
    log.log.mark_durable(index)
    assert (log.log.durable_index, log.log.written_index) == (2, 7)
    assert log.log.unsynced_segment() is log.log.active
    log.log.mark_durable(7)
    assert log.log.durable_index == 7


def test_an_index_file_that_is_being_written_does_not_outlive_the_cut(disk: SimulatedDisk) -> None:
    """It would prove a segment that is gone. Whether it is written before the cut or not at all, none is left."""
    for when in ("before", "between", "after"):
        log = fill(SimulatedDisk(0), 12, commit=False)
        job = log.log.take_job()
        assert job is not None
        log.log.complete(job.run())
        log.append(0, 6, [VALUE])
        job = log.log.take_job()
        assert job is not None
        log.log.complete(job.run())
        (first, second) = log.log.unsealed_segments()
        sealed = [write_index(first), write_index(second)] if when == "before" else []
        log.log.truncate(8)
        if when == "between":
            sealed = [write_index(first), write_index(second)]
        job = log.log.take_job()
        assert job is not None
        log.log.complete(job.run())
        if when == "after":
            sealed = [write_index(first), write_index(second)]
        for segment, outcome in zip((first, second), sealed, strict=True):
            segment.seal(outcome)
        assert first.index is None
        assert second.index is not None, "it is written to again"
        assert index_name(7) not in log.disk.names()
        assert indexes(Log(log.disk)) == list(range(1, 8))


def test_sealing_can_wait_for_the_commit(disk: SimulatedDisk) -> None:
    log = fill(disk, 20, commit=False)
    job = log.log.take_job()
    assert job is not None
    log.log.complete(job.run())
    assert [segment.base_index for segment in log.log.unsealed_segments(12)] == [1, 7]
    assert [segment.base_index for segment in log.log.unsealed_segments(11)] == [1]
    assert [segment.base_index for segment in log.log.unsealed_segments()] == [1, 7, 13]


def test_what_comes_after_a_cut_may_have_to_wait_for_a_spare(disk: SimulatedDisk) -> None:
    """The segment that was cut takes nothing more; batches never take the spares that are kept for commands."""
    log, source = fill(disk, 3), fill(SimulatedDisk(1), 3)
    spares = list(log.log.spares)
    log.log.spares.clear()
    log.log.spares.extend(spares[:2])
    log.log.truncate(2)
    with pytest.raises(DiskFullError):
        log.log.append_entries(source.shipped(2, 3))
    assert log.log.next_index == 2
    log.log.spares.append(spares[2])
    assert len(log.log.append_entries(source.shipped(2, 3))) == 2
    log.commit()
    assert indexes(Log(disk)) == [1, 2, 3]


def test_only_what_is_there_can_be_cut(disk: SimulatedDisk) -> None:
    log = fill(disk, 8)
    assert log.log.truncate(9).segments == ()
    assert not log.log.has_work
    log.log.drop_first()
    for index in (6, 10):
        with pytest.raises(ValueError, match=f"the log holds 7 to 8, not {index}"):
            log.log.truncate(index)
    log.log.truncate(7)
    assert log.log.epoch_of(6) == 1
    log.log.epoch = 5
    log.append(0, 3, [VALUE])
    assert log.log.epoch_runs == ((5, 7),)


def test_a_crash_before_the_job_leaves_the_old_log(disk: SimulatedDisk) -> None:
    log = fill(disk, 20)
    log.log.truncate(3, load_index(log.log.segments[0]))
    disk.lose_power()
    assert indexes(Log(disk)) == list(range(1, 21))


# --- what partitions are told -------------------------------------------------------------------------------------------


def table_of(log: Log) -> PartitionTable:
    table = PartitionTable(RunCache(1 << 20))
    for key in (0, 1):
        table.open(PartitionState(key, "t", key, bytes(16)))
    for segment in log.log.segments:
        for key in segment.partitions():
            table.by_key[key].attach(segment)
    return table


@pytest.mark.parametrize("from_index", range(1, 21))
def test_partitions_are_as_if_what_was_cut_had_never_been(disk: SimulatedDisk, from_index: int) -> None:
    log = fill(disk, 20)
    table = table_of(log)
    for partition in table:
        partition.high_watermark = partition.end_offset
    number = (from_index - 1) // 6
    segment = log.log.segments[number]
    cut = log.log.truncate(from_index, load_index(segment) if segment.index is None else None)
    touched = table.truncated(cut)
    assert {partition.key for partition in touched} == set(cut.ends)
    log.commit()
    expected = table_of(Log(disk, epoch=2))
    for key in (0, 1):
        partition, other = table.by_key[key], expected.by_key[key]
        assert (partition.end_offset, partition.size_bytes) == (other.end_offset, other.size_bytes)
        assert partition.high_watermark == partition.end_offset
        assert [s.base_index for s in partition._segments] == [s.base_index for s in other._segments]


def test_a_run_that_was_loaded_before_the_cut_is_not_taken_for_the_new_one(disk: SimulatedDisk) -> None:
    log = fill(disk, 14)
    table = table_of(log)
    partition, segment = table.by_key[0], log.log.segments[1]
    old = load_run(segment, segment.summaries[0])
    table.cache.put(segment, 0, old)
    assert len(partition.extents(3, 1 << 20, 7)) == 4
    table.truncated(log.log.truncate(9, load_index(segment)))
    assert partition.end_offset == 4
    for offset in (4, 5):
        log.append(0, offset, [b"other"])
        partition.appended(log.log.active, offset + 1, 80)
    log.commit()
    assert segment.index is None
    with pytest.raises(MissingRun) as caught:
        partition.extents(3, 1 << 20, 7)
    run = load_run(segment, caught.value.wanted.summary)
    table.cache.put(segment, 0, run)
    assert [extent.segment.base_index for extent in partition.extents(3, 1 << 20, 7)] == [7, 9, 9]
    assert table.cache.size_bytes == run.memory_bytes < old.memory_bytes


def test_segments_hold_what_they_should(disk: SimulatedDisk) -> None:
    """The examples above count on six entries to a segment."""
    assert [segment.base_index for segment in fill(disk, 20).log.segments] == [1, 7, 13, 19]
    assert SEGMENT_BYTES == 4096
