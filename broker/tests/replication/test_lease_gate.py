"""Reads where a Lease says who leads: at once while it surely is this broker's, else when it is again, or refused."""

from __future__ import annotations

from typing import cast

import pytest

from penstock.runtime.clock import Clock
from penstock.runtime.read_gate import LeaseGate
from penstock.runtime.shard import Shard


class Surroundings(Clock):
    """The master around the gate."""

    def __init__(self) -> None:
        self.now = 0
        self.leading = True
        self.valid_until = 100
        self.served: list[str] = []
        self.gate = LeaseGate(cast(Shard, self), self, lambda now_ms: now_ms < self.valid_until)

    def monotonic_ms(self) -> int:
        return self.now

    def read(self, name: str) -> None:
        self.gate.when_sure(lambda: self.served.append(name))


@pytest.fixture
def master() -> Surroundings:
    return Surroundings()


def test_a_read_passes_while_the_lease_holds(master: Surroundings) -> None:
    master.now = 99
    master.read("a")
    assert master.served == ["a"]


def test_a_read_waits_when_it_may_be_over_until_it_is_renewed(master: Surroundings) -> None:
    master.now = 100
    master.read("a")
    master.gate.renew()
    assert master.served == []
    master.valid_until = 200
    master.gate.renew()
    assert master.served == ["a"]


def test_a_read_that_waits_looks_again_when_leadership_ends(master: Surroundings) -> None:
    master.now = 100
    master.read("a")
    master.leading = False
    master.gate.leadership_changed()
    assert master.served == ["a"]


def test_who_does_not_lead_refuses_at_once(master: Surroundings) -> None:
    master.leading = False
    master.now = 1000
    master.read("a")
    assert master.served == ["a"]


def test_doubts_of_followers_mean_nothing(master: Surroundings) -> None:
    master.gate.doubt()
    master.gate.hand_over()
    master.read("a")
    assert master.served == ["a"]


def test_nobody_is_asked(master: Surroundings) -> None:
    with pytest.raises(AssertionError):
        master.gate.answered(object())
