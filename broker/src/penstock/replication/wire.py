"""The consensus core's messages as the brokers send them: one msgpack struct, and the entries' bytes behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from penstock.codec.peer import KIND_CONSENSUS, Buffer, encode_frame
from penstock.raft.messages import Append, MessageError, PeerMessage, Span

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[PeerMessage] = msgspec.msgpack.Decoder(PeerMessage)


def encode_message(message: PeerMessage, entries: Sequence[Buffer] = ()) -> list[Buffer]:
    """A frame; `entries` are the bytes of an append's span, whole entries back to back."""
    return encode_frame(KIND_CONSENSUS, _encoder.encode(message), list(entries))


def _as_they_came(span: Span, data: memoryview) -> Span:
    return msgspec.structs.replace(span, payload=data)


def decode_message(
    meta: memoryview, data: memoryview, with_entries: Callable[[Span, memoryview], Span] = _as_they_came
) -> PeerMessage:
    """The message; an append's span is what `with_entries` makes of it and of `data`. Raises MessageError, as `with_entries`
    may."""
    try:
        message = _decoder.decode(meta)
    except msgspec.DecodeError as error:
        raise MessageError(f"a message cannot be read: {error}") from error
    if isinstance(message, Append) and message.span is not None:
        if not data:
            raise MessageError("an append announces entries and brings none")
        return msgspec.structs.replace(message, span=with_entries(message.span, data))
    if data:
        raise MessageError(f"{len(data)} bytes came behind a message that has no entries")
    return message
