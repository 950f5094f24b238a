"""The brokers' own listener, and Kafka requests that one broker passes on to another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.listeners.kafka.exchange import start_exchange
from penstock.listeners.kafka.forwarding import ForwardedExchange
from penstock.listeners.kafka.server import KafkaListener
from penstock.model.errors import ErrorCode, PenstockError
from penstock.runtime.links import Links
from penstock.runtime.member import ShardMember
from penstock.runtime.peer_requests import Ask
from penstock.service.cluster import ClusterView
from penstock.service.context import RequestContext

ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


class PeerListener:
    """Where the other brokers of the shard come in; a listener like the others to whoever starts and stops it."""

    def __init__(self, name: str, host: str, port: int, links: Links) -> None:
        self.name = name
        self._host, self._port = host, port
        self._links = links
        self.address: tuple[str, int] = (host, port)

    async def start(self) -> None:
        """Raises OSError where host and port cannot be had."""
        self.address = await self._links.listen(self._host, self._port)

    async def stop(self) -> None:
        """The links are closed with the member, after the leadership was handed over."""


class ServedRequests:
    """Serves what other brokers pass on, as if it had come to the listener of the same name here."""

    def __init__(self) -> None:
        self._listeners: dict[str, KafkaListener] = {}

    def add(self, listener: KafkaListener) -> None:
        """Requests that came to a listener of this name are served with this one's services."""
        self._listeners[listener.name] = listener

    def serve(self, ask: Ask, data: memoryview, answer: Callable[[bytes | None], None]) -> None:
        """See `peer_requests.Serve`."""
        listener = self._listeners.get(ask.listener) or next(iter(self._listeners.values()), None)
        if listener is None:
            answer(None)
            return
        context = RequestContext(ask.listener, "kafka", ask.client_id, ask.client_host, ask.principal)
        exchange = ForwardedExchange(
            listener.services, context, listener.counters, listener.limits, listener.spawn, answer
        )
        start_exchange(exchange, data)


class LeaderRequests:
    """Implements `listeners.kafka.services.Forwarder`."""

    def __init__(self, member: ShardMember, served: ServedRequests) -> None:
        self._member = member
        self._served = served

    @property
    def leads(self) -> bool:
        """See `Forwarder.leads`."""
        return self._member.shard.leading

    @property
    def caught_up(self) -> bool:
        """See `Forwarder.caught_up`."""
        return self._member.replica.caught_up

    async def forward(self, context: RequestContext, frame: bytes) -> bytes:
        """See `Forwarder.forward`."""
        member = self._member
        if member.leader_member in (0, member.own_member):
            await member.until_settled()
        if self.leads:
            return await self._serve_here(context, frame)
        if member.leader_member in (0, member.own_member):
            raise PenstockError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER, "no leader of the shard is known now: try again"
            )
        return await member.requests.ask(
            member.leader_member,
            frame,
            listener=context.listener,
            client_id=context.client_id,
            client_host=context.client_host,
            principal=context.principal,
        )

    async def _serve_here(self, context: RequestContext, frame: bytes) -> bytes:
        """The leader that was waited for is this broker."""
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        ask = Ask(0, context.listener, context.client_id, context.client_host, context.principal)

        def answer(data: bytes | None) -> None:
            if not future.done():
                future.set_result(data)

        self._served.serve(ask, memoryview(frame), answer)
        served = await future
        if served is None:
            raise PenstockError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER, "the request could not be served: try again"
            )
        return served


class LeaderAddress:
    """Implements `listeners.http.services.LeaderHttp`: the leader's HTTP listeners stand on the host where its peers reach
    it, unless they are bound to one address."""

    def __init__(self, name: str, member: ShardMember, view: ClusterView) -> None:
        self.name = name
        self._member = member
        self._view = view

    @property
    def leads(self) -> bool:
        """See `LeaderHttp.leads`."""
        return self._member.shard.leading

    async def until_settled(self) -> None:
        """See `LeaderHttp.until_settled`."""
        await self._member.until_settled()

    async def until_replaced(self) -> None:
        """See `LeaderHttp.until_replaced`."""
        member = self._member
        before = member.leader_member
        await member.replica.settling.until(lambda: member.leader_member not in (0, before))

    def address(self, listener: str) -> tuple[str, int] | None:
        """See `LeaderHttp.address`."""
        leader = self._view.leader_announcement()
        if leader is None or leader.member == self._member.own_member:
            return None
        bound = (leader.http or self._greeted(leader.member)).get(listener)
        if bound is None:
            return None
        host, _, port = bound.rpartition(":")
        if host in ANY_ADDRESS:
            host = leader.peer.rpartition(":")[0]
        return host, int(port)

    def _greeted(self, member: int) -> dict[str, str]:
        """What it said when it was connected to: a shard below the level that has it announces none."""
        greetings = self._member.links.members()
        return next((greeting.http for greeting in greetings if greeting.member == member), {})
