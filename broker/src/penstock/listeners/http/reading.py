"""From the batches of a fetch to single messages, within the bounds of one answer.

A fetch answers whole batches from the one that holds the asked offset on, so the first records may lie before it and
the last ones beyond the reader's limit. Where a batch ends without a message to show (control batches, compacted
offsets), reading goes on behind it, so that a reader never stands still.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from penstock.codec.errors import CodecError
from penstock.codec.records import Record, read_records, split_batches
from penstock.listeners.http.content import content_out, headers_out
from penstock.listeners.http.limits import ANSWER_BYTES_MAX, DECODE_INLINE_RECORDS_MAX
from penstock.listeners.http.models import Message
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import CONTROL_MASK, BatchHeader, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.listeners.http.models import Format
    from penstock.service.api import FetchedPartition


class Reading(NamedTuple):
    """Messages from one partition and the offset to go on from."""

    messages: list[Message]
    next_offset: int


async def read_messages(fetched: FetchedPartition, offset: int, limit: int, form: Format) -> Reading:
    """At most `limit` messages from `offset` on. Raises PenstockError for a batch that cannot be read."""
    if not fetched.records:
        return Reading([], offset)
    batches = _batches(fetched)
    records = sum(header.record_count for header, _ in batches)
    compressed = any(header.compression for header, _ in batches)
    if records <= DECODE_INLINE_RECORDS_MAX and not compressed:
        return _decode(fetched.partition, batches, offset, limit, form)
    return await asyncio.to_thread(_decode, fetched.partition, batches, offset, limit, form)


def _batches(fetched: FetchedPartition) -> list[tuple[BatchHeader, memoryview]]:
    buffers = fetched.records
    data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
    try:
        return [(parse_header(batch), batch) for batch in split_batches(data)]
    except CodecError as error:
        raise PenstockError(
            ErrorCode.CORRUPT_MESSAGE, f"Partition {fetched.partition} cannot be read: {error}."
        ) from error


def _decode(
    partition: int,
    batches: Sequence[tuple[BatchHeader, memoryview]],
    offset: int,
    limit: int,
    form: Format,
) -> Reading:
    messages: list[Message] = []
    following = offset
    size = 0
    for header, batch in batches:
        if header.last_offset < offset:
            continue
        for record in _records(partition, header, batch):
            if record.offset < offset:
                continue
            if len(messages) == limit or (messages and size >= ANSWER_BYTES_MAX):
                return Reading(messages, following)
            messages.append(_message(partition, record, form))
            following = record.offset + 1
            size += len(record.key or b"") + len(record.value or b"")
        following = header.last_offset + 1
    return Reading(messages, following)


def _records(partition: int, header: BatchHeader, batch: memoryview) -> Iterator[Record]:
    """The records of a batch that are messages: none of a control batch."""
    if header.attributes & CONTROL_MASK:
        return
    try:
        yield from read_records(batch)
    except CodecError as error:
        raise PenstockError(
            ErrorCode.CORRUPT_MESSAGE,
            f"The batch at offset {header.base_offset} of partition {partition} cannot be read as messages: {error}. "
            f"Read on from offset {header.last_offset + 1}.",
        ) from error


def _message(partition: int, record: Record, form: Format) -> Message:
    return Message(
        partition=partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=content_out(record.key, form),
        value=content_out(record.value, form),
        headers=headers_out(record.headers, form),
    )
