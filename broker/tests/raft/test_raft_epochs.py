"""The log's shape in runs, against a plain list of epochs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.raft.epochs import EpochLog
from penstock.raft.messages import Span

EPOCHS = st.lists(st.integers(1, 6), max_size=14).map(sorted)


def runs_of(epochs: list[int], first: int) -> tuple[tuple[int, int], ...]:
    runs: list[tuple[int, int]] = []
    for index, epoch in enumerate(epochs, first):
        if not runs or runs[-1][0] != epoch:
            runs.append((epoch, index))
    return tuple(runs)


class Model:
    """Epochs by index; the entry before the first is known by its epoch alone."""

    def __init__(self, epochs: list[int], compacted: int) -> None:
        self.epochs = {0: 0} | dict(enumerate(epochs, 1))
        self.first = compacted + 1
        self.last = len(epochs)

    def epoch_of(self, index: int) -> int | None:
        return self.epochs[index] if self.first - 1 <= index <= self.last else None

    def could_match(self, index: int, epoch: int) -> tuple[int, int]:
        """Index by index, as the thesis describes the search (section 3.5)."""
        while index > 0:
            known = self.epoch_of(index)
            if known is None:
                return index, 0
            if known <= epoch:
                return index, known
            index -= 1
        return 0, 0


@st.composite
def logs(draw: st.DrawFn) -> tuple[EpochLog, Model]:
    epochs = draw(EPOCHS)
    compacted = draw(st.integers(0, len(epochs)))
    model = Model(epochs, compacted)
    log = EpochLog(
        compacted + 1,
        len(epochs),
        runs_of(epochs[compacted:], compacted + 1),
        epoch_before=model.epochs[compacted],
    )
    return log, model


@given(logs(), st.integers(0, 16), st.integers(0, 7))
def test_questions(pair: tuple[EpochLog, Model], index: int, epoch: int) -> None:
    log, model = pair
    assert (log.first, log.last) == (model.first, model.last)
    assert log.last_epoch == model.epochs[model.last]
    assert log.epoch_of(index) == model.epoch_of(index)
    assert log.could_match(index, epoch) == model.could_match(index, epoch)
    assert log.is_covered_by(index, epoch) == ((epoch, index) >= (log.last_epoch, log.last))
    if log.first <= index <= log.last:
        expected = [model.epochs[at] for at in range(index, log.last + 1)]
        assert log.runs_between(index, log.last) == runs_of(expected, index)
        assert log.runs_between(log.first, index) == runs_of(
            [model.epochs[at] for at in range(log.first, index + 1)], log.first
        )


@given(logs(), EPOCHS, st.data())
def test_the_first_difference_is_where_entries_begin_to_differ(
    pair: tuple[EpochLog, Model], epochs: list[int], data: st.DataObject
) -> None:
    log, model = pair
    if not epochs:
        return
    first = data.draw(st.integers(log.first, log.last + 1))
    span = Span(first, first + len(epochs) - 1, runs_of(epochs, first))
    differs = [index for index, epoch in enumerate(epochs, first) if model.epoch_of(index) != epoch]
    assert log.first_difference(span) == (differs[0] if differs else 0)


@given(logs(), st.data())
def test_changes(pair: tuple[EpochLog, Model], data: st.DataObject) -> None:
    log, model = pair
    cut = data.draw(st.integers(log.first, log.last + 1))
    log.truncate(cut)
    kept = [model.epochs[index] for index in range(log.first, cut)]
    new = data.draw(st.lists(st.integers(max([log.last_epoch, 1]), 9), min_size=1, max_size=6).map(sorted))
    skipped = data.draw(st.integers(0, len(new) - 1))
    # What is taken of a span may begin in its middle.
    span = Span(cut - skipped, cut - skipped + len(new) - 1, runs_of(new, cut - skipped))
    log.extend(span, cut)
    epochs = kept + new[skipped:]
    assert log.last == log.first + len(epochs) - 1
    assert log.runs == runs_of(epochs, log.first)
    first = data.draw(st.integers(log.first, log.last + 1))
    before = (model.epochs | dict(enumerate(epochs, log.first)))[first - 1]
    epochs = epochs[first - log.first :]
    log.compact(first)
    assert (log.first, log.runs, log.epoch_of(first - 1)) == (first, runs_of(epochs, first), before)


def test_membership_changes_are_found_cut_and_compacted_with_their_entries() -> None:
    log = EpochLog(3, 9, [(1, 3), (2, 6)], epoch_before=1, changes=[4, 6, 9])
    assert log.changes_between(4, 6) == (4, 6)
    assert log.changes_between(7, 8) == ()
    assert log.changes_between(10, 12) == ()
    log.truncate(9)
    assert log.changes == [4, 6]
    log.compact(5)
    assert log.changes == [6]
    log.extend(Span(9, 11, ((3, 9),), changes=(9, 11)), 9)
    assert log.changes == [6, 9, 11]
    log.restart(20, 4)
    assert (log.first, log.last, log.last_epoch, log.changes) == (21, 20, 4, [])
