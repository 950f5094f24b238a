"""The shard's brokers as clients see them: who leads, who follows, and where each is reached by which listener."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from penstock.model.ids import node_id
from penstock.replication.members import Announcement, Members
from penstock.service.api import BrokerAddress

NO_NODE = -1


class Leadership(Protocol):
    """What the replica knows of the shard."""

    @property
    def own_member(self) -> int: ...

    @property
    def leader_member(self) -> int:
        """The member that leads, 0 while nobody is known to."""
        ...

    def in_sync_members(self) -> Sequence[int]:
        """As the leader sees it; a follower gives every voter that it knows of."""
        ...

    async def until_settled(self) -> None:
        """Waits, as long as an election may take, until it is known who serves."""
        ...


class ClusterView:
    """`address` gives this broker's own host and port by listener, which may change with a restart; the others' are those
    that they announced."""

    def __init__(
        self,
        members: Members,
        leadership: Leadership,
        shard_id: int,
        ordinal: int,
        address: Callable[[str], tuple[str, int]],
    ) -> None:
        self._members = members
        self._leadership = leadership
        self._shard_id = shard_id
        self.node_id = node_id(shard_id, ordinal)
        self._address = address

    async def until_settled(self) -> None:
        """Waits, as long as an election may take, until it is known who serves."""
        await self._leadership.until_settled()

    def leader_node(self) -> int:
        """Node id of the leader, -1 while it is not known."""
        leader = self._leadership.leader_member
        if leader == self._leadership.own_member:
            return self.node_id
        found = self._members.announcements.committed.get(leader)
        return NO_NODE if found is None else node_id(self._shard_id, found.ordinal)

    def leader_name(self) -> str:
        """Its name as announced; empty while it is not known, or this broker's own and not announced yet."""
        found = self._members.announcements.committed.get(self._leadership.leader_member)
        return "" if found is None else found.name

    def leader_announcement(self) -> Announcement | None:
        """What the leader announced of itself."""
        return self._members.announcements.committed.get(self._leadership.leader_member)

    def address_of(self, node: int, listener: str) -> tuple[str, int] | None:
        """(host, port) of a broker by one listener's name."""
        found = next((broker for broker in self.brokers(listener) if broker.node_id == node), None)
        return None if found is None else (found.host, found.port)

    def brokers(self, listener: str) -> list[BrokerAddress]:
        """Every broker that has announced itself, and this one."""
        found = {self.node_id: BrokerAddress(self.node_id, *self._address(listener))}
        for announcement in self._members.configured():
            node = node_id(self._shard_id, announcement.ordinal)
            address = _address(announcement, listener)
            if node not in found and address is not None:
                found[node] = BrokerAddress(node, *address)
        return [found[node] for node in sorted(found)]

    def replica_nodes(self) -> list[int]:
        """Node ids of the voters, or of this broker before there are any."""
        return self._nodes(self._members.configuration.voters)

    def in_sync_nodes(self) -> list[int]:
        """Node ids of the copies that count now."""
        return self._nodes(self._leadership.in_sync_members())

    def _nodes(self, members: Sequence[int]) -> list[int]:
        known = self._members.announcements.committed
        nodes = {node_id(self._shard_id, known[member].ordinal) for member in members if member in known}
        if not nodes or self._leadership.own_member in members:
            nodes.add(self.node_id)
        return sorted(nodes)


def _address(announcement: Announcement, listener: str) -> tuple[str, int] | None:
    """By the listener's name, else by any: brokers of one shard have the same listeners but for a change under way."""
    listeners = announcement.listeners
    text = listeners.get(listener) or next(iter(listeners.values()), None)
    if not text:
        return None
    host, _, port = text.rpartition(":")
    return host, int(port)
