"""The status of a MessageCluster, computed from what was observed and what is planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from penstock_operator.desired import names
from penstock_operator.desired.addresses import is_known_to_brokers_only
from penstock_operator.plan.conditions import Statement, merge_conditions, paused_statement
from penstock_operator.plan.masters import (
    MasterTrouble,
    lease_row,
    master_troubles,
    newest_loss,
    shown_role,
    why_no_master,
)
from penstock_operator.plan.shards import ShardState, shard_states
from penstock_operator.plan.trust import what_may_be_gone
from penstock_operator.snapshot.broker import RecoveryReport
from penstock_operator.snapshot.shard import UNKNOWN

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
    old_status: dict[str, Any],
    now: str,
) -> dict[str, Any]:
    """The whole status to publish."""
    states = shard_states(cluster, identity, snapshot)
    troubles = master_troubles(cluster, identity, states, snapshot)
    statements = [
        _ready(snapshot, states, plan, troubles),
        _progressing(snapshot, plan),
        _degraded(snapshot, states, plan, troubles),
        paused_statement(False),
    ]
    rows = [_shard(cluster, identity, state, snapshot, old_status) for state in states.values()]
    statements += _unclean_recovery(rows, plan)
    old_conditions = old_status.get("conditions", [])
    answers = {"trustMember": plan.trust, "handOver": plan.hand_over}
    return {
        "observedGeneration": cluster.metadata.generation,
        "conditions": merge_conditions(statements, old_conditions, cluster.metadata.generation, now),
        "clusterId": identity.cluster_id,
        "bootstrap": {**desired.bootstrap, **_reported_addresses(cluster, states, old_status)},
        "replicas": len([pod for pod in snapshot.pods.values() if not pod.terminating]),
        "selector": ",".join(
            f"{key}={value}" for key, value in sorted(names.cluster_selector(cluster.metadata.name).items())
        ),
        "shards": rows,
        **{
            name: msgspec.structs.asdict(answer)
            for name, answer in answers.items()
            if answer is not None and answer.outcome != "Waiting"
        },
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


def _ready(
    snapshot: ClusterSnapshot, states: dict[int, ShardState], plan: Plan, troubles: list[MasterTrouble]
) -> Statement:
    """Whether the cluster does what its spec says. A shard that was whole may miss a minority and still serve."""
    if plan.problems:
        reason, message = plan.problems[0]
        return Statement(type="Ready", status="False", reason=reason, message=message)
    pending = [
        action
        for action in plan.actions
        if not (action.incidental or (action.disruptive and _all_serve(states)))
    ]
    if pending:
        return Statement(type="Ready", status="False", reason="Reconciling", message=pending[0].why)
    if plan.waits:
        reason = troubles[0].reason if troubles else _waiting_reason(snapshot, states)
        told = [trouble.message for trouble in troubles]
        said = [
            why for state in states.values() if not state.serves for why in why_no_master(state, snapshot)
        ]
        message = "; ".join([*told, *plan.waits, *(said if not told else [])])
        return Statement(type="Ready", status="False", reason=reason, message=message)
    expected = sum(len(state.expected) for state in states.values())
    message = f"{expected - len(plan.missing)} of {expected} brokers are ready"
    if plan.missing:
        message = f"{_leaders(states)}, {message}: {'; '.join(plan.missing)}"
        return Statement(type="Ready", status="True", reason="BrokersMissing", message=message)
    return Statement(type="Ready", status="True", reason="BrokersReady", message=message)


def _all_serve(states: dict[int, ShardState]) -> bool:
    return all(
        state.serves and state.was_whole and max(len(state.expected), len(state.view.voters)) > 1
        for state in states.values()
    )


def _leaders(states: dict[int, ShardState]) -> str:
    leaders = [state.view.leader for state in states.values() if state.view.leader is not None]
    return f"{', '.join(leaders)} {'leads' if len(leaders) == 1 else 'lead'}"


def _without_leader(snapshot: ClusterSnapshot, states: dict[int, ShardState]) -> list[str]:
    """Shards that were whole and have nobody who leads them; one broker alone is only away."""
    return [
        f"shard {state.view.id} has no leader: "
        + ("; ".join([*state.away, *why_no_master(state, snapshot)]) or "no broker says who leads")
        for state in states.values()
        if state.was_whole and not state.serves and len(state.expected) > 1
    ]


def _waiting_reason(snapshot: ClusterSnapshot, states: dict[int, ShardState]) -> str:
    if any(pod.stuck for pod in snapshot.pods.values()):
        return "BrokerStuck"
    return "NoLeader" if _without_leader(snapshot, states) else "BrokersNotReady"


def _progressing(snapshot: ClusterSnapshot, plan: Plan) -> Statement:
    if plan.problems:
        return Statement(
            type="Progressing",
            status="False",
            reason=plan.problems[0][0],
            message="nothing is changed until this is solved",
        )
    if actions := [action for action in plan.actions if not action.incidental]:
        message = "; ".join(action.why for action in actions)
        return Statement(type="Progressing", status="True", reason="Reconciling", message=message)
    if plan.scaling or plan.refused:
        message = "; ".join([*plan.scaling, *plan.refused, *plan.holds])
        return Statement(type="Progressing", status="True", reason="Scaling", message=message)
    if waits := [*plan.holds, *plan.waits, *plan.missing]:
        stopped = plan.roll_held and any(pod.stuck for pod in snapshot.pods.values())
        reason = "RollStopped" if stopped else "Waiting"
        return Statement(type="Progressing", status="True", reason=reason, message="; ".join(waits))
    return Statement(
        type="Progressing", status="False", reason="Settled", message="everything is as the spec says"
    )


def _degraded(
    snapshot: ClusterSnapshot, states: dict[int, ShardState], plan: Plan, troubles: list[MasterTrouble]
) -> Statement:
    if plan.problems:
        reason, message = plan.problems[0]
        return Statement(type="Degraded", status="True", reason=reason, message=message)
    stuck = [f"{pod.name}: {pod.trouble}" for pod in snapshot.pods.values() if pod.stuck]
    for reason, sentences in (
        ("BrokerStuck", sorted(stuck)),
        *((trouble.reason, [trouble.message]) for trouble in troubles),
        ("NoLeader", _without_leader(snapshot, states)),
        ("BrokersMissing", plan.missing),
        ("ScaleDownRefused", plan.refused),
    ):
        if sentences:
            return Statement(type="Degraded", status="True", reason=reason, message="; ".join(sentences))
    return Statement(type="Degraded", status="False", reason="Healthy", message="no broker is in trouble")


def _unclean_recovery(rows: list[dict[str, Any]], plan: Plan) -> list[Statement]:
    """What came of the wish to trust a broker, and what may be gone since one was, or since a master took over that may lack
    something. Where none of it is, no condition."""
    kind = "UncleanRecovery"
    recovered = [
        what_may_be_gone(f"shard {row['id']}", msgspec.convert(row["recovery"], RecoveryReport))
        for row in rows
        if "recovery" in row
    ]
    lost = [
        f"shard {row['id']}, since epoch {row['loss']['epoch']}: {row['loss']['message']}"
        for row in rows
        if "loss" in row
    ]
    if plan.trust is not None and plan.trust.outcome != "Done":
        reason = f"Trust{plan.trust.outcome}"
        return [Statement(type=kind, status="False", reason=reason, message=plan.trust.message)]
    if lost:
        return [Statement(type=kind, status="True", reason="MessagesLost", message="; ".join(lost))]
    if recovered:
        return [Statement(type=kind, status="True", reason="MemberTrusted", message="; ".join(recovered))]
    if plan.trust is not None:
        return [Statement(type=kind, status="Unknown", reason="TrustDone", message=plan.trust.message)]
    return []


def _shard(
    cluster: MessageCluster,
    identity: Identity,
    state: ShardState,
    snapshot: ClusterSnapshot,
    old_status: dict[str, Any],
) -> dict[str, Any]:
    """A row of the shard table: every broker that is asked for or reported, whether it speaks or not. What was lost once
    stays told while nobody speaks."""
    recovery = None if state.view.recovery is None else msgspec.to_builtins(state.view.recovery)
    view = state.view
    before: dict[str, Any] = next(
        (row for row in old_status.get("shards", []) if row.get("id") == view.id), {}
    )
    loss = newest_loss(state, snapshot, before.get("loss"))
    lease = snapshot.leases.get(view.id)
    optional = {
        "recovery": recovery if recovery is not None else before.get("recovery"),
        "lease": lease_row(lease) if lease is not None and lease.problem is None else None,
        "loss": loss,
    }
    members = {
        name: {"name": name, "role": UNKNOWN, "inSync": False, "lagBytes": 0} for name in state.expected
    }
    for member in view.members:
        members[member.name] = {
            "name": member.name,
            "role": shown_role(cluster.spec.mode, member.role),
            "inSync": member.in_sync,
            "lagBytes": member.lag_bytes,
        }
    return {
        "id": view.id,
        "uid": identity.shard_uids[view.id],
        "leader": view.leader or "",
        "epoch": view.epoch,
        "members": list(members.values()),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _reported_addresses(
    cluster: MessageCluster, states: dict[int, ShardState], old_status: dict[str, Any]
) -> dict[str, str]:
    """Where clients start at listeners whose addresses only the brokers know; the last known while none is said."""
    old: dict[str, str] = old_status.get("bootstrap", {})
    addresses = {}
    for listener in filter(is_known_to_brokers_only, cluster.spec.listeners):
        told = [
            member.address[listener.name]
            for state in states.values()
            for member in state.view.members
            if listener.name in member.address
        ]
        if told or listener.name in old:
            addresses[listener.name] = ",".join(told) or old[listener.name]
    return addresses
