"""What the admin API takes and gives, as the structs that decode, encode and document it.

The operator, the command line and scripts are written against these shapes: fields are only ever added. Requests
refuse fields they do not know, because a misspelt one would silently do nothing; answers may grow.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from penstock.tracing.rules import RULE_MS_MAX, RULE_TEXT_MAX

Name = Annotated[str, Meta(min_length=1, max_length=249)]
PartitionCount = Annotated[int, Meta(ge=1, le=100_000)]
Index = Annotated[int, Meta(ge=0)]
ConfigValue = str | int | float | bool | None
ConfigChanges = Annotated[dict[Name, ConfigValue], Meta(max_length=200)]


class Wire(msgspec.Struct, rename="camel"):
    """An answer."""


class Asked(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A request."""


# --- health -----------------------------------------------------------------------------------------


class Health(Wire):
    """The event loop turns."""

    healthy: bool


class Readiness(Wire):
    """Whether clients may be sent here, and why not."""

    ready: bool
    reasons: list[str] = []


# --- cluster and broker -----------------------------------------------------------------------------


MemberRole = Literal["Leader", "Follower", "Learner"]


class ShardMember(Wire):
    """A broker of a shard; `address` maps its listeners to what clients are told, `featureLevel` is the highest that its
    release knows."""

    name: str
    node_id: int
    role: MemberRole
    in_sync: bool
    lag_bytes: int
    address: dict[str, str]
    lag_entries: int = 0
    feature_level: int = 0


class Recovery(Wire):
    """The shard lost its quorum for good and went on from the copy of `broker`, which ended with entry `lastIndex` of epoch
    `lastEpoch` and knew those up to `commitIndex` to be committed: what was acknowledged behind `lastIndex` may be gone.
    It goes on in epochs above `epoch`; `generation` counts."""

    generation: int
    broker: str
    epoch: int
    last_index: int
    last_epoch: int
    commit_index: int
    at: datetime


class Shard(Wire):
    """`featureLevel` says which commands its log may hold: it rises when the last broker was upgraded. `replicas` is how many
    brokers it is to have; that can be changed where it is `resizable`. While more are members, `leaving` is the leader's sentence on what comes next, and
    `leavingRefused` says that nothing does before a person changes what is asked for."""

    id: int
    uid: str
    leader: str
    epoch: int
    members: list[ShardMember]
    recovery: Recovery | None = None
    feature_level: int = 0
    replicas: int = 1
    resizable: bool = False
    leaving: str = ""
    leaving_refused: bool = False


class Cluster(Wire):
    cluster_id: str
    cluster_name: str
    version: str
    mode: str
    shards: list[Shard]


class Listener(Wire):
    name: str
    protocol: str
    address: str
    advertised: str


class LogStatus(Wire):
    first_index: int
    last_index: int
    commit_index: int
    bytes: int


class DiskStatus(Wire):
    """`state`: ok, warn (over the first mark) or refuse (over the second: produce is refused)."""

    total_bytes: int
    used_bytes: int
    state: str


class Rates(Wire):
    messages_in_per_second: float
    bytes_in_per_second: float
    bytes_out_per_second: float


class HandOver(Asked):
    """`to` names the broker that is to lead; without it, the one that holds most."""

    to: str | None = None


class Resize(Asked):
    """How many brokers the shard should have: those of the lowest ordinals stay or join, the others leave one by one."""

    replicas: Annotated[int, Meta(ge=1, le=5)]


class Size(Wire):
    """How many brokers a shard should have now."""

    replicas: int


class Trust(Asked):
    """Which copy is trusted: the shard's UUID, and the storage id that `/v1/broker` of this broker shows."""

    shard_uid: Name
    storage_id: Name


class DigestRange(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Which entries are hashed; all committed ones that are there by default."""

    first: Annotated[
        Index | None, Meta(description="The first entry; without it, the oldest one that is there.")
    ] = None
    index: Annotated[
        Index | None, Meta(description="The last entry; without it, the last committed one.")
    ] = None


class Digest(Wire):
    """Hashes of the committed entries from `firstIndex` to `index`, and of the state as of `commitIndex`."""

    commit_index: int
    first_index: int
    index: int
    entries: str
    machines: dict[str, str]


class Leader(Wire):
    """Who leads a shard now."""

    leader: str
    epoch: int


class ForkedOffsets(Wire):
    """Messages of one partition; `topic` is empty and `partition` -1 where the partition is gone."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    messages: int


class ForkedTail(Wire):
    """Entries that this broker had written as the master and the next one lacked. They stand in `file` in the folder of the
    log, as far as they fit: `keptEntries` of `entries`. Not `exact`: some may be in the shard's log too."""

    file: str
    first_index: int
    last_index: int
    entries: int
    kept_entries: int
    exact: bool
    partitions: list[ForkedOffsets]


class Election(Wire):
    """What this broker knows of its shard's Lease, in mode MasterSlave. `phase` is its own part: following, claimed, master,
    releasing or over; `reason` and `sentence` say why it does not lead. The others are what the Lease said last: who holds
    it and in which epoch, the members (by their ids) that may take over, those that are to be named instead, and what the
    claim of epoch `lossEpoch` may have lost."""

    phase: str
    holder_name: str
    epoch: int
    in_sync: list[int]
    pending: list[int] | None
    reason: str
    sentence: str
    loss: str
    loss_epoch: int


class Broker(Wire):
    name: str
    node_id: int
    version: str
    storage_id: str
    started_at: datetime
    uptime_seconds: float
    listeners: list[Listener]
    log: LogStatus
    disk: DiskStatus
    rates: Rates
    role: str = "Leader"
    shard_uid: str = ""
    forked_tails: list[ForkedTail] = []
    election: Election | None = None


# --- topics -----------------------------------------------------------------------------------------


class Topic(Wire):
    """A topic; `config` holds only what was set on it."""

    name: str
    topic_id: str
    partitions: int
    config: dict[str, str]
    internal: bool
    messages: int
    bytes: int


class TopicList(Wire):
    topics: list[Topic]


class PartitionDetail(Wire):
    partition: int
    log_start: int
    high_watermark: int
    bytes: int
    leader: str
    epoch: int


class TopicDetail(Topic):
    """A topic with its partitions and the configuration that is in effect."""

    partition_details: list[PartitionDetail]
    effective_config: dict[str, str | None]


class TopicCreation(Asked):
    """A topic to be made. `validateOnly` checks and makes nothing."""

    name: Name
    partitions: PartitionCount = 1
    config: ConfigChanges = {}
    validate_only: bool = False


class TopicChange(Asked):
    """What is to be different; a config value of null is back to its default."""

    partitions: PartitionCount | None = None
    config: ConfigChanges = {}


# --- groups -----------------------------------------------------------------------------------------


class StartAt(Asked):
    """A position: exactly one of `at`, `timestamp` (RFC 3339) and `offset`."""

    at: Literal["earliest", "latest"] | UnsetType = UNSET
    timestamp: Annotated[datetime, Meta(tz=True)] | UnsetType = UNSET
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)] | UnsetType = UNSET


class Backoff(Asked):
    """How long a failed message waits: `initialMs` * `factor`^(deliveries - 1), at most `maxMs`, and up to the part `jitter`
    longer."""

    initial_ms: int = 10_000
    factor: float = 2.0
    max_ms: int = 2 * 3_600_000
    jitter: float = 0.1


class Retry(Asked):
    """How often a message is handed out before it is given up, and when again."""

    max_deliveries: int = 16
    backoff: Backoff = msgspec.field(default_factory=Backoff)


class DeadLetter(Asked):
    """Where messages go that are given up; GROUP.dlq when left out."""

    topic_name: Name | None = None


class Lease(Asked):
    """How long a message is held by whoever does not say, and how many of a partition may be in flight."""

    duration_ms: int = 30_000
    max_in_flight: int = 10_000


class GroupFilter(Asked):
    """Which messages a group wants. Not available in this release."""

    tags: str | None = None
    sql: str | None = None


class GroupDeclaration(Asked):
    """A group as it should be: where it has no position yet, it begins at `start`. `retry`, `deadLetter` and `lease` are for mode
    queue."""

    topics: Annotated[list[Name], Meta(max_length=1000)]
    mode: Literal["stream", "queue", "broadcast"] = "stream"
    start: StartAt = msgspec.field(default_factory=lambda: StartAt(at="latest"))
    retry: Retry | None = None
    dead_letter: DeadLetter | None = None
    lease: Lease | None = None
    ordering: Literal["none", "key"] = "none"
    filter: GroupFilter | None = None


class GroupReset(Asked):
    """Where the group is to read from; all its topics when none are named. `force` makes active members rejoin."""

    to: StartAt
    topics: Annotated[list[Name], Meta(max_length=1000)] = []
    force: bool = False
    dry_run: bool = False


class Group(Wire):
    name: str
    mode: str
    state: str
    members: int
    lag: int


class GroupList(Wire):
    groups: list[Group]


class Assignment(Wire):
    topic: str
    partitions: list[int]


class GroupMember(Wire):
    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    assignments: list[Assignment]


class GroupOffset(Wire):
    topic: str
    partition: int
    offset: int
    metadata: str | None
    high_watermark: int
    lag: int


class QueueGroup(Wire):
    """A queue group in numbers: messages that members hold, that wait to be handed out again, and that ever went to the
    dead-letter topic; the age of the oldest message that is not settled, where it is known. `windowFull`: the group's
    `maxInFlight` is reached, and nothing new is handed out before some of that is settled."""

    in_flight: int
    waiting: int
    dead_letters: int
    oldest_message_age_ms: int | None
    window_full: bool
    dead_letter_topic: str
    lease_ms: int
    max_in_flight: int
    max_deliveries: int


class GroupDetail(Wire):
    """A group; `coordinator` is a node id, `topics` are the declared ones."""

    name: str
    mode: str
    state: str
    protocol_type: str
    protocol: str
    coordinator: int
    topics: list[str]
    members: list[GroupMember]
    offsets: list[GroupOffset]
    lag: int
    declared: bool
    queue: QueueGroup | None = None


class ResetOffset(Wire):
    topic: str
    partition: int
    from_offset: int = msgspec.field(name="from")
    to_offset: int = msgspec.field(name="to")


class ResetResult(Wire):
    offsets: list[ResetOffset]


# --- configuration ----------------------------------------------------------------------------------


class ConfigOption(Wire):
    """One setting. `source` is default, file or dynamic; one that is not `dynamic` needs a restart to change."""

    name: str
    value: str | None
    default: str | None
    source: str
    dynamic: bool
    type: str
    doc: str


class ConfigTable(Wire):
    config: list[ConfigOption]


# --- tracing ----------------------------------------------------------------------------------------

RuleText = Annotated[str, Meta(max_length=RULE_TEXT_MAX)]


class TraceRuleRequest(Asked):
    """Follow messages of `topic` (empty: of any) by `messageId`, or by `key`, in which `*` stands for anything: one of the
    two. For `seconds`."""

    topic: RuleText = ""
    message_id: RuleText = ""
    key: RuleText = ""
    seconds: Annotated[int, Meta(ge=1, le=RULE_MS_MAX // 1000)] = 3600


class TraceRule(Wire):
    """A rule that lives until `expiresAt`."""

    id: str
    expires_at: datetime
    topic: str
    message_id: str
    key: str


class TraceRules(Wire):
    rules: list[TraceRule]
