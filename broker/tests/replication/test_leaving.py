"""How brokers that are too many leave: each rule by example. Any history of them is in `test_membership`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from penstock.replication.leaving import Demand, Departure, GiveLead, Hold, next_departure
from penstock.replication.membership import Change, Peer, Roster, Standing, Step, next_change

LAST = 10_000
FIVE = {10: 0, 11: 1, 12: 2, 13: 3, 14: 4}


def roster(
    voters: Mapping[int, int],
    replicas: int = 3,
    own: int = 10,
    match: Mapping[int, int] | None = None,
    learners: Mapping[int, int] | None = None,
) -> Roster:
    learners = learners or {}
    held = {member: LAST for member in (*voters, *learners) if member != own} | dict(match or {})
    return Roster(
        own=own,
        voters=tuple(voters),
        learners=tuple(learners),
        ordinals={**voters, **learners},
        peers=[Peer(ordinal, member, f"b{ordinal}") for member, ordinal in {**voters, **learners}.items()],
        standings={member: Standing(index, True) for member, index in held.items()},
        last_index=LAST,
        wanted=set(range(replicas)),
    )


def goes(member: int, ordinal: int) -> Change:
    return Change(Step.REMOVE, member, f"broker {ordinal} is not wanted any more")


@pytest.mark.parametrize(
    ("given", "in_sync", "copies", "expected"),
    [
        pytest.param(roster(FIVE, 5), set(FIVE), 2, None, id="nobody is too many"),
        pytest.param(roster(FIVE), set(FIVE), 2, goes(14, 4), id="the highest place first"),
        pytest.param(roster(FIVE), {10, 11, 12, 14}, 2, goes(13, 3), id="before it, who does not count"),
        pytest.param(roster(FIVE), {10, 11, 12}, 2, goes(14, 4), id="both are away"),
        pytest.param(
            roster(FIVE),
            {10, 12, 13, 14},
            2,
            Hold("broker 4 stays for now: broker 1 is not in sync"),
            id="fewer copies of those that stay",
        ),
        pytest.param(
            roster(FIVE),
            {10, 13, 14},
            2,
            Hold("broker 4 stays for now: brokers 1 and 2 are not in sync"),
            id="however many of those that go hold everything",
        ),
        pytest.param(
            roster(FIVE), {10, 12, 14}, 2, goes(13, 3), id="one that is away burdens those that stay"
        ),
        pytest.param(
            roster(FIVE),
            {10, 12},
            2,
            Hold("broker 4 stays for now: without it only 2 of 4 voters would be in sync"),
            id="and is kept where a majority would not be in sync without it",
        ),
        pytest.param(
            roster({10: 0, 12: 2, 13: 3, 14: 4}),
            {10, 12, 13, 14},
            2,
            Hold("broker 4 stays for now: broker 1 is not in sync"),
            id="a place that stays has no voter",
        ),
        pytest.param(
            roster(FIVE, own=14, match={10: LAST - 1, 12: LAST - 1, 13: LAST}),
            set(FIVE),
            2,
            GiveLead(11, "broker 4 is not wanted any more"),
            id="a leader that goes hands over first, to who stays and holds most",
        ),
        pytest.param(
            roster(FIVE, own=14),
            {13, 14},
            2,
            Hold("broker 4 leads and has to go, but no broker that stays is in sync"),
            id="nobody that stays could lead",
        ),
        pytest.param(roster({10: 0, 11: 1, 12: 2}, 1), {10, 11, 12}, 1, goes(12, 2), id="from three to one"),
        pytest.param(roster({10: 0, 11: 1}, 1), {10, 11}, 1, goes(11, 1), id="the last step"),
        pytest.param(
            roster({10: 0, 11: 1, 12: 2}, 1), {10, 12}, 1, goes(11, 1), id="who is away, though lower"
        ),
        pytest.param(
            roster({10: 0, 11: 1}, 1),
            {10, 11},
            2,
            Hold(
                "broker 1 stays for now: topic payments has min.insync.replicas=2, so with 1 in sync nothing could be"
                " written: lower it, or ask for more brokers",
                refused=True,
            ),
            id="fewer copies than writes need",
        ),
        pytest.param(
            roster({10: 0, 11: 1}, 1),
            {10},
            2,
            Hold(
                "broker 1 stays for now: topic payments has min.insync.replicas=2, so with 1 in sync nothing could be"
                " written: lower it, or ask for more brokers",
                refused=True,
            ),
            id="fewer than writes need for good, though one is behind now",
        ),
    ],
)
def test_each_rule(given: Roster, in_sync: set[int], copies: int, expected: Departure | None) -> None:
    assert next_departure(given, in_sync, Demand(copies, "payments")) == expected


def test_the_cluster_itself_may_ask_for_more_copies_than_are_left() -> None:
    found = next_departure(roster({10: 0, 11: 1}, 1), {10, 11}, Demand(2))
    assert isinstance(found, Hold)
    assert found.refused
    assert "the cluster has min.insync.replicas=2" in found.reason


def test_a_voter_that_has_not_said_its_place_is_left_alone() -> None:
    given = roster(FIVE)
    unknown = Roster(
        given.own, given.voters, (), {10: 0, 11: 1, 12: 2}, [], given.standings, LAST, set(range(3))
    )
    assert next_departure(unknown, set(FIVE), Demand()) is None


@pytest.mark.parametrize("announced", [True, False])
def test_a_learner_whose_place_is_not_wanted_goes_at_once(announced: bool) -> None:
    given = roster({10: 0, 11: 1, 12: 2}, learners={13: 3})
    if not announced:
        given = Roster(
            given.own,
            given.voters,
            given.learners,
            {10: 0, 11: 1, 12: 2},
            given.peers,
            given.standings,
            LAST,
            given.wanted,
        )
    assert next_change(given) == goes(13, 3)
