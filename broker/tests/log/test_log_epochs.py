"""Which epoch each entry is of, through segment rolls, restarts, and files of older releases."""

from __future__ import annotations

import struct

import pytest

from log_harness import SHARD, Log
from penstock.base.crc import crc32c
from penstock.log.errors import LogDamagedError
from penstock.log.maintenance import remove_segment
from penstock.log.segment import SEGMENT_HEADER_SIZE, check_segment_header, encode_segment_header, index_name
from penstock.log.segment import segment_name as name_of
from penstock.testing.simulated_disk import SimulatedDisk

VALUE = b"x" * 500


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(0)


def fill(disk: SimulatedDisk) -> Log:
    """Entries 1 to 20 in segments of 1, 7, 13 and 19; every third is a command, and begins another epoch: 2, 4, 6, ..."""
    log = Log(disk)
    for number in range(20):
        if number % 3 == 0:
            log.log.epoch = number // 3 * 2 + 2
            log.command(b"c" * 580)
        else:
            log.append(1, number, [VALUE])
        log.commit()
    assert [segment.base_index for segment in log.log.segments] == [1, 7, 13, 19]
    return log


def expected(index: int) -> int:
    return (index - 1) // 3 * 2 + 2 if index else 0


def test_every_entry_has_its_epoch(disk: SimulatedDisk) -> None:
    log = fill(disk).log
    assert [log.epoch_of(index) for index in range(21)] == [expected(index) for index in range(21)]
    assert log.epoch_runs == tuple((expected(index), index) for index in range(1, 21, 3))
    for index in (-1, 21, 1000):
        with pytest.raises(IndexError, match=f"does not hold entry {index}"):
            log.epoch_of(index)


def test_a_log_that_never_held_anything_begins_behind_epoch_0(disk: SimulatedDisk) -> None:
    log = Log(disk).log
    assert log.epoch_of(0) == 0
    assert log.epoch_runs == ()
    with pytest.raises(IndexError):
        log.epoch_of(1)


@pytest.mark.parametrize("covered", [0, 9, 20])
def test_epochs_come_back_whether_segments_are_read_or_their_index_files(
    disk: SimulatedDisk, covered: int
) -> None:
    fill(disk)
    again = Log(disk, epoch=50, covered=covered)
    assert again.report.entries_read == 20 - covered
    assert again.log.epoch_runs == tuple((expected(index), index) for index in range(1, 21, 3))
    assert [again.log.epoch_of(index) for index in range(21)] == [expected(index) for index in range(21)]
    again.append(1, 20, [VALUE])
    assert again.log.epoch_of(21) == 50


def test_the_epoch_before_the_first_entry_outlives_that_entry(disk: SimulatedDisk) -> None:
    log = fill(disk)
    for _ in range(2):
        segment = log.log.drop_first()
        remove_segment(disk, segment)
    for each in (log.log, Log(disk, epoch=50, covered=20).log):
        assert each.first_index == 13
        assert each.epoch_of(12) == expected(12)
        assert each.epoch_runs[0] == (expected(13), 13)
        with pytest.raises(IndexError):
            each.epoch_of(11)


def test_an_index_file_of_the_first_format_is_made_again(disk: SimulatedDisk) -> None:
    fill(disk)
    file = disk.open(index_name(7))
    whole = file.read_at(0, 100_000)
    file.write_at(0, [whole[:8] + (1).to_bytes(2, "little") + whole[10:]])
    again = Log(disk, epoch=50, covered=20)
    assert any(name_of(7) in sentence and "made anew" in sentence for sentence in again.report.sentences)
    assert [again.log.epoch_of(index) for index in range(21)] == [expected(index) for index in range(21)]
    again.commit()
    again.append(1, 20, [VALUE])
    again.commit()
    assert disk.open(index_name(7)).read_at(0, 100_000) == whole


def first_format(base_index: int) -> bytes:
    """A segment's header as releases wrote it that did not note the epoch before."""
    head = struct.pack("<8sHHIQ16s", b"PENSTOCK", 1, 0, 0, base_index, SHARD.bytes).ljust(60, b"\0")
    return head + crc32c(head).to_bytes(4, "little")


def test_segments_of_the_first_format_are_read(disk: SimulatedDisk) -> None:
    log = fill(disk)
    for segment in log.log.segments:
        disk.open(segment.name).write_at(0, [first_format(segment.base_index)])
    again = Log(disk, epoch=50)
    assert [again.log.epoch_of(index) for index in range(21)] == [expected(index) for index in range(21)]
    # What came before the first segment is nowhere: no epoch that anybody has, so nobody takes it for a match.
    remove_segment(disk, again.log.drop_first())
    assert Log(disk, epoch=51, covered=20).log.epoch_of(6) == 0


def test_a_header_says_the_epoch_before() -> None:
    header = encode_segment_header(9, SHARD, 77)
    assert len(header) == SEGMENT_HEADER_SIZE
    assert check_segment_header(name_of(9), header, SHARD) == 77
    assert check_segment_header(name_of(9), first_format(9), SHARD) is None


def test_a_segment_of_another_history_is_refused(disk: SimulatedDisk) -> None:
    fill(disk)
    disk.open(name_of(13)).write_at(0, [encode_segment_header(13, SHARD, expected(12) + 1)])
    with pytest.raises(
        LogDamagedError, match=f"{name_of(13)} follows an entry of epoch 9, but {name_of(7)} ends"
    ):
        Log(disk, epoch=50)
