"""The replicated state of queue groups: interface only, bodies follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from penstock.delivery.commands import (
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
from penstock.delivery.queue import Queue
from penstock.model.commands import Command


class DeadLetter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message on its way to the dead-letter topic, with what its headers say there."""

    sequence: int
    topic: str
    partition: int
    offset: int
    deliveries: int
    cause: str
    first_failure_ms: int
    last_failure_ms: int


class QueuesMachine:
    """A `StateMachine`."""

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

    # --- what decisions read ----------------------------------------------------------------------

    def queue(self, group: str, topic: str, partition: int) -> Queue | None:
        """The partition's queue, None until its position was set and that is committed."""
        ...

    def is_moving(self, group: str, topic: str, partition: int) -> bool:
        """Whether an entry in flight sets the position or drops the queue: wait for it."""
        ...

    def queues(self, group: str) -> Iterator[Queue]:
        """All queues of the group."""
        ...

    def groups(self) -> list[str]:
        """Every group of which anything is known, sorted."""
        ...

    def has_topic(self, topic: str) -> bool:
        """Whether any group is about this topic."""
        ...

    def producer_id(self, group: str) -> int | None:
        """Under which the group's dead letters are written; None: allocate one (deepest view)."""
        ...

    def next_sequence(self, group: str, dead_topic: str) -> int:
        """The number of the next dead letter, counted from 0 (deepest view). On the wire modulo 2^31."""
        ...

    def outbox_topics(self, group: str) -> list[str]:
        """Dead-letter topics to which something is on its way, sorted."""
        ...

    def outbox(self, group: str, dead_topic: str) -> Iterator[DeadLetter]:
        """What is on its way, as committed, in the order of its numbers."""
        ...

    # --- the fold: stage, apply, drop_staged, snapshot, freeze, restore as in StateMachine -------------

    def stage(self, index: int, command: Command) -> None: ...

    def apply(self, index: int, command: Command) -> None: ...

    def drop_staged(self) -> None: ...

    def snapshot(self) -> bytes: ...

    def freeze(self) -> Callable[[], bytes]: ...

    def restore(self, data: bytes) -> None: ...
