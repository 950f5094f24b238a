"""The compressions of record batches: none, gzip, snappy, lz4 and zstd, by Kafka's numbers.

The broker passes batches through as they came; only what looks at single records (the HTTP API, the command line, filters, tests) comes
here. Every result is bounded, so that a small batch cannot become a large memory. The libraries are imported when first needed: gzip is
Python's own, the others come with the extra `penstock[compression]`.
"""

import zlib
from collections.abc import Callable
from enum import IntEnum
from importlib import import_module
from types import ModuleType
from typing import Any

from penstock.codec.errors import CodecError
from penstock.codec.limits import DECOMPRESSED_BYTES_MAX, ZSTD_WINDOW_LOG_MAX
from penstock.codec.primitives import Buffer
from penstock.codec.snappy_frames import compress_snappy, decompress_snappy, first_snappy_block

_GZIP_WINDOW_BITS = 31  # Zlib's number for a gzip header around a window of 32 KiB.


class Compression(IntEnum):
    """Kafka's numbers, as they stand in the lowest three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def compress(compression: Compression, data: Buffer) -> bytes:
    """Compress the records of a batch at the library's default level, in the framing that Kafka's own clients read."""
    match compression:
        case Compression.NONE:
            return bytes(data)
        case Compression.GZIP:
            compressor = zlib.compressobj(wbits=_GZIP_WINDOW_BITS)
            return compressor.compress(data) + compressor.flush()
        case Compression.SNAPPY:
            return compress_snappy(_library(compression, "cramjam"), data)
        case Compression.LZ4:
            # Kafka's Java reader refuses frames whose blocks depend on each other.
            packed: bytes = _library(compression, "lz4.frame").compress(
                data, block_linked=False, store_size=False
            )
            return packed
        case Compression.ZSTD:
            frame: bytes = _zstd().compress(data)
            return frame


def decompress(compression: int, data: Buffer, bytes_max: int = DECOMPRESSED_BYTES_MAX) -> bytes:
    """Decompress the records of a batch. Raises `CodecError` for an unknown number, damaged data, or more than `bytes_max` bytes."""
    function = _DECOMPRESS.get(compression)
    if function is None:
        raise _unknown(compression)
    return function(data, bytes_max)


def _unknown(compression: int) -> CodecError:
    return CodecError(
        f"compression {compression} is not known: Kafka has 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd"
    )


def decompress_start(compression: int, data: Buffer, bytes_max: int) -> bytes:
    """At most the first `bytes_max` bytes, without the rest being decompressed; what is damaged behind them is not noticed. Raises
    `CodecError` as `decompress` does, and for a snappy block that is larger: it can only be decompressed whole."""
    match compression:
        case Compression.NONE:
            return bytes(data[:bytes_max])
        case Compression.GZIP:
            try:
                # Deflate adds next to nothing to what it cannot compress: so much input is enough for so much output.
                return zlib.decompressobj(wbits=_GZIP_WINDOW_BITS).decompress(data[:bytes_max], bytes_max)
            except zlib.error as error:
                raise _damaged("gzip", error) from error
        case Compression.SNAPPY:
            return first_snappy_block(_library(Compression.SNAPPY, "cramjam"), data, bytes_max)
        case Compression.LZ4:
            return _start(
                "lz4",
                _library(Compression.LZ4, "lz4.frame").LZ4FrameDecompressor(),
                data,
                bytes_max,
                RuntimeError,
            )
        case Compression.ZSTD:
            zstd = _zstd()
            return _start("zstd", _zstd_decompressor(zstd), data, bytes_max, zstd.ZstdError)
    raise _unknown(compression)


def _start(name: str, decompressor: Any, data: Buffer, bytes_max: int, failure: type[Exception]) -> bytes:
    if len(data) == 0:
        raise _damaged(name, "the stream is empty")
    try:
        start: bytes = decompressor.decompress(data, bytes_max)
    except failure as error:
        raise _damaged(name, error) from error
    return start


def _plain(data: Buffer, bytes_max: int) -> bytes:
    if len(data) > bytes_max:
        raise _too_large("these", bytes_max)
    return bytes(data)


def _gzip(data: Buffer, bytes_max: int) -> bytes:
    # A gzip stream may consist of several members, one after the other.
    parts: list[bytes] = []
    size = 0
    remaining = data
    while len(remaining) > 0:
        decompressor = zlib.decompressobj(wbits=_GZIP_WINDOW_BITS)
        try:
            part = decompressor.decompress(remaining, bytes_max - size + 1)
        except zlib.error as error:
            raise _damaged("gzip", error) from error
        size += len(part)
        if size > bytes_max:
            raise _too_large("gzip", bytes_max)
        if not decompressor.eof:
            raise _damaged("gzip", "the stream ends too early")
        parts.append(part)
        remaining = decompressor.unused_data
    return b"".join(parts)


def _snappy(data: Buffer, bytes_max: int) -> bytes:
    return decompress_snappy(_library(Compression.SNAPPY, "cramjam"), data, bytes_max)


def _lz4(data: Buffer, bytes_max: int) -> bytes:
    decompressor = _library(Compression.LZ4, "lz4.frame").LZ4FrameDecompressor()
    return _stream("lz4", decompressor, data, bytes_max, RuntimeError)


def _zstd_stream(data: Buffer, bytes_max: int) -> bytes:
    zstd = _zstd()
    return _stream("zstd", _zstd_decompressor(zstd), data, bytes_max, zstd.ZstdError)


def _zstd_decompressor(zstd: ModuleType) -> Any:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX})


def _stream(name: str, decompressor: Any, data: Buffer, bytes_max: int, failure: type[Exception]) -> bytes:
    """Run one of the two libraries whose decompressor objects follow Python's `bz2`."""
    if len(data) == 0:
        raise _damaged(name, "the stream is empty")
    try:
        result: bytes = decompressor.decompress(data, bytes_max + 1)
    except failure as error:
        raise _damaged(name, error) from error
    if len(result) > bytes_max:
        raise _too_large(name, bytes_max)
    if not decompressor.eof:
        raise _damaged(name, "the stream ends too early")
    if decompressor.unused_data:
        raise _damaged(name, f"{len(decompressor.unused_data)} bytes follow the end of the stream")
    return result


_DECOMPRESS: dict[int, Callable[[Buffer, int], bytes]] = {
    Compression.NONE: _plain,
    Compression.GZIP: _gzip,
    Compression.SNAPPY: _snappy,
    Compression.LZ4: _lz4,
    Compression.ZSTD: _zstd_stream,
}


def _zstd() -> ModuleType:
    try:
        return import_module("compression.zstd")  # Python 3.14 and later.
    except ImportError:
        return _library(Compression.ZSTD, "backports.zstd")


def _library(compression: Compression, name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise CodecError(
            f"{compression.name.lower()} records cannot be read or written here: install penstock[compression]"
        ) from error


def _damaged(name: str, cause: object) -> CodecError:
    return CodecError(f"{name} records are damaged: {cause}")


def _too_large(name: str, bytes_max: int) -> CodecError:
    return CodecError(
        f"{name} records have more than {bytes_max} bytes when decompressed, which is the limit here"
    )
