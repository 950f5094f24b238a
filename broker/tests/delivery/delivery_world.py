"""A queue group over two partitions through changing leaders, next to its model (`delivery_model`).

Two replicas: the leader stages and applies, the other only applies. Entries are committed in order, some time after they
were decided; a change of leader keeps some of those in flight and loses the rest. Each leadership has a clock of its own,
wrong by up to minutes. Clients keep every receipt that they were ever given and use old ones too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from delivery_model import DONE, FRESH, HELD, OPEN, WAITING, Dead, Decided, Message, Model
from penstock.delivery.commands import (
    QueueBuried,
    QueueCommand,
    QueueDying,
    QueueGranted,
    QueuePositionSet,
    QueueReturned,
)
from penstock.delivery.deciding import (
    Decision,
    Failing,
    LeaseRequest,
    Receipt,
    expire,
    extend,
    grant,
    move_start,
    reject,
    release,
    settle,
)
from penstock.delivery.machine import QueuesMachine
from penstock.delivery.queue import Queue
from penstock.model.commands import Command
from penstock.model.queue_settings import Backoff, QueueSettings

GROUP, TOPIC, DEAD_TOPIC = "g", "t", "g.dlq"
PARTITIONS = 2
SETTINGS = QueueSettings(
    lease_ms=1_000,
    in_flight_max=6,
    deliveries_max=2,
    backoff=Backoff(initial_ms=100, factor=2.0, max_ms=300, jitter=0.5),
)
DRAIN_ROUNDS_MAX = 300


class World:
    """See the module's text. Methods are what may happen; each checks what it was told, `check` what must always hold."""

    def __init__(self) -> None:
        self.replicas = [QueuesMachine(), QueuesMachine()]
        self.leader, self.follower = self.replicas
        self.true_ms = 1_000_000
        self.skew_ms = 0
        self.term = 1
        self.index = self.committed = 0
        self.dead: list[Dead] = []
        self.models = [Model(self.dead) for _ in range(PARTITIONS)]
        self.starts = [0] * PARTITIONS
        self.in_flight: deque[tuple[int, Command, Decided]] = deque()
        self.grants: dict[int, dict[int, int]] = {}
        self.receipts: list[tuple[int, Receipt]] = []
        self.dead_topic: list[tuple[int, int, int]] = []
        self.buried = 0
        self.lease_id = 0
        # Whether the machines and the models have seen the same entries: not after something failed between them.
        self.sound = True
        for partition in range(PARTITIONS):
            self.propose([QueuePositionSet(GROUP, TOPIC, partition, self.now_ms, 0)])
        self.commit(len(self.in_flight))

    # --- the log -----------------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """The leader's clock."""
        return self.true_ms + self.skew_ms

    def propose(self, commands: Sequence[Command]) -> None:
        """The leader appends what was decided."""
        for command in commands:
            if isinstance(command, QueueCommand):
                clash = self.named_in_flight(command.partition).intersection(
                    offset for offset, _ in self.models[command.partition].named(command)
                )
                assert not clash, f"{command} names what an entry in flight names"
            self.index += 1
            self.leader.stage(self.index, command)
            self.in_flight.append((self.index, command, Decided(self.true_ms, self.now_ms, self.term)))
        self.check_window()

    def commit(self, count: int) -> None:
        """The oldest entries in flight are committed, and every replica applies them."""
        self.sound = False
        for _ in range(min(count, len(self.in_flight))):
            index, command, decided = self.in_flight.popleft()
            self.committed = index
            for replica in self.replicas:
                replica.apply(index, command)
            if isinstance(command, QueueCommand):
                if isinstance(command, QueueDying):
                    assert command.first_sequence == len(self.dead), "numbers have no gaps"
                self.models[command.partition].apply(command, decided)
            if isinstance(command, QueueGranted):
                self.deliver(index, command)
            elif isinstance(command, QueueBuried):
                self.buried = max(self.buried, command.end_sequence)
        self.sound = True

    def deliver(self, index: int, command: QueueGranted) -> None:
        """A grant is committed: the client is told."""
        redelivered = self.grants.pop(index, {})
        for offset, message in self.models[command.partition].named(command):
            assert redelivered.get(offset, 1) == message.deliveries, "the client is told another count"
            self.receipts.append((command.partition, Receipt(offset, command.lease_id)))

    def change_leader(self, kept: int, skew_ms: int, *, same: bool) -> None:
        """Somebody else leads, or the same one again; `kept` entries in flight are in its log, the others are lost."""
        survive = list(self.in_flight)[: kept % (len(self.in_flight) + 1)]
        self.leader.drop_staged()
        if not same:
            self.leader, self.follower = self.follower, self.leader
        self.in_flight = deque(survive)
        # Numbers of lost entries are given to others.
        self.index = survive[-1][0] if survive else self.committed
        for index, command, _ in survive:
            self.leader.stage(index, command)
        # It serves nobody before everything of earlier leaders is committed.
        self.commit(len(survive))
        self.term += 1
        self.skew_ms = skew_ms

    def reseed_follower(self) -> None:
        """The other replica begins anew with the leader's snapshot."""
        data = self.leader.snapshot()
        fresh = QueuesMachine()
        fresh.restore(data)
        assert fresh.snapshot() == data
        self.follower = fresh
        self.replicas = [self.leader, fresh]

    # --- what clients and the leader do -------------------------------------------------------------------

    def queue(self, partition: int) -> Queue:
        """The leader's."""
        queue = self.leader.queue(GROUP, TOPIC, partition)
        assert queue is not None
        return queue

    def produce(self, partition: int, count: int) -> None:
        """More messages, committed."""
        self.models[partition].messages += [Message() for _ in range(count)]

    def lease(self, partition: int, count: int, duration_ms: int) -> None:
        """Somebody asks for messages."""
        self.lease_id += 1
        request = LeaseRequest(self.lease_id, "m", duration_ms, count)
        end = len(self.models[partition].messages)
        due = {
            offset
            for offset, message in self.idle(partition)
            if message.condition == WAITING and message.term == self.term and message.due_ms <= self.now_ms
        }
        answer = grant(self.queue(partition), request, SETTINGS, end, self.now_ms)
        if answer.command is None:
            assert not due
            return
        named = dict(self.models[partition].named(answer.command))
        assert len(named) <= count
        assert due <= named.keys() or all(message.condition == WAITING for message in named.values())
        self.propose([answer.command])
        self.grants[self.index] = answer.redelivered

    def acknowledge(self, partition: int, receipts: list[Receipt]) -> None:
        """Holders are done."""
        self.judge(partition, receipts, settle(self.queue(partition), receipts, self.now_ms))

    def release(self, partition: int, receipts: list[Receipt]) -> None:
        """Holders give messages back."""
        self.judge(partition, receipts, release(self.queue(partition), receipts, self.now_ms))

    def extend(self, partition: int, receipts: list[Receipt], duration_ms: int) -> None:
        """Holders need longer, or less long."""
        self.judge(partition, receipts, extend(self.queue(partition), receipts, duration_ms, self.now_ms))

    def reject(
        self, partition: int, receipts: list[Receipt], chance: float, retry: bool, delay_ms: int | None
    ) -> None:
        """Holders failed."""
        failing = self.failing(chance)
        decision = reject(self.queue(partition), receipts, failing, retry=retry, delay_ms=delay_ms)
        self.check_failed(
            partition, decision.commands, deliveries_max=SETTINGS.deliveries_max if retry else 0
        )
        self.judge(partition, receipts, decision)

    def expire(self, partition: int, chance: float) -> None:
        """The leader looks for leases that ran out."""
        overdue = {
            offset
            for offset, message in self.idle(partition)
            if message.condition == HELD
            and message.term == self.term
            and self.true_ms - message.since_ms >= message.duration_ms
        }
        commands = expire(self.queue(partition), self.failing(chance))
        named = {offset for command in commands for offset, _ in self.models[partition].named(command)}
        assert overdue <= named, "leases outlast their duration"
        self.check_failed(partition, commands, deliveries_max=SETTINGS.deliveries_max)
        self.propose(commands)

    def move_start(self, partition: int, start: int) -> None:
        """Retention."""
        model = self.models[partition]
        start = min(max(start, self.starts[partition]), len(model.messages))
        self.starts[partition] = start
        command, lost = move_start(self.queue(partition), start, self.now_ms)
        if command is not None:
            assert lost == sum(1 for message in model.messages[:start] if message.condition not in DONE)
            self.propose([command])

    def set_position(self, partition: int, floor: int) -> None:
        """A reset or a replay."""
        if not self.leader.is_moving(GROUP, TOPIC, partition):
            floor = min(max(floor, self.starts[partition]), len(self.models[partition].messages))
            self.propose([QueuePositionSet(GROUP, TOPIC, partition, self.now_ms, floor)])

    def write_dead_letters(self, count: int, *, bury: bool) -> None:
        """The leader writes the oldest ones of its outbox; the topic knows which it has."""
        letters = list(self.leader.outbox(GROUP, DEAD_TOPIC))[:count]
        for letter in letters:
            row = (letter.partition, letter.offset, letter.deliveries)
            assert letter.sequence <= len(self.dead_topic), "the topic would refuse a gap"
            if letter.sequence < len(self.dead_topic):
                assert self.dead_topic[letter.sequence] == row, "another message under the same number"
            else:
                self.dead_topic.append(row)
        if letters and bury:
            self.propose([QueueBuried(GROUP, self.now_ms, DEAD_TOPIC, letters[-1].sequence + 1)])

    def failing(self, chance: float) -> Failing:
        """With the leader's numbers and clock."""
        return Failing(
            SETTINGS, DEAD_TOPIC, self.leader.next_sequence(GROUP, DEAD_TOPIC), chance, self.now_ms
        )

    # --- checks ------------------------------------------------------------------------------------------

    def named_in_flight(self, partition: int) -> set[int]:
        """Messages that entries in flight name."""
        return {
            offset
            for _, command, _ in self.in_flight
            if isinstance(command, QueueCommand) and command.partition == partition
            for offset, _ in self.models[partition].named(command)
        }

    def idle(self, partition: int) -> Iterator[tuple[int, Message]]:
        """Messages that no entry in flight is about."""
        if self.leader.is_moving(GROUP, TOPIC, partition):
            return
        named = self.named_in_flight(partition)
        start = self.starts[partition]
        for offset, message in enumerate(self.models[partition].messages):
            if offset >= start and offset not in named:
                yield offset, message

    def judge(self, partition: int, receipts: list[Receipt], decision: Decision) -> None:
        """Exactly the receipts of holders were accepted, or deferred where an entry in flight is about them."""
        model = self.models[partition]
        for receipt in receipts:
            message = model.messages[receipt.offset]
            held = message.condition == HELD and message.lease_id == receipt.lease_id
            assert held == (receipt not in decision.refused), f"{receipt} and {message}"
        named = {offset for command in decision.commands for offset, _ in model.named(command)}
        left = [
            receipt
            for receipt in receipts
            if receipt not in decision.refused and receipt not in decision.busy
        ]
        assert named == {receipt.offset for receipt in left}
        if not self.in_flight:
            assert not decision.busy
        self.propose(decision.commands)

    def check_failed(self, partition: int, commands: Sequence[QueueCommand], *, deliveries_max: int) -> None:
        """Messages die exactly when they were granted often enough."""
        for command in commands:
            for _, message in self.models[partition].named(command):
                dies = isinstance(command, QueueDying)
                assert dies == (message.deliveries >= deliveries_max), f"{command} after {message}"
            if isinstance(command, QueueReturned):
                assert 0 <= command.delay_ms <= 450

    def check_window(self) -> None:
        """No more is in flight than the settings allow."""
        count = len(self.dead) - self.buried
        for partition, model in enumerate(self.models):
            named = self.named_in_flight(partition)
            count += sum(
                message.condition in OPEN or (message.condition == FRESH and offset in named)
                for offset, message in enumerate(model.messages)
            )
        assert count <= SETTINGS.in_flight_max, f"{count} messages are in flight"

    def check(self) -> None:
        """Both replicas hold what the models say, nothing is lost, and only what is in flight is busy."""
        for partition in range(PARTITIONS):
            queue = self.queue(partition)
            if not self.in_flight:
                assert not queue.moving
                assert not any(queue.is_busy(offset) for offset in queue.messages)
                assert queue.next_fresh == queue.fresh_from
        assert self.leader.snapshot() == self.follower.snapshot()
        for replica in (self.leader, self.follower):
            letters = list(replica.outbox(GROUP, DEAD_TOPIC))
            assert [letter.sequence for letter in letters] == list(range(self.buried, len(self.dead)))
            for partition, model in enumerate(self.models):
                queue = replica.queue(GROUP, TOPIC, partition)
                assert queue is not None
                for offset, message in enumerate(model.messages):
                    check_message(queue, offset, message)
                lag = sum(message.condition not in DONE for message in model.messages)
                assert queue.unsettled(len(model.messages)) == lag

    # --- the end -----------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Everything goes well from now on: every message is done with in the end, and each dead one is in the dead-letter
        topic once."""
        for _ in range(DRAIN_ROUNDS_MAX):
            self.commit(len(self.in_flight))
            self.true_ms += 10_000
            for partition in range(PARTITIONS):
                self.expire(partition, 0.5)
            self.commit(len(self.in_flight))
            self.write_dead_letters(100, bury=True)
            self.commit(len(self.in_flight))
            self.true_ms += 10_000
            for partition, model in enumerate(self.models):
                before = len(self.receipts)
                self.lease(partition, 100, 1_000)
                self.commit(len(self.in_flight))
                self.acknowledge(partition, [receipt for _, receipt in self.receipts[before:]])
                self.commit(len(self.in_flight))
                if all(message.condition in DONE for message in model.messages):
                    assert self.queue(partition).floor >= len(model.messages)
            if all(
                m.condition in DONE for model in self.models for m in model.messages
            ) and self.buried == len(self.dead):
                break
        else:
            raise AssertionError("messages were left over")
        self.check()
        assert [(d.partition, d.offset, d.deliveries) for d in self.dead] == self.dead_topic


def check_message(queue: Queue, offset: int, message: Message) -> None:
    """One message of a replica is as its model."""
    known = queue.get(offset)
    if message.condition in OPEN:
        assert known is not None, f"{offset} is lost"
        assert known.deliveries == message.deliveries
        assert known.lease_id == message.lease_id
        assert known.cause == message.cause
        assert offset not in queue.settled
    else:
        assert known is None
        assert (offset in queue.settled) == (message.condition in DONE), f"{offset} is {message.condition}"
        assert (offset >= queue.fresh_from) == (message.condition not in DONE)
