"""Frames between the brokers of one shard: a fixed header, a small msgpack part, and raw bytes of the log behind it.

Layout, little-endian: length u32 (of everything behind it), kind u8, version u8, flags u16, meta length u32, meta
CRC-32C u32; then the meta part, then data. Entries in `data` carry checksums of their own. A reader is told how long a
frame may be and never allocates more than that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from penstock.base.crc import crc32c

FRAME_VERSION = 1
KIND_HELLO = 1
KIND_REFUSED = 2
KIND_CONSENSUS = 3
KIND_SEED = 4
KIND_ASK = 5
KIND_ANSWER = 6
# Sent from feature level 2 on.
KIND_STATE = 7
KINDS = frozenset({KIND_HELLO, KIND_REFUSED, KIND_CONSENSUS, KIND_SEED, KIND_ASK, KIND_ANSWER, KIND_STATE})

_LENGTH = struct.Struct("<I")
_HEADER = struct.Struct("<BBHII")
META_BYTES_MAX = 256 * 1024
# What may come before the other side has said who it is.
GREETING_BYTES_MAX = 64 * 1024

Buffer = bytes | bytearray | memoryview


class PeerFrameError(Exception):
    """The bytes are no frame that this release can read; the text is a sentence."""


class PeerFrame(NamedTuple):
    """`meta` and `data` are views of the frame's own memory."""

    kind: int
    meta: memoryview
    data: memoryview


def encode_frame(kind: int, meta: bytes, data: tuple[Buffer, ...] | list[Buffer] = ()) -> list[Buffer]:
    """The frame as buffers; nothing of `data` is copied."""
    size = _HEADER.size + len(meta)
    for part in data:
        size += len(part)
    head = _LENGTH.pack(size) + _HEADER.pack(kind, FRAME_VERSION, 0, len(meta), crc32c(meta)) + meta
    return [head, *data]


class FrameReader:
    """Bytes in, whole frames out. `frame_bytes_max` may be raised once the other side is known."""

    def __init__(self, frame_bytes_max: int = GREETING_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._length = bytearray()
        self._frame: bytearray | None = None
        self._filled = 0

    @property
    def in_frame(self) -> bool:
        """Whether the bytes so far end inside a frame."""
        return self._frame is not None or bool(self._length)

    def feed(self, data: Buffer) -> Iterator[PeerFrame]:
        """Every frame that is whole now. Raises PeerFrameError, after which the reader must not be used."""
        rest = memoryview(data)
        while rest:
            if self._frame is None:
                if not self._length and (end := self._end_of_first(rest)) <= len(rest):
                    # Most frames come whole: these are copied once, and need no state.
                    yield _parse(memoryview(bytearray(rest[_LENGTH.size : end])))
                    rest = rest[end:]
                else:
                    rest = self._begin(rest)
                continue
            room = len(self._frame) - self._filled
            part = rest[:room]
            self._frame[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rest = rest[len(part) :]
            if self._filled == len(self._frame):
                frame, self._frame = self._frame, None
                yield _parse(memoryview(frame))

    def _end_of_first(self, data: memoryview) -> int:
        """Where the frame ends that begins there; behind the data where even its length is cut off."""
        if len(data) < _LENGTH.size:
            return len(data) + 1
        return _LENGTH.size + self._checked(_LENGTH.unpack_from(data)[0])

    def _checked(self, length: int) -> int:
        if not _HEADER.size <= length <= self.frame_bytes_max:
            raise PeerFrameError(
                f"a frame of {length} bytes was announced, {_HEADER.size} to {self.frame_bytes_max} are possible"
            )
        return length

    def _begin(self, rest: memoryview) -> memoryview:
        missing = _LENGTH.size - len(self._length)
        self._length += rest[:missing]
        if len(self._length) == _LENGTH.size:
            length = self._checked(_LENGTH.unpack(self._length)[0])
            self._length.clear()
            self._frame, self._filled = bytearray(length), 0
        return rest[missing:]


def _parse(frame: memoryview) -> PeerFrame:
    kind, version, _, meta_length, crc = _HEADER.unpack_from(frame)
    if version != FRAME_VERSION:
        raise PeerFrameError(f"frames of version {version} are not known to this release: upgrade it")
    if kind not in KINDS:
        raise PeerFrameError(f"frames of kind {kind} are not known to this release: upgrade it")
    end = _HEADER.size + meta_length
    if meta_length > META_BYTES_MAX or end > len(frame):
        raise PeerFrameError(f"a frame's description of {meta_length} bytes does not fit")
    meta = frame[_HEADER.size : end]
    if crc32c(meta) != crc:
        raise PeerFrameError("a frame's description does not match its checksum")
    return PeerFrame(kind, meta, frame[end:])
