"""The first record of a batch, read without believing anything that the batch says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.codec.compression import Compression, compress, decompress_start
from penstock.codec.errors import CodecError
from penstock.codec.first_record import (
    HEADERS_BYTES_MAX,
    KEY_BYTES_MAX,
    OPENED_BYTES_MAX,
    FirstRecord,
    batch_start,
    first_record,
    lone_header,
    open_batch,
    packed_headers,
)
from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.model.record_batch import HEADER_SIZE, parse_header

HEADERS = (("traceparent", b"00-1"), ("a", None), ("", b""))


def read(batch: bytes | memoryview) -> FirstRecord:
    return first_record(open_batch(parse_header(batch), memoryview(batch)[HEADER_SIZE:]))


@pytest.mark.parametrize("compression", list(Compression))
def test_the_first_record_is_read_in_every_compression(compression: Compression) -> None:
    records = [
        Record(b"key", b"value" * 50, 5, HEADERS),
        *(Record(b"other", b"x" * 100, 9) for _ in range(500)),
    ]
    found = read(build_batch(records, options=BatchOptions(compression=compression)))
    assert (found.key, found.headers()) == (b"key", HEADERS)


@given(
    st.none() | st.binary(max_size=200),
    st.none() | st.binary(max_size=300),
    st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=70),
    st.integers(0, 1 << 40),
)
def test_any_record_that_can_be_written_is_read(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], timestamp: int
) -> None:
    found = read(build_batch([Record(key, value, timestamp, tuple(headers)), Record()]))
    assert (found.key, found.headers()) == (key, tuple(headers))


@given(st.data())
def test_damaged_bytes_are_a_clean_error(data: st.DataObject) -> None:
    compression = data.draw(st.sampled_from(list(Compression)))
    whole = build_batch([Record(b"key", b"value", 5, HEADERS)], options=BatchOptions(compression=compression))
    at = data.draw(st.integers(HEADER_SIZE, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(min_size=1, max_size=12)) + whole[at + 1 :]
    for batch in (whole[:at], damaged):
        try:
            read(batch).headers()
        except CodecError:
            continue


def test_a_first_record_behind_what_is_opened_is_not_read() -> None:
    small = Record(b"k", bytes(OPENED_BYTES_MAX - 100), 0, HEADERS)
    large = Record(b"k", bytes(OPENED_BYTES_MAX), 0, HEADERS)
    for compression in (Compression.GZIP, Compression.LZ4, Compression.ZSTD):
        options = BatchOptions(compression=compression)
        assert read(build_batch([small, large], options=options)).headers() == HEADERS
        with pytest.raises(CodecError, match="are there"):
            read(build_batch([large], options=options))
    # Nothing is decompressed or copied where the batch is plain, however large the value is.
    assert read(build_batch([large])).headers() == HEADERS


@pytest.mark.parametrize("compression", list(Compression))
def test_no_more_is_decompressed_than_asked_for(compression: Compression) -> None:
    data = bytes(40 * 1024 * 1024)
    if compression is Compression.SNAPPY:
        # The first block of 32 KiB: it can only be had whole.
        assert decompress_start(compression, compress(compression, data), 40_000) == bytes(32 * 1024)
        with pytest.raises(CodecError, match="more than 1000 bytes"):
            decompress_start(compression, compress(compression, data), 1000)
        return
    start = decompress_start(compression, compress(compression, data), 1000)
    assert start == bytes(1000)


def test_an_unknown_compression_is_a_clean_error() -> None:
    with pytest.raises(CodecError, match="compression 5 is not known"):
        decompress_start(5, b"", 10)


@given(
    st.lists(st.tuples(st.text(max_size=70), st.none() | st.binary(max_size=140)), max_size=3),
    st.binary(max_size=200),
)
def test_packed_headers_are_those_that_are_read(
    headers: list[tuple[str, bytes | None]], value: bytes
) -> None:
    batch = memoryview(build_batch([Record(b"k", value, 0, tuple(headers)), Record(b"other")]))
    packed = packed_headers(batch[HEADER_SIZE:])
    assert packed == read(batch).packed_headers
    for name, content in headers[:1]:
        alone = len(headers) == 1 and content is not None and len(name.encode()) < 64 and len(content) < 64
        assert lone_header(packed, name.encode()) == (content if alone else None)


@given(st.binary(max_size=80))
def test_headers_of_anything_are_packed_where_they_can_be_read(data: bytes) -> None:
    try:
        expected = first_record(data).packed_headers
    except CodecError:
        expected = None
    assert packed_headers(data) == expected


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=10))
def test_a_lone_header_is_one_that_reading_finds_alone(packed: bytes, name: bytes) -> None:
    value = lone_header(packed, name)
    if value is not None:
        assert [(found.encode(), content) for found, content in FirstRecord(None, packed).headers()] == [
            (name, value)
        ]


def test_keys_and_headers_have_a_bound() -> None:
    assert read(build_batch([Record(bytes(KEY_BYTES_MAX), b"", 0, HEADERS)])).key == bytes(KEY_BYTES_MAX)
    long = read(build_batch([Record(bytes(KEY_BYTES_MAX + 1), b"", 0, HEADERS)]))
    assert (long.key, long.headers()) == (None, HEADERS)
    with pytest.raises(CodecError, match="for its headers"):
        read(build_batch([Record(b"k", b"", 0, (("a", bytes(HEADERS_BYTES_MAX)),))]))


def test_a_false_count_of_records_changes_nothing() -> None:
    batch = build_batch([Record(b"key", b"", 0, HEADERS)])
    lying = batch[: HEADER_SIZE - 4] + (0x7FFFFFFF).to_bytes(4, "big") + batch[HEADER_SIZE:]
    assert read(lying).key == b"key"


@pytest.mark.parametrize("cuts", [[], [16], [16, 61], [16, 70], [3, 5, 80]])
def test_a_batch_may_lie_in_several_buffers(cuts: list[int]) -> None:
    batch = build_batch([Record(b"key", b"value", 5, HEADERS)])
    ends = [*cuts, len(batch)]
    buffers = [memoryview(batch)[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    header, body = batch_start(buffers)
    assert header == parse_header(batch)
    assert bytes(body) == batch[HEADER_SIZE:]
