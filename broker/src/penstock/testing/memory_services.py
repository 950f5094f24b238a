"""The use-cases in memory, for tests of the HTTP listeners and the command line: no log, no disk, no time-outs.

Small and honest rather than complete: real record batches are kept and given back, offsets are dense, errors have the
codes and sentences that the services promise. What HTTP never asks for (membership of groups, producer ids) is not
there. Everything is one object per service, and tests may reach into them to set the scene.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from penstock.codec.records import read_records, split_batches
from penstock.listeners.http.services import AlwaysLeads, HttpServices, LeaderHttp
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings
from penstock.model.record_batch import parse_header
from penstock.replication.election_status import ElectionStatus
from penstock.replication.recovery import Recovery
from penstock.service.api import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    AppendResult,
    BrokerStatus,
    DataService,
    FetchedPartition,
    FetchPartition,
    ForkedOffsets,
    ForkedTailStatus,
    MemberStatus,
    Position,
    PositionQuery,
    ProduceBatches,
    ReplicaDigest,
    TopicService,
)
from penstock.service.context import RequestContext
from penstock.service.group_api import (
    GroupDetail,
    GroupOverview,
    GroupPosition,
    GroupService,
    MemberDescription,
    OffsetReset,
    PartitionPosition,
    QueueDetail,
    StartPosition,
)
from penstock.telemetry.counters import Counters
from penstock.telemetry.samples import GroupSample, Samples, TopicSample
from penstock.testing.memory_messages import MemoryMessages
from penstock.testing.memory_queues import MemoryQueues
from penstock.testing.memory_topics import BROKER_NAME, CLUSTER_ID, MemoryTopic, MemoryTopics
from penstock.testing.memory_traces import MemoryTraces


class MemoryData:
    """DataService as far as HTTP uses it. `calls` is what was produced, in the sizes that arrived."""

    def __init__(self, topics: MemoryTopics) -> None:
        self.topics = topics
        self.calls: list[list[int]] = []
        self.batch_bytes_max = 1024 * 1024
        self.failure: AppendResult | None = None
        self.crash: Exception | None = None
        self.unavailable = 0
        self._arrived = asyncio.Event()

    async def produce(
        self,
        context: RequestContext,
        batches: Sequence[ProduceBatches],
        acks: int,
        timeout_ms: int,
        transactional_id: str | None = None,
    ) -> list[AppendResult]:
        """Appends; acks 0 says nothing about offsets."""
        if self.crash is not None:
            raise self.crash
        results = [self._append(batch, acks) for batch in batches]
        self.calls.append([parse_header(batch.records or b"").record_count for batch in batches])
        self._arrived.set()
        self._arrived = asyncio.Event()
        return results

    def _append(self, batches: ProduceBatches, acks: int) -> AppendResult:
        topic, number, records = batches
        if self.failure is not None and self.failure.partition == number:
            return self.failure
        found = self.topics.topics.get(topic)
        if found is None or number >= len(found.partitions):
            return AppendResult(topic, number, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message="It is gone.")
        assert records is not None
        if len(records) > self.batch_bytes_max:
            return AppendResult(topic, number, ErrorCode.MESSAGE_TOO_LARGE, message="It is too large.")
        base = [found.partitions[number].append(bytes(batch)) for batch in split_batches(records)]
        return AppendResult(topic, number, base_offset=base[0] if acks else -1)

    async def fetch(
        self,
        context: RequestContext,
        partitions: Sequence[FetchPartition],
        *,
        min_bytes: int,
        max_bytes: int,
        max_wait_ms: int,
    ) -> list[FetchedPartition]:
        """Whole batches; waits until there are some, or the wait is over. The first `unavailable` times it fails."""
        if self.unavailable:
            self.unavailable -= 1
            error = ErrorCode.LEADER_NOT_AVAILABLE
            return [FetchedPartition(each.topic, each.partition, error) for each in partitions]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait_ms / 1000
        while True:
            arrived = self._arrived
            fetched = [self._read(partition) for partition in partitions]
            left = deadline - loop.time()
            if left <= 0 or any(part.records or part.error for part in fetched):
                return fetched
            try:
                await asyncio.wait_for(arrived.wait(), left)
            except TimeoutError:
                return fetched

    def _read(self, asked: FetchPartition) -> FetchedPartition:
        topic = self.topics.topics.get(asked.topic)
        if topic is None or asked.partition >= len(topic.partitions):
            return FetchedPartition(asked.topic, asked.partition, error=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        kept = topic.partitions[asked.partition]
        answer = FetchedPartition(
            asked.topic,
            asked.partition,
            high_watermark=kept.high_watermark,
            log_start_offset=kept.log_start,
        )
        if not kept.log_start <= asked.offset <= kept.high_watermark:
            answer.error = ErrorCode.OFFSET_OUT_OF_RANGE
            return answer
        chosen: list[bytes] = []
        size = 0
        for batch in kept.batches:
            if parse_header(batch).last_offset < asked.offset:
                continue
            if chosen and size + len(batch) > asked.max_bytes:
                break
            chosen.append(batch)
            size += len(batch)
        answer.records = chosen
        return answer

    async def list_offsets(self, context: RequestContext, queries: Sequence[PositionQuery]) -> list[Position]:
        """Positions by name or time."""
        return [self._position(query) for query in queries]

    def _position(self, query: PositionQuery) -> Position:
        topic = self.topics.topics.get(query.topic)
        if topic is None or query.partition >= len(topic.partitions):
            return Position(query.topic, query.partition, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        kept = topic.partitions[query.partition]
        if query.timestamp == EARLIEST_TIMESTAMP:
            return Position(query.topic, query.partition, offset=kept.log_start)
        if query.timestamp == LATEST_TIMESTAMP:
            return Position(query.topic, query.partition, offset=kept.high_watermark)
        for batch in kept.batches:
            for record in read_records(memoryview(batch)):
                if record.timestamp >= query.timestamp:
                    return Position(
                        query.topic, query.partition, offset=record.offset, timestamp=record.timestamp
                    )
        return Position(query.topic, query.partition)


class MemoryGroup:
    """One group."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.topics: list[str] = []
        self.offsets: dict[tuple[str, int], int] = {}
        self.members: list[MemberDescription] = []
        self.assignments: dict[str, dict[str, list[int]]] = {}
        self.queue: QueueDetail | None = None


class MemoryGroups:
    """GroupService as far as HTTP uses it."""

    def __init__(self, topics: MemoryTopics) -> None:
        self.topics = topics
        self.groups: dict[str, MemoryGroup] = {}
        self.refusal = ErrorCode.NONE

    def _get(self, name: str) -> MemoryGroup:
        group = self.groups.get(name)
        if group is None:
            raise PenstockError(ErrorCode.GROUP_ID_NOT_FOUND, f"There is no group {name!r}.")
        return group

    def _positions(self, group: MemoryGroup) -> list[PartitionPosition]:
        positions = []
        for (topic, number), offset in group.offsets.items():
            end = self.topics.get(topic).partitions[number].high_watermark
            positions.append(PartitionPosition(topic, number, offset, "", end, end - offset))
        return positions

    def _overview(self, name: str, group: MemoryGroup) -> GroupOverview:
        lag = sum(position.lag for position in self._positions(group))
        state = "Stable" if group.members else "Empty"
        return GroupOverview(name, group.mode, state, "consumer", len(group.members), lag, True)

    async def list_groups(
        self, context: RequestContext, states: Sequence[str] = (), types: Sequence[str] = ()
    ) -> list[GroupOverview]:
        """All groups, or what the test said."""
        if self.refusal is not ErrorCode.NONE:
            raise PenstockError(self.refusal, "This broker does not coordinate groups now.")
        return [self._overview(name, group) for name, group in self.groups.items()]

    async def delete_groups(
        self, context: RequestContext, groups: Sequence[str]
    ) -> list[tuple[str, ErrorCode]]:
        """Deletes groups without members."""
        outcomes = []
        for name in groups:
            group = self.groups.get(name)
            if group is None:
                outcomes.append((name, ErrorCode.GROUP_ID_NOT_FOUND))
            elif group.members:
                outcomes.append((name, ErrorCode.NON_EMPTY_GROUP))
            else:
                del self.groups[name]
                outcomes.append((name, ErrorCode.NONE))
        return outcomes

    async def detail(self, context: RequestContext, group: str) -> GroupDetail:
        """One group."""
        found = self._get(group)
        return GroupDetail(
            overview=self._overview(group, found),
            protocol="range" if found.members else "",
            coordinator=0,
            topics=found.topics,
            members=found.members,
            assignments=found.assignments,
            positions=self._positions(found),
            queue=found.queue,
        )

    async def positions_at(
        self, context: RequestContext, topic: str, partition: int, groups_max: int
    ) -> tuple[list[GroupPosition], int]:
        """Of all groups; committed at a time that is made up."""
        found = [
            GroupPosition(name, "Empty", group.offsets[topic, partition], 1_700_000_000_000)
            for name, group in sorted(self.groups.items())
            if (topic, partition) in group.offsets
        ]
        return found[:groups_max], len(found)

    def _start(self, topic: str, number: int, start: StartPosition) -> int:
        partition = self.topics.get(topic).partitions[number]
        if start.offset is not None:
            return start.offset
        return partition.log_start if start.at == "earliest" else partition.high_watermark

    async def declare(
        self,
        context: RequestContext,
        group: str,
        mode: str,
        topics: Sequence[str],
        start: StartPosition,
        queue: QueueSettings | None = None,
    ) -> bool:
        """Declares a group."""
        for topic in topics:
            self.topics.get(topic)
        created = group not in self.groups
        found = self.groups.setdefault(group, MemoryGroup(mode))
        if found.mode != mode:
            sentence = f"The group {group!r} has the mode {found.mode}, which cannot be changed to {mode}."
            raise PenstockError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, sentence)
        found.topics = sorted({*found.topics, *topics})
        found.queue = None if mode != "queue" else QueueDetail(queue or QueueSettings())
        for topic in topics:
            for number in range(len(self.topics.get(topic).partitions)):
                found.offsets.setdefault((topic, number), self._start(topic, number, start))
        return created

    async def reset(
        self,
        context: RequestContext,
        group: str,
        to: StartPosition,
        *,
        topics: Sequence[str] = (),
        force: bool = False,
        dry_run: bool = False,
    ) -> list[OffsetReset]:
        """Moves positions."""
        found = self._get(group)
        if found.members and not force:
            sentence = f"The group {group!r} has active members; stop them, or reset with force."
            raise PenstockError(ErrorCode.NON_EMPTY_GROUP, sentence)
        moved = []
        for (topic, number), offset in found.offsets.items():
            if not topics or topic in topics:
                moved.append(OffsetReset(topic, number, offset, self._start(topic, number, to)))
        if not dry_run:
            for reset in moved:
                found.offsets[reset.topic, reset.partition] = reset.to_offset
        return moved


class MemoryBroker:
    """BrokerService with fixed numbers; `reasons` says why it is not ready."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.handed_to: str | None = None
        self.replicas = 1

    def status(self) -> BrokerStatus:
        """Made-up numbers."""
        return BrokerStatus(
            cluster_id=CLUSTER_ID,
            cluster_name="memory",
            name=BROKER_NAME,
            node_id=0,
            shard_id=0,
            shard_uid="00000000-0000-0000-0000-000000000001",
            storage_id="00000000-0000-0000-0000-000000000002",
            version="0.1.0",
            epoch=3,
            started_at_ms=1_700_000_000_000,
            listeners=[("kafka", "kafka", "127.0.0.1:9092", "localhost:9092")],
            log_first_index=1,
            log_last_index=10,
            log_commit_index=9,
            log_bytes=4096,
            disk_total_bytes=1000,
            disk_used_bytes=10,
            disk_state="ok",
            messages_in_per_second=1.5,
            bytes_in_per_second=2.5,
            bytes_out_per_second=3.5,
            leader=BROKER_NAME,
            members=[
                MemberStatus(BROKER_NAME, 0, "Leader", True, 0, 0, {"kafka": "localhost:9092"}, 2),
            ],
            feature_level=1,
            forked=[
                ForkedTailStatus("5-2.forked", 5, 7, 3, 2, True, [ForkedOffsets("payments", 0, 10, 12, 3)])
            ],
            replicas=self.replicas,
            election=ElectionStatus(
                "following", "memory-0-1", 3, [1, 2], None, "Holder", "it leads", "1 is lost", 2
            ),
        )

    def not_ready_reasons(self) -> list[str]:
        """What the test said."""
        return self.reasons

    async def digest(self, first: int | None = None, last: int | None = None) -> ReplicaDigest:
        """Made-up hashes."""
        return ReplicaDigest(9, first or 1, last or 9, "e1", {"catalog": "c1"})

    async def hand_over(self, to: str | None = None) -> None:
        """Notes who was asked for; nothing moves."""
        self.handed_to = to

    async def resize(self, replicas: int) -> None:
        """Remembered, and told by `status`."""
        self.replicas = replicas

    async def trust(self, shard_uid: str, storage_id: str) -> Recovery:
        """Made up, for the storage that `status` names."""
        if storage_id != self.status().storage_id:
            raise PenstockError(ErrorCode.INVALID_REQUEST, "the storage is another one")
        self.recovery = Recovery(1, "lineage", 7, BROKER_NAME, 10_003, 10, 3, 9, 1_700_000_000_000)
        return self.recovery


class MemoryLeader:
    """LeaderHttp as a test says: which broker leads, and where its listeners are, by name."""

    def __init__(self, name: str = "memory-0-1", *, leads: bool = False) -> None:
        self.name = name
        self.leads = leads
        self.addresses: dict[str, tuple[str, int]] = {}
        # What happens when somebody waits for a leader.
        self.on_wait: Callable[[], None] = lambda: None
        # Set when somebody else leads.
        self.replaced = asyncio.Event()

    def address(self, listener: str) -> tuple[str, int] | None:
        """What the test said."""
        return self.addresses.get(listener)

    async def until_settled(self) -> None:
        """Whatever the test wants to happen meanwhile."""
        self.on_wait()

    async def until_replaced(self) -> None:
        """When the test says so."""
        await self.replaced.wait()


class MemoryMeasured:
    """What a scrape measures, of the services in memory: nothing has a timestamp, so no age is known."""

    def __init__(self, topics: MemoryTopics, groups: MemoryGroups) -> None:
        self._topics = topics
        self._groups = groups

    async def samples(self) -> Samples:
        """Topics, and groups where they are coordinated."""
        context = RequestContext("memory", "memory")
        topics = [
            TopicSample(t.name, t.partitions, t.messages, t.bytes) for t in self._topics.list_topics(context)
        ]
        if self._groups.refusal is not ErrorCode.NONE:
            return Samples(topics)
        overviews = await self._groups.list_groups(context)
        return Samples(topics, [GroupSample(g.group, g.state, g.members, g.lag) for g in overviews])


class MemoryServices:
    """All of them, wired: `http` is what the listeners take."""

    def __init__(self) -> None:
        self.topics = MemoryTopics()
        self.data = MemoryData(self.topics)
        self.groups = MemoryGroups(self.topics)
        self.broker = MemoryBroker()
        self.messages = MemoryMessages(self.topics)
        self.traces = MemoryTraces()
        self.counters = Counters()
        self.queues = MemoryQueues()
        self.leader: LeaderHttp = AlwaysLeads()

    @property
    def http(self) -> HttpServices:
        """The services as the HTTP listeners see them. What HTTP never calls is missing, hence the casts."""
        return HttpServices(
            data=cast("DataService", self.data),
            topics=cast("TopicService", self.topics),
            groups=cast("GroupService", self.groups),
            broker=self.broker,
            counters=self.counters,
            messages=self.messages,
            traces=self.traces,
            measured=MemoryMeasured(self.topics, self.groups),
            queues=self.queues,
            leader=self.leader,
        )

    def add_topic(self, name: str, partitions: int = 1) -> MemoryTopic:
        """Makes a topic."""
        topic = self.topics.topics[name] = MemoryTopic(name, partitions, {})
        return topic
