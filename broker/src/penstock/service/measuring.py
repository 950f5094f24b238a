"""What is measured when somebody scrapes: topics, groups and queues, gathered on the loop in slices.

Ten thousand partitions take tens of milliseconds to look at, so others get their turn between slices; what is shown is
thus not of one moment. One gathering is under way at a time, and whoever scrapes meanwhile is given the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from penstock.groups.states import GroupState
from penstock.model.errors import ErrorCode
from penstock.partition.partition import Partition
from penstock.runtime.clock import Clock
from penstock.runtime.shard import Shard
from penstock.service.groups_registry import GroupRegistry
from penstock.service.unread import UnreadTimestamps
from penstock.telemetry.samples import GroupSample, Queue, Samples, TopicSample, queue_samples

STEPS_PER_TURN: Final = 500
"""Partitions, positions or groups that are looked at before other work of the loop gets its turn: about a millisecond."""


class _Unread(msgspec.Struct):
    """What a group has not read: how many messages, the timestamp of the oldest as far as it is known, and the places where
    it has to be loaded first."""

    oldest: int
    messages: int = 0
    missing: list[tuple[Partition, int]] = []


class Measuring:
    """Implements `listeners.http.services.Measured` on one shard; `queues` may grow while listeners start."""

    def __init__(self, shard: Shard, registry: GroupRegistry, queues: Sequence[Queue], clock: Clock) -> None:
        self._shard = shard
        self._registry = registry
        self._queues = queues
        self._clock = clock
        self._timestamps = UnreadTimestamps(shard.threads)
        self._under_way: asyncio.Task[Samples] | None = None
        self._steps = 0

    async def samples(self) -> Samples:
        """See `Measured.samples`."""
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._gather())
            self._under_way.add_done_callback(self._gathered)
        # Others may wait for the same when this one's client goes away.
        return await asyncio.shield(self._under_way)

    def _gathered(self, task: asyncio.Task[Samples]) -> None:
        self._under_way = None

    async def close(self) -> None:
        """Ends what is under way."""
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)

    async def _gather(self) -> Samples:
        return Samples(await self._topics(), await self._groups(), queue_samples(self._queues))

    async def _step(self, steps: int = 1) -> None:
        """So much was done: others get their turn now and then."""
        self._steps += steps
        if self._steps >= STEPS_PER_TURN:
            self._steps = 0
            await asyncio.sleep(0)

    # --- topics ----------------------------------------------------------------------------------

    async def _topics(self) -> list[TopicSample]:
        """As of this broker's copy, whoever leads."""
        by_key = self._shard.table.by_key
        found = []
        for topic in list(self._shard.machines.catalog.topics.committed.values()):
            messages = size = 0
            for first in range(0, len(topic.partitions), STEPS_PER_TURN):
                places = topic.partitions[first : first + STEPS_PER_TURN]
                for place in places:
                    partition = by_key.get(place.key)
                    if partition is not None:
                        messages += partition.high_watermark - partition.log_start
                        size += partition.size_bytes
                await self._step(len(places))
            found.append(TopicSample(topic.name, len(topic.partitions), messages, size))
        return found

    # --- groups ----------------------------------------------------------------------------------

    @property
    def _coordinates(self) -> bool:
        return self._registry.refusal("") is ErrorCode.NONE

    async def _groups(self) -> list[GroupSample]:
        """Groups are measured where they are coordinated, so that a sum over all brokers counts each of them once."""
        if not self._coordinates:
            return []
        found: list[tuple[GroupSample, _Unread]] = []
        for name in self._registry.names():
            await self._step()
            unread = await self._unread(name)
            state = self._registry.state(name)
            if state is GroupState.DEAD:
                continue  # It was deleted since the names were listed.
            driver = self._registry.live.get(name)
            members = 0 if driver is None else len(driver.group.roster)
            sample = GroupSample(name, state.value, members, unread.messages, open=self._open(name))
            found.append((sample, unread))
        await self._timestamps.load()
        groups = []
        for group, unread in found:
            groups.append(group._replace(lag_seconds=self._age(unread)))
            await self._step()
        self._timestamps.end()
        # Somebody else may coordinate by now.
        return groups if self._coordinates else []

    async def _unread(self, name: str) -> _Unread:
        """Of all partitions in which the group has a position."""
        unread = _Unread(self._clock.now_ms())
        if self._registry.is_queue(name):
            await self._unsettled(name, unread)
            return unread
        positions = list(self._registry.machine.offsets(name))
        for first in range(0, len(positions), STEPS_PER_TURN):
            some = positions[first : first + STEPS_PER_TURN]
            for (topic, number), stored in some:
                partition = self._shard.table.get(topic, number)
                if partition is None:
                    continue
                # A position that was never valid lags by the whole partition.
                offset = max(stored.offset, partition.log_start)
                messages = partition.high_watermark - offset
                if messages > 0:
                    unread.messages += messages
                    self._look_up(unread, partition, offset)
            await self._step(len(some))
        return unread

    async def _unsettled(self, name: str, unread: _Unread) -> None:
        """The same of a queue group: what is not settled yet, whoever holds it."""
        for queue in list(self._registry.queues.queues(name)):
            await self._step()
            partition = self._shard.table.get(queue.topic, queue.partition)
            messages = 0 if partition is None else queue.unsettled(partition.high_watermark)
            if partition is None or messages <= 0:
                continue
            unread.messages += messages
            self._look_up(unread, partition, max(queue.floor, partition.log_start))

    def _look_up(self, unread: _Unread, partition: Partition, offset: int) -> None:
        timestamp = self._timestamps.look_up(partition, offset)
        if timestamp is None:
            unread.missing.append((partition, offset))
        else:
            unread.oldest = min(unread.oldest, timestamp)

    def _open(self, name: str) -> int | None:
        if not self._registry.is_queue(name):
            return None
        return sum(queue.open_count for queue in self._registry.queues.queues(name))

    def _age(self, unread: _Unread) -> float | None:
        """Seconds of the oldest; 0 for nothing, None where one is not known, or a batch has no timestamp."""
        if not unread.messages:
            return 0.0
        oldest = unread.oldest
        for partition, offset in unread.missing:
            timestamp = self._timestamps.found(partition, offset)
            if timestamp is None:
                return None
            oldest = min(oldest, timestamp)
        return max(self._clock.now_ms() - oldest, 0) / 1000 if oldest >= 0 else None
