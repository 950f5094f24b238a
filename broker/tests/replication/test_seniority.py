"""Who leads next: clients must not have to find a broker that has only just come back."""

from __future__ import annotations

import itertools

import pytest

from penstock.replication.seniority import ALIKE_MS, Heir, Seniority

ONE, TWO, THREE = 1, 2, 3
NOW = 100_000
LEVEL = Heir(in_sync=True, match=50)


def seniority(own: int, up_ms: dict[int, int]) -> Seniority:
    """As `own` sees it at NOW, when everybody has been running for that long."""
    made = Seniority(own, NOW - up_ms[own])
    for member, milliseconds in up_ms.items():
        if member != own:
            made.met(member, milliseconds, NOW)
    return made


@pytest.mark.parametrize("order", list(itertools.permutations((ONE, TWO, THREE))))
def test_who_has_been_there_longest_comes_first(order: tuple[int, int, int]) -> None:
    up_ms = {member: 60_000 - 10_000 * place for place, member in enumerate(order)}
    for place, member in enumerate(order):
        assert seniority(member, up_ms).rank(order) == place


def test_brokers_that_started_together_agree_on_who_is_first_whatever_they_know() -> None:
    """What they know of each other's start is as old as a greeting was under way."""
    for late in (-300, 0, 300):
        up_ms = {ONE: 60_000 + late, TWO: 60_000}
        assert seniority(ONE, up_ms).rank([ONE, TWO]) == 0
        assert seniority(TWO, up_ms).rank([ONE, TWO]) == 1


def test_who_cannot_be_reached_is_not_waited_for() -> None:
    voter = seniority(TWO, {ONE: 90_000, TWO: 60_000})
    assert voter.rank([ONE, TWO, THREE]) == 1
    voter.left(ONE)
    assert voter.rank([ONE, TWO, THREE]) == 0


def test_a_broker_of_an_older_release_says_nothing_and_comes_last() -> None:
    assert seniority(TWO, {ONE: 0, TWO: 60_000}).rank([ONE, TWO]) == 0


def test_how_long_it_has_been_running_is_told_to_others() -> None:
    voter = seniority(ONE, {ONE: 0})
    assert voter.up_ms(NOW + 5000) == 5000


def test_the_heir_is_in_sync_then_the_eldest_then_holds_most() -> None:
    up_ms = {ONE: 1000, TWO: 10 * ALIKE_MS, THREE: 90 * ALIKE_MS}
    leader = seniority(ONE, up_ms)
    assert leader.heir({TWO: LEVEL, THREE: LEVEL}) == THREE
    assert leader.heir({TWO: LEVEL, THREE: Heir(in_sync=False, match=60)}) == TWO
    alike = seniority(ONE, {ONE: 1000, TWO: 5000, THREE: 5000})
    assert alike.heir({TWO: Heir(in_sync=True, match=51), THREE: LEVEL}) == TWO


def test_nobody_is_heir_who_cannot_be_reached() -> None:
    leader = seniority(ONE, {ONE: 1000, TWO: 1000})
    assert leader.heir({THREE: LEVEL}) == 0
    assert leader.heir({}) == 0
    leader.left(TWO)
    assert leader.heir({TWO: LEVEL}) == 0
