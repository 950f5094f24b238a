"""The first record of a batch: its key, and its headers as they lie there. For tracing, which looks at nothing else.

No count and no length is believed beyond the bytes that are there, and how much is decompressed or copied is bounded by
names below, whatever the batch says of itself. Its value is stepped over and its other records are not touched.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct as Structure

from penstock.codec.compression import Compression, decompress_start
from penstock.codec.errors import CodecError
from penstock.codec.primitives import varint, varlong
from penstock.codec.records import read_headers
from penstock.model.record_batch import HEADER_SIZE, BatchHeader, parse_header

OPENED_BYTES_MAX = 128 * 1024
"""What is decompressed of a batch at most; a first record that ends behind it cannot be read."""

HEADERS_BYTES_MAX = 16 * 1024
"""A first record with more bytes of headers than this cannot be read."""

KEY_BYTES_MAX = 4096
"""A longer key counts as none."""

SEARCHED_BYTES_MAX = 64 * 1024
"""A first record of up to so many bytes is searched as a whole before it is taken apart."""

_WHERE = "the first record"


class FirstRecord(Structure, gc=False):
    """`key` is None where the record has none, or a very long one. `packed_headers` begins with their count; `headers` reads
    them."""

    key: bytes | None
    packed_headers: bytes

    def headers(self) -> tuple[tuple[str, bytes | None], ...]:
        """Names and values, in order. Raises `CodecError`."""
        packed = self.packed_headers
        try:
            headers, position = read_headers(packed, 0, len(packed), _WHERE)
        except IndexError as error:
            raise CodecError(f"{_WHERE}: its headers end too early") from error
        if position != len(packed):
            raise CodecError(f"{_WHERE}: {len(packed) - position} bytes follow its last header")
        return headers


def open_batch(header: BatchHeader, body: memoryview) -> bytes | memoryview:
    """The beginning of a batch's records, decompressed: what the other functions here are given. `body` is what follows its
    header. Raises `CodecError` where it cannot be decompressed within the bounds."""
    if header.compression == Compression.NONE:
        return body
    return decompress_start(header.compression, body, OPENED_BYTES_MAX)


def may_hold(data: bytes | memoryview, text: bytes) -> bool:
    """Whether the first record may have `text` somewhere; costs a fraction of reading it. True where that cannot be told."""
    try:
        length, position = varint(data, 0, len(data), _WHERE)
    except CodecError:
        return True
    if not 0 <= length <= SEARCHED_BYTES_MAX:
        return True
    return text in bytes(data[position : position + length])


def first_record(data: bytes | memoryview) -> FirstRecord:
    """The first record of an opened batch. Raises `CodecError` where it cannot be read within the bounds."""
    try:
        return _read(data)
    except IndexError as error:
        raise CodecError(f"{_WHERE} ends after the last byte that was looked at") from error


def _read(data: bytes | memoryview) -> FirstRecord:
    length, position = varint(data, 0, len(data), _WHERE)
    end = position + length
    if length < 0 or end > len(data):
        raise CodecError(f"{_WHERE}: its length is {length}, but {len(data) - position} bytes are there")
    position += 1  # Attributes, of which none is in use.
    # The first record's distances in time and offset are 0 as a rule.
    _, position = varlong(data, position, end, _WHERE) if data[position] else (0, position + 1)
    _, position = varint(data, position, end, _WHERE)
    length, position = varint(data, position, end, _WHERE)
    key_at, position = position, position + max(length, 0)
    key_end = position
    if position > end:
        raise CodecError(f"{_WHERE}: its key has {length} bytes, but {end - key_at} are left")
    key = bytes(data[key_at:key_end]) if 0 <= length <= KEY_BYTES_MAX else None
    length, position = varint(data, position, end, _WHERE)
    position += max(length, 0)
    if not 0 < end - position <= HEADERS_BYTES_MAX:
        raise CodecError(f"{_WHERE}: {end - position} bytes are left for its headers")
    return FirstRecord(key, bytes(data[position:end]))


def batch_start(buffers: Sequence[bytes | bytearray | memoryview]) -> tuple[BatchHeader, memoryview]:
    """(header, what follows it) of a whole batch in one or more buffers; copied only where the header's end lies within none
    of the boundaries of the last one."""
    if len(buffers) == 1:
        whole = memoryview(buffers[0])
        return parse_header(whole), whole[HEADER_SIZE:]
    before = sum([len(buffer) for buffer in buffers[:-1]])
    if before > HEADER_SIZE:
        whole = memoryview(b"".join(buffers))
        return parse_header(whole), whole[HEADER_SIZE:]
    last = memoryview(buffers[-1])
    missing = HEADER_SIZE - before
    head = b"".join([*buffers[:-1], last[:missing]])
    return parse_header(head), last[missing:]
