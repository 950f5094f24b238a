"""Who could lead a shard in its leader's place, and why another broker could not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_operator.snapshot.shard import LEARNER

if TYPE_CHECKING:
    from penstock_operator.plan.shards import ShardState
    from penstock_operator.snapshot.cluster import ClusterSnapshot


def cannot_lead(name: str, state: ShardState, snapshot: ClusterSnapshot) -> str | None:
    """Why a broker should not be given the leadership now, or None. Only what the leader itself says counts."""
    view = state.view
    member, pod = view.member(name), snapshot.pods.get(name)
    if not view.from_leader:
        return f"{view.leader or 'nobody'} leads shard {view.id} and cannot be asked who is in sync"
    if member is None:
        return f"{name} is no member of shard {view.id}"
    if member.role == LEARNER:
        return f"{name} is catching up, {member.lag_bytes} bytes behind"
    if not member.in_sync:
        return f"{name} is not in sync, {member.lag_bytes} bytes behind"
    if pod is None or not pod.ready or pod.terminating:
        return f"{name} is not ready"
    node = snapshot.node_of(pod)
    if node is not None and node.trouble is not None:
        return f"{name} is not asked to lead because {node.trouble}"
    return None


def best_heir(state: ShardState, snapshot: ClusterSnapshot) -> str | None:
    """The broker that is the least behind of those that could take over."""
    fit = [
        (voter.lag_bytes, voter.name)
        for voter in state.view.voters
        if voter.name != state.view.leader and cannot_lead(voter.name, state, snapshot) is None
    ]
    return min(fit)[1] if fit else None


def no_heir(state: ShardState, snapshot: ClusterSnapshot) -> str:
    """The sentence why nobody could take over."""
    others = [name for name in state.expected if name != state.view.leader]
    reasons = [reason for name in others if (reason := cannot_lead(name, state, snapshot)) is not None]
    return "; ".join(dict.fromkeys(reasons)) or f"shard {state.view.id} has no other broker"
