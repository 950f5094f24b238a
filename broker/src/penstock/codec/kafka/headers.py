"""Headers of requests and responses, read and written by hand because every message has one.

A request's header begins the same in each version (key, version, correlation id, client id); version 2 adds tagged fields. Which
version it is depends on the API and its version, both of which stand in it, so `decode_request_header` is told by the table.
An unknown API key, and an unknown version of ApiVersions, is read up to the client id and left for the listener to answer.
"""

from struct import Struct

from msgspec import Struct as Record

from penstock.codec.errors import CodecError, bad_length, cut_short, not_text
from penstock.codec.kafka.apis import api_for
from penstock.codec.primitives import skip_tagged_fields

_unpack_request = Struct(">hhih").unpack_from
_pack_request = Struct(">hhih").pack
_pack_correlation = Struct(">i").pack
_unpack_correlation = Struct(">i").unpack_from
_REQUEST_BYTES_MIN = 10
_TAGS = "RequestHeader tagged fields"


class RequestHeader(Record, gc=False):
    """What precedes a request's body. `client_id` is None where the client sent null."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None


def decode_request_header(frame: memoryview, position: int = 0) -> tuple[RequestHeader, int]:
    """Read the header. Returns it and the position of the body.

    Header version 2 is expected where the table says that the API is flexible in this version. For a version above the served ones the
    body, and so the tagged fields, cannot be understood anyway; the position then is that behind the client id.
    """
    limit = len(frame)
    if limit - position < _REQUEST_BYTES_MIN:
        raise cut_short("RequestHeader", position, _REQUEST_BYTES_MIN, limit)
    key, version, correlation_id, length = _unpack_request(frame, position)
    position += _REQUEST_BYTES_MIN
    client_id: str | None = None
    if length != -1:
        end = position + length
        if end < position or end > limit:
            raise bad_length("RequestHeader.client_id", position, length, limit)
        try:
            client_id = frame[position:end].tobytes().decode()
        except UnicodeDecodeError as error:
            raise not_text("RequestHeader.client_id", position, error) from error
        position = end
    api = api_for(key)
    if api is not None and api.first_flexible <= version <= api.maximum:
        if position >= limit:
            raise cut_short(_TAGS, position, 1, limit)
        position = position + 1 if frame[position] == 0 else skip_tagged_fields(frame, position, limit, _TAGS)
    return RequestHeader(key, version, correlation_id, client_id), position


def encode_request_header(header: RequestHeader, header_version: int) -> bytes:
    """The bytes of a request's header, version 1 or 2."""
    if header_version not in (1, 2):
        raise CodecError(f"request header version {header_version} is not known: only 1 and 2 are written")
    text = b"" if header.client_id is None else header.client_id.encode()
    length = -1 if header.client_id is None else len(text)
    tags = b"\0" if header_version == 2 else b""
    return _pack_request(header.api_key, header.api_version, header.correlation_id, length) + text + tags


def encode_response_header(correlation_id: int, header_version: int) -> bytes:
    """The bytes of a response's header: the correlation id, and in version 1 an empty section of tagged fields."""
    return _pack_correlation(correlation_id) + b"\0" if header_version else _pack_correlation(correlation_id)


def decode_response_header(frame: memoryview, position: int, header_version: int) -> tuple[int, int]:
    """Read a response's header, for clients. Returns (correlation id, position of the body)."""
    limit = len(frame)
    needed = 5 if header_version else 4
    if limit - position < needed:
        raise cut_short("ResponseHeader", position, needed, limit)
    (correlation_id,) = _unpack_correlation(frame, position)
    position += 4
    if header_version:
        position = skip_tagged_fields(frame, position, limit, "ResponseHeader tagged fields")
    return correlation_id, position
