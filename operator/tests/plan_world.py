"""Made-up observations of a cluster, as plain data, for tests of plans and statuses."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from penstock_operator.api.cluster import MessageCluster
from penstock_operator.desired.build import Desired, build
from penstock_operator.desired.identity import Environment, Identity
from penstock_operator.plan.actions import Plan, RestartBroker
from penstock_operator.plan.cluster import plan_cluster
from penstock_operator.plan.cluster_status import cluster_status
from penstock_operator.snapshot.broker import (
    BrokerReport,
    ClusterReport,
    MemberReport,
    Setting,
    ShardReport,
)
from penstock_operator.snapshot.cluster import ClaimSeen, ClusterSnapshot, PodSeen

IDENTITY = Identity(cluster_id="cluster-id", shard_uids={0: "shard-uid"})
NOW = "2026-11-21T08:00:00Z"


def cluster(spec: dict[str, Any] | None = None, replicas: int = 1) -> MessageCluster:
    content = {
        "metadata": {"name": "orders", "namespace": "shop", "uid": "uid", "generation": 3},
        "spec": {"mode": "Raft", "replicas": replicas, **(spec or {})},
    }
    return msgspec.convert(content, MessageCluster)


def desired_of(wanted: MessageCluster) -> Desired:
    return build(wanted, IDENTITY, Environment(image="penstock:1"))


def settings_of(desired: Desired, **changes: Any) -> dict[str, Setting]:
    dynamic = {"log.retention.ms", "num.partitions"}
    values = {**desired.settings[0], **changes}
    return {
        name: Setting(value=str(value), default="0", source="file", dynamic=name in dynamic)
        for name, value in values.items()
    }


def pod(desired: Desired, ordinal: int = 0, **changes: Any) -> PodSeen:
    annotations = desired.shards[0]["spec"]["template"]["metadata"]["annotations"]
    seen = PodSeen(
        name=f"orders-0-{ordinal}",
        uid=f"pod-{ordinal}",
        shard=0,
        address="10.0.0.1",
        ready=True,
        terminating=False,
        restart_hash=annotations["penstock.io/restart-hash"],
        config_hash=annotations["penstock.io/config-hash"],
        trouble=None,
        stuck=False,
        role="follower" if ordinal else "leader",
        role_epoch=4,
        node_ports=annotations["penstock.io/node-ports"],
    )
    return msgspec.structs.replace(seen, **changes)


def said(*names: str, leader: str = "orders-0-0", epoch: int = 4, **changes: dict[str, Any]) -> ClusterReport:
    """The shard as a broker reports it; `changes` by ordinal ("o2") of members that are not plain and in sync."""
    members = [
        MemberReport(
            **{
                "name": name,
                "role": "Leader" if name == leader else "Follower",
                "in_sync": True,
                "address": {"outside": f"10.0.0.{name[-1]}:30000"},
                **changes.get(f"o{name[-1]}", {}),
            }
        )
        for name in names
    ]
    shard = ShardReport(id=0, uid="shard-uid", leader=leader, epoch=epoch, members=members)
    return ClusterReport(cluster_id="cluster-id", shards=[shard])


def live(desired: Desired) -> dict[tuple[str, str], dict[str, Any]]:
    """What the API server holds after everything was applied and looked at by the controllers."""
    objects = {}
    for manifest in (*desired.supports, *desired.shards):
        item = copy.deepcopy(manifest)
        item["metadata"] |= {"uid": "u", "generation": 1, "resourceVersion": "1"}
        item["status"] = {"observedGeneration": 1}
        objects[item["kind"], item["metadata"]["name"]] = item
    return objects


def snapshot(
    desired: Desired, pods: list[PodSeen], brokers: dict[str, BrokerReport] | None = None
) -> ClusterSnapshot:
    names = [f"orders-0-{ordinal}" for ordinal in range(desired.shards[0]["spec"]["replicas"])]
    well = {seen.name: BrokerReport(settings=settings_of(desired), cluster=said(*names)) for seen in pods}
    return ClusterSnapshot(
        objects=live(desired),
        pods={seen.name: seen for seen in pods},
        claims={},
        brokers={**well, **(brokers or {})},
    )


def plan(wanted: MessageCluster, seen: ClusterSnapshot, identity: Identity = IDENTITY) -> Plan:
    return plan_cluster(wanted, identity, desired_of(wanted), seen)


def whole(replicas: int) -> Identity:
    return msgspec.structs.replace(IDENTITY, formed={0: replicas})


def conditions(
    wanted: MessageCluster, seen: ClusterSnapshot, identity: Identity
) -> dict[str, tuple[str, str, str]]:
    status = cluster_status(wanted, identity, desired_of(wanted), seen, plan(wanted, seen, identity), {}, NOW)
    return {
        entry["type"]: (entry["status"], entry["reason"], entry["message"]) for entry in status["conditions"]
    }


def restarts(made: Plan) -> list[str]:
    return [action.pod for action in made.actions if isinstance(action, RestartBroker)]


def claim(ordinal: int = 0, **changes: Any) -> ClaimSeen:
    seen = ClaimSeen(
        name=f"data-orders-0-{ordinal}",
        uid=f"claim-{ordinal}",
        shard=0,
        cluster_id="cluster-id",
        shard_uid="shard-uid",
        formed=None,
        requested="10Gi",
        capacity=None,
        resize=None,
        terminating=False,
    )
    return msgspec.structs.replace(seen, **changes)
