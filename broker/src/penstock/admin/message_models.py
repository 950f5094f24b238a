"""What the admin API tells of single messages and their way: shapes beside those of `models`, under the same rules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from penstock.admin.models import Name, Wire
from penstock.listeners.http.limits import (
    FIND_MESSAGES_DEFAULT,
    FIND_MESSAGES_MAX,
    PREVIEW_BYTES_DEFAULT,
    PREVIEW_BYTES_MAX,
)
from penstock.listeners.http.models import Instant, OffsetNumber, PartitionNumber, TimestampMs

# A field is called bytes below, which hides the type.
Octets = bytes
Preview = Annotated[
    int, Meta(ge=0, le=PREVIEW_BYTES_MAX, description="How many bytes of key and value are shown.")
]

TraceId = Annotated[str, Meta(pattern="^[0-9a-fA-F]{32}$")]


class MessageQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """How much of a message is shown."""

    preview: Preview = PREVIEW_BYTES_DEFAULT


class FindQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Which messages are looked for: exactly one of `key` and `keyBase64` says of which key."""

    key: Annotated[str | None, Meta(description="The key, as text.")] = None
    key_base64: Annotated[str | None, Meta(description="The key, as base64, where it is not text.")] = None
    partition: Annotated[
        PartitionNumber | None,
        Meta(
            description="Only there; otherwise first where Kafka's default partitioner puts the key, then all others."
        ),
    ] = None
    since: Annotated[
        TimestampMs | Instant | None,
        Meta(description="Nothing older: milliseconds since the epoch, or RFC 3339."),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=FIND_MESSAGES_MAX, description="Messages at most.")] = (
        FIND_MESSAGES_DEFAULT
    )
    cursor: Annotated[
        str | None,
        Meta(description="`next` of the answer before: goes on from there, with the same key and partition."),
    ] = None
    preview: Preview = PREVIEW_BYTES_DEFAULT


class TraceQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Whose way is told: a message's (`topic`, `partition` and `offset`), or that of a trace (`id`)."""

    id: Annotated[TraceId | None, Meta(description="The trace, as 32 hexadecimal digits.")] = None
    topic: Annotated[Name | None, Meta(description="The message's topic.")] = None
    partition: Annotated[PartitionNumber | None, Meta(description="Its partition.")] = None
    offset: Annotated[OffsetNumber | None, Meta(description="Its offset.")] = None
    before: Annotated[
        OffsetNumber | None,
        Meta(description="`next` of the answer before: searches events that were written earlier."),
    ] = None
    preview: Preview = PREVIEW_BYTES_DEFAULT


class Excerpt(Wire):
    """A key, a value or a header's value of `bytes` bytes: the first of them as `text` where that is UTF-8, else as `base64`."""

    bytes: int
    text: str | None = None
    base64: Octets | None = None
    truncated: bool = False


class MessageHeader(Wire):
    """One header, in the producer's order; a name may come more than once, and a long one is cut."""

    name: str
    value: Excerpt | None


class Batch(Wire):
    """The record batch that holds a message: `bytes` are stored, its records have `uncompressedBytes`."""

    first_offset: int
    messages: int
    bytes: int
    uncompressed_bytes: int
    compression: str


class Producer(Wire):
    """The idempotent producer of a message, and the message's sequence number among those it sent to this partition."""

    id: int
    epoch: int
    sequence: int
    transactional: bool = False


class Message(Wire):
    """A stored message. `timestamp` is in milliseconds, `time` the same where it is a date at all: the producer's clock, or with
    LogAppendTime the broker's. `bytes` are those of key, value and headers. `shard` and `epoch` say who stored it, `leader` is
    that leadership's broker while it lasts and empty afterwards; `leaderEpoch` is what Kafka's clients call it. A message that is not
    `committed` is not given to consumers yet, and may be lost."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    time: datetime | None
    timestamp_type: Literal["CreateTime", "LogAppendTime"]
    key: Excerpt | None
    value: Excerpt | None
    headers: list[MessageHeader]
    header_count: int
    bytes: int
    batch: Batch
    producer: Producer | None
    shard: int
    epoch: int
    leader_epoch: int
    leader: str
    committed: bool


class GroupReading(Wire):
    """A group that committed a position in the message's partition. It `read` the message when `position` lies behind it; otherwise
    `ahead` messages come before it. `lag` is what the group has not read of all that is committed; `committedAt` is when
    it committed its position last, so it read the message by then."""

    group: str
    state: str
    position: int
    read: bool
    ahead: int
    lag: int
    committed_at: datetime | None


class MessageDetail(Message):
    """A message with the bounds of its partition and the groups that read there; of more than are shown, `groupCount` says how many."""

    log_start: int
    high_watermark: int
    end_offset: int
    groups: list[GroupReading]
    group_count: int


class FoundMessages(Wire):
    """Messages of a key, newest first within a partition. Without `next` everything was searched. What this request looked at is
    told in `scanned…`; `partitionsDone` of `partitionCount` were searched altogether. Batches that cannot be read are `unreadable`."""

    messages: list[Message]
    next: str | None
    scanned_bytes: int
    scanned_messages: int
    partitions_done: int
    partition_count: int
    unreadable: int


class TraceEvent(Wire):
    """One thing that happened to a message. `what`: produced, received, repeated, refused, throttled, failover, abandoned, appended, committed,
    uncommitted, delivered, settled, read, unread; more may come. `at` is null where nobody noted the time; `who` did it, as far as that is
    known, and `detail` is a sentence. `source` is what knows it: message (the producer's word), log, group, or trace (an event that
    was written as it happened, of the span `spanId`)."""

    what: str
    at: datetime | None
    who: str
    source: Literal["message", "log", "group", "trace"]
    detail: str
    span_id: str = ""


class Trace(Wire):
    """The way of a message, in the order in which things happened. `message` is null where `id` was asked for and no message, or more than
    one batch, is known of it. `traceId` is the one to look up in a collector; `sampled`: events that were written as they happened are among
    `events`; `note` says in sentences whether the message was followed, and what else is known of it. With `next`, events
    of the trace that were written before those searched may be found; `unreadable` ones were left out."""

    message: MessageDetail | None
    events: list[TraceEvent]
    sampled: bool
    trace_id: str = ""
    note: str = ""
    next: int | None = None
    unreadable: int = 0
