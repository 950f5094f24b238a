"""Majorities against models that are too simple to be wrong."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from penstock.raft.quorum import VoteResult, agreed_index, vote_result

MEMBERS = st.sets(st.integers(1, 9), min_size=1, max_size=7)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=9))
def test_the_agreed_index_is_the_largest_that_more_than_half_have_reached(indexes: list[int]) -> None:
    reached = [index for index in range(21) if sum(known >= index for known in indexes) * 2 > len(indexes)]
    assert agreed_index(list(indexes)) == max(reached)


@given(MEMBERS, st.data())
def test_a_vote_is_decided_when_no_missing_vote_can_change_it(voters: set[int], data: st.DataObject) -> None:
    votes = data.draw(st.dictionaries(st.integers(1, 9), st.booleans()))
    missing = [voter for voter in voters if voter not in votes]
    outcomes = set()
    for rest in itertools.product([True, False], repeat=len(missing)):
        final = votes | dict(zip(missing, rest, strict=True))
        outcomes.add(sum(final[voter] for voter in voters) * 2 > len(voters))
    result = vote_result(sorted(voters), votes)
    assert (
        result
        is {
            frozenset({True}): VoteResult.WON,
            frozenset({False}): VoteResult.LOST,
            frozenset({True, False}): VoteResult.PENDING,
        }[frozenset(outcomes)]
    )


@given(MEMBERS, st.integers(1, 9), st.sets(st.integers(1, 9)), st.sets(st.integers(1, 9)))
def test_majorities_one_change_apart_share_a_member(
    voters: set[int], changed: int, one: set[int], other: set[int]
) -> None:
    """Thesis, section 4.1: why one voter at a time is enough."""
    after = voters ^ {changed}
    if not after:
        return
    before_agrees = vote_result(sorted(voters), dict.fromkeys(one, True)) is VoteResult.WON
    after_agrees = vote_result(sorted(after), dict.fromkeys(other, True)) is VoteResult.WON
    if before_agrees and after_agrees:
        assert one & other
