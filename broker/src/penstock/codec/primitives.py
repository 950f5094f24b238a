"""Variable-length integers and tagged fields of the Kafka protocol.

Generated code handles the common case of a one-byte length in line and calls these functions for the rest, so each takes the position
of the first byte and a `limit` behind which nothing may be read. All raise `CodecError`; `where` names the field in it.

Encoding: KIP-482 (flexible versions) for unsigned variable-length integers and tagged fields; records use the zigzag form.
"""

import struct
from collections.abc import Sequence
from typing import TypeAlias

from penstock.codec.errors import CodecError, bad_length, cut_short
from penstock.codec.limits import STRING_BYTES_MAX

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes in any form; a memoryview must be one-dimensional with items of one byte."""

Records: TypeAlias = Buffer | Sequence[Buffer]
"""The value of a records field: one buffer, or several that follow each other on the wire."""

ZERO_UUID = bytes(16)

# What Python raises for a value that does not fit its field: a number out of range, null, text with a lone surrogate.
ENCODE_ERRORS = (struct.error, AttributeError, TypeError, UnicodeEncodeError)

_INT32_SIGN = 1 << 31
_INT64_SIGN = 1 << 63


def unsigned_varint(
    buffer: bytes | memoryview, position: int, limit: int, rest: int, where: str
) -> tuple[int, int]:
    """Read an unsigned 32-bit integer of one to five bytes, after which at least `rest` bytes must be left. Returns (value, position)."""
    # Lengths of two and three bytes (up to 2 MiB) are common in front of records, so they are read without the loop.
    if limit - position >= 3 + rest:
        low = buffer[position]
        middle = buffer[position + 1]
        if low >= 0x80:
            if middle < 0x80:
                return low & 0x7F | middle << 7, position + 2
            high = buffer[position + 2]
            if high < 0x80:
                return low & 0x7F | (middle & 0x7F) << 7 | high << 14, position + 3
    value = 0
    for shift in (0, 7, 14, 21, 28):
        if position >= limit:
            raise cut_short(where, position, 1, limit)
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > 0xFFFFFFFF:
                break
            if limit - position < rest:
                raise cut_short(where, position, rest, limit)
            return value, position
    raise CodecError(
        f"{where}: the variable-length integer that ends at byte {position} has more than 32 bits"
    )


def text_length(
    buffer: bytes | memoryview, position: int, limit: int, rest: int, where: str
) -> tuple[int, int]:
    """Read the length prefix (length + 1) of a compact string and refuse what is over `STRING_BYTES_MAX`. Returns (prefix, position)."""
    prefix, position = unsigned_varint(buffer, position, limit, rest, where)
    if prefix > STRING_BYTES_MAX + 1:
        raise CodecError(
            f"{where}: the string at byte {position} has {prefix - 1} bytes, more than {STRING_BYTES_MAX}"
        )
    return prefix, position


def tagged_field_header(
    buffer: bytes | memoryview, position: int, limit: int, where: str
) -> tuple[int, int, int]:
    """Read tag and size of one tagged field. Returns (tag, position of the value, end of the value), the end within `limit`."""
    tag, position = unsigned_varint(buffer, position, limit, 1, where)
    size, position = unsigned_varint(buffer, position, limit, 0, where)
    end = position + size
    if end > limit:
        raise bad_length(f"{where}: tagged field {tag}", position, size, limit)
    return tag, position, end


def skip_tagged_fields(buffer: bytes | memoryview, position: int, limit: int, where: str) -> int:
    """Step over a section of tagged fields, none of which is known; `position` is that of its count. Returns the end of the section."""
    count, position = unsigned_varint(buffer, position, limit, 0, where)
    # Each field takes two bytes or more, so a false count ends at the limit soon.
    for _ in range(count):
        _, _, position = tagged_field_header(buffer, position, limit, where)
    return position


def write_unsigned_varint(chunk: bytearray, value: int) -> None:
    """Append an unsigned 32-bit integer in one to five bytes."""
    if 0x80 <= value < 0x4000:
        chunk += bytes((value & 0x7F | 0x80, value >> 7))
        return
    if not 0 <= value <= 0xFFFFFFFF:
        raise CodecError(f"{value} does not fit an unsigned 32-bit variable-length integer")
    while value >= 0x80:
        chunk.append(value & 0x7F | 0x80)
        value >>= 7
    chunk.append(value)


def write_text_length(chunk: bytearray, prefix: int, where: str) -> None:
    """Append the length prefix (length + 1, 0 for null) of a compact string; refuse a string over `STRING_BYTES_MAX` bytes."""
    if prefix > STRING_BYTES_MAX + 1:
        raise CodecError(f"{where}: the string has {prefix - 1} bytes, more than {STRING_BYTES_MAX}")
    write_unsigned_varint(chunk, prefix)


def write_tagged_fields(chunk: bytearray, fields: list[tuple[int, bytearray]]) -> None:
    """Append a section of tagged fields, given as (tag, encoded value) in ascending order of tags."""
    write_unsigned_varint(chunk, len(fields))
    for tag, value in fields:
        write_unsigned_varint(chunk, tag)
        write_unsigned_varint(chunk, len(value))
        chunk += value


def varint(buffer: bytes | memoryview, position: int, limit: int, where: str) -> tuple[int, int]:
    """Read a zigzag 32-bit integer. Returns (value, position)."""
    if position < limit:
        byte = buffer[position]
        if byte < 0x80:
            return (byte >> 1) ^ -(byte & 1), position + 1
    raw, position = unsigned_varint(buffer, position, limit, 0, where)
    return (raw >> 1) ^ -(raw & 1), position


def varlong(buffer: bytes | memoryview, position: int, limit: int, where: str) -> tuple[int, int]:
    """Read a zigzag 64-bit integer of one to ten bytes. Returns (value, position)."""
    raw = 0
    for shift in range(0, 70, 7):
        if position >= limit:
            raise cut_short(where, position, 1, limit)
        byte = buffer[position]
        position += 1
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            if raw >= 1 << 64:
                break
            return (raw >> 1) ^ -(raw & 1), position
    raise CodecError(
        f"{where}: the variable-length integer that ends at byte {position} has more than 64 bits"
    )


def write_varint(chunk: bytearray, value: int) -> None:
    """Append a zigzag 32-bit integer."""
    if not -_INT32_SIGN <= value < _INT32_SIGN:
        raise CodecError(f"{value} does not fit a signed 32-bit variable-length integer")
    raw = (value << 1) ^ (value >> 31)
    if raw < 0x80:
        chunk.append(raw)
    else:
        write_unsigned_varint(chunk, raw)


def write_varlong(chunk: bytearray, value: int) -> None:
    """Append a zigzag 64-bit integer."""
    if not -_INT64_SIGN <= value < _INT64_SIGN:
        raise CodecError(f"{value} does not fit a signed 64-bit variable-length integer")
    raw = (value << 1) ^ (value >> 63)
    while raw >= 0x80:
        chunk.append(raw & 0x7F | 0x80)
        raw >>= 7
    chunk.append(raw)
