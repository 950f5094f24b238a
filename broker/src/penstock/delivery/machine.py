"""The replicated state of queue groups: a queue for each of a group's partitions, and the group's outbox of dead letters.

A fold over the log, as `StateMachine` says. A message that is given up leaves its queue at once and stands in the outbox, in
the order in which dead letters are written to their topic, until they are committed there. So whoever leads next writes the
same ones under the same numbers, and the topic's own memory of producers knows which it holds already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from penstock.delivery.commands import (
    QueueBuried,
    QueueCommand,
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
from penstock.delivery.messages import DeadLetter
from penstock.delivery.queue import Queue
from penstock.delivery.ranges import count_in
from penstock.delivery.stored import (
    StoredGroup,
    StoredOutbox,
    decode_state,
    encode_state,
    frozen,
)
from penstock.model.commands import Command
from penstock.model.staged import StagedMap

_Place = tuple[str, int]


class QueuesMachine:
    """All queue groups of a shard."""

    name = "queues"
    version = 1
    commands: tuple[type[Command], ...] = (
        QueuePositionSet,
        QueueStartMoved,
        QueueGranted,
        QueueSettled,
        QueueReturned,
        QueueExtended,
        QueueDying,
        QueueBuried,
        QueueProducerAssigned,
        QueueGroupDropped,
        QueueTopicDropped,
    )

    def __init__(self) -> None:
        # By group, then by topic and partition.
        self._queues: dict[str, dict[_Place, Queue]] = {}
        self._producers: StagedMap[str, int] = StagedMap()
        # By group and dead-letter topic: the next number, and what is on its way.
        self._next: StagedMap[tuple[str, str], int] = StagedMap()
        self._outbox: dict[tuple[str, str], deque[DeadLetter]] = {}
        # Queues that an entry in flight makes, by group, topic and partition, with its index.
        self._positions_staged: dict[tuple[str, str, int], int] = {}

    # --- what decisions read -------------------------------------------------------------------------

    def queue(self, group: str, topic: str, partition: int) -> Queue | None:
        """The partition's queue, None until its position was set and that is committed."""
        queues = self._queues.get(group)
        return None if queues is None else queues.get((topic, partition))

    def is_moving(self, group: str, topic: str, partition: int) -> bool:
        """Whether an entry in flight sets the position or drops the queue: wait for it."""
        queue = self.queue(group, topic, partition)
        return (queue is not None and queue.moving) or (group, topic, partition) in self._positions_staged

    def queues(self, group: str) -> Iterator[Queue]:
        """All queues of the group."""
        return iter(self._queues.get(group, {}).values())

    def groups(self) -> list[str]:
        """Every group of which anything is committed, sorted."""
        return sorted(
            {*self._queues, *self._producers.committed, *(group for group, _ in self._next.committed)}
        )

    def has_topic(self, topic: str) -> bool:
        """Whether any group is about this topic, be it by an entry in flight or by a dead letter of it."""
        return (
            any(name == topic for _, name, _ in self._positions_staged)
            or any(name == topic for queues in self._queues.values() for name, _ in queues)
            or any(
                letter.topic == topic and not letter.gone
                for outbox in self._outbox.values()
                for letter in outbox
            )
        )

    def producer_id(self, group: str) -> int | None:
        """Under which the group's dead letters are written (deepest view). None: allocate one."""
        return self._producers.get(group)

    def next_sequence(self, group: str, dead_topic: str) -> int:
        """The number of the next dead letter, from 0 on (deepest view); so also how many there were. Sequences on the wire
        are it modulo 2^31."""
        return self._next.get((group, dead_topic)) or 0

    def outbox_topics(self, group: str) -> list[str]:
        """Dead-letter topics to which something is on its way, sorted."""
        return sorted(topic for name, topic in self._outbox if name == group)

    def outbox(self, group: str, dead_topic: str) -> Iterator[DeadLetter]:
        """What is on its way, as committed, in the order of its numbers."""
        return iter(self._outbox.get((group, dead_topic), ()))

    # --- the fold --------------------------------------------------------------------------------------

    def stage(self, index: int, command: Command) -> None:
        """See `StateMachine.stage`."""
        match command:
            case QueueCommand(group=group, topic=topic, partition=partition):
                queue = self.queue(group, topic, partition)
                if queue is not None:
                    queue.stage(index, command)
                if isinstance(command, QueuePositionSet):
                    self._positions_staged[group, topic, partition] = index
                elif isinstance(command, QueueDying):
                    self._count_dying(index, command, staged=True)
            case QueueProducerAssigned(group=group, producer_id=producer_id):
                self._producers.writer(index, staged=True)[group] = producer_id
            case QueueGroupDropped(group=group):
                self._drop_numbers(index, group, staged=True)
                for queue in self.queues(group):
                    queue.hold(index)
            case QueueTopicDropped(topic=topic):
                for queue in self._of_topic(topic):
                    queue.hold(index)
            case QueueBuried():
                pass
            case _:
                raise AssertionError(f"the queues do not know {type(command).__name__}")

    def apply(self, index: int, command: Command) -> None:
        """See `StateMachine.apply`."""
        match command:
            case QueueCommand():
                self._apply_to_queue(index, command)
            case QueueProducerAssigned(group=group, producer_id=producer_id):
                self._producers.writer(index, staged=False)[group] = producer_id
            case QueueGroupDropped(group=group):
                self._drop_group(index, group)
            case QueueTopicDropped(topic=topic):
                for queue in list(self._of_topic(topic)):
                    self._drop_queue(index, queue)
                for key, outbox in self._outbox.items():
                    self._outbox[key] = deque(
                        msgspec.structs.replace(letter, gone=True) if letter.topic == topic else letter
                        for letter in outbox
                    )
            case QueueBuried():
                self._bury(command)
            case _:
                raise AssertionError(f"the queues do not know {type(command).__name__}")

    def drop_staged(self) -> None:
        """See `StateMachine.drop_staged`."""
        self._producers.drop_staged()
        self._next.drop_staged()
        self._positions_staged.clear()
        for queues in self._queues.values():
            for queue in queues.values():
                queue.drop_staged()

    def _apply_to_queue(self, index: int, command: QueueCommand) -> None:
        group, place = command.group, (command.topic, command.partition)
        queues = self._queues.get(group)
        queue = None if queues is None else queues.get(place)
        if isinstance(command, QueuePositionSet):
            if self._positions_staged.get((group, *place), index + 1) <= index:
                del self._positions_staged[group, *place]
            if queue is None:
                self._add_queue(Queue(group, *place, command.floor))
                return
        if queue is None:
            # The group or the topic was dropped while this was on its way.
            return
        gone = queue.apply(index, command)
        if isinstance(command, QueueDying):
            self._count_dying(index, command, staged=False)
            outbox = self._outbox.setdefault((group, command.dead_topic), deque())
            for number, (offset, message) in enumerate(gone):
                first_ms = message.first_failure_ms if message.first_failure_ms >= 0 else command.time_ms
                outbox.append(
                    DeadLetter(
                        command.first_sequence + number,
                        *place,
                        offset,
                        message.deliveries,
                        command.cause,
                        first_ms,
                        command.time_ms,
                    )
                )

    def _add_queue(self, queue: Queue) -> None:
        queues = self._queues.setdefault(queue.group, {})
        queues[queue.topic, queue.partition] = queue
        queue.group_queues = queues.values()
        # What is on its way from the place counts, be it from before the group or the topic was dropped and made anew.
        queue.dying = sum(
            letter.topic == queue.topic and letter.partition == queue.partition
            for (group, _), outbox in self._outbox.items()
            if group == queue.group
            for letter in outbox
        )

    def _count_dying(self, index: int, command: QueueDying, *, staged: bool) -> None:
        numbers = self._next.writer(index, staged=staged)
        numbers[command.group, command.dead_topic] = command.first_sequence + count_in(command.ranges)

    def _bury(self, command: QueueBuried) -> None:
        key = (command.group, command.dead_topic)
        outbox = self._outbox.get(key)
        if outbox is None:
            return
        while outbox and outbox[0].sequence < command.end_sequence:
            letter = outbox.popleft()
            queue = self.queue(command.group, letter.topic, letter.partition)
            if queue is not None and queue.dying:
                queue.dying -= 1
        if not outbox:
            del self._outbox[key]

    def _drop_group(self, index: int, group: str) -> None:
        self._drop_numbers(index, group, staged=False)
        for key in [key for key in self._outbox if key[0] == group]:
            del self._outbox[key]
        for queue in list(self.queues(group)):
            self._drop_queue(index, queue)

    def _drop_numbers(self, index: int, group: str, *, staged: bool) -> None:
        self._producers.writer(index, staged=staged).pop(group, None)
        numbers = self._next.writer(index, staged=staged)
        for key in [key for key in numbers if key[0] == group]:
            del numbers[key]

    def _drop_queue(self, index: int, queue: Queue) -> None:
        # For whoever still has hold of it: nothing may be decided about it any more.
        queue.hold(index)
        queues = self._queues[queue.group]
        del queues[queue.topic, queue.partition]
        if not queues:
            del self._queues[queue.group]

    def _of_topic(self, topic: str) -> Iterator[Queue]:
        return (
            queue for queues in self._queues.values() for queue in queues.values() if queue.topic == topic
        )

    # --- snapshots -------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`. Sorted, so that equal states give equal bytes."""
        return self.freeze()()

    def freeze(self) -> Callable[[], bytes]:
        """See `StateMachine.freeze`."""
        producers, numbers = dict(self._producers.committed), dict(self._next.committed)
        letters = {key: list(outbox) for key, outbox in self._outbox.items()}
        queues = [frozen(queue) for queues in self._queues.values() for queue in queues.values()]

        def encode() -> bytes:
            groups = [
                StoredGroup(
                    group,
                    producers.get(group),
                    [
                        StoredOutbox(topic, count, letters.get((name, topic), []))
                        for (name, topic), count in sorted(numbers.items())
                        if name == group
                    ],
                )
                for group in sorted({*producers, *(group for group, _ in numbers)})
            ]
            return encode_state(self.version, groups, queues)

        return encode

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`. Raises ValueError on a snapshot of a later release, and msgspec's errors."""
        groups, queues = decode_state(self.version, data)
        self._queues, self._outbox, self._positions_staged = {}, {}, {}
        self._producers, self._next = StagedMap(), StagedMap()
        for group in groups:
            if group.producer_id is not None:
                self._producers.committed[group.name] = group.producer_id
            for outbox in group.outboxes:
                key = (group.name, outbox.dead_topic)
                self._next.committed[key] = outbox.next_sequence
                if outbox.letters:
                    self._outbox[key] = deque(outbox.letters)
        for queue in queues:
            self._add_queue(queue)
