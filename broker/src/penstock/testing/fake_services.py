"""Services in memory for tests of the Kafka listener: one broker, no disk, real record batches, a group of one.

Small where the listener only translates, real where clients look closely: offsets are dense, fetches long-poll, and a
test can hold produce requests back, make any call fail, and let a partition answer with endless bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from penstock.listeners.kafka.services import KafkaServices
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import HEADER, HEADER_SIZE, parse_header
from penstock.service.api import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    AppendResult,
    BrokerAddress,
    ClusterMetadata,
    ConfigEntry,
    ConfigOperation,
    DeletedRecords,
    EpochEnd,
    FetchedPartition,
    FetchPartition,
    NewTopic,
    PartitionMetadata,
    Position,
    PositionQuery,
    ProduceBatches,
    TopicMetadata,
    TopicOutcome,
    TopicService,
)
from penstock.service.context import RequestContext
from penstock.service.group_api import GroupService
from penstock.testing.fake_groups import FakeGroups

CLUSTER_ID = "fake-cluster-000000000"
MISSING = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class FakePartition:
    """Batches with their offsets filled in. `endless`, when set, is what every fetch brings."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.log_start = 0
        self.end = 0
        self.endless: bytes | None = None

    def append(self, records: memoryview) -> int:
        """Takes batches and returns the first record's offset."""
        base = self.end
        while len(records) >= HEADER_SIZE:
            header = parse_header(records)
            rest = records[HEADER_SIZE : header.size_bytes]
            self.batches.append(HEADER.pack(*header._replace(base_offset=self.end)) + bytes(rest))
            self.end += header.last_offset_delta + 1
            records = records[header.size_bytes :]
        return base

    def read(self, offset: int, max_bytes: int) -> list[bytes]:
        """Whole batches from the one with `offset` on; the first in any case."""
        if self.endless is not None:
            return [self.endless[:max_bytes]]
        found: list[bytes] = []
        size = 0
        for batch in self.batches:
            if parse_header(batch).last_offset < offset:
                continue
            if found and size + len(batch) > max_bytes:
                break
            found.append(batch)
            size += len(batch)
        return found


class FakeTopics:
    """TopicService."""

    def __init__(self) -> None:
        self.topics: dict[str, list[FakePartition]] = {}
        self.config: dict[str, dict[str, str]] = {}
        self.address = ("127.0.0.1", 0)
        self.failure: Exception | None = None

    def partition(self, topic: str, index: int) -> FakePartition | None:
        """The partition, or None."""
        found = self.topics.get(topic)
        return found[index] if found is not None and 0 <= index < len(found) else None

    def create(self, name: str, partitions: int = 1) -> None:
        """Makes a topic."""
        self.topics[name] = [FakePartition() for _ in range(partitions)]
        self.config[name] = {}

    @staticmethod
    def topic_id(name: str) -> bytes:
        """A made-up id."""
        return name.encode().ljust(16, b"\x01")[:16]

    def knows(self, name: str) -> bool:
        """Whether it was made."""
        return name in self.topics

    async def metadata(
        self,
        context: RequestContext,
        topics: Sequence[str] | None,
        *,
        topic_ids: Sequence[bytes] = (),
        allow_auto_create: bool = False,
    ) -> ClusterMetadata:
        """One broker; makes missing topics when asked to."""
        if self.failure is not None:
            raise self.failure
        found: list[TopicMetadata] = []
        for name in self.topics if topics is None else topics:
            if name not in self.topics and allow_auto_create:
                self.create(name)
            found.append(self._describe(name))
        by_id = {self.topic_id(name): name for name in self.topics}
        for topic_id in topic_ids:
            if topic_id in by_id:
                found.append(self._describe(by_id[topic_id]))
            else:
                found.append(TopicMetadata("", topic_id, ErrorCode.UNKNOWN_TOPIC_ID))
        host, port = self.address
        return ClusterMetadata(CLUSTER_ID, 0, [BrokerAddress(0, host, port)], found)

    def _describe(self, name: str) -> TopicMetadata:
        if name not in self.topics:
            return TopicMetadata(name, error=MISSING)
        partitions = [PartitionMetadata(index, 0, 1, [0], [0]) for index in range(len(self.topics[name]))]
        return TopicMetadata(name, self.topic_id(name), partitions=partitions)

    async def create_topics(
        self, context: RequestContext, topics: Sequence[NewTopic], *, validate_only: bool = False
    ) -> list[TopicOutcome]:
        """Makes topics."""
        outcomes = []
        for new in topics:
            if new.name in self.topics:
                outcomes.append(TopicOutcome(new.name, ErrorCode.TOPIC_ALREADY_EXISTS, "it is there"))
                continue
            count = len(new.assignments) or (1 if new.partitions == -1 else new.partitions)
            if not validate_only:
                self.create(new.name, count)
                self.config[new.name] = {key: value or "" for key, value in new.config.items()}
            config = [self._entry(key, value or "", "topic") for key, value in new.config.items()]
            outcomes.append(
                TopicOutcome(new.name, ErrorCode.NONE, None, self.topic_id(new.name), count, 1, config)
            )
        return outcomes

    async def delete_topics(
        self, context: RequestContext, names: Sequence[str], topic_ids: Sequence[bytes] = ()
    ) -> list[TopicOutcome]:
        """Deletes topics."""
        by_id = {self.topic_id(name): name for name in self.topics}
        outcomes = []
        for name in [*names, *(by_id.get(topic_id) for topic_id in topic_ids)]:
            missing = name is None or self.topics.pop(name, None) is None
            outcomes.append(TopicOutcome(name, MISSING if missing else ErrorCode.NONE))
        return outcomes

    async def create_partitions(
        self, context: RequestContext, counts: Sequence[tuple[str, int]], *, validate_only: bool = False
    ) -> list[TopicOutcome]:
        """Grows topics."""
        outcomes = []
        for name, count in counts:
            partitions = self.topics.get(name)
            if partitions is None:
                outcomes.append(TopicOutcome(name, MISSING, f"there is no topic {name!r}"))
                continue
            if not validate_only:
                partitions += [FakePartition() for _ in range(count - len(partitions))]
            outcomes.append(TopicOutcome(name))
        return outcomes

    @staticmethod
    def _entry(name: str, value: str, source: str) -> ConfigEntry:
        return ConfigEntry(
            name, value, source, "long", f"What {name} means.", synonyms=[(name, value, source)]
        )

    def describe_topic_config(self, context: RequestContext, name: str) -> list[ConfigEntry]:
        """What was set, and one default."""
        if name not in self.topics:
            raise PenstockError(MISSING, f"there is no topic {name!r}")
        entries = [self._entry("retention.ms", "604800000", "default")]
        return entries + [self._entry(key, value, "topic") for key, value in self.config[name].items()]

    def describe_broker_config(self, context: RequestContext) -> list[ConfigEntry]:
        """A setting, and a secret."""
        secret = ConfigEntry("password", "hidden", "file", "string", "A secret.", True, True)
        return [self._entry("num.partitions", "1", "default"), secret]

    async def alter_topic_config(
        self,
        context: RequestContext,
        name: str,
        operations: Sequence[ConfigOperation],
        *,
        replace: bool = False,
        validate_only: bool = False,
    ) -> None:
        """Sets and deletes."""
        if name not in self.topics:
            raise PenstockError(MISSING, f"there is no topic {name!r}")
        config = {} if replace else dict(self.config[name])
        for operation in operations:
            if operation.operation == "delete":
                config.pop(operation.name, None)
            else:
                config[operation.name] = operation.value or ""
        if not validate_only:
            self.config[name] = config

    async def alter_broker_config(
        self,
        context: RequestContext,
        operations: Sequence[ConfigOperation],
        *,
        replace: bool = False,
        validate_only: bool = False,
    ) -> None:
        """Refuses, as a broker does whose settings are in a file."""
        raise PenstockError(ErrorCode.INVALID_CONFIG, "this setting is read from a file")


class FakeData:
    """DataService. While `holding`, produce requests wait in `held` until a test lets them go."""

    def __init__(self, topics: FakeTopics) -> None:
        self.topics = topics
        self.holding = False
        self.held: list[tuple[asyncio.Future[list[AppendResult]], list[AppendResult]]] = []
        self.failure: Exception | None = None
        self.produced: list[tuple[RequestContext, int]] = []
        self.fetch_limits: list[int] = []
        self.waiting: list[asyncio.Future[list[FetchedPartition]]] = []
        self._wake = asyncio.Event()
        self._producer_ids = 0

    def produce(
        self,
        context: RequestContext,
        batches: Sequence[ProduceBatches],
        acks: int,
        timeout_ms: int,
        transactional_id: str | None = None,
    ) -> asyncio.Future[list[AppendResult]]:
        """Appends at once; the answer may be held back."""
        if self.failure is not None:
            raise self.failure
        self.produced.append((context, acks))
        results = [self._append(batch) for batch in batches]
        future: asyncio.Future[list[AppendResult]] = asyncio.get_running_loop().create_future()
        if self.holding:
            self.held.append((future, results))
        else:
            future.set_result(results)
        self._wake.set()
        self._wake = asyncio.Event()
        return future

    def _append(self, batches: ProduceBatches) -> AppendResult:
        partition = self.topics.partition(batches.topic, batches.partition)
        if partition is None:
            return AppendResult(batches.topic, batches.partition, MISSING)
        base = partition.append(batches.records or memoryview(b""))
        return AppendResult(batches.topic, batches.partition, base_offset=base, log_start_offset=0)

    def let_go(self, index: int) -> None:
        """Answers one of the held requests."""
        future, results = self.held[index]
        if not future.done():
            future.set_result(results)

    def fetch(
        self,
        context: RequestContext,
        partitions: Sequence[FetchPartition],
        *,
        min_bytes: int,
        max_bytes: int,
        max_wait_ms: int,
    ) -> asyncio.Future[list[FetchedPartition]]:
        """Reads, or waits for the next produce request."""
        self.fetch_limits.append(max_bytes)
        task = asyncio.ensure_future(self._fetch(partitions, min_bytes, max_bytes, max_wait_ms))
        self.waiting.append(task)
        return task

    async def _fetch(
        self, partitions: Sequence[FetchPartition], min_bytes: int, max_bytes: int, max_wait_ms: int
    ) -> list[FetchedPartition]:
        deadline = asyncio.get_running_loop().time() + max_wait_ms / 1000
        while True:
            wake = self._wake
            results = self._read(partitions, max_bytes)
            size = sum(len(buffer) for result in results for buffer in result.records)
            left = deadline - asyncio.get_running_loop().time()
            if size >= min_bytes or left <= 0 or any(result.error for result in results):
                return results
            try:
                await asyncio.wait_for(wake.wait(), left)
            except TimeoutError:
                return results

    def _read(self, partitions: Sequence[FetchPartition], max_bytes: int) -> list[FetchedPartition]:
        results = []
        for asked in partitions:
            partition = self.topics.partition(asked.topic, asked.partition)
            if partition is None:
                results.append(FetchedPartition(asked.topic, asked.partition, MISSING))
                continue
            outside = partition.endless is None and not 0 <= asked.offset <= partition.end
            records = [] if outside else partition.read(asked.offset, min(asked.max_bytes, max_bytes))
            error = ErrorCode.OFFSET_OUT_OF_RANGE if outside else ErrorCode.NONE
            results.append(
                FetchedPartition(
                    asked.topic, asked.partition, error, partition.end, partition.log_start, records
                )
            )
        return results

    async def list_offsets(self, context: RequestContext, queries: Sequence[PositionQuery]) -> list[Position]:
        """Ends; a time finds the first batch that reaches it."""
        return [self._position(query) for query in queries]

    def _position(self, query: PositionQuery) -> Position:
        partition = self.topics.partition(query.topic, query.partition)
        if partition is None:
            return Position(query.topic, query.partition, MISSING)
        if query.timestamp == EARLIEST_TIMESTAMP:
            return Position(query.topic, query.partition, offset=partition.log_start)
        if query.timestamp == LATEST_TIMESTAMP:
            return Position(query.topic, query.partition, offset=partition.end)
        for header in map(parse_header, partition.batches):
            if header.max_timestamp >= query.timestamp:
                return Position(
                    query.topic, query.partition, ErrorCode.NONE, header.base_offset, header.max_timestamp
                )
        return Position(query.topic, query.partition)

    async def epoch_ends(
        self, context: RequestContext, queries: Sequence[tuple[str, int, int, int]]
    ) -> list[EpochEnd]:
        """One epoch that ends where the partition does."""
        ends = []
        for topic, index, _current, epoch in queries:
            partition = self.topics.partition(topic, index)
            if partition is None:
                ends.append(EpochEnd(topic, index, MISSING))
            else:
                ends.append(EpochEnd(topic, index, ErrorCode.NONE, epoch, partition.end))
        return ends

    async def delete_records(
        self, context: RequestContext, offsets: Sequence[tuple[str, int, int]], timeout_ms: int
    ) -> list[DeletedRecords]:
        """Moves the first offset."""
        deleted = []
        for topic, index, offset in offsets:
            partition = self.topics.partition(topic, index)
            if partition is None:
                deleted.append(DeletedRecords(topic, index, MISSING))
            else:
                partition.log_start = partition.end if offset == -1 else offset
                deleted.append(DeletedRecords(topic, index, ErrorCode.NONE, partition.log_start))
        return deleted

    async def init_producer_id(
        self, context: RequestContext, transactional_id: str | None, producer_id: int, producer_epoch: int
    ) -> tuple[int, int]:
        """The next id."""
        if transactional_id is not None:
            code = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            raise PenstockError(code, "transactions are not served")
        self._producer_ids += 1
        return self._producer_ids, 0


class FakeCluster:
    """The fakes together. `clock_ms` is the listener's clock and moves only when a test moves it."""

    def __init__(self) -> None:
        self.topics = FakeTopics()
        self.data = FakeData(self.topics)
        self.groups = FakeGroups()
        self.clock_ms = 0

    def advertise(self, address: tuple[str, int]) -> None:
        """Tells clients to come to this address."""
        self.topics.address = self.groups.address = address

    def services(self) -> KafkaServices:
        """What a listener is constructed with; the fakes lack what only the admin API asks for."""
        return KafkaServices(
            self.data,
            cast("TopicService", self.topics),
            cast("GroupService", self.groups),
            lambda: self.clock_ms,
        )
