"""When a voter stands after its leader has gone: each rule of the order by example."""

from __future__ import annotations

import pytest

from penstock.raft.messages import VoteRequest, VoteResponse
from penstock.replication.succession import (
    CANDIDACY_SECONDS,
    HELD_SECONDS_MAX,
    JITTER_SECONDS,
    PAUSE_SECONDS,
    TURN_SECONDS,
    Succession,
)

GONE, FIRST, SECOND, THIRD, FOURTH = 5, 1, 3, 7, 9
THREE = (FIRST, SECOND, GONE)
FIVE = (FIRST, SECOND, GONE, THIRD, FOURTH)
BEGAN = 100.0
LASTING = 2.0


def succession(own: int, voters: tuple[int, ...] = THREE, chance: float = 0.0) -> Succession:
    made = Succession(own)
    rank = sum(voter < own for voter in voters if voter != GONE)
    assert made.begin(BEGAN, voters, rank, lasting=LASTING, chance=chance) == []
    return made


def asks(sender: int, to: int, *, pre: bool) -> VoteRequest:
    return VoteRequest(to, sender, 4, 10, 3, pre)


def answers(sender: int, to: int, *, pre: bool, rejected: bool) -> VoteResponse:
    return VoteResponse(to, sender, 4, pre, rejected)


@pytest.mark.parametrize(("own", "turn"), [(FIRST, 0), (SECOND, 1), (THIRD, 2), (FOURTH, 3)])
def test_voters_stand_one_after_the_other(own: int, turn: int) -> None:
    assert succession(own, FIVE).due == pytest.approx(BEGAN + turn * TURN_SECONDS)
    late = succession(own, FIVE, chance=1.0).due
    assert late is not None
    assert late == pytest.approx(BEGAN + turn * TURN_SECONDS + (JITTER_SECONDS if turn else 0))


def test_who_is_no_voter_does_not_stand() -> None:
    assert succession(THIRD, THREE).due is None


def test_a_voter_stands_when_it_is_due_and_again_until_silence_rules() -> None:
    voter = succession(SECOND)
    assert not voter.stands(BEGAN, 0.0)
    now, times = BEGAN, 0
    while voter.due is not None:
        now = voter.due
        times += voter.stands(now, 0.5)
    assert now >= BEGAN + LASTING
    assert times == 18  # every 110 ms from 100 ms on
    assert not voter.stands(now, 0.0)


def test_nobody_stands_once_somebody_leads() -> None:
    voter = succession(FIRST)
    voter.end()
    assert voter.due is None
    assert not voter.stands(BEGAN + 1, 0.0)
    voter.noted(answers(FIRST, SECOND, pre=True, rejected=True), BEGAN + 1, 0.0)
    assert voter.due is None


def test_what_was_held_off_is_looked_at_again() -> None:
    voter = Succession(SECOND)
    old, new = asks(THIRD, SECOND, pre=True), asks(FIRST, SECOND, pre=True)
    voter.heard(old, BEGAN - HELD_SECONDS_MAX - 0.001)
    voter.heard(asks(FIRST, SECOND, pre=False), BEGAN - 0.02)
    voter.heard(new, BEGAN - 0.01)
    assert voter.begin(BEGAN, FIVE, 1, lasting=LASTING, chance=0.0) == [new]
    assert voter.begin(BEGAN, FIVE, 1, lasting=LASTING, chance=0.0) == []


@pytest.mark.parametrize("pre", [True, False])
def test_who_gave_a_vote_leaves_that_election_its_time(pre: bool) -> None:
    voter = succession(SECOND)
    voter.noted(asks(FIRST, SECOND, pre=pre), BEGAN + 0.03, 0.0)
    assert voter.due == pytest.approx(BEGAN + TURN_SECONDS)
    voter.noted(answers(SECOND, FIRST, pre=pre, rejected=False), BEGAN + 0.03, 0.0)
    assert voter.due == pytest.approx(BEGAN + 0.03 + CANDIDACY_SECONDS)


def test_who_asks_for_votes_for_real_does_not_start_over_meanwhile() -> None:
    voter = succession(FIRST)
    assert voter.stands(BEGAN, 0.0)
    voter.noted(asks(FIRST, SECOND, pre=True), BEGAN, 0.0)
    assert voter.due == pytest.approx(BEGAN + TURN_SECONDS)
    voter.noted(asks(FIRST, SECOND, pre=False), BEGAN + 0.05, 0.0)
    assert voter.due == pytest.approx(BEGAN + 0.05 + CANDIDACY_SECONDS)


def test_who_refuses_a_candidate_stands_at_once() -> None:
    voter = succession(SECOND)
    voter.noted(answers(SECOND, FIRST, pre=True, rejected=True), BEGAN + 0.01, 0.0)
    assert voter.due == pytest.approx(BEGAN + 0.01)
    assert voter.stands(BEGAN + 0.01, 0.0)
    # Two that go on refusing each other pause in between.
    voter.noted(answers(SECOND, FIRST, pre=True, rejected=True), BEGAN + 0.011, 0.0)
    assert voter.due == pytest.approx(BEGAN + 0.01 + PAUSE_SECONDS)


def test_a_vote_refused_after_another_was_given_leaves_that_one_its_time() -> None:
    voter = succession(SECOND, FIVE)
    voter.noted(answers(SECOND, FIRST, pre=False, rejected=False), BEGAN + 0.01, 0.0)
    for pre in (True, False):
        voter.noted(answers(SECOND, THIRD, pre=pre, rejected=True), BEGAN + 0.02, 0.0)
    assert voter.due == pytest.approx(BEGAN + 0.01 + CANDIDACY_SECONDS)


@pytest.mark.parametrize(
    ("own", "other", "due"),
    [(FIRST, SECOND, BEGAN + 0.06), (SECOND, FIRST, BEGAN + 0.06 + TURN_SECONDS)],
)
def test_split_votes_are_repeated_in_order(own: int, other: int, due: float) -> None:
    voter = succession(own)
    voter.noted(asks(own, other, pre=False), BEGAN + 0.03, 0.0)
    voter.noted(answers(other, own, pre=False, rejected=True), BEGAN + 0.06, 0.0)
    assert voter.due == pytest.approx(due)


def test_a_candidate_waits_while_it_can_still_win() -> None:
    """Of five, one is gone: two refusals are one too many."""
    voter = succession(FIRST, FIVE)
    voter.noted(asks(FIRST, SECOND, pre=False), BEGAN, 0.0)
    for _ in range(2):
        voter.noted(answers(SECOND, FIRST, pre=False, rejected=True), BEGAN + 0.01, 0.0)
        assert voter.due == pytest.approx(BEGAN + CANDIDACY_SECONDS)
    voter.noted(answers(THIRD, FIRST, pre=False, rejected=True), BEGAN + 0.02, 0.0)
    assert voter.due == pytest.approx(BEGAN + 0.02)
    # The next campaign counts for itself.
    voter.noted(asks(FIRST, SECOND, pre=False), BEGAN + 0.05, 0.0)
    voter.noted(answers(SECOND, FIRST, pre=False, rejected=True), BEGAN + 0.06, 0.0)
    assert voter.due == pytest.approx(BEGAN + 0.05 + CANDIDACY_SECONDS)
