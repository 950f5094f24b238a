"""Entries as they go to other replicas: from memory or from files, never damaged, and compared by digest."""

from __future__ import annotations

import pytest

from log_harness import Log
from penstock.codec.entry import ENTRY_HEADER_SIZE, parse_entry_header
from penstock.log.errors import EntriesGoneError, LogDamagedError
from penstock.log.maintenance import remove_segment
from penstock.log.reader import load_index
from penstock.log.segment import SEGMENT_HEADER_SIZE
from penstock.log.segment_index import MARK_BYTES
from penstock.log.tail_cache import PAYLOAD_OVERHEAD_BYTES
from penstock.testing.simulated_disk import SimulatedDisk

VALUE = b"x" * 500
SMALL_CACHE = 3 * (630 + PAYLOAD_OVERHEAD_BYTES)


def fill(
    entries: int,
    *,
    cache_bytes: int = 1 << 20,
    segment_bytes: int = 4096,
    commit: bool = True,
    size: int = 500,
) -> Log:
    log = Log(SimulatedDisk(0), cache_bytes=cache_bytes, segment_bytes=segment_bytes)
    for number in range(entries):
        if number % 4 == 3:
            log.command(b"c" * (size + 70))
        else:
            log.append(1, number, [b"x" * size])
        if commit:
            log.commit()
        log.fill_spares()
    return log


def in_file(log: Log, first: int, last: int) -> bytes:
    """What the segments hold of these entries."""
    data, index = bytearray(), 0
    for segment in log.log.segments:
        assert segment.file is not None
        content = segment.file.read_at(0, segment.size_bytes)
        at = SEGMENT_HEADER_SIZE
        for index in range(segment.base_index, segment.last_index + 1):
            size = parse_entry_header(content, at).size_bytes
            if first <= index <= last:
                data += content[at : at + size]
            at += size
    return bytes(data)


def place_of(log: Log, index: int) -> tuple[str, int]:
    segment = next(s for s in reversed(log.log.segments) if s.base_index <= index)
    assert segment.file is not None
    at = SEGMENT_HEADER_SIZE
    content = segment.file.read_at(0, segment.size_bytes)
    for _ in range(index - segment.base_index):
        at += parse_entry_header(content, at).size_bytes
    return segment.name, at


@pytest.mark.parametrize("cache_bytes", [1 << 20, SMALL_CACHE, 1])
def test_every_range_is_what_the_files_hold(cache_bytes: int) -> None:
    log = fill(20, cache_bytes=cache_bytes)
    for first in range(1, 21):
        for last in range(first, 21):
            shipment = log.log.entries(first, last)
            assert (shipment.first_index, shipment.last_index) == (first, last)
            assert shipment.in_memory is (first >= log.log.cache.first_index)
            assert b"".join(shipment.read()) == in_file(log, first, last)
            if shipment.in_memory:
                assert shipment.read() == shipment.buffers


def test_what_is_in_memory_is_not_copied() -> None:
    log = Log(SimulatedDisk(0))
    payload = b"p" * 100
    log.command(payload)
    assert any(buffer is payload for buffer in log.log.entries(1, 1).buffers)


def test_what_is_not_written_is_in_memory_however_small_the_cache() -> None:
    log = fill(6, cache_bytes=1, commit=False)
    job = log.log.take_job()
    assert job is not None
    log.append(1, 9, [VALUE])
    shipment = log.log.entries(1, 7)
    assert shipment.in_memory
    assert len(b"".join(shipment.buffers)) == 7 * 602
    log.log.complete(job.run())
    assert log.log.cache.first_index == 7
    data = b"".join(log.log.entries(1, 7).read())
    log.commit()
    assert data == in_file(log, 1, 7)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("victim", [2, 5])
def test_a_damaged_entry_is_never_shipped(sealed: bool, victim: int) -> None:
    """Entries beside it are, as long as they can be found without trusting it."""
    log = fill(8 if sealed else 6, cache_bytes=1)
    assert (log.log.segments[0].index is None) is sealed
    name, position = place_of(log, victim)
    log.disk.corrupt(name, position + ENTRY_HEADER_SIZE + 100)  # type: ignore[attr-defined]
    for first, last in ((victim, victim), (1, victim), (victim, 6), (1, 6)):
        words = f"{name} is damaged at position {position}: entry {victim} cannot be read"
        with pytest.raises(LogDamagedError, match=words):
            log.log.entries(first, last).read()
        with pytest.raises(LogDamagedError, match=words):
            log.log.digest(first, last)()
    for first, last in ((1, victim - 1), (victim + 1, 6)):
        assert b"".join(log.log.entries(first, last).read()) == in_file(log, first, last)


def test_every_flipped_bit_of_an_entry_is_refused_or_is_this_replicas_own_note() -> None:
    log = fill(3, cache_bytes=1)
    name, position = place_of(log, 2)
    for at in range(ENTRY_HEADER_SIZE + 70):
        log.disk.corrupt(name, position + at)  # type: ignore[attr-defined]
        if 4 <= at < 8:
            log.log.entries(2, 2).read()
        else:
            with pytest.raises(LogDamagedError, match=f"{name} is damaged at position {position}"):
                log.log.entries(2, 2).read()
        log.disk.corrupt(name, position + at)  # type: ignore[attr-defined]


def test_a_file_that_ends_early_is_damage() -> None:
    log = fill(6, cache_bytes=1)
    name, position = place_of(log, 5)
    for size in (position + 3, position + ENTRY_HEADER_SIZE + 3):
        log.disk.open(name).truncate(size)
        with pytest.raises(LogDamagedError, match=f"{name} is damaged at position {position}: entry 5"):
            log.log.entries(4, 5).read()


@pytest.mark.parametrize("from_index", [1, 3, 7, 9])
def test_entries_that_were_truncated_meanwhile_are_no_damage(from_index: int) -> None:
    log = fill(9, cache_bytes=1)
    shipment, digest = log.log.entries(from_index, 9), log.log.digest(1, 9)
    segment = log.log.segments[0]
    if from_index <= segment.last_index and from_index > 1:
        log.log.truncate(from_index, load_index(segment))
    else:
        log.log.truncate(from_index)
    for _ in range(2):
        with pytest.raises(EntriesGoneError):
            shipment.read()
        with pytest.raises(EntriesGoneError):
            digest()
        log.commit()


def test_a_dropped_segment_is_read_by_whoever_began_before() -> None:
    log = fill(9, cache_bytes=1)
    expected, shipment = in_file(log, 1, 9), log.log.entries(1, 9)
    remove_segment(log.disk, log.log.drop_first())
    assert b"".join(shipment.read()) == expected


# --- how many fit -------------------------------------------------------------------------------------------------------


def test_as_many_as_fit_and_at_least_one() -> None:
    log = fill(6)
    size = len(in_file(log, 1, 1))
    assert len(in_file(log, 1, 6)) == 6 * size
    for first in range(1, 7):
        for count in range(8):
            for more in (0, 1, size - 1):
                expected = min(first + max(count, 1) - 1, 6)
                assert log.log.fitting(first, count * size + more) == expected


def test_what_fits_goes_on_over_segments() -> None:
    log = fill(20, commit=False)
    assert len(log.log.segments) == 4
    size = 602
    for first in range(1, 21):
        for count in range(1, 21):
            assert log.log.fitting(first, count * size) == min(first + count - 1, 20)
    # Pending entries count, too.
    assert log.log.fitting(1, 1 << 30) == 20


def test_in_a_sealed_segment_what_fits_is_found_by_marks() -> None:
    log = fill(700, segment_bytes=200_000, size=500)
    sealed = log.log.segments[0]
    assert sealed.index is None
    for first in range(1, 330, 7):
        for bytes_max in (1, 50_000, 100_000, 150_000, 400_000):
            last = log.log.fitting(first, bytes_max)
            size = (last - first + 1) * 602
            assert size <= bytes_max or last == first
            assert size > bytes_max - 2 * MARK_BYTES - 602 or last == 700
    assert b"".join(log.log.entries(100, 300).read()) == in_file(log, 100, 300)


def test_entries_larger_than_the_marks_distance() -> None:
    log = fill(9, segment_bytes=400_000, cache_bytes=1, size=100_000)
    assert log.log.segments[0].index is None
    for first in range(1, 10):
        assert log.log.fitting(first, 1) == first
        assert b"".join(log.log.entries(first, first).read()) == in_file(log, first, first)
    assert log.log.fitting(1, len(in_file(log, 1, 2))) == 2
    assert log.log.fitting(1, len(in_file(log, 1, 2)) - 1) == 1


# --- digests ------------------------------------------------------------------------------------------------------------


def test_a_digest_tells_logs_apart_by_their_entries_alone() -> None:
    log = fill(20)
    copy = Log(SimulatedDisk(1), segment_bytes=9000)
    while copy.log.next_index <= 20:
        copy.log.append_entries(log.shipped(copy.log.next_index, 20))
        copy.commit()
    assert len({segment.base_index for segment in copy.log.segments}) < len(log.log.segments)
    for first, last in ((1, 20), (5, 5), (6, 13)):
        assert copy.log.digest(first, last)() == log.log.digest(first, last)()
    digests = {log.log.digest(first, last)() for first in range(1, 21) for last in range(first, 21)}
    assert len(digests) == 210
    for change in ("payload", "epoch", "partition"):
        other = Log(SimulatedDisk(1), epoch=2 if change == "epoch" else 1)
        same = Log(SimulatedDisk(1))
        for each in (other, same):
            partition = 2 if change == "partition" and each is other else 1
            each.append(partition, 0, [b"y" if change == "payload" and each is other else b"x"])
            each.commit()
        assert other.log.digest(1, 1)() != same.log.digest(1, 1)()


def test_a_digest_of_a_long_log_reads_it_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    log = fill(100, segment_bytes=100_000)
    whole = log.log.digest(1, 100)()
    monkeypatch.setattr("penstock.log.shipping.READ_BYTES_MAX", 5000)
    reads: list[int] = []
    file = log.log.segments[0].file
    assert file is not None
    read_at = file.read_at

    def counted(position: int, size: int) -> bytes:
        reads.append(size)
        return read_at(position, size)

    monkeypatch.setattr(file, "read_at", counted)
    assert log.log.digest(1, 100)() == whole
    assert len(reads) > 10
    assert max(reads) <= 5000
