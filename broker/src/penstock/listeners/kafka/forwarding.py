"""Requests that a client may send to any broker and that only the shard's leader can serve.

Kafka's brokers pass such requests on to their controller (KIP-590), and clients rely on it: producers ask whichever
broker they like for a producer id, metadata may create a topic. A follower hands the request frame as it came to the
leader, whose answer goes back to the client as it is. Requests that clients send to the leader by themselves (produce,
fetch, groups) are not passed on: they are told who leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from penstock.codec.kafka.generated.metadata import MetadataRequest
from penstock.listeners.kafka.counters import KafkaCounters
from penstock.listeners.kafka.limits import KafkaLimits
from penstock.listeners.kafka.services import Call, KafkaServices
from penstock.service.context import RequestContext
from penstock.session.kafka_connection import Buffer, Slot

METADATA_KEY = 3
# CreateTopics, DeleteTopics, InitProducerId, AlterConfigs, CreatePartitions, IncrementalAlterConfigs
FORWARDED_KEYS = frozenset({METADATA_KEY, 19, 20, 22, 33, 37, 44})


def is_for_leader(call: Call, api_key: int, request: Any) -> bool:
    """Whether the leader has to serve this request, and this broker is not the leader."""
    forwarder = call.services.forwarder
    if forwarder is None or api_key not in FORWARDED_KEYS or forwarder.leads:
        return False
    return api_key != METADATA_KEY or not forwarder.caught_up or _may_create(call, request)


def _may_create(call: Call, request: MetadataRequest) -> bool:
    """Metadata that names a topic which this broker does not know: it may be new, or be made by the asking."""
    names = [topic.name for topic in request.topics or () if topic.name]
    return any(not call.services.topics.knows(name) for name in names)


class ForwardedExchange:
    """The leader's side: one request that another broker passed on, as an `exchange.Connection` without a socket.
    `answer` gets the response frame, or None where the other broker must end its client's connection."""

    def __init__(
        self,
        services: KafkaServices,
        context: RequestContext,
        counters: KafkaCounters,
        limits: KafkaLimits,
        spawn: Callable[[Awaitable[Any]], asyncio.Future[Any]],
        answer: Callable[[bytes | None], None],
    ) -> None:
        self.counters = counters
        self.limits = limits
        self._services = services
        self._context = context
        self._spawn = spawn
        self._answer = answer

    @property
    def is_ending(self) -> bool:
        """See `exchange.Connection`."""
        return False

    def call(self, client_id: str | None, version: int) -> Call:
        """See `exchange.Connection`."""
        return Call(self._services, self._context, version, 0)

    def begin(self, frame: memoryview) -> Slot:
        """See `exchange.Connection`."""
        return Slot(0)

    def finish(self, slot: Slot, buffers: Sequence[Buffer], count: int) -> None:
        """See `exchange.Connection`."""
        self._answer(b"".join(buffers))

    def close_for(self, sentence: str) -> None:
        """See `exchange.Connection`."""
        self._answer(None)

    def spawn(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        """See `exchange.Connection`."""
        return self._spawn(work)

    def watch(self, future: asyncio.Future[Any] | None) -> None:
        """See `exchange.Connection`; fetches are not passed on."""
