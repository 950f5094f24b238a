"""A leader's entries in a follower's log: the same entries in other segments, or nothing and a sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from log_harness import SEGMENT_BYTES, Log
from penstock.base.crc import crc32c
from penstock.codec.entry import (
    ENTRY_HEADER_SIZE,
    KIND_BATCH,
    KIND_COMMAND,
    encode_header,
    parse_entry_header,
)
from penstock.log.errors import DiskFullError, EntriesRefusedError, LogDamagedError
from penstock.log.receiving import check_entries
from penstock.log.segment import SEGMENT_HEADER_SIZE
from penstock.testing.simulated_disk import SimulatedDisk

VALUE = b"x" * 500


def leader(entries: int = 20) -> Log:
    log = Log(SimulatedDisk(1), epoch=3)
    for number in range(entries):
        if number % 5 == 2:
            log.command(b"command %d" % number)
        else:
            log.append(number % 2, number * 10, [VALUE] * (number % 2 + 1), timestamp=number)
        log.commit()
    return log


def follower(segment_bytes: int = SEGMENT_BYTES, *, sync: bool = True) -> Log:
    return Log(SimulatedDisk(2), segment_bytes=segment_bytes, sync=sync, epoch=9)


def state(log: Log) -> object:
    """Everything that appending changes."""
    return (
        log.log.next_index,
        log.log.pending_bytes,
        log.log.has_work,
        list(log.log.spares),
        [(segment.base_index, segment.write_position, segment.last_index) for segment in log.log.segments],
        log.log.epoch_runs,
        log.log.cache.size_bytes,
    )


def contents(log: Log) -> list[tuple[int, int, int, int, bytes]]:
    """(index, epoch, kind, partition, payload) of every entry, as a start reads them."""
    again = Log(log.disk, epoch=9, segment_bytes=log.log.segment_bytes)
    return [(h.log_index, h.epoch, h.kind, h.partition, payload) for h, payload in again.replayed]


@pytest.mark.parametrize("segment_bytes", [2048, SEGMENT_BYTES, 3 * SEGMENT_BYTES])
@pytest.mark.parametrize("at_once", [1, 3, 20])
def test_a_follower_holds_what_the_leader_holds(segment_bytes: int, at_once: int) -> None:
    source, copy = leader(), follower(segment_bytes)
    while copy.log.next_index <= 20:
        first = copy.log.next_index
        appended = copy.log.append_entries(source.shipped(first, min(first + at_once - 1, 20)))
        assert [header.log_index for header, _, _ in appended] == list(range(first, copy.log.next_index))
        for header, payload, segment in appended:
            assert header.length == len(payload)
            assert segment.base_index <= header.log_index <= segment.last_index
        copy.commit()
    assert contents(copy) == contents(source)
    assert copy.log.epoch_runs == source.log.epoch_runs
    assert copy.log.digest(1, 20)() == source.log.digest(1, 20)()
    assert ends(copy) == ends(source)


def ends(log: Log) -> dict[int, int]:
    """Each partition's end offset, by the segments' indexes."""
    found: dict[int, int] = {}
    for segment in log.log.segments:
        for partition in segment.partitions():
            run = segment.run(partition)
            assert run is not None
            assert run.first_offset >= found.get(partition, 0)
            found[partition] = run.end_offset
    return found


def test_what_follows_in_a_segment_is_found_by_index_and_cache_as_if_it_were_appended_here() -> None:
    source, copy = leader(5), follower()
    copy.log.append_entries(source.shipped(1, 5))
    ours, theirs = copy.log.active.index, source.log.active.index
    assert ours is not None
    assert theirs is not None
    assert ours.positions == theirs.positions
    assert ours.epochs == theirs.epochs
    for partition, run in theirs.runs.items():
        for column in ("base_offsets", "positions", "sizes", "max_timestamps", "end_offset", "epochs"):
            assert getattr(ours.runs[partition], column) == getattr(run, column)
    for position in theirs.positions:
        cached = copy.log.cache.get((1, position))
        expected = source.log.cache.get((1, position))
        assert cached is not None
        assert expected is not None
        assert b"".join(cached) == b"".join(expected)
    assert copy.log.pending_bytes == copy.log.active.write_position - SEGMENT_HEADER_SIZE


def test_each_replica_notes_its_own_durability() -> None:
    """The leader knew all before to be durable; the follower has synced nothing of what it gets."""
    source, copy = leader(6), follower(sync=False)
    copy.log.append_entries(source.shipped(1, 3))
    copy.commit()
    copy.log.append_entries(source.shipped(4, 6))
    copy.commit()
    data = copy.shipped(1, 6)
    at, noted = 0, []
    while at < len(data):
        header = parse_entry_header(data, at)
        noted.append(header.durable_index)
        at += header.size_bytes
    assert noted == [0] * 6
    source_header = parse_entry_header(source.shipped(6, 6), 0)
    assert source_header.durable_index == 5


def test_damage_of_a_follower_is_told_from_a_torn_tail() -> None:
    source, copy = leader(4), follower()
    for index in range(1, 5):
        copy.log.append_entries(source.shipped(index, index))
        copy.commit()
    file = copy.disk.open(copy.log.active.name)
    assert copy.log.active.index is not None
    position = copy.log.active.index.positions[1]
    file.write_at(position + 40, [b"?"])
    with pytest.raises(LogDamagedError, match=f"damaged at position {position}"):
        Log(copy.disk, epoch=9)


def test_a_writable_buffer_is_taken_over_and_bytes_are_left_alone() -> None:
    source = leader(3)
    data = source.shipped(1, 3)
    owned, kept = bytearray(data), bytes(data)
    first, second = follower(), follower()
    for log, given in ((first, owned), (second, kept)):
        ((_, payload, _), *_) = log.log.append_entries(given)
        assert (payload.obj is owned) is (given is owned)
    assert kept == data
    assert owned != data
    assert first.shipped(1, 3) == second.shipped(1, 3)


def test_nothing_is_nothing() -> None:
    copy = follower()
    before = state(copy)
    assert copy.log.append_entries(b"") == []
    assert state(copy) == before


def entry(index: int, epoch: int = 3, kind: int = KIND_COMMAND, payload: bytes = b"payload") -> bytes:
    return encode_header(index, epoch, kind, 0, (payload,), 0) + payload


def later_version(data: bytes) -> bytes:
    """The entry as of a later release, with a right checksum."""
    header = parse_entry_header(data, 0)
    covered = data[8:25] + bytes([header.version + 1]) + data[26:]
    return crc32c(covered).to_bytes(4, "little") + data[4:8] + covered


# What comes as entry i (the last of them damaged or wrong), and what is said about it.
REFUSED: list[tuple[str, Callable[[int], bytes], str]] = [
    ("a header cut short", lambda i: entry(i)[:20], "20 bytes are left, less than an entry's header"),
    ("a payload cut short", lambda i: entry(i)[:-1], "7 bytes of payload, 6 have come"),
    ("a gap", lambda i: entry(i + 1), "the entry there is {j}, the log goes on with {i}"),
    ("an old entry", lambda i: entry(i - 1), "the entry there is {h}, the log goes on with {i}"),
    ("an older epoch", lambda i: entry(i, epoch=2), "entry {i} is of epoch 2, the one before of epoch 3"),
    ("an epoch going back", lambda i: entry(i, 5) + entry(i + 1, 4), "entry {j} is of epoch 4, the one before of epoch 5"),
    ("an unknown kind", lambda i: entry(i, kind=9), "kind 9, version 1, which this release does not know: upgrade"),
    ("a later version", lambda i: later_version(entry(i)), "version 2, which this release does not know: upgrade"),
    ("a batch without its header", lambda i: entry(i, kind=KIND_BATCH), "{i} holds a batch shorter than its header"),
    ("too large for a segment", lambda i: entry(i, payload=bytes(SEGMENT_BYTES)), "{i} has 4096 bytes, a segment of"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
@pytest.mark.parametrize("good", [0, 2])
def test_what_does_not_fit_is_refused_whole(make: Callable[[int], bytes], words: str, good: int) -> None:
    """Also when good entries come before: all of it is checked before any is appended."""
    copy = follower()
    copy.log.append_entries(leader(3).shipped(1, 3))
    copy.commit()
    before, index = state(copy), 4 + good
    ahead = b"".join(entry(4 + number) for number in range(good))
    with pytest.raises(EntriesRefusedError) as caught:
        copy.log.append_entries(ahead + make(index))
    assert words.format(h=index - 1, i=index, j=index + 1) in str(caught.value)
    assert "cannot be appended: at its byte" in str(caught.value)
    assert state(copy) == before


def test_entries_that_were_checked_before_are_appended_in_their_place_alone() -> None:
    data = leader(3).shipped(1, 3)
    headers = check_entries(memoryview(data), 1, 0, SEGMENT_BYTES)
    copy = follower()
    assert [header for header, _, _ in copy.log.append_entries(data, headers)] == headers
    copy.commit()
    before = state(copy)
    with pytest.raises(EntriesRefusedError, match="the entry there is 1, the log goes on with 4"):
        copy.log.append_entries(data, headers)
    older = entry(4, epoch=2)
    with pytest.raises(EntriesRefusedError, match="entry 4 is of epoch 2, the one before of epoch 3"):
        copy.log.append_entries(older, check_entries(memoryview(older), 4, 0, SEGMENT_BYTES))
    assert copy.log.append_entries(b"", []) == []
    assert state(copy) == before
    assert contents(copy) == contents(leader(3))


def test_every_flipped_bit_is_refused() -> None:
    data = bytearray(leader(2).shipped(1, 2))
    copy = follower()
    before = state(copy)
    size = parse_entry_header(data, 0).size_bytes
    notes = {*range(4, 8), *range(size + 4, size + 8)}
    for position in [*range(60), *range(size, size + 60), len(data) - 1]:
        if position in notes:
            continue
        data[position] ^= 1 << position % 8
        with pytest.raises(EntriesRefusedError, match="at its byte"):
            copy.log.append_entries(bytes(data))
        assert state(copy) == before
        data[position] ^= 1 << position % 8
    assert len(copy.log.append_entries(bytes(data))) == 2


def without_refill(log: Log, spares: int) -> None:
    while len(log.log.spares) > spares:
        log.log.spares.pop()
    log.fill_spares = lambda: None  # type: ignore[method-assign]


def test_what_fits_is_appended_and_the_rest_comes_again() -> None:
    """Three spares: one segment for batches, the reserved ones for commands alone."""
    source = Log(SimulatedDisk(1), epoch=3)
    for number in range(9):
        source.append(1, number, [VALUE])
        source.commit()
    copy = follower()
    without_refill(copy, 3)
    data = source.shipped(1, 9)
    appended = copy.log.append_entries(data)
    assert [header.log_index for header, _, _ in appended] == list(range(1, 7))
    with pytest.raises(DiskFullError):
        copy.log.append_entries(source.shipped(7, 9))
    assert copy.log.next_index == 7
    del copy.fill_spares  # type: ignore[method-assign]
    copy.commit()
    assert len(copy.log.append_entries(source.shipped(7, 9))) == 3
    copy.commit()
    assert copy.log.digest(1, 9)() == source.log.digest(1, 9)()


def test_commands_may_use_the_reserved_segments() -> None:
    copy = follower()
    without_refill(copy, 2)
    assert len(copy.log.append_entries(entry(1) + entry(2, payload=b"c" * 3000))) == 2
    # The rest of a reserved segment is for commands as well.
    batch = leader(1).shipped(1, 1)[ENTRY_HEADER_SIZE:]
    run = entry(3) + entry(4, kind=KIND_BATCH, payload=batch) + entry(5)
    assert [header.log_index for header, _, _ in copy.log.append_entries(run)] == [3]
    with pytest.raises(DiskFullError):
        copy.log.append_entries(entry(4, kind=KIND_BATCH, payload=batch))
    assert copy.log.next_index == 4
    assert len(copy.log.append_entries(entry(4) + entry(5))) == 2


def test_a_follower_that_leads_goes_on_behind_what_it_got() -> None:
    source, copy = leader(3), follower()
    copy.log.append_entries(source.shipped(1, 3))
    assert copy.append(1, 100, [b"mine"]) == 4
    copy.commit()
    assert copy.log.epoch_runs == ((3, 1), (9, 4))
    assert [index for index, *_ in contents(copy)] == [1, 2, 3, 4]
