"""What may leave only when it is on disk: in order, and never on the strength of a log that is about to be another."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.raft.messages import AppendResponse, PeerMessage
from penstock.runtime.held_back import HeldBack


def answer(index: int) -> Sequence[PeerMessage]:
    return [AppendResponse(1, 2, 3, index)]


def test_messages_leave_in_order_as_log_and_hard_states_are_stored() -> None:
    held = HeldBack()
    held.hold(5, 0, answer(5))
    held.hold(5, 1, answer(6))
    held.hold(9, 1, answer(9))
    assert list(held.due(4, 1)) == []
    assert list(held.due(9, 0)) == [answer(5)]
    assert list(held.due(8, 1)) == [answer(6)]
    assert list(held.due(9, 1)) == [answer(9)]
    assert list(held.due(9, 1)) == []


def test_what_spoke_of_entries_that_go_is_lost() -> None:
    held = HeldBack()
    held.hold(5, 0, answer(5))
    held.begin_anew()
    held.replaced()
    assert list(held.due(9, 9)) == []


def test_a_log_that_is_still_to_be_cut_counts_for_nothing() -> None:
    """It is longer than what is to stand there, and holds other entries."""
    held = HeldBack()
    held.begin_anew()
    held.hold(7, 0, answer(7))
    assert list(held.due(20, 0)) == []
    held.replaced()
    assert list(held.due(6, 0)) == []
    assert list(held.due(7, 0)) == [answer(7)]
