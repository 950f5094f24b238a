"""Counts and lengths from the wire cost nothing before they are found to be possible."""

import struct
import tracemalloc
from typing import Any

import pytest

from codec_oracle import CASES, functions
from penstock.codec.errors import CodecError
from penstock.codec.kafka.apis import API_BY_NAME
from penstock.codec.kafka.generated.metadata import (
    MetadataRequest,
    decode_metadata_request_v12,
    encode_metadata_request_v12,
)
from penstock.codec.kafka.generated.produce import decode_produce_request_v3, decode_produce_request_v9
from penstock.codec.limits import REQUEST_ELEMENTS_MAX

ALLOCATION_MAX = 200_000


def _refused(decode: Any, data: bytes) -> str:
    """The sentence of the refusal, having checked that next to nothing was allocated."""
    tracemalloc.start()
    try:
        with pytest.raises(CodecError) as caught:
            decode(memoryview(data), 0)
        assert tracemalloc.get_traced_memory()[1] < ALLOCATION_MAX
    finally:
        tracemalloc.stop()
    return str(caught.value)


@pytest.mark.parametrize("count", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 200])
def test_compact_count_beyond_the_frame(count: int) -> None:
    # The five bytes that abort another library: a count of 2^32 - 2 topics and nothing behind it.
    prefix = bytearray()
    while count >= 0x80:
        prefix.append(count & 0x7F | 0x80)
        count >>= 7
    prefix.append(count)
    assert _refused(decode_metadata_request_v12, bytes(prefix) + bytes(20)).startswith(
        "MetadataRequest.topics: the count"
    )


@pytest.mark.parametrize("count", [2**31 - 1, -2, -(2**31), 3])
def test_plain_count_beyond_the_frame(count: int) -> None:
    data = struct.pack(">hhii", -1, -1, 30_000, count) + bytes(12)
    sentence = _refused(decode_produce_request_v3, data)
    assert sentence.startswith("ProduceRequest.topic_data: the count before byte 12 is")


def test_length_of_records_beyond_the_frame() -> None:
    data = struct.pack(">BhiBB1sBiB", 0, -1, 30_000, 2, 2, b"t", 2, 0, 100) + b"x" * 98 + b"\0"
    assert _refused(decode_produce_request_v9, data) == (
        "ProduceRequest.topic_data.partition_data.records: the length before byte 16 is 99 bytes, "
        "but 99 are left for it and the fields behind it"
    )


def test_more_elements_than_the_budget_although_the_bytes_are_there() -> None:
    # Each topic of two bytes would become an object; a frame of some megabytes must not hold millions of them.
    count = REQUEST_ELEMENTS_MAX + 1
    out: list[Any] = []
    encode_metadata_request_v12(MetadataRequest(topics=[]), out)
    flags = b"".join(out)[1:]
    prefix = bytearray()
    rest = count + 1
    while rest >= 0x80:
        prefix.append(rest & 0x7F | 0x80)
        rest >>= 7
    prefix.append(rest)
    data = bytes(prefix) + bytes(16 + 2) * count + flags
    assert "may still hold" in _refused(decode_metadata_request_v12, data)


@pytest.mark.parametrize(("api_name", "role", "version"), CASES)
def test_frames_of_one_byte_value(api_name: str, role: str, version: int) -> None:
    """All lengths as large as they get, or all null, at every place where one may stand."""
    decode, _ = functions(API_BY_NAME[api_name], role, version)
    tracemalloc.start()
    try:
        for byte in (0x00, 0x01, 0x02, 0x7F, 0x80, 0xFF):
            for size in (1, 7, 40, 200):
                try:
                    decode(memoryview(bytes([byte]) * size), 0)
                except CodecError:
                    pass
        assert tracemalloc.get_traced_memory()[1] < ALLOCATION_MAX
    finally:
        tracemalloc.stop()


def test_text_that_is_not_utf8() -> None:
    data = struct.pack(">BhiBB2sBB", 0, -1, 30_000, 2, 3, b"\xc3(", 1, 0) + b"\0"
    with pytest.raises(
        CodecError, match=r"^ProduceRequest\.topic_data\.name: the string at byte 9 is not UTF-8"
    ):
        decode_produce_request_v9(memoryview(data), 0)
