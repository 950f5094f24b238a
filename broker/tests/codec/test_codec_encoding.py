"""What the generated encoders make of special values: buffers passed through, tagged fields, values without an encoding."""

from typing import Any

import pytest

from penstock.codec.errors import CodecError
from penstock.codec.kafka.generated import fetch, join_group, metadata, produce


def _encode(encode: Any, message: Any) -> list[Any]:
    out: list[Any] = []
    encode(message, out)
    return out


def _fetch_response(records: Any) -> fetch.FetchResponse:
    partition = fetch.PartitionData(partition_index=1, high_watermark=5, records=records)
    return fetch.FetchResponse(responses=[fetch.FetchableTopicResponse(topic="t", partitions=[partition])])


@pytest.mark.parametrize("version", range(4, 13))
def test_records_are_passed_on_and_not_copied(version: int) -> None:
    encode, decode = fetch.ENCODE_RESPONSE[version], fetch.DECODE_RESPONSE[version]
    first, second = memoryview(bytes(100)), bytearray(b"xyz")
    out = _encode(encode, _fetch_response([first, second]))
    assert out[1] is first
    assert out[2] is second
    whole = b"".join(out)
    assert whole == b"".join(_encode(encode, _fetch_response(bytes(100) + b"xyz")))
    decoded, _ = decode(memoryview(whole), 0)
    assert decoded.responses[0].partitions[0].records == bytes(100) + b"xyz"


def test_empty_and_null_records_differ() -> None:
    for version in (4, 12):
        cases: tuple[Any, ...] = (None, b"", [])
        for records in cases:
            whole = b"".join(_encode(fetch.ENCODE_RESPONSE[version], _fetch_response(records)))
            decoded, _ = fetch.DECODE_RESPONSE[version](memoryview(whole), 0)
            found = decoded.responses[0].partitions[0].records
            assert found is None if records is None else found == b""


def test_decoded_records_are_a_view_of_the_frame() -> None:
    request = produce.ProduceRequest(
        topic_data=[
            produce.TopicProduceData(
                name="t", partition_data=[produce.PartitionProduceData(index=0, records=memoryview(b"abc"))]
            )
        ]
    )
    frame = bytearray(b"".join(_encode(produce.encode_produce_request_v9, request)))
    decoded, _ = produce.decode_produce_request_v9(memoryview(frame), 0)
    records = decoded.topic_data[0].partition_data[0].records
    assert records is not None
    frame[frame.index(b"abc")] = ord("A")
    assert records.tobytes() == b"Abc"


def test_tagged_fields_are_written_only_where_they_differ() -> None:
    bare = produce.ProduceResponse(responses=[])
    full = produce.ProduceResponse(
        responses=[], node_endpoints=[produce.NodeEndpoint(node_id=1, host="h", port=9092)]
    )
    encode = produce.encode_produce_response_v10
    assert b"".join(_encode(encode, bare)) == b"\x01" + bytes(4) + b"\x00"
    assert (
        b"".join(_encode(encode, full))
        == b"\x01" + bytes(4) + b"\x01\x00\x0d\x02" + b"\0\0\0\x01\x02h\0\0\x23\x84\0\0"
    )
    assert b"".join(_encode(produce.encode_produce_response_v9, full)) == b"\x01" + bytes(4) + b"\x00"


def test_unknown_tagged_fields_are_stepped_over() -> None:
    # After the empty arrays: two fields, an unknown one of three bytes and the known one, which says "no endpoints".
    data = b"\x01" + bytes(4) + b"\x02" + b"\x63\x03abc" + b"\x00\x01\x01"
    decoded, end = produce.decode_produce_response_v10(memoryview(data), 0)
    assert decoded == produce.ProduceResponse()
    assert end == len(data)


@pytest.mark.parametrize(
    "section",
    [b"\x01\x63\x04abc", b"\x01\x00\x02\x01\x00", b"\x01\x00\x00", b"\x02\x63\x00", b"\xff\xff\xff\xff\x0f"],
)
def test_damaged_tagged_fields_are_refused(section: bytes) -> None:
    with pytest.raises(CodecError):
        produce.decode_produce_response_v10(memoryview(b"\x01" + bytes(4) + section), 0)


def test_fields_of_other_versions_are_not_written() -> None:
    response = metadata.MetadataResponse(cluster_id="c", cluster_authorized_operations=7)
    decoded, _ = metadata.decode_metadata_response_v0(
        memoryview(b"".join(_encode(metadata.encode_metadata_response_v0, response))), 0
    )
    assert decoded == metadata.MetadataResponse()


def test_null_where_the_version_allows_none() -> None:
    response = join_group.JoinGroupResponse(protocol_name=None)
    assert _encode(join_group.ENCODE_RESPONSE[7], response)
    with pytest.raises(CodecError, match="JoinGroupResponse cannot be encoded"):
        _encode(join_group.ENCODE_RESPONSE[6], response)


@pytest.mark.parametrize("version", [0, 9])
def test_values_out_of_range(version: int) -> None:
    for wrong in (
        join_group.JoinGroupRequest(session_timeout_ms=2**31),
        join_group.JoinGroupRequest(group_id="x" * 0x8000),
        join_group.JoinGroupRequest(group_id="\ud800"),
    ):
        with pytest.raises(CodecError, match="JoinGroupRequest"):
            _encode(join_group.ENCODE_REQUEST[version], wrong)
