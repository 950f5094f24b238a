"""A message and its way as text for people: every byte that a producer wrote is made harmless, nothing is longer than was asked for. Pure."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.cli.output import printable, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.admin.message_models import Excerpt, Message, MessageDetail, TraceEvent


def time_text(time: datetime | None) -> str:
    """To the millisecond, in UTC; a dash where there is none."""
    if time is None:
        return "-"
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def excerpt_text(excerpt: Excerpt | None) -> str:
    """What is shown of a key or value, and how much there is."""
    if excerpt is None:
        return "(null)"
    if excerpt.base64 is not None:
        shown = "base64:" + base64.b64encode(excerpt.base64).decode()
    else:
        shown = printable(excerpt.text or "")
    return f"{shown}…" if excerpt.truncated else shown


def message_lines(message: Message) -> list[str]:
    """A block: one line per property, headers and value below."""
    rows = [
        ("time", f"{time_text(message.time)} ({message.timestamp_type})"),
        ("key", _sized(message.key)),
        ("producer", _producer(message)),
        ("batch", _batch(message)),
        ("stored", _stored(message)),
        ("committed", "yes" if message.committed else "not yet: consumers do not get it, and it may be lost"),
    ]
    lines = [f"{message.topic}, partition {message.partition}, offset {message.offset}"]
    lines += [f"  {name:<11}{text}" for name, text in rows]
    lines += [
        f"  {'header':<11}{_one_line(_header(message, number))}" for number in range(len(message.headers))
    ]
    if message.header_count > len(message.headers):
        lines.append(f"  {'header':<11}… and {message.header_count - len(message.headers)} more")
    if message.value is None:
        return [*lines, "  value      (null: a tombstone)"]
    lines.append(f"  {'value':<11}{size_text(message.value.bytes)}{_cut(message.value)}")
    shown = excerpt_text(message.value)
    return lines + (["    " + line for line in shown.split("\n")] if shown else [])


def _header(message: Message, number: int) -> str:
    header = message.headers[number]
    return f"{printable(header.name)}={excerpt_text(header.value)}"


def _one_line(text: str) -> str:
    return text.replace("\n", "\\x0a").replace("\t", "\\x09")


def _sized(excerpt: Excerpt | None) -> str:
    if excerpt is None:
        return "(null)"
    return f"{_one_line(excerpt_text(excerpt))}  ({size_text(excerpt.bytes)})"


def _cut(excerpt: Excerpt) -> str:
    return ", cut; --preview shows more, --body all of it" if excerpt.truncated else ""


def _producer(message: Message) -> str:
    producer = message.producer
    if producer is None:
        return "without an id: it is not idempotent"
    return f"id {producer.id}, epoch {producer.epoch}, sequence {producer.sequence}"


def _batch(message: Message) -> str:
    batch = message.batch
    last = batch.first_offset + batch.messages - 1
    several = f"offsets {batch.first_offset} to {last}" if batch.messages > 1 else "of one message"
    packed = f", {batch.compression} of {size_text(batch.uncompressed_bytes)}"
    return f"{several}, {size_text(batch.bytes)} stored{'' if batch.compression == 'none' else packed}"


def _stored(message: Message) -> str:
    by = f", by {message.leader}, which leads still" if message.leader else ""
    return f"by shard {message.shard} in epoch {message.epoch} (leader epoch {message.leader_epoch}){by}"


def group_rows(message: MessageDetail) -> list[list[object]]:
    """Rows of a table: group, whether it has read the message, where it is."""
    return [
        [
            reading.group,
            "yes" if reading.read else "no",
            reading.position,
            reading.ahead,
            reading.lag,
            reading.state,
            time_text(reading.committed_at),
        ]
        for reading in message.groups
    ]


GROUP_COLUMNS = ["GROUP", "READ", "POSITION", "AHEAD", "LAG", "STATE", "COMMITTED"]


def timeline_lines(events: Sequence[TraceEvent]) -> list[str]:
    """One event per line, its times and names under each other."""
    rows = [
        (time_text(event.at), *(_one_line(printable(text)) for text in (event.what, event.who, event.detail)))
        for event in events
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]])
        for row in rows
    ]
