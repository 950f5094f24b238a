"""Idempotent producers by KIP-98's rules, by example and against a model that remembers everything."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import BatchHeader
from penstock.session.producers import (
    BATCHES_REMEMBERED,
    EXPIRED_PER_COMMAND_MAX,
    SEQUENCE_MODULUS,
    WRITE_TIMES_MAX,
    PartitionProducersDropped,
    ProducerSessions,
    ProducersExpired,
    WriteTimes,
    last_sequence,
    next_sequence,
)

PARTITION = 5
LAST_SEQUENCE = SEQUENCE_MODULUS - 1


def header(sequence: int, count: int = 1, *, producer: int = 9, epoch: int = 0, base: int = 0) -> BatchHeader:
    return BatchHeader(base, 100, 0, 2, 0, 0, count - 1, 0, 0, producer, epoch, sequence, count)


class Sessions:
    """Producer sessions with the log around them: appended batches get indexes and offsets, commits come in order."""

    def __init__(self) -> None:
        self.machine = ProducerSessions(shard=0)
        self.index = 0
        self.offset = 0
        self.appended: list[tuple[int, int, BatchHeader]] = []

    def append(self, batch: BatchHeader, partition: int = PARTITION) -> int:
        assert self.machine.check(partition, batch) is None
        self.index += 1
        base, self.offset = self.offset, self.offset + batch.record_count
        placed = batch._replace(base_offset=base)
        self.machine.stage_batch(self.index, partition, placed)
        self.appended.append((self.index, partition, placed))
        return base

    def commit(self) -> None:
        for index, partition, batch in self.appended:
            self.machine.apply_batch(index, partition, batch)
        self.appended.clear()

    def refusal(self, batch: BatchHeader) -> ErrorCode:
        with pytest.raises(PenstockError) as caught:
            self.machine.check(PARTITION, batch)
        assert str(batch.producer_id) in caught.value.sentence
        return caught.value.code


@pytest.mark.parametrize("committed", [False, True])
def test_each_of_the_last_five_batches_is_known_with_its_offset_and_index(committed: bool) -> None:
    sessions = Sessions()
    bases = [sessions.append(header(sequence, 2)) for sequence in range(0, 14, 2)]
    if committed:
        sessions.commit()
    for number in range(2, 7):
        known = sessions.machine.check(PARTITION, header(2 * number, 2))
        assert known is not None
        assert (known.base_offset, known.log_index) == (bases[number], number + 1)
    for number in (0, 1):
        assert sessions.refusal(header(2 * number, 2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_batch_with_the_same_start_and_another_length_is_no_duplicate() -> None:
    sessions = Sessions()
    sessions.append(header(0, 3))
    assert sessions.refusal(header(0, 2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_gap_is_out_of_order_until_it_is_filled() -> None:
    sessions = Sessions()
    sessions.append(header(0))
    assert sessions.refusal(header(2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    sessions.append(header(1))
    sessions.append(header(2))


def test_an_unknown_producer_begins_anywhere() -> None:
    assert ProducerSessions().check(PARTITION, header(77)) is None


def test_a_new_epoch_begins_at_zero_and_fences_the_old_one() -> None:
    sessions = Sessions()
    sessions.append(header(0, 5))
    assert sessions.refusal(header(5, epoch=1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    sessions.append(header(0, epoch=1))
    assert sessions.refusal(header(5)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert sessions.refusal(header(0, 5)) is ErrorCode.INVALID_PRODUCER_EPOCH
    sessions.append(header(1, epoch=1))


def test_sequences_wrap_to_zero() -> None:
    assert last_sequence(LAST_SEQUENCE, 1) == LAST_SEQUENCE
    assert last_sequence(LAST_SEQUENCE, 2) == 0
    assert next_sequence(LAST_SEQUENCE) == 0
    sessions = Sessions()
    sessions.append(header(LAST_SEQUENCE - 1, 4))
    assert sessions.refusal(header(0)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    sessions.append(header(2))
    known = sessions.machine.check(PARTITION, header(LAST_SEQUENCE - 1, 4))
    assert known is not None
    assert known.base_offset == 0


def test_partitions_do_not_share_sequences() -> None:
    sessions = Sessions()
    sessions.append(header(0), partition=1)
    sessions.append(header(0), partition=2)
    sessions.append(header(1), partition=2)
    assert sessions.machine.check(1, header(1)) is None


def test_what_is_staged_counts_until_it_is_dropped() -> None:
    sessions = Sessions()
    sessions.append(header(0))
    sessions.commit()
    sessions.append(header(1))
    assert sessions.machine.check(PARTITION, header(1)) is not None
    sessions.machine.drop_staged()
    assert sessions.machine.check(PARTITION, header(1)) is None
    assert sessions.refusal(header(2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_ids_are_taken_once_also_while_uncommitted_and_after_a_restart() -> None:
    machine = ProducerSessions(shard=3)
    first, command = machine.decide_allocate()
    machine.stage(1, command)
    second, later = machine.decide_allocate()
    machine.stage(2, later)
    assert first == (3 << 40) | 1
    assert second == (3 << 40) | 2
    machine.apply(1, command)
    machine.drop_staged()
    assert machine.decide_allocate()[0] == second
    other = ProducerSessions(shard=3)
    other.restore(machine.snapshot())
    assert other.decide_allocate()[0] == second


def test_idle_producers_go_in_bounded_commands_and_only_those() -> None:
    sessions = Sessions()
    for producer in range(EXPIRED_PER_COMMAND_MAX + 1):
        sessions.append(header(0, producer=producer))
    sessions.commit()
    idle_index = sessions.index
    sessions.append(header(1, producer=3))
    sessions.commit()
    sessions.append(header(1, producer=4))
    commands = sessions.machine.decide_expire(idle_index)
    assert [len(command.items) for command in commands] == [EXPIRED_PER_COMMAND_MAX - 1]
    for command in commands:
        sessions.machine.apply(0, command)
    sessions.commit()
    assert len(sessions.machine) == 2
    assert sessions.machine.decide_expire(0) == []


def test_the_longest_silent_producers_go_when_there_are_too_many() -> None:
    sessions = Sessions()
    for producer in (1, 2, 3, 4):
        sessions.append(header(0, producer=producer))
    sessions.append(header(1, producer=1))
    sessions.commit()
    (command,) = sessions.machine.decide_expire(0, producers_max=2)
    assert [producer for _, producer, _ in command.items] == [2, 3]


def test_a_producer_that_wrote_after_the_expiry_was_decided_stays() -> None:
    sessions = Sessions()
    sessions.append(header(0))
    sessions.commit()
    (command,) = sessions.machine.decide_expire(sessions.index)
    sessions.append(header(1))
    sessions.commit()
    sessions.machine.apply(99, command)
    assert sessions.machine.check(PARTITION, header(0)) is not None


def test_write_times_are_bounded_and_never_early() -> None:
    times = WriteTimes()
    for now in range(5_000):
        index = times.note(now, now, 1_000)
        assert index <= max(now - 1_000, 0)
        assert now < 1_100 or index >= now - 1_000 - 2 * (1_000 // WRITE_TIMES_MAX)
    assert len(times._moments) <= WRITE_TIMES_MAX + 2


class ProducersMachine(RuleBasedStateMachine):
    """A leader, and a replica that stages nothing: after every commit they hold the same, and the leader's decisions are
    those of a model that keeps whole histories."""

    def __init__(self) -> None:
        super().__init__()
        self.leader = ProducerSessions()
        self.replica = ProducerSessions()
        self.log: list[tuple[str, Any]] = []
        self.committed = 0
        self.offset = 0

    def history(self, key: tuple[int, int]) -> tuple[int, list[tuple[int, int]]] | None:
        """(epoch, (first, last sequence) of each batch since) as the leader should see it: what is staged included, and
        expiries only once they are committed."""
        found: tuple[int, list[tuple[int, int]]] | None = None
        last_offset = -1
        for number, (kind, value) in enumerate(self.log):
            if kind == "batch" and (value[0], value[1].producer_id) == key:
                batch = value[1]
                if found is None or found[0] != batch.producer_epoch:
                    found = (batch.producer_epoch, [])
                found[1].append((batch.base_sequence, last_sequence(batch.base_sequence, batch.record_count)))
                last_offset = batch.base_offset
            elif kind == "command" and number < self.committed and found is not None:
                expired = isinstance(value, ProducersExpired) and any(
                    item[:2] == key and item[2] >= last_offset for item in value.items
                )
                if expired or (isinstance(value, PartitionProducersDropped) and key[0] in value.keys):
                    found = None
        return found

    @rule(
        partition=st.integers(0, 1), producer=st.integers(0, 1), epoch=st.integers(0, 2),
        sequence=st.integers(0, 8), count=st.integers(1, 3),
    )  # fmt: skip
    def produce(self, partition: int, producer: int, epoch: int, sequence: int, count: int) -> None:
        batch = header(sequence, count, producer=producer, epoch=epoch, base=self.offset)
        uncertain = any(kind == "command" for kind, _ in self.log[self.committed :])
        expected = None if uncertain else self.expected((partition, producer), batch)
        outcome: str | ErrorCode
        try:
            outcome = "next" if self.leader.check(partition, batch) is None else "duplicate"
        except PenstockError as error:
            outcome = error.code
        assert expected in (None, outcome)
        if outcome == "next":
            self.log.append(("batch", (partition, batch)))
            self.offset += count
            self.leader.stage_batch(len(self.log), partition, batch)

    def expected(self, key: tuple[int, int], batch: BatchHeader) -> str | ErrorCode:
        history = self.history(key)
        if history is None:
            return "next"
        epoch, batches = history
        if batch.producer_epoch < epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if batch.producer_epoch > epoch:
            return "next" if batch.base_sequence == 0 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        if (batch.base_sequence, batch.base_sequence + batch.record_count - 1) in batches[
            -BATCHES_REMEMBERED:
        ]:
            return "duplicate"
        return "next" if batch.base_sequence == batches[-1][1] + 1 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    @rule()
    def expire(self) -> None:
        for command in self.leader.decide_expire(self.committed):
            self.log.append(("command", command))

    @rule(partition=st.integers(0, 1))
    def drop_partition(self, partition: int) -> None:
        self.log.append(("command", PartitionProducersDropped((partition,))))

    @rule(count=st.integers(1, 4))
    def commit(self, count: int) -> None:
        for kind, value in self.log[self.committed : self.committed + count]:
            self.committed += 1
            for machine in (self.leader, self.replica):
                if kind == "batch":
                    machine.apply_batch(self.committed, *value)
                else:
                    machine.apply(self.committed, value)

    @rule()
    def restart(self) -> None:
        """A new leader from the snapshot, with what was not committed cut off."""
        del self.log[self.committed :]
        restored = ProducerSessions()
        restored.restore(self.leader.snapshot())
        self.leader = restored

    @invariant()
    def replicas_agree(self) -> None:
        assert self.leader.snapshot() == self.replica.snapshot()


TestProducers = ProducersMachine.TestCase
