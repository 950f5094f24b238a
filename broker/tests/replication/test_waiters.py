"""Waiting for an index: everybody is called once, in order, with the right word."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.model.errors import ErrorCode, PenstockError
from penstock.runtime.waiters import Callback, IndexWaiters

GONE = PenstockError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "somebody else leads")


class Calls:
    """Who was called, in order, and with what."""

    def __init__(self) -> None:
        self.made: list[tuple[str, PenstockError | None]] = []

    def __call__(self, name: str) -> Callback:
        return lambda error: self.made.append((name, error))


def test_who_waits_is_called_when_its_index_is_reached_and_not_before() -> None:
    calls, waiters = Calls(), IndexWaiters(5)
    waiters.wait(5, calls("there already"))
    waiters.wait(6, calls("six"))
    waiters.wait(8, calls("eight"))
    assert calls.made == [("there already", None)]
    waiters.reach(7)
    assert calls.made == [("there already", None), ("six", None)]
    waiters.reach(6)
    assert waiters.reached == 7
    waiters.reach(8)
    assert calls.made[2:] == [("eight", None)]


def test_order_of_asking_is_kept_also_for_an_older_entry() -> None:
    calls, waiters = Calls(), IndexWaiters(0)
    waiters.wait(9, calls("nine"))
    waiters.wait(3, calls("three"))
    waiters.reach(8)
    assert calls.made == []
    waiters.reach(9)
    assert calls.made == [("nine", None), ("three", None)]


def test_without_hope_everybody_is_told_and_later_ones_wait_anew() -> None:
    calls, waiters = Calls(), IndexWaiters(0)
    waiters.wait(1, calls("one"))
    waiters.wait(2, calls("two"))
    waiters.fail(GONE)
    assert calls.made == [("one", GONE), ("two", GONE)]
    waiters.wait(1, calls("again"))
    waiters.fail(GONE)
    waiters.reach(5)
    assert calls.made[2:] == [("again", GONE)]


def test_who_is_called_may_take_the_others_hope_away() -> None:
    """Applying an entry can end a leadership; those behind it are told so, and only that."""
    calls, waiters = Calls(), IndexWaiters(0)
    waiters.wait(1, lambda _: waiters.fail(GONE))
    waiters.wait(1, calls("one"))
    waiters.wait(2, calls("two"))
    waiters.reach(1)
    waiters.reach(2)
    assert calls.made == [("one", GONE), ("two", GONE)]


def test_who_is_called_may_wait_again_or_let_others_be_called() -> None:
    calls, waiters = Calls(), IndexWaiters(0)
    waiters.wait(1, lambda _: waiters.wait(3, calls("three")))
    waiters.wait(1, lambda _: waiters.reach(2))
    waiters.wait(2, calls("two"))
    waiters.reach(1)
    assert (calls.made, waiters.reached) == ([("two", None)], 2)
    waiters.wait(4, lambda _: waiters.wait(5, calls("five")))
    waiters.fail(GONE)
    assert calls.made[1:] == [("three", GONE)]
    waiters.reach(5)
    assert calls.made[2:] == [("five", None)]


class TheWaiters(RuleBasedStateMachine):
    """Against a list of everybody who was ever told to wait."""

    @initialize(reached=st.integers(0, 5))
    def begin(self, reached: int) -> None:
        self.waiters, self.calls = IndexWaiters(reached), Calls()
        self.reached = reached
        self.waiting: list[tuple[int, str]] = []
        self.expected: list[tuple[str, PenstockError | None]] = []
        self.count = 0

    @rule(index=st.integers(0, 20))
    def wait(self, index: int) -> None:
        self.count += 1
        name = str(self.count)
        self.waiters.wait(index, self.calls(name))
        if index <= self.reached:
            self.expected.append((name, None))
        else:
            self.waiting.append((index, name))

    @rule(index=st.integers(0, 20))
    def reach(self, index: int) -> None:
        self.waiters.reach(index)
        self.reached = max(self.reached, index)
        while self.waiting and self.waiting[0][0] <= self.reached:
            self.expected.append((self.waiting.pop(0)[1], None))

    @rule()
    def fail(self) -> None:
        self.waiters.fail(GONE)
        self.expected += [(name, GONE) for _, name in self.waiting]
        self.waiting = []

    @invariant()
    def everybody_was_called_once_and_in_order(self) -> None:
        if hasattr(self, "waiters"):
            assert self.calls.made == self.expected
            assert self.waiters.reached == self.reached


TheWaiters.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, derandomize=True, database=None
)
test_everybody_is_called_once_and_in_order = TheWaiters.TestCase
