"""The ledger must see every way in which a broker can break its promise; each test plays one of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.testing.ledger import EXAMPLES_MAX, SILENCES_MAX, Ledger, LedgerError, Silence


def ledger_of(messages: int, partitions: int = 1) -> Ledger:
    """A run in which message n went to partition n % partitions and everything was acknowledged, one per millisecond."""
    ledger = Ledger()
    for number in range(messages):
        assert ledger.send() == number
        ledger.acknowledge(number, number % partitions, number // partitions, now_ms=number)
    return ledger


def read_back(ledger: Ledger, messages: int, partitions: int = 1) -> None:
    for number in range(messages):
        ledger.receive(number, number % partitions, number // partitions)


def test_a_clean_run_is_good_and_prints_the_line_of_the_demo() -> None:
    ledger = ledger_of(6, partitions=3)
    ledger.interrupt(now_ms=100)
    number = ledger.send()
    ledger.acknowledge(number, 0, 2, now_ms=350)
    read_back(ledger, 7, partitions=3)
    verdict = ledger.judge()
    assert verdict.good
    assert verdict.line() == "demo: sent=7 acked=7 received=7 lost=0 duplicated=0 recovered_ms=250"
    assert verdict.examples == ()


def test_a_survivor_was_sent_before_the_interruption_and_acknowledged_after_it() -> None:
    ledger = ledger_of(3)
    early, late = ledger.send(), ledger.send()
    assert ledger.survivor is None
    ledger.interrupt(now_ms=100)
    ledger.acknowledge(ledger.send(), 0, 5, now_ms=300)
    assert ledger.survivor is None, "it was sent after the interruption"
    ledger.acknowledge(early, 0, 3, now_ms=301)
    ledger.acknowledge(late, 1, 4, now_ms=302)
    assert ledger.survivor == (late, 1, 4)


def test_an_acknowledged_message_that_never_comes_back_is_lost() -> None:
    ledger = ledger_of(3)
    ledger.receive(0, 0, 0)
    ledger.receive(2, 0, 2)
    assert ledger.missing() == [1]
    verdict = ledger.judge()
    assert not verdict.good
    assert verdict.lost == 1
    assert verdict.examples == ("message 1 was acknowledged at offset 1 of partition 0 and never read back",)


def test_a_message_without_an_answer_may_be_there_or_not() -> None:
    absent, present = ledger_of(1), ledger_of(1)
    for ledger in (absent, present):
        ledger.send()
        ledger.receive(0, 0, 0)
    present.receive(1, 0, 1)
    assert absent.judge().good
    assert present.judge().good
    assert absent.judge().unacked == present.judge().unacked == 1
    assert present.judge().received == 2


def test_order_is_judged_within_a_partition_only() -> None:
    ledger = Ledger()
    for _ in range(4):
        ledger.send()
    ledger.acknowledge(3, 0, 0, now_ms=1)
    ledger.acknowledge(1, 0, 1, now_ms=1)
    ledger.acknowledge(0, 1, 7, now_ms=1)
    ledger.acknowledge(2, 1, 8, now_ms=1)
    for number, partition, offset in ((2, 1, 8), (3, 0, 0), (0, 1, 7), (1, 0, 1)):
        ledger.receive(number, partition, offset)
    verdict = ledger.judge()
    assert verdict.disordered == 1
    assert not verdict.good
    assert verdict.examples == ("message 1 at offset 1 of partition 0 is behind the later message 3",)


def test_a_second_copy_is_a_duplicate_and_a_second_reading_is_not() -> None:
    ledger = ledger_of(2)
    read_back(ledger, 2)
    ledger.receive(0, 0, 0)
    ledger.receive(0, 0, 2)
    verdict = ledger.judge()
    assert (verdict.duplicated, verdict.redelivered, verdict.received) == (1, 1, 2)
    assert verdict.good


def test_a_message_found_elsewhere_than_acknowledged_is_misplaced() -> None:
    ledger = ledger_of(1)
    ledger.receive(0, 0, 5)
    verdict = ledger.judge()
    assert verdict.misplaced == 1
    assert not verdict.good
    assert "which did not hand it out" in verdict.examples[0]


def test_a_message_that_nobody_sent_is_a_stranger() -> None:
    ledger = ledger_of(1)
    read_back(ledger, 1)
    ledger.receive(41, 0, 1)
    verdict = ledger.judge()
    assert verdict.strangers == 1
    assert not verdict.good


def test_an_offset_is_never_used_for_two_messages() -> None:
    ledger = ledger_of(2)
    ledger.receive(0, 0, 0)
    with pytest.raises(LedgerError, match="offset 0 of partition 0 held message 0 and now holds 1"):
        ledger.receive(1, 0, 0)


def test_recovery_ends_with_the_longest_silence_and_not_with_a_late_answer() -> None:
    ledger = Ledger()
    for _ in range(5):
        ledger.send()
    ledger.acknowledge(0, 0, 0, now_ms=10)
    ledger.acknowledge(1, 0, 1, now_ms=5010)  # a pause before the kill has nothing to do with it
    ledger.interrupt(now_ms=5020)
    ledger.acknowledge(2, 0, 2, now_ms=5021)
    ledger.acknowledge(3, 0, 3, now_ms=5820)
    ledger.acknowledge(4, 0, 4, now_ms=5821)
    assert ledger.judge().recovered_ms == 800
    assert ledger.silence is not None
    assert ledger.silence.length_ms == 5000


def test_the_longest_silences_are_kept_in_the_order_in_which_they_came() -> None:
    ledger = Ledger()
    now_ms = 0
    for number in range(SILENCES_MAX + 2):
        ledger.send()
        # Of the gaps, which get longer and longer, the first is the one too many.
        now_ms += number
        ledger.acknowledge(number, 0, number, now_ms=now_ms)
    silences = ledger.silences
    assert [silence.length_ms for silence in silences] == list(range(2, SILENCES_MAX + 2))
    assert silences[0] == Silence(1, 3)
    assert ledger.silence == silences[-1]


@pytest.mark.parametrize(
    ("from_ms", "until_ms", "touches"),
    [(0, 9, False), (0, 10, True), (12, 15, True), (20, 30, True), (21, 30, False)],
)
def test_a_silence_belongs_to_the_times_that_it_touches(from_ms: int, until_ms: int, touches: bool) -> None:
    assert Silence(10, 20).touches(from_ms, until_ms) is touches


def test_without_an_acknowledgement_after_the_interruption_nothing_recovered() -> None:
    ledger = ledger_of(1)
    ledger.interrupt(now_ms=50)
    assert ledger.judge().recovered_ms is None
    assert ledger.judge().line("demo-kind").endswith("recovered_ms=none")


@pytest.mark.parametrize("number", [-1, 1])
def test_an_answer_to_a_message_that_was_never_sent_is_refused(number: int) -> None:
    ledger = Ledger()
    ledger.send()
    with pytest.raises(LedgerError, match="never sent"):
        ledger.acknowledge(number, 0, 0, now_ms=0)


def test_a_second_answer_is_refused() -> None:
    ledger = ledger_of(1)
    with pytest.raises(LedgerError, match="acknowledged twice"):
        ledger.acknowledge(0, 0, 0, now_ms=0)


def test_a_full_ledger_says_so() -> None:
    ledger = Ledger(messages_max=1)
    ledger.send()
    with pytest.raises(LedgerError, match="at most 1 messages"):
        ledger.send()


def test_only_the_first_examples_are_kept_but_all_are_counted() -> None:
    verdict = ledger_of(EXAMPLES_MAX + 5).judge()
    assert verdict.lost == EXAMPLES_MAX + 5
    assert len(verdict.examples) == EXAMPLES_MAX


@given(
    partitions=st.integers(1, 4),
    messages=st.integers(1, 60),
    dropped=st.sets(st.integers(0, 59)),
    order=st.randoms(use_true_random=False),
)
def test_whatever_is_dropped_is_exactly_what_is_lost(
    partitions: int, messages: int, dropped: set[int], order: object
) -> None:
    ledger = ledger_of(messages, partitions)
    numbers = [number for number in range(messages) if number not in dropped]
    order.shuffle(numbers)  # type: ignore[attr-defined]
    for number in numbers:
        ledger.receive(number, number % partitions, number // partitions)
    verdict = ledger.judge()
    assert set(ledger.missing()) == {number for number in dropped if number < messages}
    assert verdict.lost == messages - len(numbers)
    assert verdict.disordered == verdict.misplaced == verdict.duplicated == 0
