"""How often something took how long: plain integers in fixed buckets, cheap enough for every request.

Observing is a bisection and two additions, without locks or labels; one event loop owns a histogram, and a thread that
writes it out is given a `copy`.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST_BOUNDS_S: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Seconds. From what memory answers to what clients give up after."""

DELAY_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds. 50 ms is what users of a healthy broker may notice."""


class Histogram:
    """`counts[n]` is how many were at most `bounds[n]` and more than the bound before; the last one those beyond all."""

    __slots__ = ("bounds", "counts", "seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """One more that took so long."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds

    def add(self, other: Histogram) -> None:
        """Adds another one's numbers; its bounds are the same."""
        assert other.bounds == self.bounds, "histograms of different bounds"
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds

    def copy(self) -> Histogram:
        """The numbers as they are now."""
        copied = Histogram(self.bounds)
        copied.add(self)
        return copied

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def up_to(self) -> Iterator[tuple[str, int]]:
        """(bound as Prometheus writes it, how many were at most that), the last one for all."""
        total = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            yield bound, total
