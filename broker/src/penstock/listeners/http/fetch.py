"""`GET /v1/topics/{topic}/partitions/{partition}/messages`: read one partition from an offset on, with a long poll."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from penstock.listeners.http.content import MILLISECONDS
from penstock.listeners.http.models import FetchQuery, FetchReply, Instant
from penstock.listeners.http.problems import RefusalError, invalid, refuse_error
from penstock.listeners.http.reading import read_messages
from penstock.listeners.http.routes import Call, NoBody, Reply, Route, Routes
from penstock.model.errors import ErrorCode
from penstock.service.api import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, FetchPartition, PositionQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.listeners.http.services import HttpServices
    from penstock.service.api import DataService, FetchedPartition
    from penstock.service.context import RequestContext

OFFSET_MAX = 2**63 - 1
PARTITION_MAX = 2**31 - 1
NAMED_OFFSETS = {"earliest": EARLIEST_TIMESTAMP, "latest": LATEST_TIMESTAMP}


class FetchRoutes:
    """Reading one partition."""

    def __init__(self, services: HttpServices) -> None:
        self._data = services.data

    def routes(self) -> Routes:
        """The one route."""
        route: Route[FetchQuery, NoBody] = Route(
            method="GET",
            path="/v1/topics/{topic}/partitions/{partition}/messages",
            name="fetch",
            summary="Reads the messages of one partition from an offset on.",
            handler=self.fetch,
            replies={200: FetchReply},
            query=FetchQuery,
            body=NoBody,
            waits=True,
        )
        return [route]

    async def fetch(self, call: Call[FetchQuery, NoBody]) -> Reply:
        """Messages, and where to go on. Waits when there are none yet and the client asked for it."""
        query = call.query
        topic = call.path["topic"]
        partition = parse_number("partition", call.path["partition"], PARTITION_MAX)
        offset = await self._offset(call.context, topic, partition, query.offset)
        [fetched] = await self._data.fetch(
            call.context,
            [FetchPartition(topic, partition, offset, query.max_bytes)],
            min_bytes=1,
            max_bytes=query.max_bytes,
            max_wait_ms=query.wait_ms,
        )
        refuse_fetched(fetched, offset)
        reading = await read_messages(fetched, offset, query.limit, query.format)
        return Reply(
            FetchReply(
                messages=reading.messages,
                next_offset=reading.next_offset,
                high_watermark=fetched.high_watermark,
                log_start=fetched.log_start_offset,
            )
        )

    async def _offset(self, context: RequestContext, topic: str, partition: int, given: str) -> int:
        # Every RFC 3339 time has a dash, and no number from 0 on has one.
        if given not in NAMED_OFFSETS and "-" not in given:
            return parse_number("offset", given, OFFSET_MAX, ", nor earliest, latest or an RFC 3339 time")
        [offset] = await start_offsets(self._data, context, topic, [partition], given)
        return offset


async def start_offsets(
    data: DataService, context: RequestContext, topic: str, partitions: Sequence[int], start: str
) -> list[int]:
    """The offsets of these partitions at `start`: earliest, latest or an RFC 3339 time, which is the end where nothing
    is as new as that. Raises PenstockError."""
    timestamp = start_timestamp(start)
    positions = await data.list_offsets(
        context, [PositionQuery(topic, each, timestamp) for each in partitions]
    )
    beyond = [
        number
        for number, position in enumerate(positions)
        if position.offset < 0 and position.error is ErrorCode.NONE
    ]
    if beyond:
        ends = [PositionQuery(topic, partitions[number], LATEST_TIMESTAMP) for number in beyond]
        for number, end in zip(beyond, await data.list_offsets(context, ends), strict=True):
            positions[number] = end
    for position in positions:
        place = f"partition {position.partition} of {topic!r}"
        if position.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            raise RefusalError(position.error, f"There is no {place}.")
        refuse_error(position.error, None, f"{position.error.name} for {place}.")
    return [position.offset for position in positions]


def start_timestamp(start: str) -> int:
    """What ListOffsets is asked for earliest, latest or a time."""
    if start in NAMED_OFFSETS:
        return NAMED_OFFSETS[start]
    try:
        moment: datetime = msgspec.convert(start, Instant, strict=True)
    except msgspec.ValidationError as error:
        raise invalid(
            f"The start {start[:40]!r} is neither earliest nor latest nor a time such as 2026-11-21T08:00:00Z "
            "(write a + in it as %2B)."
        ) from error
    return int(moment.timestamp() * MILLISECONDS)


def parse_number(name: str, text: str, largest: int, otherwise: str = "") -> int:
    """A number from a path or query, or a refusal that names it."""
    # Not isdigit(): that takes superscripts, which int() does not; and no text so long that int() is slow.
    if text.isdecimal() and text.isascii() and len(text) <= len(str(largest)) and int(text) <= largest:
        return int(text)
    raise invalid(f"The {name} {text[:40]!r} is not a number from 0 to {largest}{otherwise}.")


def refuse_fetched(fetched: FetchedPartition, offset: int) -> None:
    """Raises what a fetch of one partition reported."""
    place = f"partition {fetched.partition} of {fetched.topic!r}"
    if fetched.error is ErrorCode.OFFSET_OUT_OF_RANGE:
        raise RefusalError(
            fetched.error,
            f"There is no offset {offset} in {place}, which has {fetched.log_start_offset} up to "
            f"{fetched.high_watermark}; read from `earliest`, or from one of these.",
            members={"logStart": fetched.log_start_offset, "highWatermark": fetched.high_watermark},
        )
    if fetched.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        raise RefusalError(fetched.error, f"There is no {place}.")
    refuse_error(fetched.error, None, f"{fetched.error.name} for {place}.")
