"""Queue groups over fakes: virtual time, a log that commits when told, partitions and a dead-letter topic in memory.

Several leaderships may follow each other on the same state: `lead` begins the next one, as a broker does that takes over.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import msgspec

from penstock.codec.records import Record, build_batch, read_records
from penstock.delivery.commands import QueuePositionSet
from penstock.delivery.machine import QueuesMachine
from penstock.groups.commands import GroupDeclared
from penstock.groups.machine import GroupsMachine
from penstock.model.commands import Command, StateMachine
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings
from penstock.model.record_batch import parse_header
from penstock.service.api import (
    AppendResult,
    FetchedPartition,
    FetchPartition,
    NewTopic,
    ProduceBatches,
    TopicOutcome,
)
from penstock.service.context import RequestContext
from penstock.service.queue_api import Leased, LeaseRequest
from penstock.service.queue_outbox import OutboxDoors
from penstock.service.queue_ports import LeaderClock, QueueHouse
from penstock.service.queue_reading import QueueReader
from penstock.service.queues import QueueGroups
from penstock.session.producers import ProducerSessions
from penstock.telemetry.queue_counters import QueueCounters
from penstock.testing.virtual_time import FakeClock, settle

CONTEXT = RequestContext("http", "http", client_id="worker")
GROUP, TOPIC = "work", "t"
# Without jitter, so that times are round.
SETTINGS = msgspec.structs.replace(
    QueueSettings(), backoff=msgspec.structs.replace(QueueSettings().backoff, jitter=0.0)
)


class ScenePartition:
    """One partition: batches of records, each with its first offset."""

    def __init__(self, key: int, topic: str, number: int) -> None:
        self.key = key
        self.topic = topic
        self.number = number
        self.log_start = 0
        self.high_watermark = 0
        self.size_bytes = 0
        self.waiters: dict[object, Callable[[], None]] = {}
        self.batches: list[bytes] = []

    def append(self, batch: bytes) -> int:
        """Adds a batch, committed at once; its first offset."""
        base = self.high_watermark
        placed = base.to_bytes(8, "big") + batch[8:]
        self.batches.append(placed)
        self.high_watermark += parse_header(placed).record_count
        self.size_bytes += len(placed)
        waiters, self.waiters = self.waiters, {}
        for callback in waiters.values():
            callback()
        return base

    @property
    def records(self) -> list[Record]:
        """Everything that is in it."""
        return [record for batch in self.batches for record in read_records(memoryview(batch))]


class SceneTopics:
    """Partitions by topic, what reads them, and who makes new ones."""

    def __init__(self) -> None:
        self.by_name: dict[str, list[ScenePartition]] = {}
        self._keys = itertools.count(1)
        self.reads = 0

    def make(self, name: str, partitions: int = 1) -> list[ScenePartition]:
        """Adds a topic."""
        made = [ScenePartition(next(self._keys), name, number) for number in range(partitions)]
        self.by_name[name] = made
        return made

    def of(self, topic: str) -> Sequence[ScenePartition]:
        return self.by_name.get(topic, ())

    def with_key(self, key: int) -> ScenePartition | None:
        found = (each for partitions in self.by_name.values() for each in partitions if each.key == key)
        return next(found, None)

    def fetch(
        self, partitions: Sequence[FetchPartition], *, min_bytes: int, max_bytes: int, max_wait_ms: int
    ) -> asyncio.Future[list[FetchedPartition]]:
        self.reads += 1
        [asked] = partitions
        done: asyncio.Future[list[FetchedPartition]] = asyncio.get_running_loop().create_future()
        partition = self.of(asked.topic)[asked.partition]
        answer = FetchedPartition(asked.topic, asked.partition)
        if asked.offset < partition.log_start:
            answer.error = ErrorCode.OFFSET_OUT_OF_RANGE
        else:
            answer.records = [
                batch for batch in partition.batches if parse_header(batch).last_offset >= asked.offset
            ][:1]
        done.set_result([answer])
        return done

    async def create_topics(
        self, context: RequestContext, topics: Sequence[NewTopic], *, validate_only: bool = False
    ) -> list[TopicOutcome]:
        self.make(topics[0].name, topics[0].partitions)
        return [TopicOutcome(topics[0].name)]


class SceneData:
    """Where dead letters are written: a partition remembers its producers, as a real one does."""

    def __init__(self, topics: SceneTopics, producers: ProducerSessions) -> None:
        self._topics = topics
        self._producers = producers
        self._index = itertools.count(1_000_000)
        self.refusals: list[ErrorCode] = []
        self.writes = 0

    def produce(
        self,
        context: RequestContext,
        batches: Sequence[ProduceBatches],
        acks: int,
        timeout_ms: int,
        transactional_id: str | None = None,
    ) -> Awaitable[list[AppendResult]]:
        [item] = batches
        assert item.records is not None
        done: asyncio.Future[list[AppendResult]] = asyncio.get_running_loop().create_future()
        if self.refusals:
            code = self.refusals.pop(0)
            done.set_result([AppendResult(item.topic, item.partition, code)])
            return done
        partition, header = self._topics.of(item.topic)[item.partition], parse_header(item.records)
        known = self._producers.check(partition.key, header)
        base = known.base_offset if known is not None else partition.append(bytes(item.records))
        if known is None:
            self.writes += 1
            self._producers.apply_batch(next(self._index), partition.key, header._replace(base_offset=base))
        done.set_result([AppendResult(item.topic, item.partition, base_offset=base)])
        return done


class SceneLog:
    """Stages at once; commits at once too, or when `commit` is called while `held`."""

    def __init__(self, machines: Sequence[StateMachine]) -> None:
        self._machines = {command: machine for machine in machines for command in machine.commands}
        self.machines = machines
        self.held = False
        self.refusal: PenstockError | None = None
        self.commands: list[Command] = []
        self.index = 0
        self._waiting: list[tuple[list[tuple[int, Command]], asyncio.Future[None]]] = []

    def propose(self, commands: Sequence[Command]) -> Awaitable[None]:
        if self.refusal is not None:
            raise self.refusal
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entries = []
        for command in commands:
            self.index += 1
            self._machines[type(command)].stage(self.index, command)
            entries.append((self.index, command))
        self._waiting.append((entries, done))
        if not self.held:
            self.commit()
        return done

    def commit(self) -> None:
        """Everything that was appended."""
        waiting, self._waiting = self._waiting, []
        for entries, done in waiting:
            for index, command in entries:
                self._machines[type(command)].apply(index, command)
                self.commands.append(command)
            if not done.done():
                done.set_result(None)

    def doubt(self, error: PenstockError) -> None:
        """Whoever waits is told that the outcome is not known; what was appended may be committed all the same."""
        for _, done in self._waiting:
            done.set_exception(error)

    def lose(self, error: PenstockError) -> None:
        """Another leader's log holds none of what was appended."""
        waiting, self._waiting = self._waiting, []
        for machine in self.machines:
            machine.drop_staged()
        for _, done in waiting:
            if not done.done():
                done.set_exception(error)

    def of(self, kind: type[Command]) -> list[Any]:
        """The committed commands of one kind."""
        return [command for command in self.commands if type(command) is kind]


class Scene:
    """A shard with topic `t` and the queue group `work` on it, led by this broker."""

    def __init__(self, partitions: int = 1, settings: QueueSettings = SETTINGS) -> None:
        self.clock = FakeClock()
        self.machine, self.groups, self.producers = QueuesMachine(), GroupsMachine(), ProducerSessions()
        self.log = SceneLog([self.machine, self.groups, self.producers])
        self.topics = SceneTopics()
        self.partitions = self.topics.make(TOPIC, partitions)
        self.data = SceneData(self.topics, self.producers)
        self.counters = QueueCounters()
        self._lease_ids = itertools.count(1)
        self.chance = 0.5
        self.declare(settings)
        positions = [QueuePositionSet(GROUP, TOPIC, number, 0, 0) for number in range(partitions)]
        self.log.propose(positions)
        self.service = self.lead()

    def declare(self, settings: QueueSettings) -> None:
        """Declares the group, anew or otherwise."""
        self.log.propose([GroupDeclared(GROUP, 0, "queue", (TOPIC,), "earliest", None, None, settings)])

    def lead(self) -> QueueGroups:
        """Begins the next leadership."""
        house = QueueHouse(
            self.machine,
            self.groups,
            self.log,
            self.clock,
            LeaderClock(self.clock),
            self.topics,
            QueueReader(self.topics),
            self.counters,
            lambda: next(self._lease_ids),
            lambda: self.chance,
        )
        doors = OutboxDoors(cast("Any", self.data), cast("Any", self.topics), self.producers, self._sleep)
        self.service = QueueGroups(house, doors)
        self.service.start()
        return self.service

    async def _sleep(self, seconds: float) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.clock.call_later(seconds, lambda: done.done() or done.set_result(None))
        await done

    def fail_over(self) -> QueueGroups:
        """This broker stops leading, what is not committed is lost, and another one begins."""
        self.service.stop()
        self.log.lose(PenstockError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "no longer"))
        for machine in self.log.machines:
            machine.drop_staged()
        return self.lead()

    # --- what clients do -------------------------------------------------------------------------

    def produce(self, *values: str, partition: int = 0, headers: Any = ()) -> None:
        """One batch of messages."""
        records = [Record(None, value.encode(), 5, tuple(headers)) for value in values]
        self.partitions[partition].append(build_batch(records))

    def leasing(
        self, most: int = 1, wait_ms: int = 0, lease_ms: int | None = None, member: str = ""
    ) -> asyncio.Task[Leased]:
        """A request for messages, under way."""
        request = LeaseRequest(GROUP, most, wait_ms, lease_ms, member)
        return asyncio.ensure_future(self.service.lease(CONTEXT, request))

    async def lease(self, most: int = 1, **options: Any) -> list[tuple[str, str, int]]:
        """(receipt, value, deliveries) of what was leased."""
        return told(await self.leasing(most, **options))

    async def settle(self) -> None:
        """Lets everything that is ready run."""
        await settle()


def told(leased: Leased) -> list[tuple[str, str, int]]:
    """(receipt, value, deliveries) of each message."""
    return [
        (each.receipt, (each.record.value or b"").decode(errors="replace"), each.deliveries)
        for each in leased.messages
    ]
