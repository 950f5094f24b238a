"""From a stored message to what the admin API tells of it: bounded excerpts, who reads it, its way as a list of events. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from penstock.admin.message_models import (
    Batch,
    Excerpt,
    GroupReading,
    Message,
    MessageDetail,
    MessageHeader,
    Producer,
    TraceEvent,
)
from penstock.codec.compression import Compression
from penstock.listeners.http.limits import HEADER_PREVIEW_BYTES_MAX, HEADERS_SHOWN_MAX
from penstock.model.record_batch import NO_PRODUCER_ID, TIMESTAMP_TYPE_MASK, TRANSACTIONAL_MASK

if TYPE_CHECKING:
    from penstock.service.api import BrokerStatus
    from penstock.service.group_api import GroupPosition
    from penstock.service.message_api import StoredMessage

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SEQUENCES: Final = 2**31


def instant(timestamp_ms: int) -> datetime | None:
    """The time, where there is one: -1 is Kafka's word for none, and producers may write anything."""
    if timestamp_ms < 0:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        return None


def excerpt(data: bytes | None, bytes_max: int) -> Excerpt | None:
    """The first bytes; text that is cut is cut between two characters."""
    if data is None:
        return None
    shown, truncated = data[:bytes_max], len(data) > bytes_max
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(shown, final=not truncated)
    except UnicodeDecodeError:
        return Excerpt(len(data), base64=shown, truncated=truncated)
    return Excerpt(len(data), text=text, truncated=truncated)


def sequence(base_sequence: int, delta: int) -> int:
    """The sequence number of a batch's record: after 2^31 - 1 comes 0, as Kafka's producers count."""
    return (base_sequence + delta) % _SEQUENCES


def message_view(stored: StoredMessage, status: BrokerStatus, preview: int) -> Message:
    """The message, with at most `preview` bytes of key and value."""
    record, header = stored.record, stored.header
    append_time = header.attributes & TIMESTAMP_TYPE_MASK
    producer = None
    if header.producer_id != NO_PRODUCER_ID:
        number = sequence(header.base_sequence, record.offset - header.base_offset)
        transactional = bool(header.attributes & TRANSACTIONAL_MASK)
        producer = Producer(header.producer_id, header.producer_epoch, number, transactional)
    return Message(
        topic=stored.topic,
        partition=stored.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        time=instant(record.timestamp),
        timestamp_type="LogAppendTime" if append_time else "CreateTime",
        key=excerpt(record.key, preview),
        value=excerpt(record.value, preview),
        headers=[
            MessageHeader(name[:HEADER_PREVIEW_BYTES_MAX], excerpt(value, HEADER_PREVIEW_BYTES_MAX))
            for name, value in record.headers[:HEADERS_SHOWN_MAX]
        ],
        header_count=len(record.headers),
        bytes=_size(record.key, record.value, record.headers),
        batch=Batch(
            header.base_offset,
            header.record_count,
            header.size_bytes,
            stored.uncompressed_bytes,
            Compression(header.compression).name.lower(),
        ),
        producer=producer,
        shard=status.shard_id,
        epoch=stored.epoch,
        leader_epoch=header.leader_epoch,
        leader=status.leader if stored.epoch == status.epoch else "",
        committed=stored.committed,
    )


def _size(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> int:
    return (
        len(key or b"")
        + len(value or b"")
        + sum(len(name.encode()) + len(content or b"") for name, content in headers)
    )


def detail_view(
    message: Message, stored: StoredMessage, readings: list[GroupReading], groups: int
) -> MessageDetail:
    """The message with what is around it."""
    return MessageDetail(
        **{name: getattr(message, name) for name in message.__struct_fields__},
        log_start=stored.log_start,
        high_watermark=stored.high_watermark,
        end_offset=stored.end_offset,
        groups=readings,
        group_count=groups,
    )


def group_reading(stored: StoredMessage, position: GroupPosition) -> GroupReading:
    """Where the group is, seen from the message. It reads from the log start on where its position lies below."""
    start, offset = max(position.offset, stored.log_start), stored.record.offset
    return GroupReading(
        group=position.group,
        state=position.state,
        position=position.offset,
        read=position.offset > offset,
        ahead=max(offset - start, 0),
        lag=max(stored.high_watermark - start, 0),
        committed_at=instant(position.commit_ms),
    )


# --- its way ----------------------------------------------------------------------------------------


def known_events(message: MessageDetail) -> list[TraceEvent]:
    """What message, log and groups can tell without anybody having watched."""
    return [
        _produced(message),
        _appended(message),
        _committed(message),
        *(_group_event(reading) for reading in message.groups),
    ]


def _produced(message: Message) -> TraceEvent:
    by_producer = message.timestamp_type == "CreateTime"
    producer = message.producer
    who = "a producer without an id"
    if producer is not None:
        who = f"producer {producer.id} (epoch {producer.epoch}, sequence {producer.sequence})"
    when = (
        "at this time by its own clock"
        if by_producer
        else "at a time that is not kept: the topic has LogAppendTime"
    )
    size = f"{message.bytes} bytes in a batch of {message.batch.messages}"
    return TraceEvent("produced", message.time if by_producer else None, who, "message", f"{size}, {when}")


def _appended(message: Message) -> TraceEvent:
    at = message.time if message.timestamp_type == "LogAppendTime" else None
    who = f"{message.leader}, which leads still" if message.leader else "a leader before the one of now"
    packed = "uncompressed" if message.batch.compression == "none" else message.batch.compression
    place = f"offset {message.offset}, batch of {message.batch.bytes} bytes ({packed})"
    return TraceEvent("appended", at, f"shard {message.shard}, epoch {message.epoch}: {who}", "log", place)


def _committed(message: MessageDetail) -> TraceEvent:
    who = f"shard {message.shard}"
    if message.committed:
        return TraceEvent("committed", None, who, "log", f"consumers read up to {message.high_watermark}")
    return TraceEvent(
        "uncommitted",
        None,
        who,
        "log",
        f"not yet: consumers read up to {message.high_watermark}, the log ends at {message.end_offset}",
    )


def _group_event(reading: GroupReading) -> TraceEvent:
    who = f"group {reading.group}"
    if reading.read:
        detail = (
            f"by this time at the latest; position {reading.position}, lag {reading.lag}, {reading.state}"
        )
        return TraceEvent("read", reading.committed_at, who, "group", detail)
    ahead = "1 message" if reading.ahead == 1 else f"{reading.ahead} messages"
    detail = f"position {reading.position}, {ahead} before this one, lag {reading.lag}, {reading.state}"
    return TraceEvent("unread", None, who, "group", f"not yet: {detail}")
