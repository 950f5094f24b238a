"""The consensus core's messages as the brokers send them: one msgpack struct, and the entries' bytes behind it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.codec.entry import ENTRY_HEADER_SIZE, parse_entry_header
from penstock.codec.peer import KIND_CONSENSUS, Buffer, encode_frame
from penstock.raft.messages import Append, MessageError, PeerMessage
from penstock.raft.ready import Piece

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[PeerMessage] = msgspec.msgpack.Decoder(PeerMessage)


def encode_message(message: PeerMessage, entries: Sequence[Buffer] = ()) -> list[Buffer]:
    """A frame; `entries` are the bytes of an append's span, whole entries back to back."""
    return encode_frame(KIND_CONSENSUS, _encoder.encode(message), list(entries))


def decode_message(meta: memoryview, data: memoryview) -> PeerMessage:
    """The message; an append's span gets `data` as its payload. Raises MessageError."""
    try:
        message = _decoder.decode(meta)
    except msgspec.DecodeError as error:
        raise MessageError(f"a message cannot be read: {error}") from error
    if isinstance(message, Append) and message.span is not None:
        if not data:
            raise MessageError("an append announces entries and brings none")
        span = msgspec.structs.replace(message.span, payload=data)
        return msgspec.structs.replace(message, span=span)
    if data:
        raise MessageError(f"{len(data)} bytes came behind a message that has no entries")
    return message


def entries_of(piece: Piece, first: int) -> memoryview:
    """The bytes of the piece's entries from `first` on; its span's payload may hold more on either side, and was checked
    when it came."""
    payload = piece.span.payload
    assert isinstance(payload, memoryview)
    start = _position(payload, 0, first - piece.span.first)
    if piece.last == piece.span.last:
        return payload[start:]
    return payload[start : _position(payload, start, piece.last - first + 1)]


def _position(entries: memoryview, position: int, count: int) -> int:
    for _ in range(count):
        position += ENTRY_HEADER_SIZE + parse_entry_header(entries, position).length
    return position
