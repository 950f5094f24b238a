"""Opening a log: a torn tail is cut and said so, damage is refused with file and position, indexes are made again."""

from __future__ import annotations

import random
import re
import uuid
from pathlib import Path

import pytest

from log_harness import SEGMENT_BYTES, SHARD, Log
from penstock.codec.entry import ENTRY_HEADER_SIZE, KIND_BATCH, encode_header
from penstock.log import scan
from penstock.log.disk import Disk, RealDisk
from penstock.log.errors import DiskFullError, LogDamagedError
from penstock.log.maintenance import remove_segment
from penstock.log.reader import Extent, load_run, read_payloads
from penstock.log.recovery import LogOptions, open_log
from penstock.log.segment import SEGMENT_HEADER_SIZE, encode_segment_header, index_name, segment_name
from penstock.testing.simulated_disk import SimulatedDisk

VALUE = b"x" * 500


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(0)


def fill(disk: Disk, entries: int, *, epoch: int = 1, base: int = 0, group: int = 1) -> Log:
    """Entries of one partition, six to a segment; `group` to a group commit."""
    log = Log(disk, epoch=epoch)
    for number in range(entries):
        log.append(1, base + number, [VALUE])
        if (number + 1) % group == 0:
            log.commit()
    log.commit()
    return log


def position_of(log: Log, number: int) -> tuple[str, int]:
    """The file and position of the entry with that index."""
    segment = next(segment for segment in reversed(log.log.segments) if segment.base_index <= number)
    return segment.name, SEGMENT_HEADER_SIZE + (number - segment.base_index) * entry_bytes(log)


def entry_bytes(log: Log) -> int:
    active = log.log.active
    return (active.write_position - SEGMENT_HEADER_SIZE) // (active.last_index - active.base_index + 1)


def damage(disk: Disk, name: str, position: int, size: int = 1) -> None:
    file = disk.open(name)
    old = file.read_at(position, size)
    file.write_at(position, [bytes(byte ^ 0x40 for byte in old)])
    file.sync()
    file.close()


def erase(disk: Disk, name: str, position: int, size: int) -> None:
    file = disk.open(name)
    file.write_at(position, [bytes(size)])
    file.sync()
    file.close()


def refusal(disk: Disk, *, covered: int = 0, epoch: int = 2) -> str:
    with pytest.raises(LogDamagedError) as caught:
        Log(disk, covered=covered, epoch=epoch)
    return str(caught.value)


def test_a_log_comes_back_entry_by_entry(disk: SimulatedDisk) -> None:
    first = fill(disk, 20)
    again = Log(disk, epoch=2)
    assert [index for index, _, _ in again.batches()] == list(range(1, 21))
    assert again.report.sentences == []
    assert again.report.entries_read == 20
    assert again.log.next_index == first.log.next_index == 21
    assert [s.base_index for s in again.log.segments] == [s.base_index for s in first.log.segments]
    assert [s.index is None for s in again.log.segments] == [True, True, True, False]


def test_only_what_the_snapshots_leave_out_is_read(disk: SimulatedDisk) -> None:
    fill(disk, 20)
    assert [index for index, _, _ in Log(disk, covered=17, epoch=2).batches()] == [18, 19, 20]


@pytest.mark.parametrize("part", [1, 20, ENTRY_HEADER_SIZE, ENTRY_HEADER_SIZE + 100])
def test_a_torn_tail_is_cut_and_said_so(disk: SimulatedDisk, part: int) -> None:
    log = fill(disk, 8)
    name, position = position_of(log, 8)
    erase(disk, name, position + part, entry_bytes(log) - part)
    again = Log(disk, epoch=2)
    assert [index for index, _, _ in again.batches()] == list(range(1, 8))
    (sentence,) = again.report.sentences
    assert f"cut a torn tail off {name} at position {position}" in sentence
    assert "never acknowledged" in sentence
    assert again.report.cut_bytes == SEGMENT_BYTES - position
    # The place is used again, and nothing of the old tail shines through.
    again.append(1, 7, [b"new"])
    again.commit()
    third = Log(disk, epoch=3)
    assert third.report.sentences == []
    assert third.log.next_index == 9


def test_a_group_commit_that_was_lost_in_part_is_cut(disk: SimulatedDisk) -> None:
    log = fill(disk, 6, group=6)
    name, position = position_of(log, 3)
    erase(disk, name, position, entry_bytes(log))
    again = Log(disk, epoch=2)
    assert again.log.next_index == 3
    assert "entry 3 and what follows" in again.report.sentences[0]


@pytest.mark.parametrize("victim", [1, 2, 4])
@pytest.mark.parametrize("how", [damage, erase])
def test_damage_in_the_active_segment_is_refused(disk: SimulatedDisk, victim: int, how) -> None:  # type: ignore[no-untyped-def]
    log = fill(disk, 6)
    name, position = position_of(log, victim)
    how(disk, name, position + 40, 100)
    before = disk.open(name).read_at(0, SEGMENT_BYTES)
    text = refusal(disk, epoch=1)
    assert f"{name} is damaged at position {position}" in text
    assert f"entry {victim} cannot be read" in text
    assert "restore the volume" in text
    assert disk.open(name).read_at(0, SEGMENT_BYTES) == before


def test_damage_is_seen_through_entries_of_any_recent_epoch(disk: SimulatedDisk) -> None:
    """All entries are of epoch 1; since then the broker was started three times without writing."""
    log = fill(disk, 6)
    name, position = position_of(log, 1)
    damage(disk, name, position + 40, 10)
    assert f"{name} is damaged at position {position}" in refusal(disk, epoch=4)


def test_damage_that_goes_on_for_long_is_seen(disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """More entries are gone than the low bytes of an index can count (here: 256 instead of 65,536)."""
    monkeypatch.setattr(scan, "_INDEX_LOW_BYTES", 1)
    entry = encode_header(1, 1, KIND_BATCH, 1, (b"p" * 70,), 0)
    file = disk.open(segment_name(1), create=True)
    data = bytearray(encode_segment_header(1, SHARD))
    for index in range(1, 1001):
        payload = b"p" * 70
        data += encode_header(index, 1, KIND_BATCH, 1, (payload,), index - 1) + payload
    size = len(entry) + 70
    data[SEGMENT_HEADER_SIZE + size : SEGMENT_HEADER_SIZE + 900 * size] = bytes(899 * size)
    file.write_at(0, [data, bytes(1 << 20)])
    text = refusal(disk, epoch=1)
    assert f"damaged at position {SEGMENT_HEADER_SIZE + size}" in text


def test_a_snapshot_that_covers_more_than_the_log_holds_is_refused_untouched(disk: SimulatedDisk) -> None:
    log = fill(disk, 6)
    name, position = position_of(log, 6)
    erase(disk, name, position + 10, 1000)
    text = refusal(disk, covered=6)
    assert f"{name} ends with entry 5 at position {position}" in text
    assert "a snapshot covers entries up to 6" in text
    # Nothing was cut: whoever mends it finds what there was.
    assert disk.open(name).read_at(position, 4) != bytes(4)


def test_damage_in_a_full_segment_that_has_to_be_read_is_refused(disk: SimulatedDisk) -> None:
    log = fill(disk, 20)
    name, position = position_of(log, 3)
    damage(disk, name, position + 100)
    text = refusal(disk)
    assert f"{name} is damaged at position {position}" in text
    assert log.log.segments[1].name in text


def test_damage_in_a_covered_segment_is_found_by_whoever_reads_it(disk: SimulatedDisk) -> None:
    log = fill(disk, 20)
    name, position = position_of(log, 3)
    damage(disk, name, position + 100)
    again = Log(disk, covered=20, epoch=2)
    segment = again.log.segments[0]
    run = load_run(segment, segment.summaries[1])
    extents = [Extent(segment, at, size, 1) for at, size in zip(run.positions, run.sizes, strict=True)]
    assert len(read_payloads(extents[:2])) == 2
    with pytest.raises(LogDamagedError, match=f"{name} is damaged at position {position}"):
        read_payloads(extents)


@pytest.mark.parametrize("loss", ["gone", "directory", "runs", "short", "empty"])
def test_an_index_file_is_made_again(disk: SimulatedDisk, loss: str) -> None:
    fill(disk, 20)
    name = index_name(1)
    whole = disk.open(name).read_at(0, 10_000)
    if loss == "gone":
        disk.remove(name)
    elif loss in ("short", "empty"):
        disk.open(name).truncate(0 if loss == "empty" else len(whole) - 7)
    else:
        damage(disk, name, 20 if loss == "directory" else len(whole) - 20)
    again = Log(disk, covered=20, epoch=2)
    damaged_directory = loss in ("gone", "directory", "empty")
    assert bool(again.report.sentences) is damaged_directory
    if damaged_directory:
        assert segment_name(1) in again.report.sentences[0]
    again.append(1, 20, [b"more"])
    again.commit()
    segment = again.log.segments[0]
    run = load_run(segment, segment.summaries[1])
    assert list(run.base_offsets) == [0, 1, 2, 3, 4, 5]
    assert disk.open(name).read_at(0, 10_000) == whole


def test_an_index_that_cannot_be_made_again_names_the_place(disk: SimulatedDisk) -> None:
    log = fill(disk, 20)
    again = Log(disk, covered=20, epoch=2)
    disk.remove(index_name(1))
    name, position = position_of(log, 2)
    damage(disk, name, position + 50)
    segment = again.log.segments[0]
    with pytest.raises(LogDamagedError, match=f"{name} is damaged at position {position}"):
        load_run(segment, segment.summaries[1])


def test_a_missing_middle_segment_is_refused(disk: SimulatedDisk) -> None:
    log = fill(disk, 20)
    middle = log.log.segments[1]
    disk.remove(middle.name)
    text = refusal(disk)
    assert f"{log.log.segments[0].name} ends with entry 6" in text
    assert "a segment is missing" in text
    assert log.log.segments[2].name in text


def test_a_missing_newest_segment_is_refused(disk: SimulatedDisk) -> None:
    log = fill(disk, 20)
    disk.remove(log.log.segments[-1].name)
    text = refusal(disk)
    assert f"another segment followed {log.log.segments[-2].name}" in text


def test_a_missing_oldest_segment_is_refused_unless_the_snapshots_cover_it(disk: SimulatedDisk) -> None:
    log = fill(disk, 20)
    remove_segment(disk, log.log.segments[0])
    text = refusal(disk, covered=3)
    assert "begins with entry 7" in text
    assert "up to 3" in text
    assert Log(disk, covered=6, epoch=2).log.first_index == 7


def test_a_log_without_any_segment_is_refused_when_there_was_one(disk: SimulatedDisk) -> None:
    log = fill(disk, 20)
    for segment in log.log.segments:
        remove_segment(disk, segment)
    assert "holds no segment" in refusal(disk, covered=20)


def test_a_segment_of_another_shard_is_refused(disk: SimulatedDisk) -> None:
    fill(disk, 3)
    other = uuid.UUID("99999999-2222-3333-4444-555555555555")
    options = LogOptions(segment_bytes=SEGMENT_BYTES, cache_bytes_max=1, sync=True)
    with pytest.raises(LogDamagedError, match=re.escape(f"belongs to shard {SHARD}, not to {other}")):
        open_log(disk, other, options, epoch=1, covered_index=0, on_entry=lambda *_: None)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (bytes(64), "damaged in its header"),
        (encode_segment_header(9, SHARD), "begins at entry 9"),
        (b"", "shorter than a segment's header"),
    ],
)
def test_a_segment_with_a_wrong_header_is_refused(disk: SimulatedDisk, head: bytes, words: str) -> None:
    fill(disk, 3)
    file = disk.open(segment_name(1))
    if head:
        file.write_at(0, [head])
    else:
        file.truncate(10)
    text = refusal(disk)
    assert segment_name(1) in text
    assert words in text


def test_a_foreign_name_is_refused(disk: SimulatedDisk) -> None:
    disk.open("notes.log", create=True)
    assert "notes.log is not a segment's file name" in refusal(disk)


def test_an_entry_of_a_later_release_stops_the_broker(disk: SimulatedDisk) -> None:
    log = fill(disk, 1)
    payload = b"later"
    file = disk.open(segment_name(1))
    file.write_at(log.log.active.write_position, [encode_header(2, 1, 9, 0, (payload,), 1), payload])
    text = refusal(disk)
    assert "kind 9" in text
    assert "upgrade Penstock" in text


def test_an_index_without_its_segment_and_half_written_files_are_swept(disk: SimulatedDisk) -> None:
    fill(disk, 3)
    for name in (index_name(77), "checkpoint.new"):
        disk.open(name, create=True)
    Log(disk, epoch=2)
    assert index_name(77) not in disk.names()
    assert "checkpoint.new" not in disk.names()


def test_a_spare_of_another_size_is_not_used(disk: SimulatedDisk) -> None:
    """A kill in the middle of an allocation leaves a short file."""
    disk.open("00000000000000000001.spare", create=True).allocate(10)
    log = Log(disk)
    assert all(disk.open(name).size() == SEGMENT_BYTES for name in log.log.spares)


def test_the_folder_is_listed_a_few_times_only(disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(disk, 200)
    calls = 0
    names = disk.names

    def counted() -> list[str]:
        nonlocal calls
        calls += 1
        return names()

    monkeypatch.setattr(disk, "names", counted)
    options = LogOptions(segment_bytes=SEGMENT_BYTES, cache_bytes_max=1, sync=True)
    log, _ = open_log(disk, SHARD, options, epoch=2, covered_index=0, on_entry=lambda *_: None)
    assert len(log.segments) > 30
    assert calls < 5


def test_any_single_damage_is_refused_or_only_cuts_the_last_group(tmp_path: Path) -> None:
    """Flip any byte of a log that was written entry by entry: nothing that was promised disappears silently."""
    whole = RealDisk(tmp_path / "whole")
    log = fill(whole, 9)
    files = {
        name: whole.open(name).read_at(0, 1 << 20) for name in whole.names() if not name.endswith(".spare")
    }
    last_name, last_position = position_of(log, 9)
    chance = random.Random(1)
    for number in range(250):
        disk = SimulatedDisk(number)
        name = chance.choice([name for name in files if name.endswith(".log")])
        end = log.log.active.write_position if name == last_name else SEGMENT_BYTES
        position = chance.randrange(end)
        for each, data in files.items():
            disk.open(each, create=True).write_at(0, [data])
        damage(disk, name, position)
        try:
            again, refused = Log(disk, epoch=2), ""
        except LogDamagedError as error:
            refused = str(error)
        if refused:
            assert name in refused
            continue
        found = [index for index, _, _ in again.batches()]
        if name == last_name and position >= last_position:
            # The very last entry: nothing behind it can tell a tear from damage.
            assert found in (list(range(1, 9)), list(range(1, 10)))
        else:
            assert found == list(range(1, 10)), (name, position)


# --- appending ----------------------------------------------------------------------------------------------------------


def test_the_last_spares_are_for_commands(disk: SimulatedDisk) -> None:
    log = Log(disk)
    log.fill_spares = lambda: None  # type: ignore[method-assign]
    batches = 0
    while log.log.has_room(600, KIND_BATCH):
        log.append(1, batches, [VALUE])
        log.commit()
        batches += 1
    assert batches == 18, "three spares for batches, six batches each"
    with pytest.raises(DiskFullError):
        log.append(1, batches, [VALUE])
    # Commands go on, also into a reserved segment, whose rest no batch may take.
    while len(log.log.spares) == 2:
        log.log.append_command(b"c" * 300)
    with pytest.raises(DiskFullError):
        log.append(1, batches, [b"small"])
    while log.log.has_room(300, 2):
        log.log.append_command(b"c" * 300)
    assert len(log.log.spares) == 0
    with pytest.raises(DiskFullError):
        log.log.append_command(b"c" * 300)
    log.commit()
    assert Log(disk, epoch=2).log.next_index == log.log.next_index


def test_an_empty_segment_that_is_too_small_is_replaced(disk: SimulatedDisk) -> None:
    """A crash between cutting a tail and allocating it again leaves a segment that holds nothing and has no room."""
    log = fill(disk, 6)
    log.append(1, 6, [VALUE])
    log.commit()
    disk.open(segment_name(7)).truncate(SEGMENT_HEADER_SIZE)
    again = Log(disk, epoch=2)
    assert again.log.next_index == 7
    for number in range(6, 14):
        again.append(1, number, [VALUE])
        again.commit()
    assert [segment.base_index for segment in again.log.segments] == [1, 7, 13]
    third = Log(disk, epoch=3)
    assert third.report.sentences == []
    assert [index for index, _, _ in third.batches()] == list(range(1, 15))


def test_an_entry_that_fits_no_segment_is_refused_before_it_has_an_index(disk: SimulatedDisk) -> None:
    log = Log(disk)
    for size in (log.log.payload_bytes_max + 1, 10**9):
        assert not log.log.has_room(size, 2)
    with pytest.raises(DiskFullError):
        log.log.append_command(bytes(log.log.payload_bytes_max + 1))
    assert log.log.next_index == 1
    log.log.append_command(bytes(log.log.payload_bytes_max))
    log.commit()
    assert len(Log(disk, epoch=2).replayed) == 1


def test_room_for_several_commands_counts_the_segments_they_need(disk: SimulatedDisk) -> None:
    log = Log(disk)
    largest = log.log.payload_bytes_max
    assert log.log.has_room_for_commands([largest] * 5)
    assert not log.log.has_room_for_commands([largest] * 6)
    assert not log.log.has_room_for_commands([1, largest + 1])
    sizes = [largest // 2 + 1] * 5
    assert log.log.has_room_for_commands(sizes)
    for size in sizes:
        log.log.append_command(bytes(size))
    assert not log.log.has_room_for_commands([largest // 2 + 1])
    assert log.log.has_room_for_commands([10, 10])


# --- flush: async -------------------------------------------------------------------------------------------------------


def test_an_async_log_loses_the_unsynced_tail_at_most_and_nothing_in_between() -> None:
    for seed in range(40):
        disk = SimulatedDisk(seed)
        log = Log(disk, sync=False)
        for number in range(30):
            log.append(1, number, [VALUE])
            log.commit()
            if number == 20:
                segment = log.log.unsynced_segment()
                assert segment is not None
                assert segment.file is not None
                segment.file.sync()
                log.log.mark_durable(log.log.written_index)
        disk.lose_power()
        found = [index for index, _, _ in Log(disk, epoch=2).batches()]
        assert found == list(range(1, len(found) + 1))
        # Entry 21 was synced, and so was everything in a segment that was left behind: 25 to 30 are the last one's.
        assert len(found) >= 24


def test_what_is_to_be_synced_is_never_the_segment_that_a_job_still_opens(disk: SimulatedDisk) -> None:
    log = Log(disk, sync=False)
    for number in range(6):
        log.append(1, number, [VALUE])
    log.commit()
    assert log.log.unsynced_segment() is log.log.segments[0]
    log.append(1, 6, [VALUE])
    job = log.log.take_job()
    assert job is not None
    assert len(log.log.segments) == 2
    assert log.log.unsynced_segment() is log.log.segments[0]
    log.log.complete(job.run())
    assert log.log.unsynced_segment() is log.log.segments[1]
    log.log.mark_durable(7)
    assert log.log.unsynced_segment() is None
