"""Who is told that its state is wrong: a minority, by what most voters found as of the same entry, and nobody else."""

from __future__ import annotations

import itertools

import pytest

from penstock.replication.comparing import (
    NO_VERDICT,
    Comparing,
    ComparingOptions,
    Difference,
    StateHashed,
    StateReport,
    agreed_hashes,
    in_dispute,
)

VOTERS = (1, 2, 3)
OPTIONS = ComparingOptions(entries=100, interval_ms=1000)
GOOD, BAD = {"groups/1": "aa", "members/1": "cc"}, {"groups/1": "bb", "members/1": "cc"}


@pytest.mark.parametrize(
    ("reports", "agreed", "disputed"),
    [
        ({1: GOOD, 2: GOOD, 3: BAD}, GOOD, []),
        ({1: BAD, 2: GOOD, 3: GOOD}, GOOD, []),
        ({1: GOOD, 2: BAD}, {"members/1": "cc"}, []),  # The third one is away, and may side with either.
        ({1: GOOD}, {}, []),
        ({1: GOOD, 7: GOOD}, {}, []),  # A learner has no say.
        ({1: GOOD, 2: BAD, 3: {"groups/1": "dd", "members/1": "cc"}}, {"members/1": "cc"}, ["groups/1"]),
        # A release that writes its state otherwise hashes something else, and is not compared.
        ({1: GOOD, 2: GOOD, 3: {"groups/2": "ee", "members/1": "cc"}}, GOOD, []),
        ({}, {}, []),
    ],
)
def test_the_verdict_is_a_majoritys(
    reports: dict[int, dict[str, str]], agreed: dict[str, str], disputed: list[str]
) -> None:
    assert agreed_hashes(reports, VOTERS) == agreed
    assert in_dispute(reports, VOTERS) == disputed


def test_two_voters_that_differ_dispute_and_neither_is_wrong() -> None:
    assert agreed_hashes({1: GOOD, 2: BAD}, (1, 2)) == {"members/1": "cc"}
    assert in_dispute({1: GOOD, 2: BAD}, (1, 2)) == ["groups/1"]


def run_round(verdict_first: bool, found: dict[str, str]) -> Comparing:
    """A replica that hashes entry 50 and hears of the verdict on it before or after."""
    replica = Comparing(OPTIONS)
    assert replica.begin(50, 0)
    steps = [lambda: replica.judged(StateHashed(50, GOOD)), lambda: replica.hashed(found)]
    for step in steps if verdict_first else reversed(steps):
        assert replica.difference is None, "half of it is no ground to stop on"
        step()
    return replica


@pytest.mark.parametrize("verdict_first", [False, True])
def test_who_differs_from_the_verdict_knows_it_in_whatever_order_it_comes(verdict_first: bool) -> None:
    assert run_round(verdict_first, GOOD).difference is None
    found = run_round(verdict_first, BAD).difference
    assert found == Difference("groups/1", 50, "bb", "aa")
    assert found.sentence == (
        "the state of groups/1 as of entry 50 is bb here and aa on most of the shard's voters: this replica has gone wrong"
    )


def test_a_verdict_on_another_entry_says_nothing() -> None:
    replica = run_round(False, GOOD)
    replica.begin(60, 0)
    replica.judged(StateHashed(60, BAD))
    assert replica.difference is None, "it has hashed entry 50"
    replica.hashed(GOOD)
    assert replica.difference is not None


def test_one_that_is_still_hashing_leaves_a_round_out() -> None:
    replica = Comparing(OPTIONS)
    assert replica.begin(50, 0)
    assert not replica.begin(60, 0)
    assert replica.hashed(GOOD) == StateReport(50, GOOD)
    assert replica.begin(70, 0)


def test_what_was_hashed_before_the_state_was_replaced_counts_no_more() -> None:
    replica = run_round(False, BAD)
    replica.begin_anew()
    assert replica.difference is None
    assert replica.begin(60, 0)


def test_the_leader_appends_the_verdict_of_those_who_answered_in_time() -> None:
    leader = Comparing(OPTIONS)
    leader.begin(50, 0)
    leader.reported(2, StateReport(40, BAD))
    assert leader.next_entry(VOTERS) == NO_VERDICT
    for member, hashes in ((1, GOOD), (2, GOOD), (3, BAD)):
        leader.reported(member, StateReport(50, hashes))
    assert leader.next_entry(VOTERS) == StateHashed(50, GOOD)
    leader.begin(60, 0)
    assert leader.next_entry(VOTERS) == NO_VERDICT


def test_how_often() -> None:
    leader = Comparing(OPTIONS)
    assert leader.is_due(0, 0), "what the last leader did is not known"
    leader.begin(50, 0)
    due = {
        (entries, passed)
        for entries, passed in itertools.product((0, 1, 99, 100), (0, 999, 1000, 59_999, 60_000))
        if leader.is_due(passed, 50 + entries)
    }
    assert due == {(100, 1000), (100, 59_999), (100, 60_000), (99, 60_000), (1, 60_000)}
