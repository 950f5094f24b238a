"""What came of the passes, by kind of object: plain numbers for `/metrics`.

Nothing here is kept per object, so there is nothing to forget when one is deleted; which objects fail at the moment is
known to `schedule`, which has to know it anyway. Kinds come from code, so their number is bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

DURATION_BUCKETS_S: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0)
"""Upper bounds; the last one is what a pass may take (`queue.PASS_SECONDS_MAX`), and a slower one counts beyond it."""


class KindPasses:
    """The passes over objects of one kind. `buckets` counts by DURATION_BUCKETS_S, each duration in one place, with one
    more place at the end for what took longer than all of them."""

    __slots__ = ("buckets", "duration_s", "failed", "last_success_s", "ok")

    def __init__(self) -> None:
        self.ok = 0
        self.failed = 0
        self.duration_s = 0.0
        self.buckets = [0] * (len(DURATION_BUCKETS_S) + 1)
        self.last_success_s: float | None = None

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, how many took at most that long), as Prometheus counts."""
        total = 0
        bounds = [*(str(bound) for bound in DURATION_BUCKETS_S), "+Inf"]
        counted: list[tuple[str, float]] = []
        for bound, count in zip(bounds, self.buckets, strict=True):
            total += count
            counted.append((bound, total))
        return counted


class Passes:
    """The passes over objects of every kind."""

    def __init__(self) -> None:
        self.by_kind: dict[str, KindPasses] = {}

    def of(self, kind: str) -> KindPasses:
        """The numbers of one kind; zeros when there was no pass yet."""
        return self.by_kind.setdefault(kind, KindPasses())

    def ended(self, kind: str, *, ok: bool, duration_s: float, now_s: float) -> None:
        """One more pass. `now_s` is the time of any one clock, which `last_success_s` is then of as well."""
        passes = self.of(kind)
        passes.buckets[bisect_left(DURATION_BUCKETS_S, duration_s)] += 1
        passes.duration_s += duration_s
        if ok:
            passes.ok += 1
            passes.last_success_s = now_s
        else:
            passes.failed += 1
