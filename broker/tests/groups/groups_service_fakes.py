"""The group service over fakes of its ports: virtual time, a log that commits when told, partitions as a table."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

from groups_harness import SETTINGS, subscription
from penstock.delivery.machine import QueuesMachine
from penstock.groups.machine import GroupsMachine
from penstock.groups.settings import GroupSettings
from penstock.model.commands import Command, StateMachine
from penstock.model.errors import ErrorCode, PenstockError
from penstock.replication.features import FEATURE_LEVEL
from penstock.service.context import RequestContext
from penstock.service.group_api import GroupService, JoinRequest, JoinResult, OffsetToCommit, SyncRequest
from penstock.service.groups import ConsumerGroups
from penstock.testing.virtual_time import FakeClock


class FakeLog:
    """Stages at once; commits at once too, or when `commit` is called while `held`."""

    def __init__(self, machine: GroupsMachine, queues: QueuesMachine | None = None) -> None:
        self._queues = queues or QueuesMachine()
        self._groups = machine
        self.held = False
        self.refusal: PenstockError | None = None
        self.late_refusal: PenstockError | None = None
        self.commands: list[Command] = []
        self._index = 0
        self._waiting: list[tuple[list[tuple[int, Command]], asyncio.Future[None]]] = []

    def propose(self, commands: Sequence[Command]) -> Awaitable[None]:
        if self.refusal is not None:
            raise self.refusal
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.late_refusal is not None:
            done.set_exception(self.late_refusal)
            return done
        entries = []
        for command in commands:
            self._index += 1
            self._machine(command).stage(self._index, command)
            entries.append((self._index, command))
        self._waiting.append((entries, done))
        if not self.held:
            self.commit()
        return done

    def _machine(self, command: Command) -> StateMachine:
        return self._queues if type(command) in self._queues.commands else self._groups

    def commit(self) -> None:
        for entries, done in self._waiting:
            for index, command in entries:
                self._machine(command).apply(index, command)
                self.commands.append(command)
            done.set_result(None)
        self._waiting.clear()


class FakePositions:
    """Topic to (log start, high watermark) of each partition."""

    def __init__(self, **topics: list[tuple[int, int]]) -> None:
        self.topics = topics
        self.by_time: dict[tuple[str, int, int], int] = {}
        self.address: tuple[int, str, int] | None = (7, "broker", 9092)
        self.on_lookup: Callable[[], Awaitable[None]] | None = None

    def partition_count(self, topic: str) -> int | None:
        partitions = self.topics.get(topic)
        return None if partitions is None else len(partitions)

    def log_start(self, topic: str, partition: int) -> int:
        return self.topics[topic][partition][0]

    def high_watermark(self, topic: str, partition: int) -> int:
        return self.topics[topic][partition][1]

    async def timestamp_at(self, topic: str, partition: int, offset: int) -> int:
        return -1

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        if self.on_lookup is not None:
            await self.on_lookup()
        return self.by_time.get((topic, partition, timestamp_ms), -1)

    def coordinator(self, listener: str, group: str) -> tuple[int, str, int] | None:
        return self.address


CONTEXT = RequestContext("kafka", "kafka", client_id="app", client_host="/10.0.0.1")
NO_QUORUM = PenstockError(ErrorCode.NOT_ENOUGH_REPLICAS, "no majority")


class House:
    """A service that leads, with a topic `t` of two partitions and a topic `u` of one."""

    def __init__(self, settings: GroupSettings = SETTINGS, machine: GroupsMachine | None = None) -> None:
        self.machine = machine or GroupsMachine()
        self.queues = QueuesMachine()
        self.log = FakeLog(self.machine, self.queues)
        self.level = FEATURE_LEVEL
        self.clock = FakeClock()
        self.positions = FakePositions(t=[(0, 100), (10, 50)], u=[(0, 5)])
        counter = itertools.count(1)
        self.groups = ConsumerGroups(
            self.machine,
            self.log,
            self.clock,
            self.positions,
            lambda: f"n{next(counter)}",
            settings,
            self.queues,
            lambda: self.level,
        )
        self.service: GroupService = self.groups
        self.groups.start()

    def join(
        self,
        group: str = "g",
        member_id: str = "",
        instance: str | None = None,
        topics: tuple[str, ...] = ("t",),
        known: bool = False,
    ) -> asyncio.Future[JoinResult]:
        request = JoinRequest(
            group,
            10_000,
            60_000,
            member_id,
            instance,
            "consumer",
            [("range", subscription(*topics))],
            requires_known_member=known,
        )
        return asyncio.ensure_future(self.service.join(CONTEXT, request))

    async def member(self, group: str = "g", instance: str | None = None, assigned: bytes = b"A") -> str:
        """The sole member of a stable group."""
        joining = self.join(group, instance=instance)
        await self.clock.advance(3_000)
        joined = await joining
        assert joined.error is ErrorCode.NONE
        synced = await self.service.sync(
            CONTEXT,
            SyncRequest(group, joined.generation, joined.member_id, instance, {joined.member_id: assigned}),
        )
        assert (synced.error, synced.assignment) == (ErrorCode.NONE, assigned)
        return joined.member_id

    async def commit(
        self,
        group: str,
        *offsets: OffsetToCommit,
        generation: int = -1,
        member_id: str = "",
        retention_ms: int = -1,
    ) -> list[ErrorCode]:
        results = await self.service.commit_offsets(
            CONTEXT, group, generation, member_id, None, offsets, retention_ms
        )
        assert [(t, p) for t, p, _ in results] == [(o.topic, o.partition) for o in offsets]
        return [error for _, _, error in results]


def at(partition: int = 0, offset: int = 5, topic: str = "t") -> OffsetToCommit:
    return OffsetToCommit(topic, partition, offset)
