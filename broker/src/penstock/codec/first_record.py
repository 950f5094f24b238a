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
    """Whether the first record's headers may have `text` somewhere; costs half of reading them. True where that cannot be
    told."""
    try:
        _, _, position, end = _layout(data)
        return data[position] != 0 and text in bytes(data[position:end])
    except (CodecError, IndexError):
        return True


def first_record(data: bytes | memoryview) -> FirstRecord:
    """The first record of an opened batch. Raises `CodecError` where it cannot be read within the bounds."""
    try:
        return _read(data)
    except IndexError as error:
        raise CodecError(f"{_WHERE} ends after the last byte that was looked at") from error


def _read(data: bytes | memoryview) -> FirstRecord:
    key_at, key_bytes, position, end = _layout(data)
    key = bytes(data[key_at : key_at + key_bytes]) if 0 <= key_bytes <= KEY_BYTES_MAX else None
    return FirstRecord(key, bytes(data[position:end]))


def _layout(data: bytes | memoryview) -> tuple[int, int, int, int]:
    """(where the key begins, its length or less than 0 for null, where the headers begin, where they end). Raises `CodecError`
    and IndexError."""
    length, position = varint(data, 0, len(data), _WHERE)
    end = position + length
    if length < 0 or end > len(data):
        raise CodecError(f"{_WHERE}: its length is {length}, but {len(data) - position} bytes are there")
    # Behind the attributes, of which none is in use. The first record's distances in time and offset are 0 as a rule.
    if data[position + 1] or data[position + 2]:
        _, position = varlong(data, position + 1, end, _WHERE)
        _, position = varint(data, position, end, _WHERE)
    else:
        position += 3
    key_bytes, key_at = varint(data, position, end, _WHERE)
    value_bytes, position = varint(data, key_at + max(key_bytes, 0), end, _WHERE)
    position += max(value_bytes, 0)
    if not 0 < end - position <= HEADERS_BYTES_MAX:
        raise CodecError(f"{_WHERE}: {end - position} bytes are left for its headers")
    return key_at, key_bytes, position, end


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
