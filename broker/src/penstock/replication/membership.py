"""What the leader changes about the shard's members, one step at a time.

The wish is one voter for each ordinal that the shard should have. A broker whose storage is new comes as a stranger:
it is added as a learner, catches up, and only then takes the place of the member that had its ordinal before. So the
number of copies never falls because of a replacement, and no step needs more brokers than are there. How voters whose
places are not wanted any more leave stands in `leaving`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum

import msgspec

# A learner that lacks at most this many entries is as good as caught up: the rest is in flight.
PROMOTION_LAG_ENTRIES_MAX = 2_000


class Peer(msgspec.Struct, frozen=True):
    """A broker that is connected now: its place and its storage."""

    ordinal: int
    member: int
    name: str


class Standing(msgspec.Struct, frozen=True):
    """How a configured member does: the last entry it holds, and whether it was heard of lately."""

    match: int
    active: bool


class Step(Enum):
    """The kinds of change, named for the sentence."""

    ADD_LEARNER = "add as a learner"
    PROMOTE = "make a voter"
    REMOVE = "remove"


class Change(msgspec.Struct, frozen=True):
    """One change of the configuration and why."""

    step: Step
    member: int
    reason: str


class Roster(msgspec.Struct, frozen=True):
    """What the leader knows. `ordinals` maps configured members to their places; `wanted` are the shard's places. `elects`:
    majorities of the voters decide; else who may lead and what counts is kept elsewhere."""

    own: int
    voters: Sequence[int]
    learners: Sequence[int]
    ordinals: Mapping[int, int]
    peers: Sequence[Peer]
    standings: Mapping[int, Standing]
    last_index: int
    wanted: AbstractSet[int]
    elects: bool = True


def next_change(roster: Roster) -> Change | None:
    """The next step towards the wish, or None. To be asked again once the step is committed."""
    for learner in roster.learners:
        change = _dismiss(roster, learner) or _finish(roster, learner)
        if change is not None:
            return change
    return _admit(roster)


def _dismiss(roster: Roster, learner: int) -> Change | None:
    """Removes a learner whose place is not wanted any more: nobody's vote depends on it."""
    told = (peer.ordinal for peer in roster.peers if peer.member == learner)
    ordinal = roster.ordinals.get(learner, next(told, None))
    if ordinal is None or ordinal in roster.wanted:
        return None
    return Change(Step.REMOVE, learner, f"broker {ordinal} is not wanted any more")


def _finish(roster: Roster, learner: int) -> Change | None:
    """Promotes a learner that has caught up, after the member whose place it takes has gone."""
    if learner != roster.own:
        if all(peer.member != learner for peer in roster.peers):
            return _give_up(roster, learner)
        if not _has_caught_up(roster, learner):
            return None
    ordinal = roster.ordinals.get(learner)
    if ordinal is None:
        return None
    former = _holder(roster, ordinal, other_than=learner)
    if former is None:
        return Change(Step.PROMOTE, learner, f"broker {ordinal} has caught up")
    if former == roster.own or not _can_lose(roster, former):
        return None
    return Change(Step.REMOVE, former, f"broker {ordinal} came back with new storage, which has caught up")


def _has_caught_up(roster: Roster, learner: int) -> bool:
    standing = roster.standings.get(learner)
    if standing is None or not standing.active:
        return False
    # One that has acknowledged nothing holds nothing, however short the log is, and may not be there to stay.
    return standing.match > 0 and roster.last_index - standing.match <= PROMOTION_LAG_ENTRIES_MAX


def _give_up(roster: Roster, learner: int) -> Change | None:
    """Removes a learner that will not come back: its broker is there with another storage, or nobody knows which it was."""
    ordinal = roster.ordinals.get(learner)
    if ordinal is None:
        return Change(Step.REMOVE, learner, "it left before it had said whose place it takes")
    if ordinal == roster.ordinals.get(roster.own) or any(peer.ordinal == ordinal for peer in roster.peers):
        return Change(Step.REMOVE, learner, f"broker {ordinal} is there with other storage")
    return None


def _admit(roster: Roster) -> Change | None:
    """Adds a connected broker that is not configured yet."""
    configured = {*roster.voters, *roster.learners}
    for peer in sorted(roster.peers, key=lambda peer: peer.ordinal):
        if peer.member not in configured and peer.ordinal in roster.wanted:
            return Change(Step.ADD_LEARNER, peer.member, f"{peer.name} joins as broker {peer.ordinal}")
    return None


def _holder(roster: Roster, ordinal: int, other_than: int) -> int | None:
    return next(
        (m for m in roster.voters if roster.ordinals.get(m) == ordinal and m != other_than),
        None,
    )


def _can_lose(roster: Roster, member: int) -> bool:
    """Whether those who remain have a majority that was heard of lately, where that matters."""
    if not roster.elects:
        return True
    rest = [voter for voter in roster.voters if voter != member]
    active = sum(1 for voter in rest if voter == roster.own or _is_active(roster, voter))
    return active >= len(rest) // 2 + 1


def _is_active(roster: Roster, member: int) -> bool:
    standing = roster.standings.get(member)
    return standing is not None and standing.active
