"""The shape of the log: where it starts and ends, and which epoch each entry has.

Epochs only ever rise along a log, so a few runs say all of it, and every question is a search among the runs. Where
membership changes stand is kept too, because an election has to know whether one is committed but not applied.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from penstock.raft.messages import Span


class EpochLog:
    """Entries `first` to `last`; the one before `first` is gone but for its epoch (index 0 has epoch 0)."""

    __slots__ = ("_epochs", "_starts", "changes", "last")

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
        assert last >= first - 1 >= 0, (first, last)
        # Run n has epoch _epochs[n] from index _starts[n] on. The first run starts at the entry before the log.
        self._starts = [first - 1]
        self._epochs = [epoch_before]
        self.last = first - 1
        self.changes: list[int] = []
        runs = tuple(runs)
        assert bool(runs) == (last >= first), "an empty log has no runs, any other has some"
        if runs:
            assert runs[0][1] == first, (runs, first)
            self.extend(Span(first, last, runs, changes=tuple(changes)), first)

    @property
    def first(self) -> int:
        """Index of the first entry; of the next one where the log is empty."""
        return self._starts[0] + 1

    @property
    def last_epoch(self) -> int:
        """Epoch of the last entry."""
        return self._epochs[-1]

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """The runs of the entries that are there, as the constructor takes them."""
        return self.runs_between(self.first, self.last)

    # --- questions -----------------------------------------------------------------------------------

    def epoch_of(self, index: int) -> int | None:
        """The entry's epoch; None where it is not known: behind the end, or gone and not the last one gone."""
        starts = self._starts
        if index > self.last or index < starts[0]:
            return None
        if index >= starts[-1]:
            return self._epochs[-1]
        return self._epochs[bisect_right(starts, index) - 1]

    def runs_between(self, first: int, last: int) -> tuple[tuple[int, int], ...]:
        """The runs of these entries, the first of them starting at `first`."""
        starts = self._starts
        if first > last:
            return ()
        if first >= starts[-1]:
            return ((self._epochs[-1], first),)
        at = bisect_right(starts, first) - 1
        end = bisect_right(starts, last)
        return (
            (self._epochs[at], first),
            *zip(self._epochs[at + 1 : end], starts[at + 1 : end], strict=True),
        )

    def changes_between(self, first: int, last: int) -> tuple[int, ...]:
        """Indexes of membership changes among these entries, ascending."""
        changes = self.changes
        if not changes or changes[-1] < first:
            return ()
        return tuple(changes[bisect_left(changes, first) : bisect_right(changes, last)])

    def is_covered_by(self, last_index: int, last_epoch: int) -> bool:
        """Whether a log that ends there holds at least what this one holds (thesis, section 3.6.1)."""
        return (last_epoch, last_index) >= (self.last_epoch, self.last)

    def could_match(self, index: int, epoch: int) -> tuple[int, int]:
        """The largest (index, epoch) up to here that can be in a log whose entry at `index` has `epoch`.

        Entries with a higher epoch cannot be in it at or below `index`, so whole runs are passed over at once. The
        epoch is 0 where this log does not know it.
        """
        starts = self._starts
        if not starts[0] <= index <= self.last:
            return index, 0
        above = bisect_right(self._epochs, epoch)
        if above == 0:
            return starts[0] - 1, 0
        guess = min(index, starts[above] - 1) if above < len(starts) else index
        return guess, self._epochs[bisect_right(starts, guess) - 1]

    def first_difference(self, span: Span) -> int:
        """The first index of the span whose entry this log lacks or holds with another epoch; 0 where there is none.

        The span starts at most one behind the end, and not before `first`.
        """
        position = span.first
        last = self.last
        if position > last:
            return position
        ends = [start - 1 for _, start in span.epochs[1:]] + [span.last]
        for (epoch, _), end in zip(span.epochs, ends, strict=True):
            while position <= end:
                if position > last:
                    return position
                at = bisect_right(self._starts, position) - 1
                if self._epochs[at] != epoch:
                    return position
                run_end = self._starts[at + 1] - 1 if at + 1 < len(self._starts) else last
                position = min(end, run_end) + 1
        return 0

    # --- changes -------------------------------------------------------------------------------------

    def append(self, count: int, epoch: int) -> int:
        """`count` entries of `epoch` at the end. Gives the first one's index."""
        first = self.last + 1
        if epoch != self._epochs[-1]:
            assert epoch > self._epochs[-1], (epoch, self._epochs[-1])
            self._starts.append(first)
            self._epochs.append(epoch)
        self.last += count
        return first

    def extend(self, span: Span, first: int) -> None:
        """The span's entries from `first` on, which is right behind the end."""
        assert first == self.last + 1, (first, self.last)
        for number, (epoch, start) in enumerate(span.epochs):
            following = span.epochs[number + 1][1] if number + 1 < len(span.epochs) else span.last + 1
            if following > first:
                self.append(following - max(start, first), epoch)
        self.changes.extend(index for index in span.changes if index >= first)

    def truncate(self, index: int) -> None:
        """Takes away everything from `index` on."""
        assert self.first <= index <= self.last + 1, (self.first, index, self.last)
        keep = bisect_left(self._starts, index)
        del self._starts[keep:]
        del self._epochs[keep:]
        del self.changes[bisect_left(self.changes, index) :]
        self.last = index - 1

    def compact(self, first: int) -> None:
        """The log now starts at `first`."""
        assert self.first <= first <= self.last + 1, (self.first, first, self.last)
        at = bisect_right(self._starts, first - 1) - 1
        del self._starts[:at]
        del self._epochs[:at]
        self._starts[0] = first - 1
        del self.changes[: bisect_left(self.changes, first)]

    def restart(self, index: int, epoch: int) -> None:
        """Empty, behind a snapshot whose last entry is (`index`, `epoch`)."""
        self._starts = [index]
        self._epochs = [epoch]
        self.last = index
        self.changes = []
