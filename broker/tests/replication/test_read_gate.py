"""Reads at the gate: who goes through at once, who waits for which answer, and that nobody is forgotten."""

from __future__ import annotations

from typing import cast

import pytest

from penstock.replication.lease import Lease
from penstock.runtime.clock import Clock
from penstock.runtime.read_gate import ReadGate
from penstock.runtime.shard import Shard

LEASE_MS = 500


class Surroundings(Clock):
    """The leader around the gate: its shard's word, its core and its clock."""

    def __init__(self) -> None:
        self.now = 0
        self.leading = True
        self.takes = True
        self.asked: list[object] = []
        self.turns = 0
        self.served: list[str] = []
        self.gate = ReadGate(cast(Shard, self), self, Lease(2 * LEASE_MS), ask=self.ask, turn=self.turn)

    def monotonic_ms(self) -> int:
        return self.now

    def ask(self, question: object) -> bool:
        if self.takes:
            self.asked.append(question)
        return self.takes

    def turn(self) -> None:
        self.turns += 1

    def read(self, name: str) -> None:
        self.gate.when_sure(lambda: self.served.append(name))

    def confirm(self) -> None:
        """A majority answers what was asked last."""
        self.gate.answered(self.asked[-1])


@pytest.fixture
def leader() -> Surroundings:
    return Surroundings()


def test_the_first_read_asks_at_once_and_is_served_by_the_answer(leader: Surroundings) -> None:
    leader.read("first")
    assert (len(leader.asked), leader.turns, leader.served) == (1, 1, [])
    leader.confirm()
    assert leader.served == ["first"]


def test_a_read_that_came_after_the_question_waits_for_the_next_answer(leader: Surroundings) -> None:
    leader.read("first")
    leader.read("second")
    leader.read("third")
    assert len(leader.asked) == 1
    # The answer gives a lease as well, but not to those who wait: it may be over.
    leader.now = LEASE_MS
    leader.confirm()
    assert (leader.served, len(leader.asked)) == (["first"], 2)
    leader.confirm()
    assert leader.served == ["first", "second", "third"]


def test_under_the_lease_nobody_asks(leader: Surroundings) -> None:
    leader.gate.renew()
    leader.now = 100
    leader.confirm()
    leader.now = LEASE_MS - 1
    leader.read("under it")
    assert (leader.served, leader.turns, len(leader.asked)) == (["under it"], 0, 1)
    leader.now = LEASE_MS
    leader.read("behind it")
    assert (leader.served, leader.turns, len(leader.asked)) == (["under it"], 1, 2)


def test_one_question_at_a_time(leader: Surroundings) -> None:
    leader.gate.renew()
    leader.gate.renew()
    assert len(leader.asked) == 1
    leader.confirm()
    leader.gate.renew()
    assert len(leader.asked) == 2


def test_a_question_that_the_core_refuses_is_put_at_the_next_tick(leader: Surroundings) -> None:
    leader.takes = False
    leader.read("patient")
    leader.takes = True
    leader.gate.renew()
    leader.confirm()
    assert leader.served == ["patient"]


def test_doubt_ends_the_lease_and_that_of_the_question_under_way(leader: Surroundings) -> None:
    leader.gate.renew()
    leader.confirm()
    leader.gate.renew()
    leader.gate.doubt()
    leader.confirm()
    leader.read("after the doubt")
    assert (leader.served, len(leader.asked)) == ([], 3)
    leader.confirm()
    leader.read("later")
    assert leader.served == ["after the doubt", "later"]


def test_after_a_hand_over_every_read_asks(leader: Surroundings) -> None:
    leader.gate.renew()
    leader.confirm()
    leader.gate.hand_over()
    for number in range(2, 4):
        leader.read(f"read {number}")
        assert len(leader.asked) == number
        leader.confirm()
    assert leader.served == ["read 2", "read 3"]


def test_who_waits_is_told_when_the_leadership_ends_and_old_answers_count_for_nothing(
    leader: Surroundings,
) -> None:
    leader.read("asked")
    leader.read("waiting")
    leader.leading = False
    leader.gate.leadership_changed()
    assert leader.served == ["asked", "waiting"]
    leader.leading = True
    leader.gate.answered(leader.asked[0])
    leader.read("of the next leadership")
    assert leader.served == ["asked", "waiting"]
    assert len(leader.asked) == 2


def test_who_does_not_lead_keeps_nobody_waiting(leader: Surroundings) -> None:
    leader.leading = False
    leader.read("elsewhere")
    leader.gate.renew()
    assert (leader.served, leader.asked) == (["elsewhere"], [])


def test_while_a_change_of_the_members_stops_the_leader_reads_wait_and_are_not_sent_away(
    leader: Surroundings,
) -> None:
    leader.read("asked")
    leader.leading = False
    leader.gate.hold()
    leader.read("held")
    leader.confirm()
    assert leader.served == []
    leader.leading = True
    leader.gate.resume()
    # The answer gave a lease, which holds still.
    assert (leader.served, len(leader.asked)) == (["asked", "held"], 1)


def test_held_reads_ask_when_the_lease_is_over_by_then(leader: Surroundings) -> None:
    leader.leading = False
    leader.gate.hold()
    leader.read("held")
    leader.leading = True
    leader.gate.resume()
    assert (leader.served, len(leader.asked), leader.turns) == ([], 1, 1)
    leader.confirm()
    assert leader.served == ["held"]


def test_held_reads_are_told_when_the_leadership_ends_or_is_handed_over(leader: Surroundings) -> None:
    leader.leading = False
    for end in (leader.gate.leadership_changed, leader.gate.hand_over):
        leader.gate.hold()
        leader.read(end.__name__)
        assert end.__name__ not in leader.served
        end()
        assert leader.served[-1] == end.__name__
        leader.read("after it")
        assert leader.served[-1] == "after it"
