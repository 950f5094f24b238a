"""The annotation `penstock.io/hand-over`: a person has a leader give its leadership away, for whatever they are about to do.

`0` hands over shard 0 to whom the operator chooses, `0=orders-0-2` to that broker; in place of the shard its leader can be
named, and then the wish is refused when another broker leads. A value is carried out or refused once, and status remembers
which; left in place it does nothing more. While the shard has no leader, or its leader cannot be asked, it waits.

A hand-over that was done and not written down (the operator ended in between) is seen to be done where the wish names who
is to lead; where it does not, leadership moves once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from penstock_operator.api.names import ANNOTATION_HAND_OVER
from penstock_operator.plan.actions import HandOverAnswer, HandOverAsked
from penstock_operator.plan.heirs import best_heir, cannot_lead, no_heir

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.plan.shards import ShardState
    from penstock_operator.snapshot.cluster import ClusterSnapshot


class HandOverStep(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about the annotation, and what there is to say of it."""

    action: HandOverAsked | None = None
    answer: HandOverAnswer | None = None


def plan_hand_over(
    cluster: MessageCluster, states: dict[int, ShardState], snapshot: ClusterSnapshot
) -> HandOverStep:
    """The step for the annotation as it is now; without one, nothing is remembered either."""
    value = cluster.metadata.annotations.get(ANNOTATION_HAND_OVER, "").strip()
    before = cluster.status.hand_over
    if not value:
        return HandOverStep()
    if before is not None and before.value == value:
        answer = HandOverAnswer(value=value, outcome=before.outcome, message=before.message)
        return HandOverStep(answer=answer)
    source, wants_target, target = (part.strip() for part in value.partition("="))
    state = _shard(source, states)
    if state is None or (wants_target and not target):
        known = ", ".join(str(shard) for shard in states)
        return _refused(value, f"{value} names no shard: write SHARD or SHARD=POD, of the shards {known}")
    return _of_shard(value, source, target, state, snapshot)


def _shard(source: str, states: dict[int, ShardState]) -> ShardState | None:
    if source.isdecimal():
        return states.get(int(source))
    return next((state for state in states.values() if source in state.expected), None)


def _of_shard(
    value: str, source: str, target: str, state: ShardState, snapshot: ClusterSnapshot
) -> HandOverStep:
    view = state.view
    if len(state.expected) == 1:
        return _refused(value, f"shard {view.id} has one broker: there is nobody to hand over to")
    if target and target not in state.expected:
        return _refused(
            value, f"there is no broker {target} in shard {view.id}: name one of {', '.join(state.expected)}"
        )
    if view.leader is None or not view.from_leader:
        missing = "nobody leads it" if view.leader is None else f"{view.leader}, its leader, cannot be asked"
        return _answer(value, "Waiting", f"shard {view.id} is handed over once that is possible: {missing}")
    if target == view.leader:
        return _answer(value, "Done", f"{target} leads shard {view.id} in epoch {view.epoch}")
    if not source.isdecimal() and source != view.leader:
        return _refused(value, f"{source} has nothing to hand over: {view.leader} leads shard {view.id}")
    heir = target or best_heir(state, snapshot)
    if heir is None:
        return _refused(value, f"{view.leader} does not hand over: {no_heir(state, snapshot)}")
    refusal = cannot_lead(heir, state, snapshot)
    if refusal is not None:
        return _refused(value, f"{view.leader} does not hand over to {heir}: {refusal}")
    why = f"{view.leader} hands over to {heir} because {ANNOTATION_HAND_OVER} says so"
    return HandOverStep(action=HandOverAsked(why=why, pod=view.leader, to=heir, value=value))


def _refused(value: str, message: str) -> HandOverStep:
    return _answer(value, "Refused", message)


def _answer(value: str, outcome: Literal["Done", "Refused", "Waiting"], message: str) -> HandOverStep:
    return HandOverStep(answer=HandOverAnswer(value=value, outcome=outcome, message=message))
