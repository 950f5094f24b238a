"""The brokers' configuration files, and which of their settings the user may set.

The file holds everything that the broker starts from: who it is, its listeners, and the settings. Identity and
listeners change only with the pod; settings can also change while it runs, which `plan` decides from what the broker
itself says about each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import yaml

from penstock_operator.api.names import ADMIN_PORT
from penstock_operator.api.units import duration_ms, quantity_bytes

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster, MessageClusterSpec
    from penstock_operator.desired.identity import Identity

BIND_ADDRESS: Final = "0.0.0.0"
# What the spec says in fields of its own, or what only the operator can know.
OWNED_BY_FIELDS: Final = {
    "cluster.name": "metadata.name",
    "cluster.id": "the operator",
    "shard.id": "the operator",
    "shard.uid": "the operator",
    "broker.ordinal": "the operator",
    "broker.name": "the operator",
    "replicas": "spec.replicas",
    "listeners": "spec.listeners",
    "flush.policy": "spec.flush.policy",
    "flush.interval.ms": "spec.flush.interval",
    "flush.bytes": "spec.flush.bytes",
    "log.disk.bytes": "spec.storage.size",
}


def config_problems(spec: MessageClusterSpec) -> list[str]:
    """Sentences about names in spec.config that belong elsewhere."""
    return [
        f"spec.config cannot hold {name}: it comes from {OWNED_BY_FIELDS[name]}, so leave it out of spec.config"
        for name in sorted(spec.config.keys() & OWNED_BY_FIELDS.keys())
    ]


def settings(spec: MessageClusterSpec) -> dict[str, Any]:
    """Settings of all brokers by name: those of spec.config and those that have fields of their own."""
    return {
        **{name: value for name, value in spec.config.items() if value is not None},
        "flush.policy": spec.flush.policy,
        "flush.interval.ms": duration_ms(spec.flush.interval),
        "flush.bytes": quantity_bytes(spec.flush.bytes),
        "log.disk.bytes": quantity_bytes(spec.storage.size),
    }


def listeners(spec: MessageClusterSpec) -> list[dict[str, Any]]:
    """What a broker binds. Where clients find it is an argument of the program, because it holds the pod's name."""
    kafka = [
        {"name": listener.name, "protocol": listener.protocol, "bind": f"{BIND_ADDRESS}:{listener.port}"}
        for listener in spec.listeners
    ]
    return [
        *kafka,
        {"name": "http", "protocol": "http", "bind": f"{BIND_ADDRESS}:{spec.http.port}"},
        {"name": "admin", "protocol": "admin", "bind": f"{BIND_ADDRESS}:{ADMIN_PORT}"},
    ]


def broker_file(cluster: MessageCluster, identity: Identity, shard: int, ordinal: int, name: str) -> str:
    """The configuration file of one broker, as YAML."""
    content = {
        "cluster.name": cluster.metadata.name,
        "cluster.id": identity.cluster_id,
        "shard.id": shard,
        "shard.uid": identity.shard_uids[shard],
        "broker.ordinal": ordinal,
        "broker.name": name,
        "replicas": cluster.spec.replicas,
        "listeners": listeners(cluster.spec),
        **dict(sorted(settings(cluster.spec).items())),
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
