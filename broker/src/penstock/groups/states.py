"""The states of a classic group and the transitions that exist between them."""

from __future__ import annotations

from enum import Enum


class GroupState(Enum):
    """The values are the names that Kafka's tools show."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


TRANSITIONS: dict[GroupState, frozenset[GroupState]] = {
    # The first member joins.
    GroupState.EMPTY: frozenset({GroupState.PREPARING_REBALANCE, GroupState.DEAD}),
    # All members are there, or none is left.
    GroupState.PREPARING_REBALANCE: frozenset(
        {GroupState.COMPLETING_REBALANCE, GroupState.EMPTY, GroupState.DEAD}
    ),
    # The assignment is in the log; or somebody came, went, or failed to sync.
    GroupState.COMPLETING_REBALANCE: frozenset(
        {GroupState.STABLE, GroupState.PREPARING_REBALANCE, GroupState.DEAD}
    ),
    # Somebody came, went or changed.
    GroupState.STABLE: frozenset({GroupState.PREPARING_REBALANCE, GroupState.DEAD}),
    # The end; a later group of the same name is another object.
    GroupState.DEAD: frozenset({GroupState.DEAD}),
}


def check_transition(group: str, current: GroupState, following: GroupState) -> None:
    """Stops on a transition that the table does not have: that is a fault of ours."""
    assert following in TRANSITIONS[current], (
        f"group {group!r} cannot go from {current.value} to {following.value}"
    )
