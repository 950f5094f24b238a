"""Snappy as Kafka clients write it: the Java library's framing of blocks, or one bare block.

The framing (xerial snappy-java's `SnappyOutputStream`): a magic of eight bytes, two 32-bit versions, then blocks, each with its
compressed length before it. Some clients in other languages write one bare block instead, so both are read; the framing is written.
"""

from struct import Struct
from typing import Any

from penstock.codec.errors import CodecError
from penstock.codec.primitives import Buffer, unsigned_varint

_MAGIC = b"\x82SNAPPY\x00"
_HEADER_BYTES = 16
_HEADER = _MAGIC + b"\0\0\0\1\0\0\0\1"
_BLOCK_BYTES = 32 * 1024
_length = Struct(">i")

# The densest element copies 64 bytes and takes 3, so a block that announces more than this many times its size is damaged. Checked
# because the library allocates what is announced.
_RATIO_MAX = 22


def compress_snappy(cramjam: Any, data: Buffer) -> bytes:
    """Compress in the framing, in blocks of 32 KiB."""
    out = bytearray(_HEADER)
    view = memoryview(data)
    for start in range(0, len(view), _BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _BLOCK_BYTES].tobytes()))
        out += _length.pack(len(block))
        out += block
    return bytes(out)


def first_snappy_block(cramjam: Any, data: Buffer, bytes_max: int) -> bytes:
    """Decompress the first framed block, or one bare block, of at most `bytes_max` bytes."""
    view = memoryview(data)
    if view[: len(_MAGIC)].tobytes() != _MAGIC:
        return _block(cramjam, view, bytes_max, bytes_max)
    start = _HEADER_BYTES + _length.size
    if len(view) < start:
        raise CodecError(
            f"snappy records are damaged: they end at byte {len(view)}, before their first block"
        )
    (size,) = _length.unpack_from(view, _HEADER_BYTES)
    if not 0 < size <= len(view) - start:
        raise CodecError(
            f"snappy records are damaged: their first block has {size} bytes, but {len(view) - start} are left"
        )
    return _block(cramjam, view[start : start + size], bytes_max, bytes_max)


def decompress_snappy(cramjam: Any, data: Buffer, bytes_max: int) -> bytes:
    """Decompress framed blocks or one bare block to at most `bytes_max` bytes."""
    view = memoryview(data)
    if view[: len(_MAGIC)].tobytes() != _MAGIC:
        return _block(cramjam, view, bytes_max, bytes_max)
    out = bytearray()
    position = _HEADER_BYTES
    limit = len(view)
    if limit < position:
        raise CodecError(f"snappy records are damaged: the header has {limit} of {_HEADER_BYTES} bytes")
    while position < limit:
        if limit - position < _length.size:
            raise CodecError(
                f"snappy records are damaged: they end within the length of a block at byte {position}"
            )
        (size,) = _length.unpack_from(view, position)
        position += _length.size
        if not 0 < size <= limit - position:
            raise CodecError(
                f"snappy records are damaged: the block at byte {position} has {size} bytes, but {limit - position} are left"
            )
        out += _block(cramjam, view[position : position + size], bytes_max - len(out), bytes_max)
        position += size
    return bytes(out)


def _block(cramjam: Any, block: memoryview, left: int, bytes_max: int) -> bytes:
    """Decompress one bare block; its first bytes announce its size, which is judged before the library sees it."""
    announced, _ = unsigned_varint(block, 0, len(block), 0, "snappy records: the size of a block")
    if announced > left:
        raise CodecError(
            f"snappy records have more than {bytes_max} bytes when decompressed, which is the limit here"
        )
    if announced > _RATIO_MAX * len(block):
        raise CodecError(
            f"snappy records are damaged: a block of {len(block)} bytes announces {announced} bytes"
        )
    try:
        return bytes(cramjam.snappy.decompress_raw(block.tobytes()))
    except cramjam.DecompressionError as error:
        raise CodecError(f"snappy records are damaged: {error}") from error
