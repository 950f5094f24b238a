"""What the data API takes and gives, as the structs that decode, encode and document it.

A message's key, value and header values are bytes. In JSON they are one of three things: a string (the text, UTF-8),
`{"json": …}` (any JSON value, kept as it was written) or `{"base64": "…"}` (any bytes); null is no key, or a value
that deletes. What a fetch answers has the same shape, so that it can be posted back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from penstock.listeners.http.limits import (
    FETCH_BYTES_DEFAULT,
    FETCH_BYTES_MAX,
    FETCH_MESSAGES_DEFAULT,
    FETCH_MESSAGES_MAX,
    FETCH_WAIT_MS_MAX,
    HEADERS_PER_MESSAGE_MAX,
    MESSAGES_PER_REQUEST_MAX,
)

Acks = Literal["all", "leader", "none"]
Format = Literal["auto", "text", "json", "base64"]
PartitionNumber = Annotated[int, Meta(ge=0, le=2**31 - 1)]
OffsetNumber = Annotated[int, Meta(ge=0, le=2**63 - 1)]
TimestampMs = Annotated[int, Meta(ge=0, le=2**53)]
Instant = Annotated[datetime, Meta(tz=True)]


class EncodedContent(msgspec.Struct, forbid_unknown_fields=True):
    """Bytes that are not plain text: exactly one of `json` and `base64`."""

    json: msgspec.Raw | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET


Content = str | EncodedContent | None


class NewMessage(msgspec.Struct, forbid_unknown_fields=True):
    """One message to be produced. `headers` is an object, or a list of pairs where a name comes more than once;
    `timestamp` is milliseconds since the epoch or RFC 3339, now when left out; without `partition` the key decides."""

    value: Content
    key: Content = None
    headers: (
        Annotated[dict[str, Content], Meta(max_length=HEADERS_PER_MESSAGE_MAX)]
        | Annotated[list[tuple[str, Content]], Meta(max_length=HEADERS_PER_MESSAGE_MAX)]
    ) = {}
    partition: PartitionNumber | None = None
    timestamp: TimestampMs | Instant | None = None


class ProduceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Messages for one topic. `acks`: answer when every in-sync copy has them, when the leader has them, or at once."""

    messages: Annotated[list[NewMessage], Meta(min_length=1, max_length=MESSAGES_PER_REQUEST_MAX)]
    acks: Acks = "all"


class ProduceQuery(msgspec.Struct, forbid_unknown_fields=True):
    """For a raw body: the rest of the one message that the body is the value of."""

    raw: Annotated[
        bool,
        Meta(
            description="The body is the message itself although it is application/json (text/plain and "
            "application/octet-stream always are)."
        ),
    ] = False
    key: Annotated[str | None, Meta(description="Raw body: the message's key, as text.")] = None
    header: Annotated[
        list[str], Meta(max_length=100, description="Raw body: a header, name:value; may be repeated.")
    ] = []
    partition: Annotated[
        PartitionNumber | None, Meta(description="Raw body: the partition; the key decides when left out.")
    ] = None
    timestamp: Annotated[
        TimestampMs | Instant | None,
        Meta(description="Raw body: milliseconds since the epoch, or RFC 3339; now when left out."),
    ] = None
    acks: Annotated[Acks | None, Meta(description="Raw body: all (when left out), leader or none.")] = None


class StoredAt(msgspec.Struct):
    """Where one message is. `offset` is null when nothing was waited for (acks none), or when it was not stored;
    `code` then names the error."""

    partition: int
    offset: int | None
    code: str | UnsetType = UNSET


class ProduceReply(msgspec.Struct):
    """One entry per message, in the order they were sent."""

    offsets: list[StoredAt]


class FetchQuery(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Where to read a partition, and how much."""

    offset: Annotated[str, Meta(description="A number, `earliest`, `latest` or an RFC 3339 time.")] = (
        "earliest"
    )
    limit: Annotated[int, Meta(ge=1, le=FETCH_MESSAGES_MAX, description="Messages at most.")] = (
        FETCH_MESSAGES_DEFAULT
    )
    max_bytes: Annotated[
        int,
        Meta(ge=1, le=FETCH_BYTES_MAX, description="Bytes read at most (a first larger batch comes whole)."),
    ] = FETCH_BYTES_DEFAULT
    wait_ms: Annotated[
        int, Meta(ge=0, le=FETCH_WAIT_MS_MAX, description="How long to wait when there is nothing yet.")
    ] = 0
    format: Annotated[
        Format,
        Meta(
            description="auto: text where it is UTF-8, else base64; json: JSON where it is, else auto; text: always "
            "text, undecodable bytes replaced; base64: always base64."
        ),
    ] = "auto"


class BrowseQuery(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Where to read a topic over all its partitions, and how much."""

    start: Annotated[
        str | None,
        Meta(description="`earliest` (when left out), `latest` or an RFC 3339 time; not with `next`."),
    ] = msgspec.field(default=None, name="from")
    next: Annotated[str | None, Meta(description="The cursor of the answer before: goes on from there.")] = (
        None
    )
    limit: Annotated[int, Meta(ge=1, le=FETCH_MESSAGES_MAX, description="Messages at most.")] = (
        FETCH_MESSAGES_DEFAULT
    )
    wait_ms: Annotated[
        int, Meta(ge=0, le=FETCH_WAIT_MS_MAX, description="How long to wait when there is nothing yet.")
    ] = 0
    format: Annotated[Format, Meta(description="As for one partition.")] = "auto"


class ContentOut(msgspec.Struct, omit_defaults=True):
    """Content that is not plain text: exactly one of the two."""

    json: msgspec.Raw | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET


class Message(msgspec.Struct):
    """One message as it is stored. `timestamp` is milliseconds since the epoch; `headers` an object, or a list of
    pairs where a name comes more than once."""

    partition: int
    offset: int
    timestamp: int
    key: str | ContentOut | None
    value: str | ContentOut | None
    headers: dict[str, str | ContentOut | None] | list[tuple[str, str | ContentOut | None]]


class FetchReply(msgspec.Struct, rename="camel"):
    """Messages of one partition; `nextOffset` is where to go on, `highWatermark` the end, `logStart` the beginning."""

    messages: list[Message]
    next_offset: int
    high_watermark: int
    log_start: int


class BrowseReply(msgspec.Struct):
    """Messages of all partitions, merged by timestamp as far as was read; `next` goes on after them, `atEnd` says that
    there was nothing behind them."""

    messages: list[Message]
    next: str
    at_end: bool = msgspec.field(name="atEnd")


class DataTopic(msgspec.Struct):
    """A topic as producers and consumers care for it."""

    name: str
    partitions: int
    internal: bool
    messages: int
    bytes: int


class DataTopicList(msgspec.Struct):
    topics: list[DataTopic]


class DataPartition(msgspec.Struct, rename="camel"):
    partition: int
    log_start: int
    high_watermark: int


class DataTopicDetail(msgspec.Struct, rename="camel"):
    """One topic and the bounds of its partitions."""

    name: str
    partitions: int
    internal: bool
    messages: int
    bytes: int
    partition_details: list[DataPartition]
