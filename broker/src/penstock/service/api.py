"""The use-cases, as every listener sees them: values in, values out, no protocol's wire types.

Each protocol's listener translates to and from these structs; authorization, quotas and tracing belong behind them,
in one place. Errors of a single item travel in its `error` and `message`; a request that is wrong as a whole raises
`PenstockError`. Offsets, positions and node ids are plain ints here; timestamps are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from penstock.model.errors import ErrorCode
from penstock.replication.election_status import ElectionStatus
from penstock.replication.recovery import Recovery
from penstock.service.context import RequestContext

Buffer = bytes | bytearray | memoryview

LATEST_TIMESTAMP = -1
EARLIEST_TIMESTAMP = -2
MAX_TIMESTAMP = -3


# --- produce and fetch ------------------------------------------------------------------------------


class ProduceBatches(NamedTuple):
    """What one producer sends to one partition: one or more record batches, back to back, None when it sent null."""

    topic: str
    partition: int
    records: memoryview | None


class AppendResult(msgspec.Struct, gc=False):
    """What became of one partition's batches. `base_offset` is the first record's offset (the first one's, when
    a retried idempotent batch was recognised)."""

    topic: str
    partition: int
    error: ErrorCode = ErrorCode.NONE
    base_offset: int = -1
    log_append_time_ms: int = -1
    log_start_offset: int = -1
    message: str | None = None


class FetchPartition(NamedTuple):
    """A position to read from, and at most how many bytes (a first batch that is larger comes whole)."""

    topic: str
    partition: int
    offset: int
    max_bytes: int
    leader_epoch: int = -1


class FetchedPartition(msgspec.Struct, gc=False):
    """Whole committed batches from the one that holds the asked offset on; `records` is a list of buffers."""

    topic: str
    partition: int
    error: ErrorCode = ErrorCode.NONE
    high_watermark: int = -1
    log_start_offset: int = -1
    records: Sequence[Buffer] = ()


class PositionQuery(NamedTuple):
    """Asks for an offset: a time in ms, or LATEST_TIMESTAMP, EARLIEST_TIMESTAMP, MAX_TIMESTAMP."""

    topic: str
    partition: int
    timestamp: int
    leader_epoch: int = -1


class Position(msgspec.Struct, gc=False):
    """The first offset whose timestamp is at least the asked one; -1 and -1 when there is none."""

    topic: str
    partition: int
    error: ErrorCode = ErrorCode.NONE
    offset: int = -1
    timestamp: int = -1
    leader_epoch: int = -1


class EpochEnd(msgspec.Struct, gc=False):
    """OffsetForLeaderEpoch's answer: where the largest epoch up to the asked one ends."""

    topic: str
    partition: int
    error: ErrorCode = ErrorCode.NONE
    leader_epoch: int = -1
    end_offset: int = -1


class DeletedRecords(msgspec.Struct, gc=False):
    """DeleteRecords' answer: the partition's new first offset."""

    topic: str
    partition: int
    error: ErrorCode = ErrorCode.NONE
    low_watermark: int = -1


class DataService(Protocol):
    """Appending to partitions and reading from them."""

    def produce(
        self,
        context: RequestContext,
        batches: Sequence[ProduceBatches],
        acks: int,
        timeout_ms: int,
        transactional_id: str | None = None,
    ) -> Awaitable[list[AppendResult]]:
        """Appends; done when `acks` (0, 1 or -1) is satisfied. Results are in the order of `batches`."""
        ...

    def fetch(
        self,
        context: RequestContext,
        partitions: Sequence[FetchPartition],
        *,
        min_bytes: int,
        max_bytes: int,
        max_wait_ms: int,
    ) -> Awaitable[list[FetchedPartition]]:
        """Reads; waits up to `max_wait_ms` until `min_bytes` are there or a partition has an error."""
        ...

    async def list_offsets(
        self, context: RequestContext, queries: Sequence[PositionQuery]
    ) -> list[Position]: ...

    async def epoch_ends(
        self, context: RequestContext, queries: Sequence[tuple[str, int, int, int]]
    ) -> list[EpochEnd]:
        """For each (topic, partition, current leader epoch or -1, asked leader epoch)."""
        ...

    async def delete_records(
        self, context: RequestContext, offsets: Sequence[tuple[str, int, int]], timeout_ms: int
    ) -> list[DeletedRecords]:
        """Moves the first offset of each (topic, partition) to `offset`; -1 means the high watermark."""
        ...

    async def init_producer_id(
        self, context: RequestContext, transactional_id: str | None, producer_id: int, producer_epoch: int
    ) -> tuple[int, int]:
        """A producer id and epoch for an idempotent producer. Raises for a transactional id."""
        ...


# --- cluster and topics -----------------------------------------------------------------------------


class BrokerAddress(msgspec.Struct, frozen=True):
    """A broker as the clients of one listener reach it."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


class PartitionMetadata(msgspec.Struct):
    index: int
    leader: int
    leader_epoch: int
    replicas: list[int]
    in_sync: list[int]
    error: ErrorCode = ErrorCode.NONE
    offline: list[int] = []


class TopicMetadata(msgspec.Struct):
    name: str
    topic_id: bytes = bytes(16)
    error: ErrorCode = ErrorCode.NONE
    internal: bool = False
    partitions: list[PartitionMetadata] = []
    message: str | None = None


class ClusterMetadata(msgspec.Struct):
    cluster_id: str
    controller_id: int
    brokers: list[BrokerAddress]
    topics: list[TopicMetadata]


class ConfigEntry(msgspec.Struct):
    """One setting as DescribeConfigs shows it. `source` is default, file, dynamic or topic; `type` is boolean, string,
    int, long, double or list; synonyms are (name, value, source) from the most to the least specific."""

    name: str
    value: str | None
    source: str
    type: str
    doc: str
    read_only: bool = False
    sensitive: bool = False
    synonyms: list[tuple[str, str | None, str]] = []


class NewTopic(msgspec.Struct):
    """A topic to be made. -1 partitions or replicas means the broker's default. `assignments` maps a partition to
    node ids where a client insists on placement."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    config: Mapping[str, str | None] = {}
    assignments: Mapping[int, Sequence[int]] = {}


class TopicOutcome(msgspec.Struct):
    """What became of creating, deleting or growing one topic. Numbers and configuration are filled on creation."""

    name: str | None
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    topic_id: bytes = bytes(16)
    partitions: int = -1
    replication_factor: int = -1
    config: list[ConfigEntry] = []


class ConfigOperation(NamedTuple):
    """One change: operation is set, delete (back to default), append or subtract (for lists)."""

    name: str
    operation: str
    value: str | None


class TopicSummary(msgspec.Struct):
    """A topic for lists: `config` holds only what was set on it."""

    name: str
    topic_id: bytes
    partitions: int
    config: dict[str, str]
    internal: bool
    messages: int
    bytes: int


class TopicPartitionDetail(msgspec.Struct):
    partition: int
    log_start: int
    high_watermark: int
    bytes: int
    leader: str
    epoch: int


class TopicService(Protocol):
    """Metadata, topics and configuration."""

    def knows(self, name: str) -> bool:
        """Whether there is a topic of that name, as far as this broker has heard."""
        ...

    async def metadata(
        self,
        context: RequestContext,
        topics: Sequence[str] | None,
        *,
        topic_ids: Sequence[bytes] = (),
        allow_auto_create: bool = False,
    ) -> ClusterMetadata:
        """None means all topics, empty means none. Creates missing ones where client and configuration allow it."""
        ...

    async def create_topics(
        self, context: RequestContext, topics: Sequence[NewTopic], *, validate_only: bool = False
    ) -> list[TopicOutcome]: ...

    async def delete_topics(
        self, context: RequestContext, names: Sequence[str], topic_ids: Sequence[bytes] = ()
    ) -> list[TopicOutcome]: ...

    async def create_partitions(
        self, context: RequestContext, counts: Sequence[tuple[str, int]], *, validate_only: bool = False
    ) -> list[TopicOutcome]:
        """Grows each (topic, new partition count)."""
        ...

    def list_topics(self, context: RequestContext) -> list[TopicSummary]: ...

    def describe_topic(
        self, context: RequestContext, name: str
    ) -> tuple[TopicSummary, list[TopicPartitionDetail], list[ConfigEntry]]:
        """Raises PenstockError(UNKNOWN_TOPIC_OR_PARTITION)."""
        ...

    def describe_topic_config(self, context: RequestContext, name: str) -> list[ConfigEntry]: ...

    def describe_broker_config(self, context: RequestContext) -> list[ConfigEntry]: ...

    async def alter_topic_config(
        self,
        context: RequestContext,
        name: str,
        operations: Sequence[ConfigOperation],
        *,
        replace: bool = False,
        validate_only: bool = False,
    ) -> None:
        """`replace` (legacy AlterConfigs) drops every setting not named. Raises PenstockError, changing nothing."""
        ...

    async def alter_broker_config(
        self,
        context: RequestContext,
        operations: Sequence[ConfigOperation],
        *,
        replace: bool = False,
        validate_only: bool = False,
    ) -> None: ...


# --- the broker itself ------------------------------------------------------------------------------


class MemberStatus(msgspec.Struct, frozen=True):
    """A broker of the shard. `role` is Leader, Follower or Learner; lag is what the leader knows it to miss, 0 where the
    asked broker does not lead; `feature_level` is the highest that its release knows."""

    name: str
    node_id: int
    role: Literal["Leader", "Follower", "Learner"]
    in_sync: bool
    lag_entries: int
    lag_bytes: int
    address: dict[str, str]
    feature_level: int = 0


class ReplicaDigest(msgspec.Struct, frozen=True):
    """Hashes of entries `first_index` to `last_index`, and of each state machine as of `commit_index`."""

    commit_index: int
    first_index: int
    last_index: int
    entries: str
    machines: dict[str, str]


class ForkedOffsets(msgspec.Struct, frozen=True):
    """Of one partition: messages that a log held which is not the shard's any more. `topic` is empty and `partition` -1 where
    the partition is gone."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    messages: int


class ForkedTailStatus(msgspec.Struct, frozen=True):
    """Entries that this broker set aside because the new master lacked them: `kept_entries` of `entries` are in `file`. Not
    `exact`: some of them may be in the shard's log too."""

    file: str
    first_index: int
    last_index: int
    entries: int
    kept_entries: int
    exact: bool
    partitions: list[ForkedOffsets]


class BrokerStatus(msgspec.Struct):
    """What GET /v1/broker and /v1/cluster are made of. `leader` is empty while no leader is known;
    `feature_level` is the shard's, `election` what is known of its Lease, where that says who leads. `replicas` is how many brokers it is to have, `resizable` whether that can be changed; `leaving`, told by the leader, is what comes
    next for those that are too many and are members yet, `leaving_refused` that a person has to change something first;
    `serving`: it leads and takes requests."""

    cluster_id: str
    cluster_name: str
    name: str
    node_id: int
    shard_id: int
    shard_uid: str
    storage_id: str
    version: str
    epoch: int
    started_at_ms: int
    listeners: list[tuple[str, str, str, str]]
    log_first_index: int
    log_last_index: int
    log_commit_index: int
    log_bytes: int
    disk_total_bytes: int
    disk_used_bytes: int
    disk_state: str
    messages_in_per_second: float
    bytes_in_per_second: float
    bytes_out_per_second: float
    role: Literal["Leader", "Follower", "Learner"] = "Leader"
    leader: str = ""
    members: list[MemberStatus] = []
    recovery: Recovery | None = None
    feature_level: int = 0
    mode: str = "Raft"
    forked: list[ForkedTailStatus] = []
    replicas: int = 1
    resizable: bool = False
    leaving: str = ""
    leaving_refused: bool = False
    election: ElectionStatus | None = None
    serving: bool = True


class BrokerService(Protocol):
    """Health and identity of this process."""

    def status(self) -> BrokerStatus: ...

    def not_ready_reasons(self) -> list[str]:
        """Empty when clients may be sent here."""
        ...

    async def digest(self, first: int | None = None, last: int | None = None) -> ReplicaDigest:
        """Hashes by which this replica is compared with others. Raises PenstockError (OFFSET_OUT_OF_RANGE,
        KAFKA_STORAGE_ERROR)."""
        ...

    async def hand_over(self, to: str | None = None) -> None:
        """Moves the shard's leadership to the named broker, or to the one that holds most. Returns once it moved; raises
        PenstockError (NOT_LEADER_OR_FOLLOWER, INVALID_REQUEST, REQUEST_TIMED_OUT)."""
        ...

    async def resize(self, replicas: int) -> None:
        """The shard is to have so many brokers; returns when that is committed. Those that are too many leave one after the
        other then. Raises PenstockError (NOT_LEADER_OR_FOLLOWER, UNSUPPORTED_VERSION, KAFKA_STORAGE_ERROR)."""
        ...

    async def trust(self, shard_uid: str, storage_id: str) -> Recovery:
        """Has the shard, whose quorum is lost for good, go on from this broker's copy; then the broker starts anew. Raises
        PenstockError (INVALID_REQUEST, LEADER_NOT_AVAILABLE, KAFKA_STORAGE_ERROR)."""
        ...
