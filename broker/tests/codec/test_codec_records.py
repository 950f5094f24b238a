"""Record batches: round trip, against aiokafka's and kafka-python's builders and readers, damage, and bounds of decompression."""

import gzip
import random
import struct
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import cramjam
import lz4.frame
import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_oracle import THEIRS
from penstock.codec import compression as compression_module
from penstock.codec.compression import Compression, compress, decompress
from penstock.codec.errors import CodecError
from penstock.codec.records import (
    BatchOptions,
    Record,
    batch_crc_is_right,
    build_batch,
    read_records,
    split_batches,
)

_settings = settings(max_examples=40, deadline=None, derandomize=True, database=None)

_some_bytes = st.none() | st.binary(max_size=20) | st.sampled_from([bytes(64), bytes(8200)])
_records = st.lists(
    st.builds(
        Record,
        key=_some_bytes,
        value=_some_bytes,
        timestamp=st.integers(0, 2**42),
        headers=st.lists(st.tuples(st.text(max_size=5), _some_bytes), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=12,
)
CODECS = list(Compression)


def _as_tuples(records: Any) -> list[tuple[Any, ...]]:
    return [
        (record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
        for record in records
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_round_trip_and_aiokafka_reads_it(codec: Compression) -> None:
    @_settings
    @given(_records)
    def check(records: list[Record]) -> None:
        batch = build_batch(records, 100, BatchOptions(compression=codec))
        expected = [
            (100 + number, record.timestamp, record.key, record.value, record.headers)
            for number, record in enumerate(records)
        ]
        assert batch_crc_is_right(memoryview(batch))
        assert _as_tuples(read_records(memoryview(batch))) == expected
        theirs = DefaultRecordBatch(batch)
        assert theirs.validate_crc()
        assert theirs.compression_type == codec
        assert _as_tuples(theirs) == expected

    check()


@pytest.mark.parametrize("codec", CODECS)
def test_what_aiokafka_builds(codec: Compression) -> None:
    builder = DefaultRecordBatchBuilder(2, codec, 1, 5, 6, 7, 1 << 20)
    expected = []
    for number in range(50):
        value = b"value %d " % number * 20
        builder.append(number, 1_700_000_000_000 + number, b"k", value, [("h", None), ("i", b"1")])
        expected.append((number, 1_700_000_000_000 + number, b"k", value, (("h", None), ("i", b"1"))))
    batch = memoryview(bytes(builder.build()))
    assert batch_crc_is_right(batch)
    assert _as_tuples(read_records(batch)) == expected


@pytest.mark.parametrize(
    "codec", [Compression.NONE, Compression.GZIP, Compression.LZ4]
)  # It has no libraries for the others here.
def test_kafka_python_both_ways(codec: Compression) -> None:
    assert THEIRS  # Its import needs care, which the oracle takes.
    default_records = import_module("kafka.record.default_records")
    builder = default_records.DefaultRecordBatchBuilder(
        magic=2,
        compression_type=int(codec),
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for number in range(30):
        builder.append(number, timestamp=1000 + number, key=None, value=b"v" * 100, headers=[])
    theirs = bytes(builder.build())
    expected = [(number, 1000 + number, None, b"v" * 100, ()) for number in range(30)]
    assert _as_tuples(read_records(memoryview(theirs))) == expected
    ours = build_batch(
        [Record(None, b"v" * 100, 1000 + number) for number in range(30)], 0, BatchOptions(compression=codec)
    )
    assert _as_tuples(default_records.DefaultRecordBatch(ours)) == expected
    if codec == Compression.NONE:
        assert ours[16:] == theirs[16:]  # Behind the leader epoch, which it leaves at 0.


def test_header_fields() -> None:
    options = BatchOptions(
        log_append_time=99,
        leader_epoch=4,
        producer_id=5,
        producer_epoch=6,
        base_sequence=7,
        transactional=True,
        control=True,
    )
    batch = build_batch([Record(b"k", b"v", 10), Record(b"k", b"v", 11)], 1000, options)
    theirs = DefaultRecordBatch(batch)
    assert (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence) == (5, 6, 7)
    assert theirs.is_transactional
    assert theirs.is_control_batch
    assert (theirs.base_offset, theirs.next_offset, theirs.max_timestamp) == (1000, 1002, 99)
    assert [record.timestamp for record in read_records(memoryview(batch))] == [99, 99]


def test_split_batches() -> None:
    first, second = build_batch([Record(b"a")]), build_batch([Record(b"b"), Record(b"c")], 1)
    both = memoryview(first + second)
    assert [bytes(batch) for batch in split_batches(both)] == [first, second]
    assert [bytes(batch) for batch in split_batches(both[:-1])] == [first]
    assert list(split_batches(both[:30])) == []
    with pytest.raises(CodecError, match="less than its header"):
        list(split_batches(memoryview(struct.pack(">qi", 0, 48) + bytes(100))))


@pytest.mark.parametrize("codec", CODECS)
def test_damage_raises_only_codec_errors(codec: Compression) -> None:
    records = [Record(b"key", b"value" * 30, 5, (("h", b"x"),)) for _ in range(5)]
    batch = build_batch(records, 0, BatchOptions(compression=codec))
    generator = random.Random(int(codec))
    for length in range(len(batch)):
        with pytest.raises(CodecError):
            list(read_records(memoryview(batch)[:length]))
    for _ in range(1500):
        damaged = bytearray(batch)
        damaged[generator.randrange(16, len(damaged))] = generator.choice(
            (0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256))
        )
        with suppress(CodecError):
            assert len(list(read_records(memoryview(damaged)))) <= len(batch) * 100


@pytest.mark.parametrize("codec", CODECS)
def test_cut_and_random_compressed_data(codec: Compression) -> None:
    generator = random.Random(int(codec))
    data = compress(codec, b"some text that repeats, some text that repeats " * 40)
    for length in range(0, len(data), 3):
        for wrong in (data[:length], generator.randbytes(length)):
            with suppress(CodecError):
                assert isinstance(decompress(codec, memoryview(wrong)), bytes)


@pytest.mark.parametrize("codec", CODECS)
def test_decompression_is_bounded(codec: Compression) -> None:
    data = compress(codec, bytes(1_000_000))
    assert len(decompress(codec, data, 1_000_000)) == 1_000_000
    with pytest.raises(CodecError, match="more than 999999 bytes"):
        decompress(codec, data, 999_999)


def test_forms_that_other_clients_write() -> None:
    text = b"some text " * 500
    assert decompress(Compression.SNAPPY, bytes(cramjam.snappy.compress_raw(text))) == text
    assert decompress(Compression.GZIP, gzip.compress(text[:2000]) + gzip.compress(text[2000:])) == text
    assert (
        decompress(Compression.LZ4, lz4.frame.compress(text, block_linked=True, content_checksum=True))
        == text
    )
    assert decompress(Compression.SNAPPY, compress(Compression.SNAPPY, b"")) == b""


def test_snappy_block_that_announces_too_much() -> None:
    # 40 MiB announced in six bytes: the library would allocate it.
    with pytest.raises(CodecError, match="announces"):
        decompress(Compression.SNAPPY, b"\x80\x80\x80\x14\x00\x00")


def test_zstd_frame_that_asks_for_much_memory() -> None:
    # By hand (RFC 8878): magic, a header without the size of the content, the window's exponent above 10, one raw block of one byte.
    def frame(window_log: int) -> bytes:
        return b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3]) + b"\x09\x00\x00x"

    assert decompress(Compression.ZSTD, frame(27)) == b"x"
    with pytest.raises(CodecError, match="zstd records are damaged"):
        decompress(Compression.ZSTD, frame(28))


def test_unknown_codec_and_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CodecError, match="compression 5 is not known"):
        decompress(5, b"")

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(compression_module, "import_module", missing)
    for codec in (Compression.SNAPPY, Compression.LZ4, Compression.ZSTD):
        for call in (compress, decompress):
            with pytest.raises(CodecError, match=r"install penstock\[compression\]"):
                call(codec, b"x")
    assert decompress(Compression.GZIP, compress(Compression.GZIP, b"x")) == b"x"


def _body(batch: bytes, change: Callable[[bytearray], None]) -> memoryview:
    changed = bytearray(batch)
    change(changed)
    return memoryview(changed)


def test_wrong_headers_are_named() -> None:
    batch = build_batch([Record(b"k", b"v")])

    def check(change: Callable[[bytearray], None], sentence: str) -> None:
        with pytest.raises(CodecError, match=sentence):
            list(read_records(_body(batch, change)))

    check(lambda data: data.__setitem__(16, 1), "format 1; only format 2")
    check(lambda data: data.append(0), "but 71 are there")
    check(lambda data: data.__setitem__(slice(57, 61), b"\x7f\xff\xff\xff"), "2147483647 records")
    check(lambda data: data.__setitem__(slice(57, 61), bytes(4)), "bytes follow the last record")
    check(lambda data: data.__setitem__(61, 0x7E), "its length is 63")


def test_what_cannot_be_written() -> None:
    for records in ([], [Record(b"k", b"v", 2**80)], [Record(headers=(("\ud800", None),))]):
        with pytest.raises(CodecError):
            build_batch(records)
    with pytest.raises(CodecError):
        build_batch([Record()], 2**63)


def test_header_key_that_is_not_utf8_is_still_read() -> None:
    batch = build_batch([Record(headers=(("ab", b"x"),))]).replace(b"ab", b"\xff\xfe")
    (record,) = read_records(memoryview(batch))
    assert record.headers == (("\ufffd\ufffd", b"x"),)
    assert not batch_crc_is_right(memoryview(batch))
