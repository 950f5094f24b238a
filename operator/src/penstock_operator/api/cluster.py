"""`MessageCluster`: N shards of brokers under one name.

Fields whose feature comes in a later release are part of the schema already, so that their names are settled;
`rules` refuses them with a sentence until they work.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from penstock_operator.api.common import (
    Condition,
    ConfigMapping,
    Duration,
    Metadata,
    Model,
    Passthrough,
    Port,
    Quantity,
    Text,
)
from penstock_operator.api.names import HTTP_PORT_DEFAULT, KAFKA_PORT_DEFAULT

Mode = Literal["Raft", "MasterSlave"]
REPLICAS_MAX = 5
ELECTION_TIMEOUT_DEFAULT = "1s"
LEASE_DURATION_DEFAULT = "6s"
RENEW_INTERVAL_DEFAULT = "2s"
STORAGE_SIZE_DEFAULT = "10Gi"
STORAGE_SIZE_MIN = "512Mi"  # eight log segments: room for the reserved ones and for retention to work with


class Failover(Model, frozen=True, kw_only=True):
    """How a new leader is found. All but electionTimeout is for mode MasterSlave."""

    lease_duration: Annotated[
        Duration,
        Meta(
            description="Mode MasterSlave: how long the others wait for a master that renews its Lease no more; 1s to 60s. Default: 6s."
        ),
    ] = LEASE_DURATION_DEFAULT
    renew_interval: Annotated[
        Duration,
        Meta(
            description="Mode MasterSlave: how often the master renews its Lease; at most half of leaseDuration. Default: 2s."
        ),
    ] = RENEW_INTERVAL_DEFAULT
    election_timeout: Annotated[
        Duration,
        Meta(
            description="Mode Raft: how long a follower hears nothing before it wants to lead. Default: 1s."
        ),
    ] = ELECTION_TIMEOUT_DEFAULT
    max_lag: Annotated[
        int,
        Meta(
            ge=0,
            description="With allowDataLoss: how many entries of the lost master's log may be missing on who takes over. Default: 0.",
        ),
    ] = 0
    allow_data_loss: Annotated[
        bool,
        Meta(
            description="With replication async: take over although the lost master may have acknowledged what nobody else holds."
            " Default: false."
        ),
    ] = False


class Flush(Model, frozen=True, kw_only=True):
    """When an acknowledged message is on disk."""

    policy: Annotated[
        Literal["sync", "async"],
        Meta(description="sync: before the acknowledgement. async: within interval or bytes. Default: sync."),
    ] = "sync"
    interval: Annotated[
        Duration, Meta(description="Longest time until async data is flushed. Default: 50ms.")
    ] = "50ms"
    bytes: Annotated[Quantity, Meta(description="Most async data that is not yet flushed. Default: 1Mi.")] = (
        "1Mi"
    )


class Storage(Model, frozen=True, kw_only=True):
    """The volume of each broker."""

    size: Annotated[
        Quantity, Meta(description="Growing it expands the volumes; shrinking is refused. Default: 10Gi.")
    ] = STORAGE_SIZE_DEFAULT
    storage_class_name: Annotated[
        Text | None, Meta(description="Default: the Kubernetes cluster's default class. Cannot be changed.")
    ] = None
    delete_claim: Annotated[
        bool,
        Meta(
            description="Delete the volumes together with the MessageCluster, and those of brokers that left it. Default: false."
        ),
    ] = False
    replace_lost: Annotated[
        bool,
        Meta(
            description="Replace a volume that was lost with its node by an empty one, which the other brokers fill, when they"
            " hold everything. Default: false."
        ),
    ] = False


class Resources(Model, frozen=True, kw_only=True):
    """Requests and limits of the broker's container."""

    requests: Annotated[dict[str, Quantity], Meta(max_length=16)] = msgspec.field(default_factory=dict)
    limits: Annotated[dict[str, Quantity], Meta(max_length=16)] = msgspec.field(default_factory=dict)


class Listener(Model, frozen=True, kw_only=True):
    """A port that clients connect to."""

    name: Annotated[
        str,
        Meta(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=15, description="Unique in the cluster."),
    ]
    type: Annotated[
        Literal["internal", "nodePort"],
        Meta(
            description="internal: inside Kubernetes. nodePort: from outside, through every node. Default: internal."
        ),
    ] = "internal"
    protocol: Annotated[Literal["kafka"], Meta(description="Default: kafka.")] = "kafka"
    port: Annotated[Port, Meta(description="The port that the brokers bind.")]
    advertised_host: Annotated[
        Text | None,
        Meta(
            description="For nodePort: host name or address that clients are told. Default: the broker's node."
        ),
    ] = None


class Http(Model, frozen=True, kw_only=True):
    """The data API. The admin API, metrics and probes are on 8081 and no listener exposes them."""

    port: Annotated[Port, Meta(description="Default: 8080.")] = HTTP_PORT_DEFAULT


class Tracing(Model, frozen=True, kw_only=True):
    """Following messages: OpenTelemetry traces that the brokers send, events that they keep, or both."""

    endpoint: Annotated[
        Text | None,
        Meta(
            description="Where the collector takes OTLP over HTTP, such as http://collector:4318; brokers post to /v1/traces below it."
        ),
    ] = None
    headers_secret: Annotated[
        Text | None,
        Meta(
            description="Secret of the namespace whose key headers holds lines 'name: value' that are sent with each export."
        ),
    ] = None
    sampling: Annotated[
        float | None,
        Meta(
            description="Share of batches without a context of their own that are traced, 0 to 1. Default: 0.01."
        ),
    ] = None
    topic: Annotated[
        bool,
        Meta(
            description="Keep the events of followed messages in the brokers' own topic __trace, for penstock trace. Default: false."
        ),
    ] = False


class NetworkPolicy(Model, frozen=True, kw_only=True):
    """Who may reach the brokers."""

    enabled: Annotated[bool, Meta(description="Make a NetworkPolicy for the brokers. Default: false.")] = (
        False
    )
    admin_from: Annotated[
        list[Passthrough],
        Meta(max_length=16, description="NetworkPolicyPeers that may reach port 8081, besides the operator."),
    ] = msgspec.field(default_factory=list)


class Toleration(Model, frozen=True, kw_only=True):
    """As in a pod."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class Pod(Model, frozen=True, kw_only=True):
    """What the brokers' pods have besides what Penstock puts there."""

    labels: Annotated[dict[str, str], Meta(max_length=32)] = msgspec.field(default_factory=dict)
    annotations: Annotated[dict[str, str], Meta(max_length=32)] = msgspec.field(default_factory=dict)
    node_selector: Annotated[dict[str, str], Meta(max_length=32)] = msgspec.field(default_factory=dict)
    tolerations: Annotated[list[Toleration], Meta(max_length=32)] = msgspec.field(default_factory=list)
    topology_spread_constraints: Annotated[list[Passthrough], Meta(max_length=8)] = msgspec.field(
        default_factory=list
    )
    priority_class_name: Text | None = None


INTERNAL_LISTENER_DEFAULT = Listener(name="internal", port=KAFKA_PORT_DEFAULT)


class MessageClusterSpec(Model, frozen=True, kw_only=True):
    """What the cluster should be."""

    mode: Annotated[Mode, Meta(description="How copies agree. Cannot be changed.")]
    shards: Annotated[int, Meta(ge=1, le=64, description="Independent logs; up only. Default: 1.")] = 1
    replicas: Annotated[
        int,
        Meta(ge=1, le=REPLICAS_MAX, description="Brokers per shard; mode Raft: 1, 3 or 5. Default: 1."),
    ] = 1
    replication: Annotated[
        Literal["sync", "async"] | None, Meta(description="Mode MasterSlave only. Default there: sync.")
    ] = None
    min_in_sync: Annotated[
        Annotated[int, Meta(ge=1, le=REPLICAS_MAX)] | None,
        Meta(description="Copies without which writes are refused. Default: 1 up to two replicas, else 2."),
    ] = None
    failover: Failover | None = None
    flush: Flush = Flush()
    image: Annotated[
        Text | None, Meta(description="Image of the brokers. Default: the operator's own release.")
    ] = None
    storage: Storage = Storage()
    resources: Resources = Resources()
    listeners: Annotated[
        list[Listener],
        Meta(
            min_length=1,
            max_length=8,
            description="Default: one internal Kafka listener on 9092.",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = msgspec.field(default_factory=lambda: [INTERNAL_LISTENER_DEFAULT])
    http: Http = Http()
    config: Annotated[
        ConfigMapping, Meta(description="Broker settings, by Kafka's names where Kafka has one.")
    ] = msgspec.field(default_factory=dict)
    tracing: Tracing | None = None
    network_policy: NetworkPolicy = NetworkPolicy()
    pod: Pod = Pod()


class Member(Model, frozen=True, kw_only=True):
    """A broker of a shard."""

    name: str
    role: str
    in_sync: bool
    lag_bytes: int


class Recovery(Model, frozen=True, kw_only=True):
    """A shard that had lost its quorum for good went on from the copy of one broker, which ended with entry `lastIndex`: what
    was acknowledged behind it may be gone. Entries up to `commitIndex` were known to be committed."""

    generation: int
    broker: str
    epoch: int
    last_index: int
    last_epoch: int
    commit_index: int
    at: str


class TrustMember(Model, frozen=True, kw_only=True):
    """What came of the annotation penstock.io/trust-member. The same value does nothing more until it was removed."""

    pod: str
    outcome: Literal["Done", "Refused"]
    message: str


class HandOver(Model, frozen=True, kw_only=True):
    """What came of the annotation penstock.io/hand-over. The same value does nothing more until it was removed."""

    value: str
    outcome: Literal["Done", "Refused"]
    message: str


class ShardLease(Model, frozen=True, kw_only=True):
    """Mode MasterSlave: the Lease that names a shard's master; `inSync` is how many brokers may take over."""

    name: str
    holder: str
    epoch: int
    in_sync: int
    released: str | None = None


class Loss(Model, frozen=True, kw_only=True):
    """Mode MasterSlave: the broker that took over in this epoch may lack what was acknowledged before."""

    epoch: int
    message: str


class Shard(Model, frozen=True, kw_only=True):
    """A shard as its brokers report it."""

    id: int
    uid: str
    leader: str
    epoch: int
    members: list[Member]
    recovery: Recovery | None = None
    lease: ShardLease | None = None
    loss: Loss | None = None


class MessageClusterStatus(Model, frozen=True, kw_only=True):
    """What the cluster is, as last observed."""

    observed_generation: int = 0
    conditions: Annotated[
        list[Condition],
        Meta(extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = msgspec.field(default_factory=list)
    cluster_id: str | None = None
    bootstrap: dict[str, str] = msgspec.field(default_factory=dict)
    replicas: int = 0
    selector: str = ""
    shards: list[Shard] = msgspec.field(default_factory=list)
    trust_member: TrustMember | None = None
    hand_over: HandOver | None = None


class MessageCluster(Model, frozen=True, kw_only=True):
    """A message broker cluster."""

    metadata: Metadata
    spec: MessageClusterSpec
    status: MessageClusterStatus = MessageClusterStatus()
