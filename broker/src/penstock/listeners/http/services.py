"""What the HTTP listeners are given: the use-cases, the broker's own status, the counters they keep, what is measured, and who leads."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from penstock.service.api import BrokerService, DataService, TopicService
    from penstock.service.group_api import GroupService
    from penstock.service.message_api import MessageService
    from penstock.service.queue_api import QueueService
    from penstock.service.trace_api import TraceService
    from penstock.telemetry.counters import Counters
    from penstock.telemetry.samples import Samples


class LeaderHttp(Protocol):
    """Where the shard's leader is reached by HTTP. Asked anew for every request, because leaders change."""

    @property
    def name(self) -> str:
        """This broker's own name, by which others know who passed a request on to them."""
        ...

    @property
    def leads(self) -> bool:
        """Whether this broker leads, and so serves every request by itself."""
        ...

    def address(self, listener: str) -> tuple[str, int] | None:
        """Host and port of the leader's listener of this name; None while no other broker is known to lead."""
        ...

    async def until_settled(self) -> None:
        """Waits, as long as an election may take, until it is known who leads."""
        ...

    async def until_replaced(self) -> None:
        """Waits until somebody else leads than now."""
        ...


class Measured(Protocol):
    """What is measured when somebody scrapes, and not counted while it happens."""

    async def samples(self) -> Samples:
        """Topics, groups and queues as they are about now."""
        ...


@dataclass(frozen=True, slots=True)
class AlwaysLeads:
    """The `LeaderHttp` of a broker that is alone."""

    name: str = ""
    leads: bool = True

    def address(self, listener: str) -> tuple[str, int] | None:
        """Nobody else leads."""
        return None

    async def until_settled(self) -> None:
        """Nobody is waited for."""

    async def until_replaced(self) -> None:
        """Nobody ever is."""
        await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class HttpServices:
    """The house behind both HTTP doors."""

    data: DataService
    topics: TopicService
    groups: GroupService
    broker: BrokerService
    counters: Counters
    messages: MessageService
    traces: TraceService
    measured: Measured
    queues: QueueService
    leader: LeaderHttp = field(default_factory=AlwaysLeads)
