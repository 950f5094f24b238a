"""`POST /v1/topics/{topic}/messages`: one message as it is, or many in an envelope.

The media type decides, and nothing is guessed from the body: `application/json` is the envelope
{"messages": [...]}; `text/plain` and `application/octet-stream` are one message, whose key, headers, partition and
timestamp are query parameters; `?raw=true` says that an `application/json` body is the message itself.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock.listeners.http.batcher import Batcher, Receipt, Stored
from penstock.listeners.http.bodies import decode_json
from penstock.listeners.http.content import MILLISECONDS, make_message, outgoing, timestamp_ms, utf8
from penstock.listeners.http.models import ProduceQuery, ProduceReply, ProduceRequest, StoredAt
from penstock.listeners.http.partitioner import Partitioner
from penstock.listeners.http.problems import RefusalError, invalid
from penstock.listeners.http.routes import JSON_MEDIA_TYPE, Call, RawBody, Reply, Route, Routes
from penstock.model.errors import ErrorCode

if TYPE_CHECKING:
    from penstock.listeners.http.content import OutgoingMessage
    from penstock.listeners.http.services import HttpServices

ACKS: Final = {"all": -1, "leader": 1, "none": 0}


class ProduceRoutes:
    """The produce operation with its batcher, which `stop` drains."""

    def __init__(self, services: HttpServices) -> None:
        self._counters = services.counters
        self._partitioner = Partitioner(services.topics)
        self._batcher = Batcher(services.data, self._partitioner.move_on)

    def routes(self) -> Routes:
        """The one route."""
        route: Route[ProduceQuery, RawBody] = Route(
            method="POST",
            path="/v1/topics/{topic}/messages",
            name="produce",
            summary="Produces messages: an envelope of many, or a raw body that is one message.",
            handler=self.produce,
            replies={200: ProduceReply},
            query=ProduceQuery,
            body=RawBody,
            accepts={
                "text/plain": str,
                JSON_MEDIA_TYPE: ProduceRequest,
                "application/octet-stream": Any,
            },
        )
        return [route]

    async def stop(self) -> None:
        """Waits until everything that was taken is answered."""
        await self._batcher.stop()

    async def produce(self, call: Call[ProduceQuery, RawBody]) -> Reply:
        """Stores the messages; 200 when all of them are, else the problem of the first that is not."""
        now_ms = int(time.time() * MILLISECONDS)
        messages, wanted, acks = _messages(call, now_ms)
        topic = call.path["topic"]
        partitions = await self._partitioner.partitions(
            call.context, topic, asyncio.get_running_loop().time()
        )
        places = [
            self._partitioner.choose(topic, partitions, message.key, partition)
            for message, partition in zip(messages, wanted, strict=True)
        ]
        self._batcher.reserve(len(messages))
        try:
            receipt = Receipt(len(messages))
            for number, (message, partition) in enumerate(zip(messages, places, strict=True)):
                self._batcher.add(call.context, ACKS[acks], (topic, partition), message, (receipt, number))
            await receipt.done
        finally:
            self._batcher.release(len(messages))
        return self._reply(topic, places, receipt)

    def _reply(self, topic: str, places: list[int], receipt: Receipt) -> Reply:
        offsets: list[StoredAt] = []
        first: Stored | None = None
        for partition, stored in zip(places, receipt.results, strict=True):
            assert stored is not None
            if stored.error is ErrorCode.NONE:
                offsets.append(StoredAt(partition, stored.offset if stored.offset >= 0 else None))
            else:
                first = first or stored
                offsets.append(StoredAt(partition, None, stored.error.name))
        if first is None:
            return Reply(ProduceReply(offsets))
        if first.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            self._partitioner.forget(topic)
        stored_count = sum(1 for entry in offsets if entry.code is msgspec.UNSET)
        sentence = first.message or f"The broker answered {first.error.name}."
        raise RefusalError(
            first.error,
            f"{stored_count} of {len(offsets)} messages were stored. {sentence}",
            members={"offsets": offsets},
        )


def _messages(
    call: Call[ProduceQuery, RawBody], now_ms: int
) -> tuple[list[OutgoingMessage], list[int | None], str]:
    """What is to be stored, the partition that was asked for with each, and acks."""
    query, body = call.query, call.body
    if body.media_type != JSON_MEDIA_TYPE or query.raw:
        return [_raw_message(query, body, now_ms)], [query.partition], query.acks or "all"
    if query != ProduceQuery():
        raise invalid(
            "Query parameters are for a raw body. In an application/json envelope they are fields of the message; "
            "add ?raw=true if the JSON body is the message itself."
        )
    request = decode_json(body.data, ProduceRequest)
    messages = [outgoing(message, number, now_ms) for number, message in enumerate(request.messages)]
    return messages, [message.partition for message in request.messages], request.acks


def _raw_message(query: ProduceQuery, body: RawBody, now_ms: int) -> OutgoingMessage:
    if body.media_type == JSON_MEDIA_TYPE:
        decode_json(body.data, Any)
    return make_message(
        key=None if query.key is None else utf8(query.key, "The key"),
        value=body.data,
        headers=tuple(_header(text) for text in query.header),
        timestamp=timestamp_ms(query.timestamp, now_ms),
    )


def _header(text: str) -> tuple[str, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise invalid(f"The header {text!r} is not written as name:value.")
    utf8(name, "The header's name")
    return name, utf8(value, f"The header {name!r}")
