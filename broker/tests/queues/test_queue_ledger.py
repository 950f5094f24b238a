"""The ledger sees what it is there for."""

from __future__ import annotations

import pytest

from queue_ledger import Delivery, judge


def given(asked: float, told: float, **deed: object) -> Delivery:
    return Delivery("m", 0, asked, told, 10.0, **deed)  # type: ignore[arg-type]


def done(asked: float, at: float) -> Delivery:
    return given(asked, asked + 1, deed="acknowledge", deed_s=at, answered_s=at + 1, code="")


def test_a_message_that_failed_once_and_was_done_then_is_in_order() -> None:
    story = [given(0, 1, deed="reject", deed_s=2, answered_s=3, code=""), done(4, 6), given(100, 101)]
    story = story[:2]
    verdict = judge(["m"], story, [])
    assert verdict.good
    assert verdict.redelivered == 1


def test_an_acknowledgement_without_an_answer_explains_another_delivery() -> None:
    silent = given(0, 1, deed="acknowledge", deed_s=2)
    assert judge(["m"], [silent], []).good
    assert judge(["m"], [silent, done(20, 22)], []).good
    assert judge(["m"], [silent], ["m"]).good


@pytest.mark.parametrize(
    ("story", "buried", "wrong"),
    [
        ([], [], "lost"),
        ([given(0, 1)], [], "lost"),
        ([given(0, 1, deed="acknowledge", deed_s=2, answered_s=3, code="INVALID_RECORD_STATE")], [], "lost"),
        ([done(0, 2)], ["m"], "both"),
        ([], ["m", "m"], "buried_twice"),
        ([done(0, 2), given(4, 5)], [], "again_after_done"),
        ([done(0, 2), done(20, 22)], [], "done_twice"),
        ([given(0, 1), done(3, 6)], [], "held_by_two"),
    ],
)
def test_what_is_wrong_is_named(story: list[Delivery], buried: list[str], wrong: str) -> None:
    verdict = judge(["m"], story, buried)
    assert not verdict.good
    assert getattr(verdict, wrong) == ["m"]
