"""The status of a MessageCluster, computed from what was observed and what is planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock_operator.desired import names
from penstock_operator.plan.conditions import Statement, merge_conditions, paused_statement

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.desired.build import Desired
    from penstock_operator.desired.identity import Identity
    from penstock_operator.plan.actions import Plan
    from penstock_operator.snapshot.cluster import ClusterSnapshot


def cluster_status(
    cluster: MessageCluster,
    identity: Identity,
    desired: Desired,
    snapshot: ClusterSnapshot,
    plan: Plan,
    old_conditions: list[dict[str, Any]],
    now: str,
) -> dict[str, Any]:
    """The whole status to publish."""
    statements = [
        _ready(cluster, snapshot, plan),
        _progressing(plan),
        _degraded(snapshot, plan),
        paused_statement(False),
    ]
    return {
        "observedGeneration": cluster.metadata.generation,
        "conditions": merge_conditions(statements, old_conditions, cluster.metadata.generation, now),
        "clusterId": identity.cluster_id,
        "bootstrap": desired.bootstrap,
        "replicas": len([pod for pod in snapshot.pods.values() if not pod.terminating]),
        "selector": ",".join(
            f"{key}={value}" for key, value in sorted(names.cluster_selector(cluster.metadata.name).items())
        ),
        "shards": _shards(cluster, identity, snapshot),
    }


def broken_status(
    generation: int, reason: str, message: str, old_status: dict[str, Any], now: str
) -> dict[str, Any]:
    """The status when nothing could be planned; what was known before stays."""
    statements = [
        Statement(type="Ready", status="False", reason=reason, message=message),
        Statement(
            type="Progressing",
            status="False",
            reason=reason,
            message="nothing is changed until this is solved",
        ),
        Statement(type="Degraded", status="True", reason=reason, message=message),
        paused_statement(False),
    ]
    return {
        **old_status,
        "observedGeneration": generation,
        "conditions": merge_conditions(statements, old_status.get("conditions", []), generation, now),
    }


def paused_status(generation: int, old_status: dict[str, Any], now: str) -> dict[str, Any]:
    """The status of a paused resource: only Paused is said anew, and the rest stays as it was."""
    kept = [condition for condition in old_status.get("conditions", []) if condition.get("type") != "Paused"]
    paused = merge_conditions([paused_statement(True)], old_status.get("conditions", []), generation, now)
    return {**old_status, "conditions": kept + paused}


def _ready(cluster: MessageCluster, snapshot: ClusterSnapshot, plan: Plan) -> Statement:
    if plan.problems:
        reason, message = plan.problems[0]
        return Statement(type="Ready", status="False", reason=reason, message=message)
    if plan.actions:
        return Statement(type="Ready", status="False", reason="Reconciling", message=plan.actions[0].why)
    if plan.waits:
        reason = "BrokerStuck" if any(pod.stuck for pod in snapshot.pods.values()) else "BrokersNotReady"
        return Statement(type="Ready", status="False", reason=reason, message="; ".join(plan.waits))
    count = len(names.pod_names(cluster))
    message = f"{count} of {count} brokers are ready"
    return Statement(type="Ready", status="True", reason="BrokersReady", message=message)


def _progressing(plan: Plan) -> Statement:
    if plan.problems:
        return Statement(
            type="Progressing",
            status="False",
            reason=plan.problems[0][0],
            message="nothing is changed until this is solved",
        )
    if plan.actions:
        message = "; ".join(action.why for action in plan.actions)
        return Statement(type="Progressing", status="True", reason="Reconciling", message=message)
    if plan.waits:
        return Statement(type="Progressing", status="True", reason="Waiting", message="; ".join(plan.waits))
    return Statement(
        type="Progressing", status="False", reason="Settled", message="everything is as the spec says"
    )


def _degraded(snapshot: ClusterSnapshot, plan: Plan) -> Statement:
    if plan.problems:
        reason, message = plan.problems[0]
        return Statement(type="Degraded", status="True", reason=reason, message=message)
    stuck = [f"{pod.name}: {pod.trouble}" for pod in snapshot.pods.values() if pod.stuck]
    if stuck:
        return Statement(
            type="Degraded", status="True", reason="BrokerStuck", message="; ".join(sorted(stuck))
        )
    return Statement(type="Degraded", status="False", reason="Healthy", message="no broker is in trouble")


def _shards(cluster: MessageCluster, identity: Identity, snapshot: ClusterSnapshot) -> list[dict[str, Any]]:
    """What the brokers say about each shard; a shard nobody speaks for is listed without a leader."""
    reports = {
        shard.id: shard
        for _, report in sorted(snapshot.brokers.items())
        if report.cluster is not None
        for shard in report.cluster.shards
    }
    table = []
    for shard in range(cluster.spec.shards):
        report = reports.get(shard)
        table.append(
            {
                "id": shard,
                "uid": identity.shard_uids[shard],
                "leader": (report.leader or "") if report else "",
                "epoch": report.epoch if report else 0,
                "members": [
                    {"name": m.name, "role": m.role, "inSync": m.in_sync, "lagBytes": m.lag_bytes}
                    for m in (report.members if report else [])
                ],
            }
        )
    return table
