"""The catalog: which topics there are, where their partitions live, how they and the cluster are configured.

Shard 0 keeps it as a fold over its log. Every change is decided here against the deepest view (committed and staged)
and carried by a command; time, ids and defaults come in as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping

import msgspec

from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.snapshots import encode_list
from penstock.model.staged import StagedMap

# Kafka's rule for names (`Topic.validate`).
TOPIC_NAME_LENGTH_MAX = 249
_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]+\Z")


class PartitionPlace(msgspec.Struct, frozen=True, array_like=True):
    """Where a partition lives: its key inside the shard (never reused), the shard, and the base that the shard's
    epoch is added to on the wire."""

    key: int
    shard: int = 0
    epoch_base: int = 0


class Topic(msgspec.Struct, frozen=True):
    """A topic; `config` holds only what was set on it, as strings."""

    name: str
    topic_id: bytes
    partitions: tuple[PartitionPlace, ...]
    config: dict[str, str]
    created_ms: int = 0

    @property
    def internal(self) -> bool:
        """Whether the broker made it for itself."""
        return self.name.startswith("__")


class TopicCreated(Command, frozen=True, tag="topic.created"):
    """A topic with its partitions."""

    topic: Topic


class TopicDeleted(Command, frozen=True, tag="topic.deleted"):
    """The topic is gone; its partitions are dropped by their own shards."""

    name: str


class PartitionsAdded(Command, frozen=True, tag="topic.partitions"):
    """The topic has these partitions from now on, the old ones first."""

    name: str
    partitions: tuple[PartitionPlace, ...]


class TopicConfigured(Command, frozen=True, tag="topic.config"):
    """The topic's own settings from now on."""

    name: str
    config: dict[str, str]


class ClusterConfigured(Command, frozen=True, tag="cluster.config"):
    """The cluster's dynamic settings from now on."""

    config: dict[str, str]


class _Snapshot(msgspec.Struct):
    topics: list[Topic]
    cluster_config: dict[str, str]
    next_key: int


class _EncodedSnapshot(msgspec.Struct):
    topics: msgspec.Raw
    cluster_config: dict[str, str]
    next_key: int


_CONFIG_KEY = "cluster"
_NEXT_KEY = "next"


class Catalog:
    """Topics and cluster settings; a `StateMachine`."""

    name = "catalog"
    version = 1
    commands: tuple[type[Command], ...] = (
        TopicCreated,
        TopicDeleted,
        PartitionsAdded,
        TopicConfigured,
        ClusterConfigured,
    )

    def __init__(self) -> None:
        self.topics: StagedMap[str, Topic] = StagedMap()
        self.topic_names: StagedMap[bytes, str] = StagedMap()
        # Name with '.' as '_' to the name itself: names that differ only in these collide.
        self._folded: StagedMap[str, str] = StagedMap()
        self._cluster: StagedMap[str, dict[str, str]] = StagedMap()
        self._next: StagedMap[str, int] = StagedMap()
        # Goes up with every applied change, so that answers made from the catalog can be cached.
        self.revision = 0

    # --- decisions -------------------------------------------------------------------------------

    @property
    def cluster_config(self) -> Mapping[str, str]:
        """The dynamic settings of the cluster."""
        return self._cluster.get(_CONFIG_KEY) or {}

    def next_partition_key(self) -> int:
        """The key that the next partition gets."""
        return self._next.get(_NEXT_KEY) or 1

    def decide_create(
        self, name: str, topic_id: bytes, partitions: int, config: Mapping[str, str], now_ms: int
    ) -> TopicCreated:
        """A new topic. Raises PenstockError for a bad or taken name."""
        check_topic_name(name)
        if self.topics.get(name) is not None:
            raise PenstockError(ErrorCode.TOPIC_ALREADY_EXISTS, f"topic {name} exists already")
        clash = self._folded.get(folded_name(name))
        if clash is not None:
            raise PenstockError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"topic name {name} collides with {clash}: names that differ only in '.' and '_' share metric names",
            )
        key = self.next_partition_key()
        places = tuple(PartitionPlace(key + number) for number in range(partitions))
        return TopicCreated(Topic(name, topic_id, places, dict(config), now_ms))

    def decide_grow(self, name: str, partitions: int) -> PartitionsAdded:
        """More partitions. Raises PenstockError for an unknown topic or a count that is not larger."""
        topic = self.require(name)
        current = len(topic.partitions)
        if partitions <= current:
            raise PenstockError(
                ErrorCode.INVALID_PARTITIONS,
                f"topic {name} has {current} partitions: the number can only grow, {partitions} is not more",
            )
        key = self.next_partition_key()
        added = tuple(PartitionPlace(key + number) for number in range(partitions - current))
        return PartitionsAdded(name, topic.partitions + added)

    def require(self, name: str) -> Topic:
        """The topic. Raises PenstockError(UNKNOWN_TOPIC_OR_PARTITION)."""
        topic = self.topics.get(name)
        if topic is None:
            raise PenstockError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic named {name}")
        return topic

    # --- transitions -----------------------------------------------------------------------------

    def stage(self, index: int, command: Command) -> None:
        """See `StateMachine.stage`."""
        self._transition(index, command, staged=True)

    def apply(self, index: int, command: Command) -> None:
        """See `StateMachine.apply`."""
        self._transition(index, command, staged=False)
        self.revision += 1

    def _transition(self, index: int, command: Command, *, staged: bool) -> None:
        topics = self.topics.writer(index, staged=staged)
        match command:
            case TopicCreated(topic=topic):
                topics[topic.name] = topic
                self.topic_names.writer(index, staged=staged)[topic.topic_id] = topic.name
                self._folded.writer(index, staged=staged)[folded_name(topic.name)] = topic.name
                self._reserve(self._next.writer(index, staged=staged), topic.partitions)
            case TopicDeleted(name=name):
                topic = topics[name]
                del topics[name]
                del self.topic_names.writer(index, staged=staged)[topic.topic_id]
                del self._folded.writer(index, staged=staged)[folded_name(name)]
            case PartitionsAdded(name=name, partitions=partitions):
                topics[name] = msgspec.structs.replace(topics[name], partitions=partitions)
                self._reserve(self._next.writer(index, staged=staged), partitions)
            case TopicConfigured(name=name, config=config):
                topics[name] = msgspec.structs.replace(topics[name], config=config)
            case ClusterConfigured(config=config):
                self._cluster.writer(index, staged=staged)[_CONFIG_KEY] = config
            case _:
                raise TypeError(f"the catalog does not know {type(command).__name__}")

    @staticmethod
    def _reserve(counter: MutableMapping[str, int], places: tuple[PartitionPlace, ...]) -> None:
        highest = max(place.key for place in places)
        counter[_NEXT_KEY] = max(counter.get(_NEXT_KEY, 1), highest + 1)

    def drop_staged(self) -> None:
        """See `StateMachine.drop_staged`."""
        for mapping in (self.topics, self.topic_names, self._folded, self._cluster, self._next):
            mapping.drop_staged()

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        return self.freeze()()

    def freeze(self) -> Callable[[], bytes]:
        """See `StateMachine.freeze`."""
        topics = list(self.topics.committed.values())
        config = self._cluster.committed.get(_CONFIG_KEY, {})
        next_key = self._next.committed.get(_NEXT_KEY, 1)
        return lambda: msgspec.msgpack.encode(_EncodedSnapshot(encode_list(topics), config, next_key))

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`."""
        state = msgspec.msgpack.decode(data, type=_Snapshot)
        self.topics.committed = {topic.name: topic for topic in state.topics}
        self.topic_names.committed = {topic.topic_id: topic.name for topic in state.topics}
        self._folded.committed = {folded_name(topic.name): topic.name for topic in state.topics}
        self._cluster.committed = {_CONFIG_KEY: state.cluster_config}
        self._next.committed = {_NEXT_KEY: state.next_key}
        self.drop_staged()
        self.revision += 1


def folded_name(name: str) -> str:
    """What names that collide have in common (Kafka: `Topic.unifyCollisionChars`)."""
    return name.replace(".", "_")


def check_topic_name(name: str) -> None:
    """Raises PenstockError(INVALID_TOPIC_EXCEPTION) with a sentence unless Kafka's clients accept the name too."""
    if not name or name in (".", ".."):
        problem = f"{name!r} is not a topic name"
    elif len(name) > TOPIC_NAME_LENGTH_MAX:
        problem = f"a topic name has at most {TOPIC_NAME_LENGTH_MAX} characters, this one has {len(name)}"
    elif not _TOPIC_NAME.match(name):
        problem = f"topic name {name!r} may only contain letters, digits, '.', '_' and '-'"
    else:
        return
    raise PenstockError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
