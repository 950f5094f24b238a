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


def packed_headers(data: bytes | memoryview) -> bytes | None:
    """The first record's headers as they lie there, which begins with their count; costs half of `first_record`. None where
    they cannot be read within the bounds."""
    try:
        _, _, position, end = _layout(data)
    except (CodecError, IndexError):
        return None
    return bytes(data[position:end])


def headers_region(batch: memoryview) -> tuple[int, int]:
    """Where in an uncompressed batch, all of which this is, the end of its first record lies, in which its headers are if they can
    be read at all; much cheaper to find than the headers. Raises `CodecError` and IndexError."""
    low = batch[HEADER_SIZE]
    if low >= 0x80 and (high := batch[HEADER_SIZE + 1]) < 0x80:
        end = HEADER_SIZE + 2 + ((low & 0x7F | high << 7) >> 1)
    else:
        length, position = varint(batch, HEADER_SIZE, len(batch), _WHERE)
        end = max(position + length, HEADER_SIZE)
    begin = end - HEADERS_BYTES_MAX
    return begin if begin > HEADER_SIZE else HEADER_SIZE, end


def lone_header(packed: bytes, name: bytes) -> bytes | None:
    """The value of the only header that there is, where its name is `name` and both are shorter than 64 bytes; None where
    there are others, or it has to be read to be told."""
    value_at = len(name) + 3
    if packed[0] != 2 or packed[1] != len(name) * 2 or len(packed) < value_at:
        return None
    if packed[2 : value_at - 1] != name or packed[value_at - 1] != (len(packed) - value_at) * 2:
        return None
    return packed[value_at:]


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
    # Lengths of one and two bytes are by far the most; this is asked of every batch.
    low = data[0]
    if low >= 0x80 and (high := data[1]) < 0x80:
        length, position = low & 0x7F | high << 7, 2
        length = length >> 1 ^ -(length & 1)
    else:
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
    position = key_at + key_bytes if key_bytes > 0 else key_at
    low = data[position]
    if low >= 0x80 and (high := data[position + 1]) < 0x80:
        value_bytes, position = low & 0x7F | high << 7, position + 2
        value_bytes = value_bytes >> 1 ^ -(value_bytes & 1)
    else:
        value_bytes, position = varint(data, position, end, _WHERE)
    if value_bytes > 0:
        position += value_bytes
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
