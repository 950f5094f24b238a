"""The role label of each pod, from what the brokers say: it follows the epoch and never leads it.

The label directs clients (`<cluster>-leader`) and fences nobody; a broker knows by itself whether it leads. So the rules
are those of a follower of news: only the newest epoch counts, and beside each label stands the epoch that it is from, so
that an older report, or an older operator, never overwrites a newer one. The old leader's label goes before the new one
comes. Where the newest epoch has no known leader (an election, or nobody can be asked), labels stay as they are. The same
in both modes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_operator.desired.names import ROLE_FOLLOWER, ROLE_LEADER, ROLE_LEARNER
from penstock_operator.plan.actions import LabelRole
from penstock_operator.snapshot.shard import LEARNER

if TYPE_CHECKING:
    from penstock_operator.plan.shards import ShardState
    from penstock_operator.snapshot.cluster import ClusterSnapshot, PodSeen
    from penstock_operator.snapshot.shard import ShardView


def plan_roles(states: dict[int, ShardState], snapshot: ClusterSnapshot) -> list[LabelRole]:
    """Labels to write now, of each shard those first that take a leader's label away."""
    actions: list[LabelRole] = []
    for shard, state in states.items():
        pods = [pod for pod in snapshot.pods.values() if pod.shard == shard]
        if not _is_news(state.view, pods):
            continue
        written = [_label(state.view, pod, pods) for pod in pods]
        due = [action for action in written if action is not None]
        actions += sorted(due, key=lambda action: (action.role == ROLE_LEADER, action.pod))
    return actions


def _is_news(view: ShardView, pods: list[PodSeen]) -> bool:
    """Whether what the brokers say is complete, and not older than what labels say."""
    if view.leader is None or view.newest_epoch > view.epoch:
        return False
    return view.epoch >= max((pod.role_epoch for pod in pods), default=0)


def _label(view: ShardView, pod: PodSeen, pods: list[PodSeen]) -> LabelRole | None:
    """The label that a pod lacks; None when it has it, or when nobody says what it is."""
    member = view.member(pod.name)
    if pod.name == view.leader:
        role = ROLE_LEADER
    elif member is not None:
        role = ROLE_LEARNER if member.role == LEARNER else ROLE_FOLLOWER
    elif pod.role == ROLE_LEADER:
        role = ROLE_LEARNER  # it led and is no member any more
    else:
        return None
    if (pod.role, pod.role_epoch) == (role, view.epoch):
        return None
    elected = role == ROLE_LEADER and pod.role != ROLE_LEADER
    return LabelRole(
        why=_why(view, pod, role, pods),
        pod=pod.name,
        version=pod.version,
        role=role,
        epoch=view.epoch,
        elected=elected,
    )


def _why(view: ShardView, pod: PodSeen, role: str, pods: list[PodSeen]) -> str:
    if role != ROLE_LEADER:
        return (
            f"{pod.name} is labelled {role} because {view.leader} leads shard {view.id} in epoch {view.epoch}"
        )
    before = [other.name for other in pods if other.role == ROLE_LEADER and other.name != pod.name]
    after = f", after {before[0]}" if before else ""
    return f"{pod.name} leads shard {view.id} in epoch {view.epoch}{after}"
