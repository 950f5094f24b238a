"""Entries and index files: what is written comes back, and every flipped bit is noticed."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.codec.entry import (
    COVERED_FROM,
    ENTRY_HEADER_SIZE,
    KIND_BATCH,
    KIND_COMMAND,
    UNDURABLE_MAX,
    encode_header,
    entry_is_intact,
    parse_entry_header,
)
from penstock.log.errors import LogDamagedError
from penstock.log.index_file import (
    decode_directory,
    decode_run,
    encode_index,
    index_directory_size,
    run_size,
    summarise,
)
from penstock.log.segment_index import MARK_BYTES, Marks, SegmentIndex

u32 = st.integers(0, 2**32 - 1)


@given(
    index=st.integers(1, 2**63 - 1), epoch=u32, kind=st.sampled_from([KIND_BATCH, KIND_COMMAND]), partition=u32,
    payload=st.lists(st.binary(max_size=50), max_size=4), behind=st.integers(0, 2**40),
)  # fmt: skip
def test_an_entry_round_trips(
    index: int, epoch: int, kind: int, partition: int, payload: list[bytes], behind: int
) -> None:
    data = encode_header(index, epoch, kind, partition, tuple(payload), index - behind) + b"".join(payload)
    header = parse_entry_header(data, 0)
    assert (header.log_index, header.epoch, header.kind, header.partition) == (index, epoch, kind, partition)
    assert header.size_bytes == len(data) == ENTRY_HEADER_SIZE + header.length
    assert header.durable_index == index - min(behind, UNDURABLE_MAX)
    assert entry_is_intact(memoryview(b"xyz" + data), 3, header)


def test_every_flipped_bit_of_an_entry_is_noticed() -> None:
    """All but the four bytes of `undurable`, each replica's own note, which the checksum leaves out."""
    data = bytearray(encode_header(7, 2, KIND_BATCH, 3, (b"payload", b"in parts"), 5) + b"payloadin parts")
    for position in [*range(4), *range(COVERED_FROM, len(data))]:
        for bit in range(8):
            data[position] ^= 1 << bit
            header = parse_entry_header(data, 0)
            fits = header.size_bytes <= len(data)
            assert not (fits and entry_is_intact(memoryview(data), 0, header)), (position, bit)
            data[position] ^= 1 << bit


def example_index() -> SegmentIndex:
    index = SegmentIndex()
    position = 64
    for number in range(30):
        size = 100 + number if number % 10 else 40_000
        epoch = 1 + number // 20
        index.add_entry(number + 1, position, epoch)
        index.add_batch(number % 3, number * 10, number * 10 + 10, position, size, number * 7, epoch)
        position += size
    index.add_entry(31, position, 5)
    return index


def test_an_index_file_round_trips() -> None:
    index = example_index()
    encoded = encode_index(index, 1, 200_000)
    directory = decode_directory(encoded)
    assert (directory.first_index, directory.last_index, directory.end_position) == (1, 31, 200_000)
    assert directory.epochs == [(1, 1), (2, 21), (5, 31)]
    assert list(directory.marks.numbers) == [0, 11]
    assert list(directory.marks.positions) == [64, index.positions[11]]
    summaries = directory.summaries
    assert summaries.keys() == index.runs.keys() == summarise(encoded).summaries.keys()
    for key, run in index.runs.items():
        summary = summaries[key]
        loaded = decode_run(
            summary, encoded[summary.file_position : summary.file_position + run_size(summary)]
        )
        for name in (
            "base_offsets",
            "positions",
            "sizes",
            "max_timestamps",
            "end_offset",
            "max_timestamp",
            "size_bytes",
            "epochs",
        ):
            assert getattr(loaded, name) == getattr(run, name), name
        assert (summary.first_offset, summary.end_offset, summary.batches) == (
            run.first_offset,
            run.end_offset,
            len(run),
        )


def read_all(encoded: bytes) -> None:
    for summary in decode_directory(encoded).summaries.values():
        decode_run(summary, encoded[summary.file_position : summary.file_position + run_size(summary)])


def test_every_flipped_bit_of_an_index_file_is_noticed() -> None:
    encoded = bytearray(encode_index(example_index(), 1, 200_000))
    for position in range(len(encoded)):
        encoded[position] ^= 1 << position % 8
        with pytest.raises(LogDamagedError):
            read_all(bytes(encoded))
        encoded[position] ^= 1 << position % 8


def test_every_prefix_of_an_index_file_is_noticed() -> None:
    encoded = encode_index(example_index(), 1, 200_000)
    read_all(encoded)
    for size in range(len(encoded)):
        with pytest.raises(LogDamagedError):
            read_all(encoded[:size])


def test_the_directory_says_its_own_size() -> None:
    encoded = encode_index(example_index(), 1, 200_000)
    size = index_directory_size(encoded)
    assert decode_directory(encoded[:size]).summaries.keys() == {0, 1, 2}
    with pytest.raises(LogDamagedError, match="shorter than its header"):
        index_directory_size(b"")


@given(
    sizes=st.lists(st.integers(32, 3 * MARK_BYTES), min_size=1, max_size=60),
    number=st.integers(0, 59),
    at=st.integers(),
)
def test_marks_lead_close_to_every_entry(sizes: list[int], number: int, at: int) -> None:
    starts = [64 + sum(sizes[:count]) for count in range(len(sizes))]
    marks = Marks.among(array("I", starts))
    number %= len(sizes)
    before, position = marks.before(number)
    assert position == starts[before]
    assert before <= number
    assert starts[number] - position < MARK_BYTES
    after = marks.after(number)
    if after is None:
        assert starts[-1] - position < MARK_BYTES
    else:
        assert after[0] > number
        assert after[1] == starts[after[0]]
    at = 64 + at % sum(sizes)
    found, position = marks.up_to(at)
    assert starts[found] == position <= at
