"""Between a message's bytes and their JSON form, both ways.

Text stays text, JSON stays exactly the JSON that was written, everything else is base64. Decoding never fails: what
is not what a reader asked for is given in the next best form.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UNSET

from penstock.listeners.http.models import Content, ContentOut, Format, NewMessage
from penstock.listeners.http.problems import invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

MILLISECONDS = 1000
_RECORD_OVERHEAD_BYTES = 32
_HEADER_OVERHEAD_BYTES = 8


class OutgoingMessage(NamedTuple):
    """One message as bytes, on its way into a record batch. `size` estimates its bytes there, from above."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: int
    size: int


def content_bytes(content: Content, where: str) -> bytes | None:
    """The bytes of a key, value or header; `where` names it in the refusal."""
    if content is None:
        return None
    if isinstance(content, str):
        return utf8(content, where)
    if (content.json is UNSET) == (content.base64 is UNSET):
        raise invalid(f"{where} is an object, which has exactly one of the fields json and base64.")
    if not isinstance(content.json, msgspec.UnsetType):
        return bytes(content.json)
    assert not isinstance(content.base64, msgspec.UnsetType)
    return content.base64


def utf8(text: str, where: str) -> bytes:
    """The text's bytes; a lone surrogate, which JSON and query strings can smuggle in, is refused."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"{where} is not valid Unicode text; send it as base64.") from error


def outgoing(message: NewMessage, number: int, now_ms: int) -> OutgoingMessage:
    """One message of a produce request as bytes. `number` is its place in the request, for sentences."""
    where = f"Message {number}"
    headers = message.headers
    pairs: Iterable[tuple[str, Content]] = headers.items() if isinstance(headers, dict) else headers
    return make_message(
        key=content_bytes(message.key, f"{where}: the key"),
        value=content_bytes(message.value, f"{where}: the value"),
        headers=tuple(_header(name, value, where) for name, value in pairs),
        timestamp=timestamp_ms(message.timestamp, now_ms),
    )


def _header(name: str, value: Content, where: str) -> tuple[str, bytes | None]:
    utf8(name, f"{where}: the header's name")
    return name, content_bytes(value, f"{where}: header {name!r}")


def make_message(
    *,
    key: bytes | None,
    value: bytes | None,
    headers: tuple[tuple[str, bytes | None], ...],
    timestamp: int,
) -> OutgoingMessage:
    """A message with its size in a record batch, estimated from above."""
    size = _RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
    for name, header in headers:
        size += _HEADER_OVERHEAD_BYTES + 4 * len(name) + len(header or b"")
    return OutgoingMessage(key, value, headers, timestamp, size)


def timestamp_ms(given: int | datetime | None, now_ms: int) -> int:
    """Milliseconds since the epoch, whichever way they were given."""
    if given is None:
        return now_ms
    if isinstance(given, datetime):
        return int(given.timestamp() * MILLISECONDS)
    return given


def content_out(data: bytes | memoryview | None, form: Format) -> str | ContentOut | None:
    """Bytes of a stored message in the form that the reader asked for, or the next best one."""
    if data is None:
        return None
    data = bytes(data)
    if form == "base64":
        return ContentOut(base64=data)
    if form == "json" and _is_json(data):
        return ContentOut(json=msgspec.Raw(data))
    if form == "text":
        return data.decode(errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ContentOut(base64=data)


def headers_out(
    headers: Iterable[tuple[str, bytes | memoryview | None]], form: Format
) -> dict[str, str | ContentOut | None] | list[tuple[str, str | ContentOut | None]]:
    """Headers as an object, or as a list of pairs where a name comes more than once."""
    pairs = [(name, content_out(value, form)) for name, value in headers]
    by_name = dict(pairs)
    return by_name if len(by_name) == len(pairs) else pairs


def _is_json(data: bytes) -> bool:
    """Whether the bytes can stand in a JSON document as they are."""
    try:
        data.decode()
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
