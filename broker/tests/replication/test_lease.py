"""How long a leader may read without asking, and a follower keeps its vote back: never the one longer than the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.replication.lease import Lease, Promise

ELECTION_TIMEOUT_MS = 1000


@pytest.fixture
def lease() -> Lease:
    return Lease(ELECTION_TIMEOUT_MS)


def test_a_lease_counts_from_when_it_was_asked_for(lease: Lease) -> None:
    assert not lease.holds(0)
    lease.confirmed(asked_ms=100)
    assert lease.holds(599)
    assert not lease.holds(600)


def test_an_older_answer_takes_nothing_away(lease: Lease) -> None:
    lease.confirmed(300)
    lease.confirmed(100)
    assert lease.holds(799)


def test_doubt_ends_it_until_the_next_answer(lease: Lease) -> None:
    lease.confirmed(100)
    lease.doubt()
    assert not lease.holds(101)
    lease.confirmed(102)
    assert lease.holds(103)


def test_who_hands_over_has_none_before_it_leads_again(lease: Lease) -> None:
    lease.confirmed(100)
    lease.give_up()
    lease.confirmed(200)
    assert not lease.holds(201)
    lease.begin()
    assert not lease.holds(202)
    lease.confirmed(203)
    assert lease.holds(204)


def test_a_promise_begins_with_the_process() -> None:
    promise = Promise(ELECTION_TIMEOUT_MS, now_ms=100)
    assert promise.binds(799)
    assert not promise.binds(800)
    promise.given(1000)
    assert promise.binds(1699)
    promise.released()
    assert not promise.binds(1001)


@given(
    timeout=st.integers(10, 100_000),
    asked=st.integers(0, 1_000_000),
    travelled=st.integers(0, 10_000),
    later=st.integers(0, 200_000),
    speed=st.floats(0.75, 1.33),
)
def test_a_lease_ends_before_the_promise_that_it_rests_on(
    timeout: int, asked: int, travelled: int, later: int, speed: float
) -> None:
    """Also when the follower's clock runs faster or slower than the leader's."""
    lease, promise = Lease(timeout), Promise(timeout, 0)
    promise.released()
    given_at = int((asked + travelled) * speed)
    promise.given(given_at)
    lease.confirmed(asked)
    now = asked + travelled + later
    if lease.holds(now):
        assert promise.binds(given_at + int(later * speed))
