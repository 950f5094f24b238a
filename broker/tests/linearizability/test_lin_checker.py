"""The checker itself: right histories pass, every kind of broken one is refused, and it agrees with brute force.

Brute force tries all orders of a few operations by the definition alone: no settling of unknown outcomes, no search
that prunes. It is what the checker's short cuts are held against.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lin_simulated_log import Break, SimulatedLog
from penstock.testing.history import History, HistoryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lin_checker import Checker

# One folder serves all examples of a test: each writes its history anew.
MANY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 1 << 32)


def new_history(folder: Path) -> History:
    """A history whose clock counts events."""
    ticks = itertools.count(1)
    return History(folder / "history.jsonl", lambda: next(ticks))


@given(seed=seeds)
@settings(MANY, max_examples=60)
def test_a_right_history_passes(seed: int, checker: Checker, tmp_path: Path) -> None:
    with new_history(tmp_path) as history:
        SimulatedLog(history, Random(seed)).run()
    judgement = checker.judge(history.path)
    assert judgement.verdict == "ok", judgement.words()


@pytest.mark.parametrize("broken", list(Break), ids=lambda broken: broken.name.lower())
@given(seed=seeds)
@settings(MANY, max_examples=15)
def test_a_broken_history_is_refused(broken: Break, seed: int, checker: Checker, tmp_path: Path) -> None:
    with new_history(tmp_path) as history:
        SimulatedLog(history, Random(seed)).run(broken)
    judgement = checker.judge(history.path)
    assert judgement.verdict == "violation", f"{broken.value}: {judgement.words()}"
    assert judgement.partitions[0]["offending"]


def test_the_offending_part_is_named_and_drawn(checker: Checker, tmp_path: Path) -> None:
    with new_history(tmp_path) as history:
        history.appended(history.append(0, 3, 70), 0)
        history.appended(history.append(0, 3, 71), 1)
        history.was_read(history.read(1, 3, 0), [70], 1)
    judgement = checker.judge(history.path, pictures=tmp_path)
    words = judgement.words()
    assert "2 of 3 operations can be put in order (2 values, the last is 71)" in words
    assert "no order for operation 2 of client 1" in words
    assert "read(0) -> [70], end 1" in words
    assert "71 was acknowledged at 1" in words


def test_one_bad_partition_is_enough(checker: Checker, tmp_path: Path) -> None:
    with new_history(tmp_path) as history:
        for partition in range(4):
            history.appended(history.append(0, partition, 10), 0)
        history.had_end(history.end(0, 2), 2)
    judgement = checker.judge(history.path)
    assert judgement.verdict == "violation"
    assert [one["verdict"] for one in judgement.partitions] == ["ok", "ok", "violation", "ok"]


def test_running_out_of_time_is_no_success(checker: Checker, tmp_path: Path) -> None:
    with new_history(tmp_path) as history:
        # Any of these may have taken any of the offsets that nobody read: far too many orders.
        for value in range(40):
            history.unknown(history.append(value, 0, value), "no answer")
        history.appended(history.append(99, 0, 99), 45)
    judgement = checker.judge(history.path, limit_s=0.2)
    assert judgement.verdict == "undecided"
    assert "undecided" in judgement.words()


def test_a_history_that_was_cut_off_is_one(checker: Checker, tmp_path: Path) -> None:
    with new_history(tmp_path) as history:
        history.append(0, 0, 1)
        history.read(1, 0, 0)
        history.was_read(history.read(2, 0, 0), [1], 1)
    assert checker.judge(history.path).verdict == "ok"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("{", "line 1"),
        ('{"id":1,"event":"done"}', 'unknown event "done"'),
        ('{"id":1,"event":"ok"}', "without being under way"),
        ('{"id":1,"event":"invoke","kind":"erase"}', 'unknown kind "erase"'),
        (
            '{"id":1,"event":"invoke","kind":"end"}\n{"id":1,"event":"invoke","kind":"end"}',
            "invoked twice",
        ),
        (
            '{"id":1,"event":"invoke","kind":"end","time_ns":5}\n{"id":1,"event":"ok","end":1,"time_ns":4}',
            "ends before it began",
        ),
        ('{"id":1,"event":"invoke","kind":"end"}\n{"id":1,"event":"ok"}', "without an end"),
        ('{"id":1,"event":"invoke","kind":"append"}\n{"id":1,"event":"ok"}', "without an offset"),
        (
            '{"id":1,"event":"invoke","kind":"append","value":7}\n{"id":2,"event":"invoke","kind":"append","value":7}',
            "appended a second time",
        ),
    ],
)
def test_what_is_no_history_is_named(lines: str, sentence: str, checker: Checker, tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(lines + "\n")
    with pytest.raises(ValueError, match=sentence):
        checker.judge(file)


def test_the_recorder_refuses_a_second_ending(tmp_path: Path) -> None:
    with new_history(tmp_path) as history:
        operation = history.append(0, 0, 1)
        history.failed(operation, "refused")
        with pytest.raises(HistoryError, match="without being under way"):
            history.appended(operation, 0)


# --- brute force ------------------------------------------------------------------------------------


class Operation(NamedTuple):
    """One operation of a small history; `offset` is the answer of an append (None: unknown) or where a read began."""

    kind: str
    value: int
    offset: int | None
    values: tuple[int, ...]
    end: int
    call: int
    answer: int


def orders(left: tuple[Operation, ...], log: tuple[int, ...]) -> Iterator[None]:
    """One None for each way to put what is left in order; unknown appends may also be left out."""
    if all(one.kind == "append" and one.offset is None for one in left):
        yield None
        return
    for number, one in enumerate(left):
        rest = left[:number] + left[number + 1 :]
        if any(other.answer < one.call for other in rest):
            continue
        after = taken(one, log)
        if after is not None:
            yield from orders(rest, after)


def taken(one: Operation, log: tuple[int, ...]) -> tuple[int, ...] | None:
    """The list after an operation; None where the answer is wrong for this list."""
    if one.kind == "append":
        return (*log, one.value) if one.offset in (None, len(log)) else None
    if one.kind == "end":
        return log if one.end == len(log) else None
    assert one.offset is not None
    right = one.end == len(log) and log[one.offset :][: len(one.values)] == one.values
    return log if right else None


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation]:
    """Up to six operations with any answers: some right, most of them wrong."""
    count = draw(st.integers(1, 6))
    times = draw(st.permutations(range(2 * count)))
    made = []
    for number in range(count):
        call, answer = sorted(times[2 * number : 2 * number + 2])
        kind = draw(st.sampled_from(["append", "append", "append", "read", "end"]))
        offset: int | None
        values: tuple[int, ...] = ()
        if kind == "append":
            offset = draw(st.none() | st.integers(0, 3))
            if offset is None:
                answer = 1000 + number
        else:
            offset = draw(st.integers(0, 1))
            values = tuple(draw(st.lists(st.integers(0, count - 1), max_size=3)))
        end = draw(st.integers(0, 4)) if kind == "end" else offset + len(values) if kind == "read" else 0
        made.append(Operation(kind, number, offset, values, end, call, answer))
    return made


def write(history: list[Operation], folder: Path) -> Path:
    """Writes the small history's events in the order of their times."""
    now = [0]
    with History(folder / "history.jsonl", lambda: now[0]) as book:
        numbers = {}
        events = sorted(
            [(one.call, "call", one) for one in history] + [(one.answer, "answer", one) for one in history]
        )
        for time, event, one in events:
            now[0] = time
            if event == "call":
                numbers[one.value] = invoke(book, one)
            elif one.kind == "append" and one.offset is None:
                book.unknown(numbers[one.value], "no answer")
            elif one.kind == "append":
                book.appended(numbers[one.value], one.offset)
            elif one.kind == "read":
                book.was_read(numbers[one.value], one.values, one.end)
            else:
                book.had_end(numbers[one.value], one.end)
    return book.path


def invoke(book: History, one: Operation) -> int:
    """Writes the invocation."""
    if one.kind == "append":
        return book.append(one.value, 0, one.value)
    if one.kind == "read":
        return book.read(one.value, 0, one.offset or 0)
    return book.end(one.value, 0)


@given(history=small_histories())
@settings(MANY, max_examples=400)
def test_the_checker_agrees_with_brute_force(
    history: list[Operation], checker: Checker, tmp_path: Path
) -> None:
    linearizable = next(orders(tuple(history), ()), "none") is None
    judgement = checker.judge(write(history, tmp_path))
    assert judgement.verdict == ("ok" if linearizable else "violation"), judgement.words()


def test_brute_force_meets_both_verdicts() -> None:
    """The comparison says something only when small histories are now right, now wrong."""
    append = Operation("append", 0, None, (), 0, 0, 1000)
    seen = Operation("read", 1, 0, (0,), 1, 1, 2)
    unseen = Operation("read", 2, 0, (), 0, 3, 4)
    assert next(orders((append, seen), ()), "none") is None
    assert next(orders((append, unseen), ()), "none") is None
    assert next(orders((append, seen, unseen), ()), "none") == "none"
