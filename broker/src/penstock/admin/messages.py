"""Single messages of the admin API: one with everything about it, its whole value, and those of a key."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from msgspec import structs

from penstock.admin.message_cursor import begin, read_cursor, search_order, write_cursor
from penstock.admin.message_models import (
    FindQuery,
    FoundMessages,
    MessageDetail,
    MessageQuery,
    Trace,
    TraceQuery,
)
from penstock.admin.message_views import detail_view, group_reading, message_view
from penstock.admin.trace_views import batches, merged, note, note_of_id
from penstock.listeners.http.content import timestamp_ms, utf8
from penstock.listeners.http.fetch import OFFSET_MAX, PARTITION_MAX, parse_number
from penstock.listeners.http.limits import GROUPS_SHOWN_MAX
from penstock.listeners.http.problems import invalid
from penstock.listeners.http.routes import Call, NoBody, NoQuery, Reply, Route, Routes
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.message_api import FindRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.listeners.http.services import HttpServices
    from penstock.service.context import RequestContext
    from penstock.service.message_api import StoredMessage
    from penstock.service.trace_api import FoundRecords

MESSAGES = "/v1/topics/{topic}/messages"
MESSAGE = "/v1/topics/{topic}/partitions/{partition}/messages/{offset}"
VALUE = "/v1/topics/{topic}/partitions/{partition}/messages/{offset}/value"
TRACES = "/v1/traces"
OCTETS = "application/octet-stream"
# Why a message that a trace is about cannot be shown any more.
_GONE = (ErrorCode.OFFSET_OUT_OF_RANGE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.CORRUPT_MESSAGE)


class MessageRoutes:
    """Looking at single messages."""

    def __init__(self, services: HttpServices) -> None:
        self._messages = services.messages
        self._traces = services.traces
        self._groups = services.groups
        self._broker = services.broker

    def routes(self) -> Routes:
        """The four routes."""
        find: Route[FindQuery, NoBody] = Route(
            "GET",
            MESSAGES,
            "findMessages",
            "Looks for the messages of a key, newest first, as far as one request may; `next` goes on.",
            self.find,
            {200: FoundMessages},
            FindQuery,
            NoBody,
            waits=True,
        )
        one: Route[MessageQuery, NoBody] = Route(
            "GET",
            MESSAGE,
            "getMessage",
            "One message: headers, timestamps, producer, sizes, who stored it, and which groups have read it.",
            self.get,
            {200: MessageDetail},
            MessageQuery,
            NoBody,
        )
        value: Route[NoQuery, NoBody] = Route(
            "GET",
            VALUE,
            "getMessageValue",
            "The whole value of one message, as it is; 204 when it is null.",
            self.value,
            {200: bytes, 204: None},
            NoQuery,
            NoBody,
            reply_media_type=OCTETS,
        )
        trace: Route[TraceQuery, NoBody] = Route(
            "GET",
            TRACES,
            "getTrace",
            "The way of one message, or of a trace, as events: those that were written, and what message, log and groups can tell.",
            self.trace,
            {200: Trace},
            TraceQuery,
            NoBody,
            waits=True,
        )
        return [find, one, value, trace]

    async def get(self, call: Call[MessageQuery, NoBody]) -> Reply:
        """One message; 416 where the log does not have it, or has it no more."""
        stored = await self._messages.get(call.context, *_place(call.path))
        return Reply(await self._detail(call.context, stored, call.query.preview))

    async def value(self, call: Call[NoQuery, NoBody]) -> Reply:
        """The bytes."""
        stored = await self._messages.get(call.context, *_place(call.path))
        if stored.record.value is None:
            return Reply(status=204)
        # A browser must not take what a producer wrote for a page of ours.
        headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}
        return Reply(stored.record.value, media_type=OCTETS, headers=headers)

    async def trace(self, call: Call[TraceQuery, NoBody]) -> Reply:
        """The way of one message, or of the message that a trace is about."""
        asked = call.query
        if asked.id is not None and (asked.topic, asked.partition, asked.offset) == (None, None, None):
            return Reply(await self._trace_by_id(call, int(asked.id, 16)))
        if asked.id is not None or asked.topic is None or asked.partition is None or asked.offset is None:
            raise invalid("The query has either `id`, or `topic`, `partition` and `offset`.")
        return Reply(await self._trace_of(call, asked.topic, asked.partition, asked.offset))

    async def _trace_of(
        self, call: Call[TraceQuery, NoBody], topic: str, partition: int, offset: int
    ) -> Trace:
        stored = await self._messages.get(call.context, topic, partition, offset)
        detail = await self._detail(call.context, stored, call.query.preview)
        whose = self._traces.whose(stored)
        found = await self._traces.find(call.context, whose.trace_id, call.query.before)
        found.records = [record for record in found.records if record.holds(topic, partition, offset)]
        return self._told(whose.trace_id, detail, found, note(whose, found, self._traces))

    async def _trace_by_id(self, call: Call[TraceQuery, NoBody], trace_id: int) -> Trace:
        found = await self._traces.find(call.context, trace_id, call.query.before)
        places = batches(found.records) if found.records else {self._traces.place(trace_id)}
        place = places.pop() if len(places) == 1 else None
        if place is not None:
            try:
                stored = await self._messages.get(call.context, *place)
            except PenstockError as error:
                if error.code not in _GONE:
                    raise
            else:
                whose = self._traces.whose(stored)
                # Any number is the id of some offset; only that of a batch's first message is one's trace.
                if whose.trace_id == trace_id:
                    detail = await self._detail(call.context, stored, call.query.preview)
                    return self._told(trace_id, detail, found, note(whose, found, self._traces))
        return self._told(trace_id, None, found, note_of_id(trace_id, found, self._traces))

    def _told(self, trace_id: int, message: MessageDetail | None, found: FoundRecords, said: str) -> Trace:
        return Trace(
            message,
            merged(message, found.records),
            sampled=bool(found.records),
            trace_id=f"{trace_id:032x}",
            note=said,
            next=found.before,
            unreadable=found.unreadable,
        )

    async def _detail(self, context: RequestContext, stored: StoredMessage, preview: int) -> MessageDetail:
        positions, count = await self._groups.positions_at(
            context, stored.topic, stored.partition, GROUPS_SHOWN_MAX
        )
        readings = [group_reading(stored, position) for position in positions]
        return detail_view(message_view(stored, self._broker.status(), preview), stored, readings, count)

    async def find(self, call: Call[FindQuery, NoBody]) -> Reply:
        """A part of a search."""
        query, topic = call.query, call.path["topic"]
        key = _key(query)
        cursor = begin(topic, key, self._messages.partition_count(topic), query.partition)
        if query.cursor is not None:
            cursor = read_cursor(query.cursor, cursor)
        order = search_order(key, cursor.partitions, cursor.only)
        since_ms = None if query.since is None else timestamp_ms(query.since, 0)
        request = FindRequest(topic, order[cursor.place :], key, query.limit, since_ms, cursor.before)
        found = await self._messages.find(call.context, request)
        status = self._broker.status()
        place = cursor.place + found.done
        following = structs.replace(cursor, place=place, before=found.before)
        return Reply(
            FoundMessages(
                messages=[message_view(stored, status, query.preview) for stored in found.messages],
                next=write_cursor(following) if place < len(order) else None,
                scanned_bytes=found.scanned_bytes,
                scanned_messages=found.scanned_messages,
                partitions_done=place,
                partition_count=len(order),
                unreadable=found.unreadable,
            )
        )


def _place(path: Mapping[str, str]) -> tuple[str, int, int]:
    partition = parse_number("partition", path["partition"], PARTITION_MAX)
    return path["topic"], partition, parse_number("offset", path["offset"], OFFSET_MAX)


def _key(query: FindQuery) -> bytes:
    if (query.key is None) == (query.key_base64 is None):
        raise invalid("The query has exactly one of `key` and `keyBase64`.")
    if query.key is not None:
        return utf8(query.key, "The key")
    try:
        return base64.b64decode(query.key_base64 or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("`keyBase64` is not base64 (write a + in it as %2B).") from error
