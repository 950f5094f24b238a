"""The brokers' configuration files, and which of their settings the user may set.

The file holds everything that the broker starts from: who it is, its listeners, its peers, and the settings. Identity
and listeners change only with the pod; settings can also change while it runs, which `plan` decides from what the
broker itself says about each of them. On Kubernetes and under `penstock up` the files differ in addresses only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml

from penstock_operator.api.cluster import Failover
from penstock_operator.api.names import (
    ADMIN_LISTENER,
    ADMIN_PORT,
    HTTP_LISTENER,
    PEER_LISTENER,
    PEER_PORT,
)
from penstock_operator.api.units import duration_ms, quantity_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_operator.api.cluster import MessageClusterSpec

FORMED: Final = "shard.formed"
PEERS: Final = "shard.peers"
MIN_IN_SYNC: Final = "min.insync.replicas"
REPLICAS: Final = "replicas"
REPLICATION_DEFAULT: Final = "sync"
TRACING_HEADERS: Final = "tracing.headers.file"
TRACING_RULES: Final = "tracing.rules"
# What a broker's file says for its first start, and the shard's log and other brokers tell it from then on.
LEARNT: Final = frozenset({REPLICAS, PEERS})
# What the spec says in fields of its own, or what only the operator can know.
OWNED_BY_FIELDS: Final = {
    "cluster.name": "metadata.name",
    "cluster.id": "the operator",
    "shard.id": "the operator",
    "shard.uid": "the operator",
    PEERS: "the operator",
    FORMED: "the operator",
    "broker.ordinal": "the operator",
    "broker.name": "the operator",
    REPLICAS: "spec.replicas",
    MIN_IN_SYNC: "spec.minInSync",
    "raft.election.timeout.ms": "spec.failover.electionTimeout",
    "mode": "spec.mode",
    "replication": "spec.replication",
    "lease.name": "the operator",
    "lease.file": "the operator",
    "lease.duration.ms": "spec.failover.leaseDuration",
    "lease.renew.interval.ms": "spec.failover.renewInterval",
    "failover.max.lag": "spec.failover.maxLag",
    "failover.allow.data.loss": "spec.failover.allowDataLoss",
    "pod.name": "the operator",
    "pod.uid": "the operator",
    "termination.message.file": "the operator",
    "listeners": "spec.listeners",
    "flush.policy": "spec.flush.policy",
    "flush.interval.ms": "spec.flush.interval",
    "flush.bytes": "spec.flush.bytes",
    "log.disk.bytes": "spec.storage.size",
    "tracing.endpoint": "spec.tracing.endpoint",
    "tracing.sampling": "spec.tracing.sampling",
    "tracing.topic.enabled": "spec.tracing.topic",
    TRACING_HEADERS: "spec.tracing.headersSecret",
    TRACING_RULES: "the broker's /v1/tracing/rules",
}
# What people switch on at a broker for a time: that no spec says so is no reason to take it back.
OF_RUN_TIME: Final = frozenset({TRACING_RULES})
# Fields that a spec can lose again; brokers are told nothing of them then, so that an older release understands its file.
OPTIONAL: Final = frozenset(
    {"tracing.endpoint", "tracing.sampling", "tracing.topic.enabled", TRACING_HEADERS}
)


class BrokerIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Who one broker is."""

    cluster_name: str
    cluster_id: str
    shard: int
    shard_uid: str
    formed: bool  # whether the shard is known to have existed
    ordinal: int
    name: str
    # Mode MasterSlave: where the shard's Lease is kept, and who this broker is to those who read there that it holds it.
    place: dict[str, Any] = msgspec.field(default_factory=dict)


def config_problems(spec: MessageClusterSpec) -> list[str]:
    """Sentences about names in spec.config that belong elsewhere."""
    return [
        f"spec.config cannot hold {name}: it comes from {OWNED_BY_FIELDS[name]}, so leave it out of spec.config"
        for name in sorted(spec.config.keys() & OWNED_BY_FIELDS.keys())
    ]


def settings(spec: MessageClusterSpec, peers: dict[int, str], whole: int) -> dict[str, Any]:
    """Settings of a shard's brokers by name: those of spec.config and those that have fields of their own.

    `peers` maps ordinals to addresses; `whole` is the shard's number of brokers when it was last seen whole, 0 when it
    has not been.
    """
    timeout = (spec.failover or Failover()).election_timeout
    return {
        **{name: value for name, value in spec.config.items() if value is not None},
        REPLICAS: spec.replicas,
        PEERS: ",".join(f"{ordinal}={address}" for ordinal, address in sorted(peers.items())),
        MIN_IN_SYNC: min_in_sync(spec, whole),
        "raft.election.timeout.ms": duration_ms(timeout),
        "flush.policy": spec.flush.policy,
        "flush.interval.ms": duration_ms(spec.flush.interval),
        "flush.bytes": quantity_bytes(spec.flush.bytes),
        "log.disk.bytes": quantity_bytes(spec.storage.size),
        **_master_settings(spec),
        **_tracing_settings(spec),
    }


def _master_settings(spec: MessageClusterSpec) -> dict[str, Any]:
    """What mode MasterSlave has besides. Brokers in mode Raft are told nothing of it, not even that there is another mode."""
    if spec.mode == "Raft":
        return {}
    failover = spec.failover or Failover()
    return {
        "mode": spec.mode,
        "replication": spec.replication or REPLICATION_DEFAULT,
        "lease.duration.ms": duration_ms(failover.lease_duration),
        "lease.renew.interval.ms": duration_ms(failover.renew_interval),
        "failover.max.lag": failover.max_lag,
        "failover.allow.data.loss": failover.allow_data_loss,
    }


def _tracing_settings(spec: MessageClusterSpec) -> dict[str, Any]:
    """Where events go and of how many batches. The file of headers is where the Secret is mounted, which its pod knows."""
    tracing = spec.tracing
    if tracing is None or (tracing.endpoint is None and not tracing.topic):
        return {}
    asked = {
        "tracing.endpoint": tracing.endpoint,
        "tracing.sampling": tracing.sampling,
        "tracing.topic.enabled": tracing.topic or None,
    }
    return {name: value for name, value in asked.items() if value is not None}


def copies_to_keep(spec: MessageClusterSpec, whole: int) -> int | None:
    """Mode MasterSlave: how many brokers have to stay in sync when one goes, or writes would be refused; None in mode Raft,
    where a majority of the voters decides."""
    return None if spec.mode == "Raft" else min_in_sync(spec, whole)


def min_in_sync(spec: MessageClusterSpec, whole: int) -> int:
    """Copies without which writes are refused.

    A shard that grows cannot have more copies than brokers: the number rises once the new ones hold everything, or all
    writes would be refused until then. A new shard has nothing to serve yet and starts with the full number.
    """
    wanted = min_in_sync_wanted(spec)
    return min(wanted, whole) if whole else wanted


def min_in_sync_wanted(spec: MessageClusterSpec) -> int:
    """What the spec says, or what follows from its number of brokers."""
    return spec.min_in_sync or (1 if spec.replicas <= 2 else 2)


def listeners(
    spec: MessageClusterSpec, bind: Callable[[str, int], str], advertised: dict[str, str]
) -> list[dict[str, Any]]:
    """What a broker binds; `bind` gives the address for a listener's name and port, `advertised` what clients are told."""
    wanted: list[tuple[str, str, int]] = [
        *((listener.name, listener.protocol, listener.port) for listener in spec.listeners),
        (HTTP_LISTENER, "http", spec.http.port),
        (ADMIN_LISTENER, "admin", ADMIN_PORT),
        (PEER_LISTENER, "peer", PEER_PORT),
    ]
    return [
        {
            "name": name,
            "protocol": protocol,
            "bind": bind(name, port),
            **({"advertise": advertised[name]} if name in advertised else {}),
        }
        for name, protocol, port in wanted
    ]


def broker_content(
    identity: BrokerIdentity, listeners: list[dict[str, Any]], settings: dict[str, Any]
) -> dict[str, Any]:
    """The configuration file of one broker, as a map."""
    return {
        "cluster.name": identity.cluster_name,
        "cluster.id": identity.cluster_id,
        "shard.id": identity.shard,
        "shard.uid": identity.shard_uid,
        FORMED: identity.formed,
        "broker.ordinal": identity.ordinal,
        "broker.name": identity.name,
        **identity.place,
        "listeners": listeners,
        **dict(sorted(settings.items())),
    }


def as_yaml(content: dict[str, Any]) -> str:
    """The file's text."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
