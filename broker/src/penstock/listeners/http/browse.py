"""`GET /v1/topics/{topic}/messages`: read a topic over all its partitions, merged by timestamp.

For people and scripts that want to see a topic and do not care for partitions. A cursor holds the next offset of each
partition, so the server keeps nothing between two answers. The merge keeps each partition's order and takes the
oldest head first; it stops where a partition has more than was read, because an older message may follow there.
Messages that retention deleted meanwhile are skipped.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
from typing import TYPE_CHECKING

import msgspec

from penstock.listeners.http.fetch import refuse_fetched, start_offsets
from penstock.listeners.http.limits import (
    BROWSE_PARTITION_BYTES_MIN,
    BROWSE_PARTITIONS_MAX,
    FETCH_BYTES_DEFAULT,
)
from penstock.listeners.http.models import BrowseQuery, BrowseReply, Message
from penstock.listeners.http.problems import invalid
from penstock.listeners.http.reading import Reading, read_messages
from penstock.listeners.http.routes import Call, NoBody, Reply, Route, Routes
from penstock.model.errors import ErrorCode
from penstock.service.api import FetchPartition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.listeners.http.services import HttpServices
    from penstock.service.api import FetchedPartition
    from penstock.service.context import RequestContext


class Cursor(msgspec.Struct, array_like=True):
    """The next offset of each partition, by partition number."""

    version: int
    topic: str
    offsets: list[int]


CURSOR_VERSION = 1


class PartitionRead(msgspec.Struct):
    """What was read of one partition: `messages` in order, then reading goes on at `next_offset`, which is the end
    when `exhausted`."""

    start: int
    messages: list[Message]
    next_offset: int
    exhausted: bool


class BrowseRoutes:
    """Reading all partitions of a topic."""

    def __init__(self, services: HttpServices) -> None:
        self._data = services.data
        self._topics = services.topics

    def routes(self) -> Routes:
        """The one route."""
        route: Route[BrowseQuery, NoBody] = Route(
            method="GET",
            path="/v1/topics/{topic}/messages",
            name="browse",
            summary="Reads a topic over all its partitions, merged by timestamp, with a cursor to go on.",
            handler=self.browse,
            replies={200: BrowseReply},
            query=BrowseQuery,
            body=NoBody,
            waits=True,
        )
        return [route]

    async def browse(self, call: Call[BrowseQuery, NoBody]) -> Reply:
        """Messages, and a cursor behind the last of them."""
        query = call.query
        topic = call.path["topic"]
        summary, details, _ = self._topics.describe_topic(call.context, topic)
        if summary.partitions > BROWSE_PARTITIONS_MAX:
            raise invalid(
                f"The topic has {summary.partitions} partitions, more than the {BROWSE_PARTITIONS_MAX} that can be "
                f"read merged; read them one by one at /v1/topics/{topic}/partitions/N/messages."
            )
        offsets = await self._offsets(call.context, topic, summary.partitions, query)
        for detail in details:
            if detail.partition < len(offsets):
                offsets[detail.partition] = max(offsets[detail.partition], detail.log_start)
        reads = await self._read(call.context, topic, offsets, query)
        messages, following = merge(reads, query.limit)
        at_end = all(
            read.exhausted and position == read.next_offset
            for read, position in zip(reads, following, strict=True)
        )
        return Reply(BrowseReply(messages, _write_cursor(topic, following), at_end))

    async def _offsets(
        self, context: RequestContext, topic: str, partitions: int, query: BrowseQuery
    ) -> list[int]:
        if query.next is not None:
            if query.start is not None:
                raise invalid("The query has `from` and `next`; `next` says already where to go on.")
            offsets = _read_cursor(query.next, topic)
            # Partitions that were added meanwhile are read from their beginning; a topic made anew has its own.
            return offsets[:partitions] + [0] * (partitions - len(offsets))
        start = query.start or "earliest"
        return await start_offsets(self._data, context, topic, range(partitions), start)

    async def _read(
        self, context: RequestContext, topic: str, offsets: Sequence[int], query: BrowseQuery
    ) -> list[PartitionRead]:
        each = max(BROWSE_PARTITION_BYTES_MIN, FETCH_BYTES_DEFAULT // len(offsets))
        fetched = await self._data.fetch(
            context,
            [FetchPartition(topic, partition, offset, each) for partition, offset in enumerate(offsets)],
            min_bytes=1,
            max_bytes=each * len(offsets),
            max_wait_ms=query.wait_ms,
        )
        reads = []
        for partition, offset in zip(fetched, offsets, strict=True):
            reads.append(await self._read_partition(partition, offset, query))
            # Hundreds of partitions are many messages to decode; others get their turn in between.
            await asyncio.sleep(0)
        return reads

    async def _read_partition(
        self, fetched: FetchedPartition, offset: int, query: BrowseQuery
    ) -> PartitionRead:
        if fetched.error is ErrorCode.OFFSET_OUT_OF_RANGE and offset < fetched.log_start_offset:
            # Retention was faster than this request: what is gone is skipped by the next one.
            return PartitionRead(offset, [], fetched.log_start_offset, exhausted=False)
        refuse_fetched(fetched, offset)
        reading: Reading = await read_messages(fetched, offset, query.limit, query.format)
        exhausted = reading.next_offset >= fetched.high_watermark
        return PartitionRead(offset, reading.messages, reading.next_offset, exhausted)


def merge(reads: Sequence[PartitionRead], limit: int) -> tuple[list[Message], list[int]]:
    """At most `limit` messages, oldest head first, and for each partition the offset to go on from.

    A partition that has unread messages behind what was read ends the merge when its messages are used up; but not
    before one message was taken, because a reader must get on.
    """
    taken = [0] * len(reads)
    heads = [(read.messages[0].timestamp, number, 0) for number, read in enumerate(reads) if read.messages]
    heapq.heapify(heads)
    waiting = any(not read.messages and not read.exhausted for read in reads)
    merged: list[Message] = []
    while heads and len(merged) < limit:
        _, number, index = heapq.heappop(heads)
        messages = reads[number].messages
        merged.append(messages[index])
        taken[number] = index + 1
        if index + 1 < len(messages):
            heapq.heappush(heads, (messages[index + 1].timestamp, number, index + 1))
        elif not reads[number].exhausted:
            break
        if waiting:
            break
    return merged, [_position(read, used) for read, used in zip(reads, taken, strict=True)]


def _position(read: PartitionRead, used: int) -> int:
    if used == len(read.messages):
        return read.next_offset
    return read.messages[used - 1].offset + 1 if used else read.start


def _write_cursor(topic: str, offsets: list[int]) -> str:
    data = msgspec.msgpack.encode(Cursor(CURSOR_VERSION, topic, offsets))
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _read_cursor(text: str, topic: str) -> list[int]:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.msgpack.decode(data, type=Cursor)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise invalid("`next` is not a cursor; take it as it is from the answer before.") from error
    if cursor.version != CURSOR_VERSION or cursor.topic != topic:
        raise invalid("`next` is the cursor of another topic, or of another release; start with `from`.")
    if len(cursor.offsets) > BROWSE_PARTITIONS_MAX or any(
        not 0 <= offset < 2**63 for offset in cursor.offsets
    ):
        raise invalid("`next` is not a cursor; take it as it is from the answer before.")
    return cursor.offsets
