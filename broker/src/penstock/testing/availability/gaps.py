"""How long nothing came: the longest gap between two moments around a fault, beside the longest one of an ordinary time.

Pure: moments are seconds of one monotonic clock, in the order in which they were noted.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Window(NamedTuple):
    """What is looked at: from before the damage until the shard was whole again and work flowed.

    `ordinary` began the time of the same load before, in which the usual gap is looked for. `counted`: a shard that was
    left with too few brokers on purpose owes nothing until enough are back; it is the moment of that. None: it owes all.
    """

    ordinary: float
    began: float
    ended: float
    counted: float | None = None


class Gap(NamedTuple):
    """Seconds: the longest time in which nothing came, and the longest one of an ordinary time."""

    longest: float
    usual: float

    @property
    def net_ms(self) -> float:
        """What the fault cost, in milliseconds."""
        return max(self.longest - self.usual, 0.0) * 1000


def measure(moments: Sequence[float], window: Window) -> Gap:
    """The gap around the fault, and the usual one."""
    owed_from = window.began if window.counted is None else window.counted
    return Gap(
        longest_gap(moments, owed_from, window.ended, whole=window.counted is None),
        longest_gap(moments, window.ordinary, window.began),
    )


def longest_gap(moments: Sequence[float], begin: float, end: float, *, whole: bool = False) -> float:
    """The longest time between two of `begin`, the moments after it up to `end`, and `end`. With `whole`, a gap that `begin`
    falls into counts from the moment before it."""
    first, last = bisect_right(moments, begin), bisect_right(moments, end)
    start = moments[first - 1] if whole and first > 0 else begin
    marks = [start, *moments[first:last], end]
    return max(after - before for before, after in itertools.pairwise(marks))
