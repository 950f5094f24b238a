"""What a good administrator does besides making the spec come true: one thing at a time, the most urgent first.

A shard without a quorum goes on from a trusted copy; what was lost with a node is replaced; leadership goes where people
want it; and it leaves a node that is about to be drained before the drain comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock_operator.plan.actions import Action, HandOver, HandOverAnswer, TrustAnswer
from penstock_operator.plan.hand_over import plan_hand_over
from penstock_operator.plan.heirs import best_heir, no_heir
from penstock_operator.plan.lost import plan_lost
from penstock_operator.plan.trust import plan_trust

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.desired.identity import Identity
    from penstock_operator.plan.shards import ShardState
    from penstock_operator.snapshot.cluster import ClusterSnapshot


class Upkeep(msgspec.Struct, frozen=True, kw_only=True):
    """The one thing to do now, if any; answers to people's wishes; sentences about what cannot be done yet."""

    action: Action | None
    trust: TrustAnswer | None
    hand_over: HandOverAnswer | None
    holds: list[str]


def plan_upkeep(
    cluster: MessageCluster, identity: Identity, states: dict[int, ShardState], snapshot: ClusterSnapshot
) -> Upkeep:
    """See the module."""
    trust = plan_trust(cluster, identity, states, snapshot)
    lost = plan_lost(cluster, states, snapshot)
    wish = plan_hand_over(cluster, states, snapshot)
    leaving, stays = _leave_cordoned(states, snapshot)
    holds = [*lost.holds, *stays]
    if wish.answer is not None and wish.answer.outcome == "Waiting":
        holds.append(wish.answer.message)
    return Upkeep(
        action=trust.action or lost.action or wish.action or leaving,
        trust=trust.answer,
        hand_over=wish.answer,
        holds=holds,
    )


def _leave_cordoned(
    states: dict[int, ShardState], snapshot: ClusterSnapshot
) -> tuple[HandOver | None, list[str]]:
    """Leaders on cordoned nodes hand over to brokers on others: an eviction is then nothing that clients notice."""
    holds: list[str] = []
    for state in states.values():
        pod = snapshot.pods.get(state.view.leader or "")
        node = snapshot.node_of(pod) if pod is not None else None
        if pod is None or node is None or not node.cordoned or pod.terminating or len(state.expected) == 1:
            continue
        heir = best_heir(state, snapshot)
        if heir is not None:
            why = f"{pod.name} hands over to {heir} because {node.trouble}, which a drain may follow"
            return HandOver(why=why, pod=pod.name, to=heir), holds
        holds.append(f"{pod.name} leads though {node.trouble}: {no_heir(state, snapshot)}")
    return None, holds
