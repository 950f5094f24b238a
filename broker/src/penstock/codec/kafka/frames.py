"""Frames: each request and response is preceded by its length, four bytes, signed, big-endian.

`FrameReader` cuts a byte stream, in whatever pieces it arrives, into frames. A length is judged before anything is kept for it, and
memory grows only with bytes that have arrived. A frame that lies whole in one piece is a view of that piece, not a copy.
"""

from collections.abc import Iterable
from struct import Struct

from penstock.codec.errors import CodecError
from penstock.codec.primitives import Buffer

_pack_length = Struct(">i").pack
_unpack_length = Struct(">i").unpack_from
LENGTH_BYTES = 4


def frame_prefix(parts: Iterable[Buffer]) -> bytes:
    """The length that goes before these buffers."""
    return _pack_length(sum(map(len, parts)))


class FrameReader:
    """Cuts a stream into frames of at most `frame_bytes_max` bytes, their length prefixes not counted."""

    __slots__ = ("_frame_bytes_max", "_partial", "_wanted")

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        # Bytes of the frame that is not complete yet, its prefix included, and how many it will have; 0 while the prefix is not.
        self._partial = bytearray()
        self._wanted = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes that are kept because their frame is not complete."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[memoryview]:
        """Take the next bytes of the stream. Returns the frames that are complete now, without their prefixes, in order.

        Raises `CodecError` for a negative or too large length. The stream cannot be read on after that: close the connection.
        """
        frames: list[memoryview] = []
        view = memoryview(data)
        position = self._complete_partial(view, frames) if self._partial else 0
        limit = len(view)
        while limit - position >= LENGTH_BYTES:
            end = position + LENGTH_BYTES + self._length(view, position)
            if end > limit:
                break
            frames.append(view[position + LENGTH_BYTES : end])
            position = end
        if position < limit:
            # Either there was no unfinished frame, or it was finished above.
            self._partial += view[position:]
            if limit - position >= LENGTH_BYTES:
                self._wanted = LENGTH_BYTES + self._length(self._partial, 0)
        return frames

    def _complete_partial(self, view: memoryview, frames: list[memoryview]) -> int:
        """Add to the unfinished frame what belongs to it. Returns the number of bytes taken from `view`."""
        position = 0
        if not self._wanted:
            position = min(LENGTH_BYTES - len(self._partial), len(view))
            self._partial += view[:position]
            if len(self._partial) < LENGTH_BYTES:
                return position
            self._wanted = LENGTH_BYTES + self._length(self._partial, 0)
        end = min(position + self._wanted - len(self._partial), len(view))
        self._partial += view[position:end]
        if len(self._partial) == self._wanted:
            frames.append(memoryview(self._partial)[LENGTH_BYTES:])
            self._partial = bytearray()
            self._wanted = 0
        return end

    def _length(self, buffer: Buffer, position: int) -> int:
        length: int = _unpack_length(buffer, position)[0]
        if not 0 <= length <= self._frame_bytes_max:
            raise CodecError(
                f"a frame of {length} bytes was announced; frames have 0 to {self._frame_bytes_max} bytes. "
                "Either this is not the Kafka protocol, or the client's limit is higher than the broker's"
            )
        return length
