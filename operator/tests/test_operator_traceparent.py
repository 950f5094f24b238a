"""What is remembered between a watch's event and the pass: parents that people hand over, triggers, restarts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_operator.reconcile.ports import Key
from penstock_operator.tracing import restarts, wakes
from penstock_operator.tracing.restarts import Restarts
from penstock_operator.tracing.traceparent import TraceParent, parent_of, parse_traceparent
from penstock_operator.tracing.wakes import PASSES_MAX, TIME, TRIGGERS_MAX, Wakes

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
GOOD = f"00-{TRACE_ID}-{SPAN_ID}-01"
KEY = Key("Topic", "shop", "payments")
FIRST = TraceParent(1, 2, True)
SECOND = TraceParent(3, 4, True)


def test_the_example_of_the_recommendation() -> None:
    found = parse_traceparent(GOOD)
    assert found == TraceParent(int(TRACE_ID, 16), int(SPAN_ID, 16), True)
    assert str(found) == GOOD
    assert parse_traceparent(GOOD[:-2] + "00") == TraceParent(int(TRACE_ID, 16), int(SPAN_ID, 16), False)
    # Flags that nobody knows yet change nothing of the one that is known.
    assert parse_traceparent(GOOD[:-2] + "ff") == found


@pytest.mark.parametrize(
    "text",
    [
        None,
        5,
        ["x"],
        "",
        "00",
        GOOD + "\n",
        " " + GOOD,
        GOOD + "-00",
        GOOD.upper(),
        GOOD.replace("00-", "ff-", 1),
        GOOD.replace("00-", "01-", 1),
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}٣-{SPAN_ID}-01",  # a digit, but of another script
        "00-" + "a" * 1_000_000,
    ],
)
def test_anything_else_is_no_parent(text: object) -> None:
    assert parse_traceparent(text) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_written_is_read(trace_id: int, span_id: int, sampled: bool) -> None:
    parent = TraceParent(trace_id, span_id, sampled)
    assert parse_traceparent(str(parent)) == parent


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    found = parse_traceparent(text)
    assert found is None or str(found)[:53] == text[:53]


def annotated(**annotations: Any) -> dict[str, Any]:
    return {"metadata": {"annotations": {name.replace("_", "/"): text for name, text in annotations.items()}}}


def test_our_own_annotation_comes_first_and_a_bad_one_hides_nothing() -> None:
    other = str(SECOND)
    assert parent_of({"metadata": {}}) is None
    assert parent_of({"metadata": {"annotations": None}}) is None
    assert str(parent_of(annotated(traceparent=GOOD))) == GOOD
    assert str(parent_of(annotated(**{"traceparent": other, "penstock.io_traceparent": GOOD}))) == GOOD
    assert str(parent_of(annotated(**{"traceparent": GOOD, "penstock.io_traceparent": "x"}))) == GOOD


def test_a_pass_is_told_what_woke_its_object_once_each() -> None:
    remembered = Wakes()
    for trigger in ("a", "b", "a"):
        remembered.woken(KEY, trigger)
    assert remembered.take(KEY).triggers == ["a", "b"]
    assert remembered.take(KEY).triggers == [TIME]


def test_more_triggers_than_are_listed_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = Wakes()
    for number in range(TRIGGERS_MAX + 3):
        remembered.woken(KEY, str(number))
    woken = remembered.take(KEY)
    assert (len(woken.triggers), woken.unnamed) == (TRIGGERS_MAX, 3)
    assert remembered.take(KEY).unnamed == 0
    monkeypatch.setattr(wakes, "KEYS_MAX", 1)
    other = Key("Topic", "shop", "other")
    remembered.woken(KEY, "a")
    remembered.woken(other, "a")
    assert remembered.take(other).triggers == [TIME]
    remembered.belongs(KEY, FIRST)
    remembered.belongs(other, FIRST)
    assert (remembered.take(KEY).parent, remembered.take(other).parent) == (FIRST, None)


def test_passes_belong_to_an_edits_trace_until_one_has_nothing_left_to_do() -> None:
    remembered = Wakes()
    remembered.belongs(KEY, FIRST)
    assert [remembered.take(KEY).parent for _ in range(3)] == [FIRST] * 3
    remembered.settled(KEY, None)  # of a pass that began before the edit was seen
    assert remembered.take(KEY).parent == FIRST
    remembered.settled(KEY, FIRST)
    assert remembered.take(KEY).parent is None
    remembered.belongs(KEY, FIRST)  # the watch says the same again
    assert remembered.take(KEY).parent is None
    remembered.belongs(KEY, SECOND)
    remembered.settled(KEY, FIRST)  # a pass of the edit before
    assert remembered.take(KEY).parent == SECOND
    remembered.belongs(KEY, None)
    assert remembered.take(KEY).parent is None


def test_what_never_settles_leaves_the_trace_after_a_number_of_passes() -> None:
    remembered = Wakes()
    remembered.belongs(KEY, FIRST)
    parents = [remembered.take(KEY).parent for _ in range(PASSES_MAX + 1)]
    assert parents == [FIRST] * PASSES_MAX + [None]


def test_what_is_gone_is_forgotten() -> None:
    remembered = Wakes()
    remembered.woken(KEY, "a")
    remembered.belongs(KEY, FIRST)
    remembered.forget(KEY)
    assert (remembered.take(KEY).triggers, remembered.take(KEY).parent) == ([TIME], None)


def test_a_restarted_pod_is_marked_once_and_only_when_it_is_another_one() -> None:
    under_way = Restarts()
    under_way.began("shop", "orders-0-0", "old", GOOD)
    assert under_way.came_back("shop", {"orders-0-0": "old", "orders-0-1": "x"}) == {}
    assert under_way.came_back("bank", {"orders-0-0": "new"}) == {}
    assert under_way.came_back("shop", {"orders-0-0": "new"}) == {"orders-0-0": GOOD}
    assert under_way.came_back("shop", {"orders-0-0": "newer"}) == {}


def test_the_oldest_restart_is_forgotten_where_too_many_are_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restarts, "RESTARTS_MAX", 2)
    under_way = Restarts()
    for pod in ("a", "b", "a", "c"):
        under_way.began("shop", pod, "old", GOOD)
    assert sorted(under_way.came_back("shop", dict.fromkeys("abc", "new"))) == ["a", "c"]
