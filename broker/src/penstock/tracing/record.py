"""One span as a record of the topic `__trace`: what the broker writes there, and what it believes of what it reads there.

The key is the trace id as 32 hexadecimal digits, so that a trace is found by it with anything that reads Kafka; the value is
JSON with a version. Fields are only added, with defaults, so another release of the same version is read as far as it is
known; a later version is not read at all. Nothing that is read is trusted: it comes from a disk, and from releases to come.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from penstock.tracing import attributes as names
from penstock.tracing.span import Attribute, Span

TRACE_TOPIC: Final = "__trace"
"""The broker's own topic: it makes it, and it alone writes there."""

VERSION: Final = 1

TEXT_MAX: Final = 256
"""Characters of a text in a record; what is longer is cut."""

EVENTS_MAX: Final = 16
"""Events of one span that are written."""

RECORD_BYTES_MAX: Final = 32 * 1024
"""A larger value is not one of ours."""

# What has a field of its own, or is the same for every span.
_SAID_ELSEWHERE: Final = frozenset(
    {
        names.MESSAGING_SYSTEM,
        names.MESSAGING_OPERATION_NAME,
        names.MESSAGING_OPERATION_TYPE,
        names.MESSAGING_DESTINATION_NAME,
        names.MESSAGING_DESTINATION_PARTITION_ID,
        names.MESSAGING_KAFKA_OFFSET,
        names.PENSTOCK_LAST_OFFSET,
        names.PENSTOCK_EPOCH,
        names.PENSTOCK_SHARD,
    }
)

_Text = Annotated[str, Meta(max_length=4 * TEXT_MAX)]
_Number = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
# Until the year 2262.
_Time = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_SpanId = Annotated[str, Meta(pattern="^([0-9a-f]{16})?$")]


class RecordError(ValueError):
    """A record cannot be read; the text is a sentence."""


class RecordedEvent(msgspec.Struct, omit_defaults=True):
    """Something that happened to the span: `at` is in nanoseconds since 1970."""

    name: _Text
    at: _Time
    attributes: dict[_Text, Attribute] = {}


class TraceRecord(msgspec.Struct, omit_defaults=True):
    """One span. `what` is its operation, `broker` made it, times are nanoseconds since 1970. `offset` to `last` are the batch's,
    appended in leader epoch `epoch`; -1 where the batch stands nowhere. `error` is the sentence of what went wrong."""

    v: int
    what: _Text
    span: _SpanId
    broker: _Text
    shard: _Number
    topic: _Text
    partition: _Number
    start: _Time
    end: _Time
    parent: _SpanId = ""
    offset: _Number = -1
    last: _Number = -1
    epoch: _Number = -1
    error: _Text | None = None
    attributes: dict[_Text, Attribute] = {}
    events: list[RecordedEvent] = []

    def said(self, name: str) -> str:
        """An attribute as text; empty where it is not there."""
        return str(self.attributes.get(name, ""))

    def holds(self, topic: str, partition: int, offset: int) -> bool:
        """Whether a message is in the span's batch, or may be: a batch that was refused stands nowhere."""
        return (self.topic, self.partition) == (topic, partition) and (
            self.offset < 0 or self.offset <= offset <= self.last
        )


class _Version(msgspec.Struct):
    v: int


class Written(NamedTuple):
    """Key and value of a record, and its timestamp in milliseconds since 1970."""

    key: bytes
    value: bytes
    timestamp_ms: int


def trace_key(trace_id: int) -> bytes:
    """The key of all records of a trace."""
    return b"%032x" % trace_id


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(TraceRecord).decode
_decode_version = msgspec.json.Decoder(_Version).decode


def write_record(span: Span, broker: str) -> Written:
    """The record of a span that has ended."""
    said = span.attributes
    record = TraceRecord(
        VERSION,
        _text(said[names.MESSAGING_OPERATION_NAME]),
        f"{span.span_id:016x}",
        broker,
        _number(said, names.PENSTOCK_SHARD),
        _text(said[names.MESSAGING_DESTINATION_NAME]),
        int(said[names.MESSAGING_DESTINATION_PARTITION_ID]),
        span.start_ns,
        span.end_ns,
        f"{span.parent_id:016x}" if span.parent_id else "",
        _number(said, names.MESSAGING_KAFKA_OFFSET),
        _number(said, names.PENSTOCK_LAST_OFFSET),
        _number(said, names.PENSTOCK_EPOCH),
        None if span.error is None else span.error[:TEXT_MAX],
        {name: _cut(value) for name, value in said.items() if name not in _SAID_ELSEWHERE},
        [
            RecordedEvent(
                event.name, event.time_ns, {name: _cut(value) for name, value in event.attributes.items()}
            )
            for event in span.events[:EVENTS_MAX]
        ],
    )
    try:
        value = _encode(record)
    except UnicodeEncodeError:
        # A client's name over HTTP may hold what is no text; everything else was decoded strictly.
        record.attributes = {name: _plain(value) for name, value in record.attributes.items()}
        value = _encode(record)
    return Written(trace_key(span.trace_id), value, span.end_ns // 1_000_000)


def read_record(value: bytes | None) -> TraceRecord:
    """Raises RecordError for anything that this release, or another one of this version, would not have written."""
    if value is None or len(value) > RECORD_BYTES_MAX:
        raise RecordError("it is empty, or too large")
    try:
        version = _decode_version(value).v
        if version != VERSION:
            raise RecordError(f"it is of version {version}, and this release reads version {VERSION}")
        record = _decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RecordError(f"it is not an event of a trace: {error}") from error
    if record.last < record.offset or len(record.events) > EVENTS_MAX:
        raise RecordError("it contradicts itself")
    return record


def _number(said: dict[str, Attribute], name: str) -> int:
    value = said.get(name, -1)
    return value if isinstance(value, int) else -1


def _plain(value: Attribute) -> Attribute:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _cut(value: Attribute) -> Attribute:
    return value[:TEXT_MAX] if isinstance(value, str) else value


def _text(value: Attribute) -> str:
    return str(value)[:TEXT_MAX]
