"""The header of a record batch, and what a producer may send: each refusal with its code and sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.crc import crc32c
from penstock.codec.compression import Compression
from penstock.codec.records import BatchOptions, Record, batch_crc_is_right, build_batch, read_records
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import (
    CRC_START,
    HEADER,
    HEADER_SIZE,
    PLACE,
    PRODUCER_ID,
    PRODUCER_ID_AT,
    BatchHeader,
    parse_header,
)
from penstock.partition.batches import BATCHES_PER_REQUEST_MAX, first_since, split_batches, with_append_time

LARGE = 1 << 20


def batch(count: int = 3, *, timestamp: int = 1000, **options: object) -> bytes:
    records = [Record(value=b"v%d" % number, timestamp=timestamp + number) for number in range(count)]
    return build_batch(records, 0, BatchOptions(**options))  # type: ignore[arg-type]


def changed(data: bytes, **fields: int) -> bytes:
    """The batch with other header fields and the checksum that belongs to them."""
    head = HEADER.pack(*parse_header(data)._replace(**fields))
    crc = crc32c(head[CRC_START:] + data[HEADER_SIZE:])
    return HEADER.pack(*parse_header(head)._replace(crc=crc)) + data[HEADER_SIZE:]


def refused(data: bytes, size_bytes_max: int = LARGE) -> PenstockError:
    with pytest.raises(PenstockError) as caught:
        split_batches(memoryview(data), size_bytes_max)
    return caught.value


i64 = st.integers(-(2**63), 2**63 - 1)
i32 = st.integers(-(2**31), 2**31 - 1)
i16 = st.integers(-(2**15), 2**15 - 1)


@given(
    st.builds(
        BatchHeader,
        i64,
        i32,
        i32,
        st.integers(-128, 127),
        st.integers(0, 2**32 - 1),
        i16,
        i32,
        i64,
        i64,
        i64,
        i16,
        i32,
        i32,
    )
)
def test_a_header_round_trips(header: BatchHeader) -> None:
    packed = HEADER.pack(*header)
    assert len(packed) == HEADER_SIZE
    assert parse_header(b"xx" + packed, 2) == header
    assert PLACE.unpack_from(packed) == (header.base_offset, header.last_offset_delta, header.max_timestamp)
    assert PRODUCER_ID.unpack_from(packed, PRODUCER_ID_AT) == (header.producer_id,)
    assert header.size_bytes == header.batch_length + 12
    assert header.last_offset == header.base_offset + header.last_offset_delta


def test_several_batches_are_split_at_their_lengths() -> None:
    parts = [batch(1), batch(2, compression=Compression.GZIP), batch(3)]
    found = split_batches(memoryview(b"".join(parts)), LARGE)
    assert [bytes(view) for _, view in found] == parts
    assert [header.record_count for header, _ in found] == [1, 2, 3]


def test_every_flipped_bit_behind_the_checksum_is_noticed() -> None:
    whole = bytearray(batch(2))
    for position in range(CRC_START - 4, len(whole)):
        for bit in range(8):
            whole[position] ^= 1 << bit
            assert refused(bytes(whole)).code is ErrorCode.CORRUPT_MESSAGE
            whole[position] ^= 1 << bit


def test_every_prefix_is_refused() -> None:
    whole = batch(2)
    for size in range(len(whole)):
        assert refused(whole[:size]).code in (ErrorCode.CORRUPT_MESSAGE, ErrorCode.INVALID_RECORD)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", ErrorCode.INVALID_RECORD, "no record batch"),
        (changed(batch(), record_count=0, last_offset_delta=-1), ErrorCode.INVALID_RECORD, "count"),
        (changed(batch(), record_count=4), ErrorCode.INVALID_RECORD, "count"),
        (changed(batch(), record_count=-5, last_offset_delta=-6), ErrorCode.INVALID_RECORD, "count"),
        (changed(batch(), attributes=5), ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "codec 5"),
        (batch(control=True), ErrorCode.INVALID_RECORD, "control"),
        (
            batch(transactional=True, producer_id=1, producer_epoch=0, base_sequence=0),
            ErrorCode.INVALID_TXN_STATE,
            "trans",
        ),
        (batch(producer_id=7, producer_epoch=0), ErrorCode.INVALID_RECORD, "sequence"),
        (batch(producer_id=7, producer_epoch=-1, base_sequence=0), ErrorCode.INVALID_RECORD, "epoch"),
        (changed(batch(), magic=1), ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, "format 1"),
        (changed(batch(), magic=3), ErrorCode.CORRUPT_MESSAGE, "format 3"),
        (changed(batch(), batch_length=2**31 - 1), ErrorCode.CORRUPT_MESSAGE, "length"),
        (changed(batch(), batch_length=-13), ErrorCode.CORRUPT_MESSAGE, "length"),
        (changed(batch(), batch_length=0), ErrorCode.CORRUPT_MESSAGE, "length"),
        (bytes(16) + b"\x01" + bytes(20), ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, "v0 and v1"),
    ],
)
def test_a_bad_batch_is_refused_with_a_sentence(data: bytes, code: ErrorCode, words: str) -> None:
    error = refused(data)
    assert error.code is code
    assert words in error.sentence


def test_a_large_batch_is_refused_with_both_numbers() -> None:
    data = batch()
    split_batches(memoryview(data), len(data))
    error = refused(data, len(data) - 1)
    assert error.code is ErrorCode.MESSAGE_TOO_LARGE
    assert str(len(data)) in error.sentence
    assert f"max.message.bytes={len(data) - 1}" in error.sentence


def test_batches_per_request_are_bounded() -> None:
    one = batch(1)
    assert len(split_batches(memoryview(one * BATCHES_PER_REQUEST_MAX), LARGE)) == BATCHES_PER_REQUEST_MAX
    error = refused(one * (BATCHES_PER_REQUEST_MAX + 1))
    assert error.code is ErrorCode.INVALID_RECORD
    assert str(BATCHES_PER_REQUEST_MAX) in error.sentence


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert refused(data).code in (
        ErrorCode.INVALID_RECORD,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        ErrorCode.MESSAGE_TOO_LARGE,
    )


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])
def test_append_time_counts_for_every_record_and_keeps_the_checksum_right(compression: Compression) -> None:
    data = batch(3, compression=compression)
    header, head = with_append_time(parse_header(data), memoryview(data), 5_000_000)
    stamped = bytes(head) + data[HEADER_SIZE:]
    assert parse_header(stamped) == header
    assert batch_crc_is_right(memoryview(stamped))
    assert {record.timestamp for record in read_records(memoryview(stamped))} == {5_000_000}


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP, Compression.LZ4])
def test_the_first_record_since_a_time_is_found_exactly(compression: Compression) -> None:
    records = [Record(value=b"x", timestamp=timestamp) for timestamp in (50, 10, 30, 30, 20)]
    view = memoryview(build_batch(records, 100, BatchOptions(compression=compression)))
    assert first_since(view, 0, 0) == (100, 50)
    assert first_since(view, 0, 101) == (101, 10)
    assert first_since(view, 25, 101) == (102, 30)
    assert first_since(view, 31, 101) is None
