"""Topics and groups of a shard, asked of its leader whoever that is now.

Any broker says who leads; only the leader answers about topics and groups. Leadership moves, so a refusal that says
"not me" is followed by another look, a few times; a broker that does not answer at all ends the attempt, because then
nobody knows whether it did what it was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError
from penstock_operator.snapshot.broker import ClusterReport, parse_cluster
from penstock_operator.snapshot.shard import ShardView, shard_view

if TYPE_CHECKING:
    from penstock_operator.broker_admin import HttpBrokerAdmin

ATTEMPTS_MAX: Final = 3  # leaders tried for one call
Answer = TypeVar("Answer")


class LeaderAdmin:
    """`ports.BrokerAdmin` for one shard. `brokers` are its brokers by name; `leader` is a first guess."""

    def __init__(
        self, brokers: Mapping[str, HttpBrokerAdmin], leader: str | None = None, shard: int = 0
    ) -> None:
        self._brokers = brokers
        self._shard = shard
        self._leader = leader if leader in brokers else None

    async def topic(self, name: str) -> Any | None:
        """See `ports.BrokerAdmin`."""
        return await self._ask(lambda leader: leader.topic(name))

    async def create_topic(self, name: str, partitions: int, config: dict[str, str]) -> None:
        """See `ports.BrokerAdmin`."""
        await self._ask(lambda leader: leader.create_topic(name, partitions, config))

    async def alter_topic(self, name: str, partitions: int | None, config: dict[str, str | None]) -> None:
        """See `ports.BrokerAdmin`."""
        await self._ask(lambda leader: leader.alter_topic(name, partitions, config))

    async def delete_topic(self, name: str) -> None:
        """See `ports.BrokerAdmin`."""
        await self._ask(lambda leader: leader.delete_topic(name))

    async def group(self, name: str) -> Any | None:
        """See `ports.BrokerAdmin`."""
        return await self._ask(lambda leader: leader.group(name))

    async def declare_group(self, name: str, declaration: dict[str, Any]) -> None:
        """See `ports.BrokerAdmin`."""
        await self._ask(lambda leader: leader.declare_group(name, declaration))

    async def reset_group(self, name: str, to: dict[str, Any], force: bool) -> dict[str, Any]:
        """See `ports.BrokerAdmin`."""
        return await self._ask(lambda leader: leader.reset_group(name, to, force))

    async def delete_group(self, name: str) -> None:
        """See `ports.BrokerAdmin`."""
        await self._ask(lambda leader: leader.delete_group(name))

    async def _ask(self, call: Callable[[HttpBrokerAdmin], Awaitable[Answer]]) -> Answer:
        for _ in range(ATTEMPTS_MAX):
            leader = self._leader or await self._find()
            try:
                answer = await call(self._brokers[leader])
            except AdminError as error:
                if not error.is_not_leader:
                    raise
                self._leader = None
                continue
            except AdminUnreachableError:
                self._leader = None
                raise
            self._leader = leader
            return answer
        raise AdminUnreachableError(f"shard {self._shard} changes its leader faster than it can be asked")

    async def _find(self) -> str:
        """The leader's name. Raises AdminUnreachableError when no broker names one that can be reached."""
        view = await look_at_shard(self._brokers, self._shard)
        if view.leader is None:
            raise AdminUnreachableError(f"shard {self._shard} has no leader")
        if view.leader not in self._brokers:
            raise AdminUnreachableError(f"{view.leader} leads shard {self._shard} and cannot be reached")
        return view.leader


async def look_at_shard(brokers: Mapping[str, HttpBrokerAdmin], shard: int) -> ShardView:
    """What brokers (by name) say about their shard, as one; those that do not answer say nothing."""
    return shard_view(shard, await shard_reports(brokers))


async def shard_reports(brokers: Mapping[str, HttpBrokerAdmin]) -> dict[str, ClusterReport]:
    """The same, by the name of who says it."""
    answers = await asyncio.gather(*(_report(broker) for broker in brokers.values()))
    return {name: answer for name, answer in zip(brokers, answers, strict=True) if answer is not None}


async def _report(broker: HttpBrokerAdmin) -> ClusterReport | None:
    try:
        return parse_cluster(await broker.cluster())
    except (AdminError, AdminUnreachableError, ValueError):
        return None
