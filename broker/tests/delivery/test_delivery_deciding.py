"""Decisions about the messages of one queue, by example."""

from __future__ import annotations

import pytest

from penstock.delivery import deciding, queue
from penstock.delivery.commands import (
    EXPIRED,
    REJECTED,
    RELEASED,
    QueueCommand,
    QueueDying,
    QueueExtended,
    QueueGranted,
    QueuePositionSet,
    QueueReturned,
    QueueSettled,
    QueueStartMoved,
)
from penstock.delivery.deciding import Failing, LeaseRequest, Receipt
from penstock.delivery.queue import Counts, Queue
from penstock.delivery.timers import STALE_TIMERS_MIN
from penstock.model.queue_settings import Backoff, QueueSettings

SETTINGS = QueueSettings(
    lease_ms=1_000, in_flight_max=10, deliveries_max=2, backoff=Backoff(100, 2.0, 1_000, 0.5)
)
PLACE = ("g", "t", 0)


class Scene:
    """A queue of a leader, whose entries are committed when the test says so."""

    def __init__(self) -> None:
        self.queue = Queue(*PLACE, 0)
        self.index = 0
        self.in_flight: list[tuple[int, QueueCommand]] = []
        self.now_ms = 1_000

    def propose(self, *commands: QueueCommand) -> None:
        for command in commands:
            self.index += 1
            self.queue.stage(self.index, command)
            self.in_flight.append((self.index, command))

    def commit(self) -> None:
        for index, command in self.in_flight:
            self.queue.apply(index, command)
        self.in_flight.clear()

    def grant(self, lease_id: int, count: int, high_watermark: int = 1_000) -> deciding.Grant:
        request = LeaseRequest(lease_id, "m", 1_000, count)
        answer = deciding.grant(self.queue, request, SETTINGS, high_watermark, self.now_ms)
        if answer.command is not None:
            self.propose(answer.command)
        return answer

    def granted(self, lease_id: int, count: int, high_watermark: int = 1_000) -> QueueGranted:
        answer = self.grant(lease_id, count, high_watermark)
        assert answer.command is not None
        self.commit()
        return answer.command

    def failing(self, chance: float = 0.0, next_sequence: int = 0) -> Failing:
        return Failing(SETTINGS, "g.dlq", next_sequence, chance, self.now_ms)


def test_new_messages_are_granted_in_order_below_the_high_watermark() -> None:
    scene = Scene()
    assert scene.grant(1, 3).command == QueueGranted(*PLACE, 1_000, 1, "m", 1_000, ((0, 2),))
    # What is in flight is not granted again, and is not held yet.
    second = scene.grant(2, 5, high_watermark=4)
    assert second.command is not None
    assert second.command.ranges == ((3, 3),)
    assert not second.window_full
    assert scene.queue.get(0) is None
    assert scene.grant(3, 5, high_watermark=4) == deciding.Grant(None, {}, window_full=False)
    scene.commit()
    assert scene.queue.counts() == Counts(4, 0, 0)
    message = scene.queue.get(3)
    assert message is not None
    assert (message.deliveries, message.lease_id, message.at_ms) == (1, 2, 2_000)


def test_a_full_window_stops_new_messages_but_not_those_that_come_again() -> None:
    scene = Scene()
    assert scene.grant(1, 12).window_full
    assert scene.queue.in_flight == 10
    scene.commit()
    assert scene.grant(2, 1) == deciding.Grant(None, {}, window_full=True)
    # A group that asks for no more than there is learns nothing of the window.
    assert not scene.grant(2, 1, high_watermark=10).window_full
    scene.propose(*deciding.release(scene.queue, [Receipt(4, 1), Receipt(2, 1)], 1_000).commands)
    scene.commit()
    again = scene.grant(3, 5)
    assert again.command is not None
    assert again.command.ranges == ((2, 2), (4, 4))
    assert again.redelivered == {2: 1, 4: 1}
    assert again.window_full
    scene.commit()
    scene.propose(*deciding.settle(scene.queue, [Receipt(0, 1)], 1_000).commands)
    scene.commit()
    assert scene.granted(4, 5).ranges == ((10, 10),)


def test_one_message_that_is_never_settled_bounds_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "SPAN_MAX", 8)
    scene = Scene()
    for lease_id in range(1, 8):
        granted = scene.granted(lease_id, 1)
        if lease_id > 1:
            receipts = [Receipt(granted.ranges[0][0], lease_id)]
            scene.propose(*deciding.settle(scene.queue, receipts, 1_000).commands)
            scene.commit()
    assert scene.granted(8, 3).ranges == ((7, 7),)
    assert scene.grant(9, 1) == deciding.Grant(None, {}, window_full=True)
    assert queue.SPAN_MAX // 4096 * 600 < 10_000_000


def test_only_the_holder_settles_and_only_once() -> None:
    scene = Scene()
    scene.granted(7, 4)
    receipts = [Receipt(2, 7), Receipt(0, 7), Receipt(2, 7), Receipt(1, 8), Receipt(9, 7), Receipt(3, 0)]
    decision = deciding.settle(scene.queue, receipts, 1_500)
    assert decision.commands == [QueueSettled(*PLACE, 1_500, ((0, 0), (2, 2)))]
    assert decision.refused == [Receipt(1, 8), Receipt(9, 7), Receipt(3, 0)]
    assert decision.busy == []
    scene.propose(*decision.commands)
    # The same again, by a client that got no answer, or another one's wish about the same message.
    again = deciding.settle(scene.queue, [Receipt(0, 7), Receipt(1, 7)], 1_600)
    assert again.busy == [Receipt(0, 7)]
    assert again.commands == [QueueSettled(*PLACE, 1_600, ((1, 1),))]
    assert deciding.release(scene.queue, [Receipt(2, 7)], 1_600).busy == [Receipt(2, 7)]
    scene.commit()
    assert deciding.settle(scene.queue, [Receipt(0, 7)], 1_700).refused == [Receipt(0, 7)]
    assert scene.queue.floor == 1
    assert scene.queue.unsettled(1_000) == 998
    assert (scene.queue.oldest_unsettled(1_000), scene.queue.oldest_unsettled(1)) == (1, None)


def test_a_waiting_message_has_no_holder() -> None:
    scene = Scene()
    scene.granted(7, 1)
    scene.propose(*deciding.release(scene.queue, [Receipt(0, 7)], 1_000).commands)
    scene.commit()
    assert deciding.settle(scene.queue, [Receipt(0, 0), Receipt(0, 7)], 1_000).commands == []


def test_rejected_messages_wait_longer_each_time_and_then_die() -> None:
    scene = Scene()
    scene.granted(1, 2)
    decision = deciding.reject(scene.queue, [Receipt(0, 1)], scene.failing(chance=0.5), retry=True)
    assert decision.commands == [QueueReturned(*PLACE, 1_000, REJECTED, 125, ((0, 0),))]
    scene.propose(*decision.commands)
    scene.commit()
    assert scene.queue.next_due_ms(scene.now_ms) == 1_125
    scene.now_ms = 1_124
    assert scene.granted(2, 1).ranges == ((2, 2),)
    scene.now_ms = 1_125
    again = scene.grant(3, 1)
    assert again.redelivered == {0: 2}
    scene.commit()
    # Both messages fail: one for the last time, the other because its holder says so.
    receipts = [Receipt(0, 3), Receipt(1, 1)]
    last = deciding.reject(scene.queue, receipts, scene.failing(next_sequence=5), retry=True)
    assert last.commands == [
        QueueReturned(*PLACE, 1_125, REJECTED, 100, ((1, 1),)),
        QueueDying(*PLACE, 1_125, REJECTED, "g.dlq", 5, ((0, 0),)),
    ]
    now = deciding.reject(scene.queue, receipts, scene.failing(next_sequence=5), retry=False)
    assert now.commands == [QueueDying(*PLACE, 1_125, REJECTED, "g.dlq", 5, ((0, 1),))]
    chosen = deciding.reject(scene.queue, [Receipt(1, 1)], scene.failing(chance=0.9), retry=True, delay_ms=7)
    assert chosen.commands == [QueueReturned(*PLACE, 1_125, REJECTED, 7, ((1, 1),))]


def test_the_longest_due_comes_first() -> None:
    scene = Scene()
    scene.granted(1, 3)
    for offset, delay_ms in ((0, 300), (1, 100), (2, 200)):
        receipts = [Receipt(offset, 1)]
        decision = deciding.reject(scene.queue, receipts, scene.failing(), retry=True, delay_ms=delay_ms)
        scene.propose(*decision.commands)
    scene.commit()
    scene.now_ms = 5_000
    assert [scene.granted(lease_id, 1).ranges for lease_id in (2, 3, 4)] == [((1, 1),), ((2, 2),), ((0, 0),)]


def test_leases_run_out_at_their_end_and_an_extended_one_later() -> None:
    scene = Scene()
    scene.granted(1, 3)
    scene.propose(*deciding.extend(scene.queue, [Receipt(1, 1)], 5_000, 1_500).commands)
    assert scene.in_flight == [(2, QueueExtended(*PLACE, 1_500, 5_000, ((1, 1),)))]
    scene.commit()
    assert scene.queue.next_expiry_ms(1_500) == 2_000
    scene.now_ms = 1_999
    assert deciding.expire(scene.queue, scene.failing()) == []
    scene.now_ms = 2_000
    expired = deciding.expire(scene.queue, scene.failing())
    assert expired == [QueueReturned(*PLACE, 2_000, EXPIRED, 100, ((0, 0), (2, 2)))]
    # Deciding changed nothing: what could not be appended is decided again.
    assert deciding.expire(scene.queue, scene.failing()) == expired
    scene.propose(*expired)
    assert deciding.expire(scene.queue, scene.failing()) == []
    scene.commit()
    assert scene.queue.next_expiry_ms(2_000) == 6_500
    assert scene.queue.counts() == Counts(1, 2, 0)


def test_a_new_leader_starts_leases_anew_and_waits_no_longer_than_they_were() -> None:
    scene = Scene()
    scene.granted(1, 2)
    scene.propose(*deciding.reject(scene.queue, [Receipt(1, 1)], scene.failing(), retry=True).commands)
    scene.commit()
    for clock_ms, due_ms in ((900, 1_000), (1_050, 1_100), (9_000_000, 1_100)):
        scene.queue.drop_staged()
        assert scene.queue.next_expiry_ms(clock_ms) == clock_ms + 1_000
        assert scene.queue.next_due_ms(clock_ms) == due_ms


def test_a_late_clock_of_the_leader_before_holds_nothing_back() -> None:
    scene = Scene()
    scene.now_ms = 9_000_000
    scene.granted(1, 1)
    scene.propose(*deciding.reject(scene.queue, [Receipt(0, 1)], scene.failing(), retry=True).commands)
    scene.commit()
    scene.queue.drop_staged()
    assert scene.queue.next_due_ms(2_000) == 2_100


def test_what_falls_below_the_start_is_lost() -> None:
    scene = Scene()
    scene.granted(1, 4)
    scene.propose(*deciding.settle(scene.queue, [Receipt(1, 1)], 1_000).commands)
    scene.commit()
    assert deciding.move_start(scene.queue, 0, 1_000) == (None, 0)
    command, lost = deciding.move_start(scene.queue, 6, 1_000)
    assert (command, lost) == (QueueStartMoved(*PLACE, 1_000, 6), 5)
    assert command is not None
    scene.propose(command)
    assert deciding.move_start(scene.queue, 6, 1_000) == (None, 0)
    assert deciding.settle(scene.queue, [Receipt(2, 1)], 1_000).busy == [Receipt(2, 1)]
    scene.now_ms = 9_000
    assert deciding.expire(scene.queue, scene.failing()) == []
    granted = scene.grant(2, 1)
    assert granted.command is not None
    assert granted.command.ranges == ((6, 6),)
    scene.commit()
    assert (scene.queue.floor, scene.queue.open_count) == (6, 1)
    # What waits above a start that is moving is not held back by what waits below.
    scene.propose(*deciding.release(scene.queue, [Receipt(6, 2)], scene.now_ms).commands)
    assert scene.granted(3, 1).ranges == ((7, 7),)
    scene.propose(*deciding.release(scene.queue, [Receipt(7, 3)], scene.now_ms).commands)
    scene.commit()
    scene.propose(QueueStartMoved(*PLACE, 1_000, 7))
    assert scene.granted(4, 1).ranges == ((7, 7),)
    # A start that went on already, in an entry of an earlier leader.
    scene.propose(QueueStartMoved(*PLACE, 1_000, 3))
    scene.commit()
    assert scene.queue.floor == 7


def test_nothing_is_decided_while_the_position_is_being_set() -> None:
    scene = Scene()
    scene.granted(1, 2)
    scene.now_ms = 9_000
    scene.propose(QueuePositionSet(*PLACE, 9_000, 1))
    assert scene.queue.is_busy(0)
    assert scene.grant(2, 5).command is None
    assert deciding.expire(scene.queue, scene.failing()) == []
    assert deciding.move_start(scene.queue, 5, 9_000) == (None, 0)
    assert deciding.settle(scene.queue, [Receipt(0, 1)], 9_000).busy == [Receipt(0, 1)]
    scene.commit()
    assert scene.granted(2, 2).ranges == ((1, 2),)
    assert deciding.settle(scene.queue, [Receipt(0, 1)], 9_000).refused == [Receipt(0, 1)]


def test_an_entry_names_a_bounded_number_of_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "RANGES_PER_COMMAND_MAX", 2)
    scene = Scene()
    scene.granted(1, 10)
    receipts = [Receipt(offset, 1) for offset in (0, 1, 3, 5, 7, 9)]
    decision = deciding.release(scene.queue, receipts, 1_000)
    assert decision.commands == [
        QueueReturned(*PLACE, 1_000, RELEASED, 0, ((0, 1), (3, 3))),
        QueueReturned(*PLACE, 1_000, RELEASED, 0, ((5, 5), (7, 7))),
        QueueReturned(*PLACE, 1_000, RELEASED, 0, ((9, 9),)),
    ]
    dying = deciding.reject(scene.queue, receipts, scene.failing(), retry=False).commands
    assert [command.first_sequence for command in dying if isinstance(command, QueueDying)] == [0, 3, 5]


def test_one_decision_takes_up_a_bounded_number_of_expired_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "EXPIRED_PER_DECISION_MAX", 4)
    scene = Scene()
    scene.granted(1, 6)
    scene.now_ms = 9_000
    first = deciding.expire(scene.queue, scene.failing())
    assert first == [QueueReturned(*PLACE, 9_000, EXPIRED, 100, ((0, 3),))]
    scene.propose(*first)
    assert deciding.expire(scene.queue, scene.failing()) == [
        QueueReturned(*PLACE, 9_000, EXPIRED, 100, ((4, 5),))
    ]


def test_timers_that_stand_for_nothing_do_not_pile_up() -> None:
    scene = Scene()
    scene.granted(1, 2)
    for _ in range(10 * STALE_TIMERS_MIN):
        scene.propose(*deciding.extend(scene.queue, [Receipt(0, 1)], 60_000, scene.now_ms).commands)
        scene.commit()
    timers = scene.queue.timers(scene.now_ms)
    assert len(timers.leases._heap) <= STALE_TIMERS_MIN + 2 * 2 + 1
    scene.now_ms += 1_000
    assert deciding.expire(scene.queue, scene.failing()) == [
        QueueReturned(*PLACE, 2_000, EXPIRED, 100, ((1, 1),))
    ]


def test_entries_of_an_earlier_leader_may_name_a_message_twice() -> None:
    scene = Scene()
    scene.granted(1, 2)
    release = deciding.release(scene.queue, [Receipt(0, 1)], 1_000).commands
    scene.propose(*release, QueueGranted(*PLACE, 1_000, 2, "m", 1_000, ((0, 0),)))
    (first, command), (second, other) = scene.in_flight
    scene.queue.apply(first, command)
    # Another entry in flight names it still.
    assert scene.queue.is_busy(0)
    scene.queue.apply(second, other)
    assert not scene.queue.is_busy(0)
