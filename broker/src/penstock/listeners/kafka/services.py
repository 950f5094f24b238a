"""What the Kafka listener is given: the use-cases behind it, and what each handler is told about one request."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from penstock.service.api import DataService, TopicService
from penstock.service.context import RequestContext
from penstock.service.group_api import GroupService


class Forwarder(Protocol):
    """The way to the shard's leader for requests that clients may send to any broker."""

    @property
    def leads(self) -> bool:
        """Whether this broker is the one that answers."""
        ...

    @property
    def caught_up(self) -> bool:
        """Whether this broker knows at least what clients may have been told before it started."""
        ...

    async def forward(self, context: RequestContext, frame: bytes) -> bytes:
        """Has the leader serve a request frame (without its length); the response frame as it goes to the client. Waits a
        little for a leader where none is known. Raises PenstockError."""
        ...


class KafkaServices(NamedTuple):
    """`clock` gives milliseconds that never go back; it times idle and stalled connections and nothing else."""

    data: DataService
    topics: TopicService
    groups: GroupService
    clock: Callable[[], int]
    forwarder: Forwarder | None = None


class Call(NamedTuple):
    """One request's surroundings. `fetch_bytes_max` is what a fetch may bring now."""

    services: KafkaServices
    context: RequestContext
    version: int
    fetch_bytes_max: int
