"""Topics in memory: the part of the services for tests that holds messages and settings.

Real record batches are kept and given back; offsets are dense. `memory_services` puts the rest around it.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import HEADER, parse_header
from penstock.service.api import (
    ClusterMetadata,
    ConfigEntry,
    ConfigOperation,
    NewTopic,
    PartitionMetadata,
    TopicMetadata,
    TopicOutcome,
    TopicPartitionDetail,
    TopicSummary,
)
from penstock.service.context import RequestContext

BROKER_NAME = "memory-0-0"
CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAA"


class MemoryPartition:
    """One partition: batches in order, each with its base offset filled in."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.log_start = 0
        self.high_watermark = 0

    def append(self, batch: bytes) -> int:
        """Takes one batch at the end and gives the offset of its first record."""
        header = parse_header(batch)
        base = self.high_watermark
        packed = HEADER.pack(*header._replace(base_offset=base))
        self.batches.append(packed + batch[len(packed) :])
        self.high_watermark = base + header.record_count
        return base

    @property
    def size(self) -> int:
        """Bytes of all batches."""
        return sum(map(len, self.batches))


class MemoryTopic:
    """One topic."""

    def __init__(self, name: str, partitions: int, config: dict[str, str]) -> None:
        self.name = name
        self.topic_id = name.encode().ljust(16, b"\0")[:16]
        self.config = config
        self.partitions = [MemoryPartition() for _ in range(partitions)]


def unknown_topic(name: str) -> PenstockError:
    """The error for a topic that there is not."""
    return PenstockError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"There is no topic {name!r}.")


class MemoryTopics:
    """TopicService as far as HTTP uses it."""

    def __init__(self) -> None:
        self.topics: dict[str, MemoryTopic] = {}
        self.auto_create = True
        self.retention_ms: str | None = None
        self.trace_rules = ""
        self.trace_endpoint = "http://collector:4318"
        self.trace_topic = False
        self.not_available = 0

    def get(self, name: str) -> MemoryTopic:
        """The topic, or PenstockError."""
        topic = self.topics.get(name)
        if topic is None:
            raise unknown_topic(name)
        return topic

    async def metadata(
        self,
        context: RequestContext,
        topics: Sequence[str] | None,
        *,
        topic_ids: Sequence[bytes] = (),
        allow_auto_create: bool = False,
    ) -> ClusterMetadata:
        """Makes missing topics with one partition when that is allowed; the first `not_available` times it is not ready."""
        if self.not_available:
            self.not_available -= 1
            error = ErrorCode.LEADER_NOT_AVAILABLE
            return ClusterMetadata(
                CLUSTER_ID, 0, [], [TopicMetadata(name, error=error) for name in topics or ()]
            )
        found = []
        for name in self.topics if topics is None else topics:
            if name not in self.topics and allow_auto_create and self.auto_create:
                self.topics[name] = MemoryTopic(name, 1, {})
            topic = self.topics.get(name)
            if topic is None:
                error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                found.append(TopicMetadata(name, error=error, message=f"There is no topic {name!r}."))
            else:
                count = len(topic.partitions)
                partitions = [PartitionMetadata(index, 0, 1, [0], [0]) for index in range(count)]
                found.append(TopicMetadata(name, topic.topic_id, partitions=partitions))
        return ClusterMetadata(CLUSTER_ID, 0, [], found)

    async def create_topics(
        self, context: RequestContext, topics: Sequence[NewTopic], *, validate_only: bool = False
    ) -> list[TopicOutcome]:
        """Makes topics; the name `bad/name` stands for all invalid ones."""
        return [self._create(new, validate_only) for new in topics]

    def _create(self, new: NewTopic, validate_only: bool) -> TopicOutcome:
        if new.name in self.topics:
            sentence = f"There is a topic {new.name!r} already."
            return TopicOutcome(new.name, ErrorCode.TOPIC_ALREADY_EXISTS, sentence)
        if "/" in new.name:
            sentence = f"{new.name!r} is not a topic's name; use letters, digits, '.', '_' and '-'."
            return TopicOutcome(new.name, ErrorCode.INVALID_TOPIC_EXCEPTION, sentence)
        config = {name: value for name, value in new.config.items() if value is not None}
        self._check_config(config)
        if not validate_only:
            self.topics[new.name] = MemoryTopic(new.name, new.partitions, config)
        return TopicOutcome(new.name, partitions=new.partitions)

    def _check_config(self, names: Sequence[str] | dict[str, str]) -> None:
        for name in names:
            if name != "retention.ms":
                raise PenstockError(ErrorCode.INVALID_CONFIG, f"There is no topic setting {name!r}.")

    async def delete_topics(
        self, context: RequestContext, names: Sequence[str], topic_ids: Sequence[bytes] = ()
    ) -> list[TopicOutcome]:
        """Deletes topics."""
        outcomes = []
        for name in names:
            error = ErrorCode.NONE if name in self.topics else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            self.topics.pop(name, None)
            outcomes.append(TopicOutcome(name, error, f"There is no topic {name!r}." if error else None))
        return outcomes

    async def create_partitions(
        self, context: RequestContext, counts: Sequence[tuple[str, int]], *, validate_only: bool = False
    ) -> list[TopicOutcome]:
        """Grows topics."""
        for name, count in counts:
            partitions = self.get(name).partitions
            partitions += [MemoryPartition() for _ in range(count - len(partitions))]
        return [TopicOutcome(name, partitions=count) for name, count in counts]

    def list_topics(self, context: RequestContext) -> list[TopicSummary]:
        """All topics."""
        return [self._summary(topic) for topic in self.topics.values()]

    def _summary(self, topic: MemoryTopic) -> TopicSummary:
        messages = sum(p.high_watermark - p.log_start for p in topic.partitions)
        size = sum(p.size for p in topic.partitions)
        return TopicSummary(
            topic.name, topic.topic_id, len(topic.partitions), topic.config, False, messages, size
        )

    def describe_topic(
        self, context: RequestContext, name: str
    ) -> tuple[TopicSummary, list[TopicPartitionDetail], list[ConfigEntry]]:
        """One topic."""
        topic = self.get(name)
        details = [
            TopicPartitionDetail(number, p.log_start, p.high_watermark, p.size, BROKER_NAME, 1)
            for number, p in enumerate(topic.partitions)
        ]
        value = topic.config.get("retention.ms", "604800000")
        entry = ConfigEntry(
            "retention.ms", value, "topic" if topic.config else "default", "long", "How long."
        )
        return self._summary(topic), details, [entry]

    def describe_broker_config(self, context: RequestContext) -> list[ConfigEntry]:
        """Two dynamic settings and three static ones."""
        default = ("log.retention.ms", "604800000", "default")
        dynamic = ConfigEntry(
            "log.retention.ms",
            self.retention_ms or default[1],
            "dynamic" if self.retention_ms else "default",
            "long",
            "How long messages are kept, in ms.",
            synonyms=[default],
        )
        static = ConfigEntry("shard.id", "0", "default", "int", "Number of the shard.", read_only=True)
        rules = ConfigEntry(
            "tracing.rules",
            self.trace_rules,
            "dynamic" if self.trace_rules else "default",
            "string",
            "Which messages are followed.",
        )
        endpoint = ConfigEntry(
            "tracing.endpoint", self.trace_endpoint, "default", "string", "Where spans go.", read_only=True
        )
        kept = str(self.trace_topic).lower()
        topic = ConfigEntry(
            "tracing.topic.enabled", kept, "default", "boolean", "Whether events are kept.", read_only=True
        )
        return [dynamic, static, rules, endpoint, topic]

    async def alter_topic_config(
        self,
        context: RequestContext,
        name: str,
        operations: Sequence[ConfigOperation],
        *,
        replace: bool = False,
        validate_only: bool = False,
    ) -> None:
        """Changes settings of a topic."""
        topic = self.get(name)
        self._check_config([operation.name for operation in operations])
        if validate_only:
            return
        for operation in operations:
            if operation.value is None:
                topic.config.pop(operation.name, None)
            else:
                topic.config[operation.name] = operation.value

    async def alter_broker_config(
        self,
        context: RequestContext,
        operations: Sequence[ConfigOperation],
        *,
        replace: bool = False,
        validate_only: bool = False,
    ) -> None:
        """Changes the dynamic settings."""
        for operation in operations:
            if operation.name == "tracing.rules":
                self.trace_rules = operation.value or ""
                continue
            if operation.name != "log.retention.ms":
                sentence = f"{operation.name} needs a restart: set it in the configuration file."
                raise PenstockError(ErrorCode.INVALID_CONFIG, sentence)
            self.retention_ms = operation.value
