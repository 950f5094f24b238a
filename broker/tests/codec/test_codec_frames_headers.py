"""Frames, headers, and the table of APIs."""

import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.codec.errors import CodecError
from penstock.codec.kafka.apis import API_BY_NAME, APIS, api_for
from penstock.codec.kafka.frames import FrameReader, frame_prefix
from penstock.codec.kafka.headers import (
    RequestHeader,
    decode_request_header,
    decode_response_header,
    encode_request_header,
    encode_response_header,
)

_settings = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@_settings
@given(st.lists(st.binary(max_size=20), max_size=8), st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_any_chunking_gives_the_same_frames(payloads: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(frame_prefix([payload]) + payload for payload in payloads)
    reader = FrameReader(20)
    frames: list[bytes] = []
    position = 0
    for size in [*sizes, len(stream)]:
        frames += [bytes(frame) for frame in reader.feed(stream[position : position + size])]
        position += size
    assert frames == payloads
    assert reader.buffered_bytes == 0


def test_a_whole_frame_is_a_view_and_a_later_one_does_not_change_it() -> None:
    reader = FrameReader(100)
    data = struct.pack(">i3si3s", 3, b"abc", 3, b"def")
    whole = reader.feed(data)
    assert all(frame.obj is data for frame in whole)
    assert reader.feed(data[:5]) == []
    (pieced,) = reader.feed(data[5:7])
    reader.feed(struct.pack(">i2s", 3, b"xy"))
    assert [bytes(frame) for frame in (*whole, pieced)] == [b"abc", b"def", b"abc"]


@pytest.mark.parametrize("length", [-1, 101, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_wrong_length_is_refused_before_anything_is_kept(length: int, cut: int) -> None:
    reader = FrameReader(100)
    prefix = struct.pack(">i", length)
    assert reader.feed(prefix[:cut]) == []
    with pytest.raises(CodecError, match="frames have 0 to 100 bytes"):
        reader.feed(prefix[cut:])
    assert reader.buffered_bytes <= 4


@pytest.mark.parametrize("client_id", [None, "", "a client", "\u00fc" * 300])
@pytest.mark.parametrize(("key", "version"), [(0, 3), (0, 9), (18, 3), (18, 2), (47, 0), (60, 0), (3, 12)])
def test_request_header_round_trip(key: int, version: int, client_id: str | None) -> None:
    header = RequestHeader(key, version, 77, client_id)
    api = APIS[key]
    data = encode_request_header(header, api.request_header_version(version))
    assert decode_request_header(memoryview(data + b"body")) == (header, len(data))
    for length in range(len(data)):
        with pytest.raises(CodecError):
            decode_request_header(memoryview(data)[:length])


def test_request_header_of_what_is_not_served_is_read_up_to_the_client_id() -> None:
    for key, version in ((999, 0), (18, 99), (-1, -1)):
        data = struct.pack(">hhih2s", key, version, 5, 2, b"me")
        assert decode_request_header(memoryview(data)) == (RequestHeader(key, version, 5, "me"), 12)


def test_request_header_steps_over_unknown_tagged_fields() -> None:
    data = struct.pack(">hhih", 18, 3, 5, -1) + b"\x01\x07\x02ab" + b"body"
    assert decode_request_header(memoryview(data)) == (RequestHeader(18, 3, 5, None), 15)


@pytest.mark.parametrize("length", [-2, 3, 32767])
def test_request_header_with_a_wrong_client_id(length: int) -> None:
    with pytest.raises(CodecError, match="client_id"):
        decode_request_header(memoryview(struct.pack(">hhih2s", 3, 0, 5, length, b"me")))
    with pytest.raises(CodecError, match="not UTF-8"):
        decode_request_header(memoryview(struct.pack(">hhih2s", 3, 0, 5, 2, b"\xff\xff")))


def test_response_headers() -> None:
    assert encode_response_header(258, 0) == b"\0\0\1\2"
    assert encode_response_header(258, 1) == b"\0\0\1\2\0"
    assert decode_response_header(memoryview(b"\0\0\1\2\0body"), 0, 1) == (258, 5)
    assert decode_response_header(memoryview(b"\0\0\1\2body"), 0, 0) == (258, 4)
    with pytest.raises(CodecError):
        decode_response_header(memoryview(b"\0\0\1\2"), 0, 1)


def test_the_table() -> None:
    assert list(APIS) == sorted(APIS)
    assert api_for(4) is None
    assert api_for(0) is APIS[0] is API_BY_NAME["Produce"]
    produce = APIS[0]
    assert (produce.minimum, produce.first_decodable, produce.maximum) == (0, 3, 11)
    assert sorted(produce.decode_request) == sorted(produce.encode_response) == list(range(3, 12))
    assert APIS[18].response_header_version(3) == 0
    assert APIS[18].request_header_version(3) == 2
    assert APIS[3].response_header_version(9) == 1
    assert APIS[3].response_header_version(8) == 0
    for api in APIS.values():
        for table in (api.decode_request, api.encode_request, api.decode_response, api.encode_response):
            assert sorted(table) == list(range(api.first_decodable, api.maximum + 1))
        assert api.request_class.__name__ == f"{api.name}Request"
        assert api.response_class.__name__ == f"{api.name}Response"


def test_bytes_after_a_request_are_ignored_as_librdkafka_sends_some() -> None:
    groups = API_BY_NAME["ListGroups"]
    assert groups.parse_request(0, memoryview(b"header"), 6) == groups.request_class()
    assert groups.parse_request(0, memoryview(b"headerXYZ"), 6) == groups.request_class()
    with pytest.raises(CodecError, match="ListGroups version 6 is not served: versions are 0 to 5"):
        groups.parse_request(6, memoryview(b""), 0)


def test_bytes_after_a_response_are_an_error() -> None:
    groups = API_BY_NAME["ListGroups"]
    with pytest.raises(
        CodecError, match="ListGroupsResponse version 0 ends at byte 12, but its frame goes on to byte 13"
    ):
        groups.parse_response(0, memoryview(b"header" + bytes(7)), 6)


def test_messages_are_imported_when_they_are_used() -> None:
    script = (
        "import sys; from penstock.codec.kafka.apis import APIS; a = 'penstock.codec.kafka.generated.'; "
        "assert a + 'produce' not in sys.modules; APIS[0].decode_request; "
        "assert a + 'produce' in sys.modules and a + 'fetch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
