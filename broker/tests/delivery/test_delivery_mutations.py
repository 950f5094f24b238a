"""The proof that the machine's life finds what it is for: rules broken on purpose, each noticed within a bounded number of
examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop
from typing import Any

import msgspec
import pytest
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test

from delivery_life import QueueLife
from penstock.delivery import deciding, machine, queue
from penstock.delivery.commands import QueueBuried, QueueCommand, QueueDying, QueueGranted, QueueReturned
from penstock.delivery.deciding import Receipt
from penstock.delivery.machine import QueuesMachine
from penstock.delivery.messages import Open
from penstock.delivery.queue import Queue
from penstock.delivery.settled import SettledSet
from penstock.delivery.timers import QueueTimers, Timers

EXAMPLES_MAX = 1_000
STEPS = 40

Mutation = Callable[[pytest.MonkeyPatch], None]


# --- entries in flight -----------------------------------------------------------------------------


def granted_is_not_busy(patch: pytest.MonkeyPatch) -> None:
    """What an entry in flight grants may be granted to somebody else as well."""
    right = Queue.stage

    def stage(self: Queue, index: int, command: QueueCommand) -> None:
        if not isinstance(command, QueueGranted):
            right(self, index, command)

    patch.setattr(Queue, "stage", stage)


def granted_at_once(patch: pytest.MonkeyPatch) -> None:
    """A grant changes the state before it is committed."""
    right = Queue.stage

    def stage(self: Queue, index: int, command: QueueCommand) -> None:
        right(self, index, command)
        if isinstance(command, QueueGranted):
            self._grant(command)

    patch.setattr(Queue, "stage", stage)


def any_commit_ends_waiting(patch: pytest.MonkeyPatch) -> None:
    """The first entry that is committed makes nothing busy any more."""
    patch.setattr(Queue, "_no_longer_busy", lambda self, index, command: self._busy.clear())


def busy_outlives_the_leadership(patch: pytest.MonkeyPatch) -> None:
    """Stepping down forgets no mark of entries that are lost."""
    patch.setattr(Queue, "drop_staged", lambda self: setattr(self, "_timers", None))


# --- leases ----------------------------------------------------------------------------------------


def any_receipt_will_do(patch: pytest.MonkeyPatch) -> None:
    """Whoever once held a message may settle it while another one does."""

    def judged(
        queue: Queue, receipts: Iterable[Receipt], now_ms: int
    ) -> tuple[list[int], list[Receipt], list[Receipt]]:
        held, busy, refused = [], [], []
        queue.timers(now_ms)
        for receipt in receipts:
            message = queue.get(receipt.offset)
            if message is None or not message.held:
                refused.append(receipt)
            elif queue.is_busy(receipt.offset):
                busy.append(receipt)
            else:
                held.append(receipt.offset)
        return sorted(set(held)), busy, refused

    patch.setattr(deciding, "_judged", judged)


def leases_are_not_restarted(patch: pytest.MonkeyPatch) -> None:
    """A new leader goes by the clock of the one before."""

    def begun(messages: Mapping[int, Open], now_ms: int) -> QueueTimers:
        timers = QueueTimers()
        for offset, message in messages.items():
            timers.add(message, ((offset, offset),), messages)
        return timers

    patch.setattr(QueueTimers, "begun", begun)


def an_extended_lease_ends_as_before(patch: pytest.MonkeyPatch) -> None:
    """A timer ends whatever its messages have become."""

    def due(
        self: Timers, now_ms: int, limit: int, messages: Mapping[int, Open], is_busy: Callable[[int], bool]
    ) -> list[int]:
        found = set()
        while self._heap and self._heap[0].at_ms <= now_ms:
            for first, last in heappop(self._heap).ranges:
                found |= {
                    offset
                    for offset in range(first, last + 1)
                    if offset in messages and messages[offset].held and not is_busy(offset)
                }
        return sorted(found)[:limit]

    right = Queue.due_leases

    def due_leases(self: Queue, now_ms: int, limit: int) -> list[int]:
        patch.setattr(Timers, "due", due)
        try:
            return right(self, now_ms, limit)
        finally:
            patch.setattr(Timers, "due", right_due)

    right_due = Timers.due
    patch.setattr(Queue, "due_leases", due_leases)


# --- retries and dead letters ----------------------------------------------------------------------


def released_counts_as_delivered(patch: pytest.MonkeyPatch) -> None:
    """Giving back untried leaves the count as it is."""
    right = queue._returned

    def returned(message: Open, command: QueueReturned) -> Open:
        return msgspec.structs.replace(right(message, command), deliveries=message.deliveries)

    patch.setattr(queue, "_returned", returned)


def one_delivery_too_many(patch: pytest.MonkeyPatch) -> None:
    """A message dies only beyond the limit."""
    right = deciding._failed

    def failed(
        queue: Queue, offsets: list[int], cause: str, failing: Any, deliveries_max: int, delay_ms: int | None
    ) -> list[QueueCommand]:
        return right(queue, offsets, cause, failing, deliveries_max + (deliveries_max > 0), delay_ms)

    patch.setattr(deciding, "_failed", failed)


def dead_ones_stay(patch: pytest.MonkeyPatch) -> None:
    """A message that went to the dead letters can be granted, and die, once more."""
    right = Queue._die

    def die(self: Queue, ranges: Any) -> list[tuple[int, Open]]:
        gone = right(self, ranges)
        self.messages.update(
            (offset, msgspec.structs.replace(message, lease_id=0, at_ms=0)) for offset, message in gone
        )
        self._timers = None
        return gone

    patch.setattr(Queue, "_die", die)


def numbers_have_gaps(patch: pytest.MonkeyPatch) -> None:
    """Each entry of dying messages leaves out a number."""
    right = QueuesMachine._count_dying

    def count_dying(self: QueuesMachine, index: int, command: QueueDying, *, staged: bool) -> None:
        (first, last), *rest = command.ranges
        longer = msgspec.structs.replace(command, ranges=((first, last + 1), *rest))
        right(self, index, longer, staged=staged)

    patch.setattr(QueuesMachine, "_count_dying", count_dying)


def numbers_in_flight_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The next number is counted from what is committed."""

    def next_sequence(self: QueuesMachine, group: str, dead_topic: str) -> int:
        return self._next.committed.get((group, dead_topic), 0)

    patch.setattr(QueuesMachine, "next_sequence", next_sequence)


def buries_one_too_many(patch: pytest.MonkeyPatch) -> None:
    """The outbox forgets a dead letter that is not in the topic yet."""
    right = QueuesMachine._bury

    def bury(self: QueuesMachine, command: QueueBuried) -> None:
        right(self, msgspec.structs.replace(command, end_sequence=command.end_sequence + 1))

    patch.setattr(QueuesMachine, "_bury", bury)


def the_outbox_is_not_stored(patch: pytest.MonkeyPatch) -> None:
    """A replica that begins with a snapshot knows no dead letters."""
    right = machine.StoredOutbox
    patch.setattr(machine, "StoredOutbox", lambda topic, count, letters: right(topic, count, []))


# --- what is settled -------------------------------------------------------------------------------


def floor_passes_open_messages(patch: pytest.MonkeyPatch) -> None:
    """Settling one settles all before it."""
    right = SettledSet.add
    patch.setattr(SettledSet, "add", lambda self, first, last: right(self, min(first, self.floor), last))


def a_replay_keeps_leases(patch: pytest.MonkeyPatch) -> None:
    """A new position leaves what is open as it is."""

    def reset(self: Queue, floor: int) -> None:
        messages = {offset: message for offset, message in self.messages.items() if offset >= floor}
        right(self, floor)
        self.messages.update(messages)

    right = Queue._reset
    patch.setattr(Queue, "_reset", reset)


def the_window_forgets_grants_in_flight(patch: pytest.MonkeyPatch) -> None:
    """Only what is committed counts against the window."""
    patch.setattr(Queue, "in_flight", property(lambda self: len(self.messages) + self.dying))


def dead_letters_leave_the_window(patch: pytest.MonkeyPatch) -> None:
    """The outbox grows without a bound while nobody can write to the dead-letter topic."""
    right = Queue.in_flight
    patch.setattr(Queue, "in_flight", property(lambda self: right.__get__(self) - self.dying))


MUTATIONS: list[Mutation] = [
    granted_is_not_busy,
    granted_at_once,
    any_commit_ends_waiting,
    busy_outlives_the_leadership,
    any_receipt_will_do,
    leases_are_not_restarted,
    an_extended_lease_ends_as_before,
    released_counts_as_delivered,
    one_delivery_too_many,
    dead_ones_stay,
    numbers_have_gaps,
    numbers_in_flight_are_forgotten,
    buries_one_too_many,
    the_outbox_is_not_stored,
    floor_passes_open_messages,
    a_replay_keeps_leases,
    the_window_forgets_grants_in_flight,
    dead_letters_leave_the_window,
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_life_of_queues_notices_a_broken_rule(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    settings = hypothesis_settings(
        max_examples=EXAMPLES_MAX,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(QueueLife, settings=settings)
