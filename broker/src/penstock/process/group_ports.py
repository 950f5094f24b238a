"""The shard, the loop and the partitions as the group service wants them (`penstock.service.ports`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.runtime.clock import Clock
from penstock.runtime.shard import Shard
from penstock.service.cluster import ClusterView
from penstock.service.positions import PositionLookup


class LoopClock(Clock):
    """The process's clocks and the loop's timers."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls back on the loop."""
        return asyncio.get_running_loop().call_later(seconds, callback)


class ShardPositions:
    """Implements `penstock.service.ports.Positions` on one shard."""

    def __init__(self, shard: Shard, view: ClusterView) -> None:
        self._shard = shard
        self._view = view
        self._lookup = PositionLookup(shard)

    def partition_count(self, topic: str) -> int | None:
        """See `Positions.partition_count`."""
        found = self._shard.machines.catalog.topics.committed.get(topic)
        return len(found.partitions) if found is not None else None

    def log_start(self, topic: str, partition: int) -> int:
        """See `Positions.log_start`."""
        return self._shard.table.require(topic, partition).log_start

    def high_watermark(self, topic: str, partition: int) -> int:
        """See `Positions.high_watermark`."""
        return self._shard.table.require(topic, partition).high_watermark

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """See `Positions.offset_at`."""
        found, _ = await self._lookup.offset_since(self._shard.table.require(topic, partition), timestamp_ms)
        return found

    def coordinator(self, listener: str, group: str) -> tuple[int, str, int] | None:
        """See `Positions.coordinator`."""
        leader = self._view.leader_node()
        address = self._view.address_of(leader, listener)
        return (leader, *address) if address is not None and address[0] else None
