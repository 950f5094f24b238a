"""The shape of the log: where it starts and ends, and which epoch each entry has.

Epochs only ever rise along a log, so a few runs say all of it, and every question is a search among the runs. Where
membership changes stand is kept too, because an election has to know whether one is committed but not applied.
"""

from __future__ import annotations

from collections.abc import Iterable


class EpochLog:
    """Entries `first` to `last`; the one before `first` is gone but for its epoch (index 0 has epoch 0)."""

    def __init__(
        self,
        first: int = 1,
        last: int = 0,
        runs: Iterable[tuple[int, int]] = (),
        *,
        epoch_before: int = 0,
        changes: Iterable[int] = (),
    ) -> None:
        """`runs` are (epoch, first index with it) from `first` on, ascending; `changes` the membership changes."""
        raise AssertionError("under construction")
