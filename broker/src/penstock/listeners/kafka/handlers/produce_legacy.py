"""Produce versions 0 to 2: advertised, never served.

librdkafka drops compression silently when a broker's first Produce version is not 0 (KAFKA-18659), so they are in the
advertised range. A client that does use one carries messages in a format older than record batches: each partition is
answered with UNSUPPORTED_VERSION. The generator has no schema for these versions, so they are read here by hand.

Request: acks int16, timeout int32, topics [name string, partitions [index int32, records bytes]]. Response: topics
[name, partitions [index int32, error int16, base offset int64, (v2) append time int64]], (v1+) throttle time int32.
"""

from __future__ import annotations

import struct

from penstock.codec.errors import CodecError
from penstock.codec.limits import REQUEST_ELEMENTS_MAX
from penstock.listeners.kafka.errors import PeerFaultError
from penstock.model.errors import ErrorCode

_acks_and_count = struct.Struct(">hii")
_short = struct.Struct(">h")
_int = struct.Struct(">i")
_index_and_length = struct.Struct(">ii")
_partition = struct.Struct(">ihq")
_append_time = struct.Struct(">q")


class _Reader:
    """Reads fields in order and raises CodecError where they do not fit the frame."""

    def __init__(self, frame: memoryview, position: int) -> None:
        self._frame = frame
        self._position = position
        self._elements = 0

    def fields(self, layout: struct.Struct) -> tuple[int, ...]:
        self._need(layout.size)
        values: tuple[int, ...] = layout.unpack_from(self._frame, self._position)
        self._position += layout.size
        return values

    def skip(self, length: int) -> memoryview:
        """Steps over `length` bytes and returns them; -1 is null and empty."""
        if length < -1:
            raise CodecError(f"ProduceRequest: the length before byte {self._position} is {length}")
        if length == -1:
            return self._frame[:0]
        self._need(length)
        self._position += length
        return self._frame[self._position - length : self._position]

    def count(self, count: int, element_bytes: int) -> range:
        self._elements += max(count, 0)
        if count < 0 or self._elements > REQUEST_ELEMENTS_MAX:
            raise CodecError(f"ProduceRequest: an array of {count} elements before byte {self._position}")
        self._need(count * element_bytes)
        return range(count)

    def end(self) -> None:
        if self._position != len(self._frame):
            raise CodecError(f"ProduceRequest ends at byte {self._position}, its frame goes on")

    def _need(self, length: int) -> None:
        left = len(self._frame) - self._position
        if length > left:
            raise CodecError(
                f"ProduceRequest: {length} bytes are needed at byte {self._position}, but {left} are left"
            )


def refuse_legacy_produce(frame: memoryview, position: int, version: int) -> bytes:
    """The response's body. Raises CodecError for bytes that are no such request, PeerFaultError for acks=0."""
    reader = _Reader(frame, position)
    acks, _timeout_ms, topics = reader.fields(_acks_and_count)
    body = bytearray(_int.pack(topics))
    for _ in reader.count(topics, 6):
        (length,) = reader.fields(_short)
        name = reader.skip(max(length, 0))
        (partitions,) = reader.fields(_int)
        body += _short.pack(len(name)) + bytes(name) + _int.pack(partitions)
        for _ in reader.count(partitions, 8):
            index, size = reader.fields(_index_and_length)
            reader.skip(size)
            body += _partition.pack(index, ErrorCode.UNSUPPORTED_VERSION, -1)
            if version >= 2:
                body += _append_time.pack(-1)
    reader.end()
    if acks == 0:
        raise PeerFaultError(
            f"a Produce version {version} request with acks=0 came; record batches need version 3 or later"
        )
    if version >= 1:
        body += _int.pack(0)
    return bytes(body)
