"""What was lost with a node: pods that cannot end by themselves any more, and, where the spec allows it, their volumes.

A node that merely does not answer may still run everything, so nothing is taken from it: its brokers are awaited, as
long as it takes. Only when the Node object is gone, or a person put the out-of-service taint on it, is a pod there
forgotten by force, which lets its StatefulSet make another one. A volume that only existed there is given up when
`storage.replaceLost` says so, a minute has passed in which no node took the pod, and the shard has everything without it:
then its claim is deleted, and the broker begins anew on an empty volume and is seeded by the others.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from penstock_operator.desired.names import claim_name
from penstock_operator.plan.actions import Action, ForgetPod, GiveUpClaim, RestartBroker

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.plan.shards import ShardState
    from penstock_operator.snapshot.cluster import ClusterSnapshot, PodSeen

GIVE_UP_AFTER_S: Final = 60  # a machine that comes back under its old name has registered again by then


class LostStep(msgspec.Struct, frozen=True, kw_only=True):
    """The one thing to do, if any, and sentences about volumes that are lost and not replaced."""

    action: Action | None = None
    holds: list[str] = msgspec.field(default_factory=list)


def plan_lost(cluster: MessageCluster, states: dict[int, ShardState], snapshot: ClusterSnapshot) -> LostStep:
    """The next step to replace what nodes took with them."""
    pods = [pod for _, pod in sorted(snapshot.pods.items()) if pod.shard in states]
    for pod in pods:
        action = _forgotten(pod, snapshot) or _without_claim(pod, snapshot)
        if action is not None:
            return LostStep(action=action)
    holds = []
    for pod in pods:
        claim = snapshot.claims.get(claim_name(pod.name))
        if claim is None or claim.name not in snapshot.lost_volumes or pod.unschedulable_since is None:
            continue
        lost = snapshot.lost_volumes[claim.name]
        refusal = cannot_give_up(cluster, states[pod.shard], pod, snapshot)
        if refusal is None:
            why = f"claim {claim.name} is given up because {lost}: {pod.name} begins anew and is sent everything"
            return LostStep(action=GiveUpClaim(why=why, name=claim.name, uid=claim.uid))
        holds.append(f"claim {claim.name} is kept although {lost}: {refusal}")
    return LostStep(holds=holds)


def cannot_give_up(
    cluster: MessageCluster, state: ShardState, pod: PodSeen, snapshot: ClusterSnapshot
) -> str | None:
    """Why a volume that is gone is not replaced by an empty one now, or None."""
    view = state.view
    if not cluster.spec.storage.replace_lost:
        return f"set storage.replaceLost: true, or delete the claim and pod {pod.name} yourself"
    since = pod.unschedulable_since or ""
    if _seconds_between(since, snapshot.now) < GIVE_UP_AFTER_S:
        return f"no node has taken {pod.name} since {since}, and it is given up after {GIVE_UP_AFTER_S} s"
    if not state.serves or not view.from_leader or view.leader == pod.name:
        return f"shard {view.id} has no leader that says who holds everything"
    ready = {one.name for one in snapshot.pods.values() if one.ready and not one.terminating}
    others = [v.name for v in view.voters if v.name != pod.name and v.in_sync and v.name in ready]
    if cluster.spec.mode == "Raft":
        enough = 2 * len(others) > len(view.voters)
    else:
        # A master counts its in-sync set, and nothing was acknowledged that one of the set does not hold.
        member = view.member(pod.name)
        enough = view.leader in others and (member is None or not member.in_sync)
    if enough:
        return None
    return (
        f"the brokers in sync without it ({', '.join(others) or 'none'}) do not suffice for shard {view.id}"
    )


def _forgotten(pod: PodSeen, snapshot: ClusterSnapshot) -> ForgetPod | None:
    """Forget a pod whose node is certainly gone; a broker that still speaks is not."""
    node, report = snapshot.node_of(pod), snapshot.brokers.get(pod.name)
    if node is None or not node.is_gone:
        return None
    if report is not None and report.cluster is not None:
        return None
    if node.exists and pod.ready and not pod.terminating:
        return None
    return ForgetPod(why=f"{pod.name} is replaced because {node.trouble}", pod=pod.name, uid=pod.uid)


def _without_claim(pod: PodSeen, snapshot: ClusterSnapshot) -> RestartBroker | None:
    """A pod that waits for a claim which does not exist; a claim comes with the next pod."""
    if pod.unschedulable_since is None or pod.terminating or claim_name(pod.name) in snapshot.claims:
        return None
    why = f"{pod.name} is made anew because its claim was deleted: the next one has an empty volume"
    return RestartBroker(why=why, pod=pod.name, uid=pod.uid)


def _seconds_between(earlier: str, later: str) -> float:
    """Between two RFC 3339 times; 0 when one of them is none."""
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
