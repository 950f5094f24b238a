"""The queues of a shard: what is dropped with its group or topic, the outbox, stored forms."""

from __future__ import annotations

import functools
import operator

import msgspec
import pytest

from penstock.delivery.commands import (
    EXPIRED,
    QUEUE_LEVEL,
    REJECTED,
    QueueBuried,
    QueueDying,
    QueueExtended,
    QueueGranted,
    QueueGroupDropped,
    QueuePositionSet,
    QueueProducerAssigned,
    QueueReturned,
    QueueSettled,
    QueueStartMoved,
    QueueTopicDropped,
)
from penstock.delivery.deciding import LeaseRequest, grant
from penstock.delivery.machine import QueuesMachine
from penstock.delivery.messages import DeadLetter
from penstock.delivery.queue import Counts
from penstock.model.commands import Command
from penstock.model.queue_settings import QueueSettings
from penstock.replication.features import FEATURE_LEVEL

DLQ = "g.dlq"
A, B, OTHER = ("g", "t", 0), ("g", "u", 1), ("h", "t", 0)


class Log:
    """Applies commands, staged first like a leader's."""

    def __init__(self, machine: QueuesMachine) -> None:
        self.machine = machine
        self.index = 0

    def stage(self, command: Command) -> int:
        self.index += 1
        self.machine.stage(self.index, command)
        return self.index

    def commit(self, *commands: Command) -> None:
        for command in commands:
            self.machine.apply(self.stage(command), command)


@pytest.fixture
def log() -> Log:
    """Group g has two dead letters, one message held and one that waits; group h reads one of its topics."""
    log = Log(QueuesMachine())
    log.commit(
        *(QueuePositionSet(*place, 0, 10) for place in (A, B, OTHER)),
        QueueGranted(*A, 1, 5, "m", 100, ((10, 12),)),
        QueueGranted(*B, 2, 6, "m", 100, ((10, 10),)),
        QueueProducerAssigned("g", 3, 77),
        QueueDying(*B, 4, REJECTED, DLQ, 0, ((10, 10),)),
        QueueReturned(*A, 5, REJECTED, 50, ((11, 12),)),
        QueueGranted(*A, 60, 7, "m", 100, ((11, 11),)),
        QueueDying(*A, 70, EXPIRED, DLQ, 1, ((11, 11),)),
    )
    return log


LETTERS = [
    DeadLetter(0, "u", 1, 10, 1, REJECTED, 4, 4),
    DeadLetter(1, "t", 0, 11, 2, EXPIRED, 5, 70),
]


def counts(machine: QueuesMachine, place: tuple[str, str, int]) -> Counts | None:
    queue = machine.queue(*place)
    return None if queue is None else queue.counts()


def test_dead_letters_stand_in_the_outbox_until_they_are_buried(log: Log) -> None:
    machine = log.machine
    assert machine.outbox_topics("g") == [DLQ]
    assert machine.outbox_topics("h") == []
    assert list(machine.outbox("g", DLQ)) == LETTERS
    assert list(machine.outbox("h", DLQ)) == []
    assert (machine.next_sequence("g", DLQ), machine.producer_id("g")) == (2, 77)
    assert counts(machine, A) == Counts(1, 1, 1)
    log.commit(QueueBuried("g", 80, DLQ, 1), QueueBuried("g", 80, "another", 1))
    assert list(machine.outbox("g", DLQ)) == LETTERS[1:]
    assert counts(machine, B) == Counts(0, 0, 0)
    log.commit(QueueBuried("g", 80, DLQ, 2), QueueBuried("g", 80, DLQ, 2))
    assert machine.outbox_topics("g") == []
    assert counts(machine, A) == Counts(1, 1, 0)
    assert machine.next_sequence("g", DLQ) == 2


def test_a_dropped_group_leaves_nothing(log: Log) -> None:
    machine, empty = log.machine, Log(QueuesMachine())
    empty.commit(QueuePositionSet(*OTHER, 0, 10))
    assert machine.groups() == ["g", "h"]
    queue = machine.queue(*A)
    assert queue is not None
    index = log.stage(QueueGroupDropped("g", 90))
    assert machine.is_moving(*A)
    assert not machine.is_moving(*OTHER)
    assert (machine.next_sequence("g", DLQ), machine.producer_id("g")) == (0, None)
    machine.apply(index, QueueGroupDropped("g", 90))
    assert machine.snapshot() == empty.machine.snapshot()
    assert machine.groups() == ["h"]
    assert list(machine.queues("g")) == []
    # Whoever still has hold of the queue decides nothing about it, and late entries change nothing.
    request = LeaseRequest(9, "m", 100, 1)
    assert grant(queue, request, QueueSettings(), 100, 90).command is None
    log.commit(QueueSettled(*A, 90, ((10, 10),)), QueueBuried("g", 90, DLQ, 2))
    assert machine.snapshot() == empty.machine.snapshot()


def test_a_deleted_topic_is_out_of_every_group_and_its_dead_letters_still_arrive(log: Log) -> None:
    machine = log.machine
    assert machine.has_topic("t")
    index = log.stage(QueueTopicDropped("t", 90))
    assert machine.is_moving(*A)
    assert machine.is_moving(*OTHER)
    assert not machine.is_moving(*B)
    machine.apply(index, QueueTopicDropped("t", 90))
    assert not machine.has_topic("t")
    assert [queue.topic for queue in machine.queues("g")] == ["u"]
    assert machine.groups() == ["g"]
    assert list(machine.outbox("g", DLQ)) == [
        msgspec.structs.replace(letter, gone=letter.topic == "t") for letter in LETTERS
    ]
    # A topic made anew begins with what is still on its way from the place, and so does a replica that is told later.
    log.commit(QueuePositionSet(*A, 95, 0))
    other = QueuesMachine()
    other.restore(machine.snapshot())
    assert counts(machine, A) == counts(other, A) == Counts(0, 0, 1)
    log.commit(QueueBuried("g", 96, DLQ, 2))
    assert counts(machine, A) == Counts(0, 0, 0)


def test_a_position_in_flight_is_known_and_dropped_with_its_leader() -> None:
    log = Log(QueuesMachine())
    index = log.stage(QueuePositionSet(*A, 0, 5))
    assert log.machine.queue(*A) is None
    assert log.machine.is_moving(*A)
    assert log.machine.has_topic("t")
    log.machine.drop_staged()
    assert not log.machine.is_moving(*A)
    assert log.machine.groups() == []
    # Two in flight: the first does not end the waiting for the second.
    log.index = index
    first, second = QueuePositionSet(*A, 1, 5), QueuePositionSet(*A, 2, 7)
    first_index, second_index = log.stage(first), log.stage(second)
    log.machine.apply(first_index, first)
    assert log.machine.is_moving(*A)
    log.machine.apply(second_index, second)
    assert not log.machine.is_moving(*A)
    queue = log.machine.queue(*A)
    assert queue is not None
    assert (queue.floor, queue.fresh_from) == (7, 7)


def test_the_queues_of_a_group_share_its_window(log: Log) -> None:
    settings = QueueSettings(in_flight_max=6)
    # Two open messages and two dead letters leave room for two.
    queue = log.machine.queue(*B)
    assert queue is not None
    answer = grant(queue, LeaseRequest(9, "m", 100, 5), settings, 100, 80)
    assert answer.command is not None
    assert (answer.command.ranges, answer.window_full) == (((11, 12),), True)
    log.stage(answer.command)
    # The other partition may grant what waits, and nothing new; another group has a window of its own.
    for place, ranges, full in ((A, ((12, 12),), True), (OTHER, ((10, 14),), False)):
        other = log.machine.queue(*place)
        assert other is not None
        answer = grant(other, LeaseRequest(9, "m", 100, 5), settings, 100, 80)
        assert answer.command is not None
        assert (answer.command.ranges, answer.window_full) == (ranges, full)
    restored = QueuesMachine()
    restored.restore(log.machine.snapshot())
    queue = restored.queue(*B)
    assert queue is not None
    assert queue.group_in_flight == 4


def test_a_snapshot_holds_nothing_that_is_only_staged(log: Log) -> None:
    machine = log.machine
    before, freeze = machine.snapshot(), machine.freeze()
    log.stage(QueueGranted(*A, 100, 8, "m", 100, ((13, 20),)))
    log.stage(QueueSettled(*A, 100, ((10, 10),)))
    log.stage(QueueProducerAssigned("h", 100, 5))
    log.stage(QueueDying(*A, 100, REJECTED, DLQ, 2, ((12, 12),)))
    assert machine.snapshot() == before
    machine.drop_staged()
    assert machine.next_sequence("g", DLQ) == 2
    log.commit(QueueSettled(*A, 101, ((10, 10),)))
    assert freeze() == before
    assert machine.snapshot() != before
    other = QueuesMachine()
    other.restore(before)
    assert other.snapshot() == before
    assert list(other.outbox("g", DLQ)) == LETTERS
    assert other.producer_id("g") == 77
    assert counts(other, A) == Counts(1, 1, 1)


def test_messages_that_are_alike_are_one_row_of_a_snapshot() -> None:
    log = Log(QueuesMachine())
    log.commit(QueuePositionSet(*A, 0, 0), QueueGranted(*A, 1, 5, "m", 100, ((0, 9_999),)))
    one = len(log.machine.snapshot())
    assert one < 150
    # The same wait, reached by two entries: alike, although not the same object.
    log.commit(QueueReturned(*A, 2, REJECTED, 50, ((0, 0),)), QueueReturned(*A, 2, REJECTED, 50, ((1, 1),)))
    assert len(log.machine.snapshot()) < one + 50
    other = QueuesMachine()
    other.restore(log.machine.snapshot())
    assert counts(other, A) == Counts(9_998, 2, 0)


def test_commands_survive_the_log_and_need_the_level_they_came_with() -> None:
    commands: list[Command] = [
        QueuePositionSet(*A, 1, 2),
        QueueStartMoved(*A, 1, 2),
        QueueGranted(*A, 1, 2**63 - 1, "m", 30_000, ((0, 4), (7, 7))),
        QueueSettled(*A, 1, ((0, 4),)),
        QueueReturned(*A, 1, EXPIRED, 100, ((0, 4),)),
        QueueExtended(*A, 1, 60_000, ((0, 4),)),
        QueueDying(*A, 1, REJECTED, DLQ, 3, ((0, 4),)),
        QueueBuried("g", 1, DLQ, 8),
        QueueProducerAssigned("g", 1, 1 << 40),
        QueueGroupDropped("g", 1),
        QueueTopicDropped("t", 1),
    ]
    union = functools.reduce(operator.or_, QueuesMachine.commands)
    assert {type(command) for command in commands} == set(QueuesMachine.commands)
    for command in commands:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(command), type=union) == command
        assert command.feature_level == QUEUE_LEVEL <= FEATURE_LEVEL


def test_a_snapshot_of_a_later_release_is_refused_with_a_sentence() -> None:
    data = msgspec.msgpack.encode({"version": 2, "groups": "something else"})
    with pytest.raises(ValueError, match="version 2, this release reads up to 1"):
        QueuesMachine().restore(data)
