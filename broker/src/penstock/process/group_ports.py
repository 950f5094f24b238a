"""The shard, the loop and the partitions as the group service wants them (`penstock.service.ports`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from penstock.partition.partition import Partition
from penstock.runtime.clock import Clock
from penstock.runtime.shard import Shard
from penstock.service.cluster import ClusterView
from penstock.service.positions import PositionLookup
from penstock.service.runs import RunLoader


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
        self._loader = RunLoader(shard)

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

    async def timestamp_at(self, topic: str, partition: int, offset: int) -> int:
        """See `Positions.timestamp_at`."""
        found = self._shard.table.require(topic, partition)
        return await self._loader.ask(found, lambda: found.timestamp_at(offset))

    def coordinator(self, listener: str, group: str) -> tuple[int, str, int] | None:
        """See `Positions.coordinator`."""
        leader = self._view.leader_node()
        address = self._view.address_of(leader, listener)
        return (leader, *address) if address is not None and address[0] else None


class ShardQueuePartitions:
    """Implements `penstock.service.queue_ports.QueuePartitions` on one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def of(self, topic: str) -> Sequence[Partition]:
        """See `QueuePartitions.of`."""
        table, known = self._shard.table, self._shard.machines.catalog.topics.committed.get(topic)
        if known is None:
            return ()
        found = (table.get(topic, number) for number in range(len(known.partitions)))
        return [partition for partition in found if partition is not None]

    def with_key(self, key: int) -> Partition | None:
        """See `QueuePartitions.with_key`."""
        return self._shard.table.by_key.get(key)
