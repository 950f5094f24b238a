"""What a leader changes about its shard's members, one step at a time."""

from __future__ import annotations

import msgspec

from penstock.replication.membership import Change, Peer, Roster, Standing, Step, next_change

ROSTER = Roster(
    own=10,
    voters=(10, 11),
    learners=(12,),
    ordinals={10: 0, 11: 1, 12: 2},
    peers=[Peer(1, 11, "b-1"), Peer(2, 12, "b-2")],
    standings={11: Standing(100, True), 12: Standing(100, True)},
    last_index=100,
    wanted={0, 1, 2},
)


def step(roster: Roster) -> tuple[Step, int] | None:
    change = next_change(roster)
    return None if change is None else (change.step, change.member)


def test_a_learner_that_has_caught_up_becomes_a_voter() -> None:
    assert next_change(ROSTER) == Change(Step.PROMOTE, 12, "broker 2 has caught up")
    assert step(msgspec.structs.replace(ROSTER, last_index=2100)) == (Step.PROMOTE, 12)
    assert step(msgspec.structs.replace(ROSTER, last_index=2101)) is None
    away = {**ROSTER.standings, 12: Standing(100, False)}
    assert step(msgspec.structs.replace(ROSTER, standings=away)) is None


def test_a_learner_that_has_acknowledged_nothing_stays_one() -> None:
    """It may hold nothing for long, its disk hung or gone: as a voter it would cost a small shard its majority."""
    nothing = {**ROSTER.standings, 12: Standing(0, True)}
    assert step(msgspec.structs.replace(ROSTER, standings=nothing)) is None


def test_a_learner_that_never_said_who_it_is_goes_when_it_is_away() -> None:
    unknown = msgspec.structs.replace(ROSTER, ordinals={10: 0, 11: 1})
    assert step(unknown) is None
    assert step(msgspec.structs.replace(unknown, peers=ROSTER.peers[:1])) == (Step.REMOVE, 12)


def test_a_learner_whose_place_somebody_else_has_goes() -> None:
    """Two storages of one broker can have been added before either had said whose place it takes."""
    other = msgspec.structs.replace(
        ROSTER,
        voters=(10, 11, 13),
        ordinals={**ROSTER.ordinals, 13: 2},
        peers=[Peer(1, 11, "b-1"), Peer(2, 13, "b-2")],
    )
    assert step(other) == (Step.REMOVE, 12)
    # Away with nobody in its place, it may come back: it stays what it is.
    assert step(msgspec.structs.replace(ROSTER, peers=ROSTER.peers[:1])) is None


def test_a_member_with_new_storage_takes_the_place_of_the_old_one_last() -> None:
    replaced = msgspec.structs.replace(
        ROSTER,
        voters=(10, 11, 9),
        learners=(),
        ordinals={10: 0, 11: 1, 9: 2},
        standings={11: Standing(100, True), 9: Standing(50, False)},
    )
    assert step(replaced) == (Step.ADD_LEARNER, 12)
    added = msgspec.structs.replace(
        replaced,
        learners=(12,),
        ordinals={**replaced.ordinals, 12: 2},
        standings={**replaced.standings, 12: Standing(100, True)},
    )
    assert step(added) == (Step.REMOVE, 9)
    alone = {**added.standings, 11: Standing(100, False)}
    assert step(msgspec.structs.replace(added, standings=alone)) is None
    gone = msgspec.structs.replace(added, voters=(10, 11))
    assert step(gone) == (Step.PROMOTE, 12)


def test_nobody_is_added_beyond_the_wish() -> None:
    grown = msgspec.structs.replace(ROSTER, learners=(), peers=[Peer(7, 17, "b-7")])
    assert step(grown) is None
