"""Virtual time: what happens when, one thing after the other.

Nothing waits for real. Two runs that put the same things on the agenda do the same things in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Planned:
    """Something that is to happen; it can be called off."""

    __slots__ = ("args", "call", "when")

    def __init__(self, when: float, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.when = when
        self.call: Callable[..., Any] | None = call
        self.args = args

    def cancel(self) -> None:
        """It does not happen."""
        self.call = None
        self.args = ()


class Agenda:
    """`now` is in seconds since the beginning."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._planned: list[tuple[float, int, Planned]] = []
        self._number = 0

    def at(self, when: float, call: Callable[..., Any], *args: Any) -> Planned:
        """Calls at that time, or as soon as possible when it is past; of two at one time the first one planned goes first."""
        if when < self.now:
            when = self.now
        planned = Planned(when, call, args)
        self._number += 1
        heappush(self._planned, (when, self._number, planned))
        return planned

    def after(self, seconds: float, call: Callable[..., Any], *args: Any) -> Planned:
        """The same, so long from now."""
        return self.at(self.now + seconds, call, *args)

    def run_until(self, when: float) -> None:
        """Everything up to that time."""
        planned = self._planned
        while planned and planned[0][0] <= when:
            at, _, item = heappop(planned)
            call = item.call
            if call is not None:
                self.now = at
                self.steps += 1
                call(*item.args)
        self.now = max(self.now, when)
