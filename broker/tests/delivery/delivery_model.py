"""What a queue must be equivalent to: one small record for each message, changed one message at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from penstock.delivery.commands import (
    EXPIRED,
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

FRESH, HELD, WAITING, SETTLED, DEAD, LOST = "fresh", "held", "waiting", "settled", "dead", "lost"
OPEN = (HELD, WAITING)
DONE = (SETTLED, DEAD, LOST)


@dataclass
class Message:
    """`since_ms` is the true time of the grant or the last extension; `due_ms` is by the clock of leadership `term`, in which
    it came into its condition."""

    condition: str = FRESH
    deliveries: int = 0
    lease_id: int = 0
    since_ms: int = 0
    duration_ms: int = 0
    due_ms: int = 0
    term: int = 0
    cause: str = ""


@dataclass(frozen=True)
class Decided:
    """When an entry was decided: true time, the leader's clock, and which leadership it was."""

    true_ms: int
    leader_ms: int
    term: int


@dataclass
class Dead:
    """A message that was given up."""

    partition: int
    offset: int
    deliveries: int
    cause: str


@dataclass
class Model:
    """One partition. `dead` is the group's, all partitions together, in the order of their numbers."""

    dead: list[Dead]
    messages: list[Message] = field(default_factory=list)

    def named(self, command: QueueCommand) -> Iterator[tuple[int, Message]]:
        """The messages of the ranges of a command."""
        ranges = getattr(command, "ranges", ())
        assert ranges == tuple(sorted(ranges))
        assert all(first <= last for first, last in ranges)
        offsets = [offset for first, last in ranges for offset in range(first, last + 1)]
        assert offsets == sorted(set(offsets))
        return ((offset, self.messages[offset]) for offset in offsets)

    def apply(self, command: QueueCommand, decided: Decided) -> None:
        """The entry is committed. What must not be said of a message fails here."""
        match command:
            case QueuePositionSet(floor=floor):
                for offset, message in enumerate(self.messages):
                    if offset >= floor:
                        self.messages[offset] = Message()
                    elif message.condition not in DONE:
                        message.condition = LOST
            case QueueStartMoved(log_start=start):
                for message in self.messages[:start]:
                    if message.condition not in DONE:
                        message.condition = LOST
            case _:
                for offset, message in self.named(command):
                    self.change(offset, message, command, decided)

    def change(self, offset: int, message: Message, command: QueueCommand, decided: Decided) -> None:
        """What an entry does to one of the messages it names."""
        if isinstance(command, QueueGranted):
            self.grant(message, command, decided)
            return
        assert message.condition == HELD, f"{type(command).__name__} of a message that is {message.condition}"
        if isinstance(command, QueueReturned | QueueDying) and command.cause == EXPIRED:
            lasted_ms = decided.true_ms - message.since_ms
            assert lasted_ms >= message.duration_ms, f"a lease of {message.duration_ms} ms lasted {lasted_ms}"
        match command:
            case QueueSettled():
                message.condition = SETTLED
            case QueueExtended(duration_ms=duration_ms):
                message.since_ms, message.duration_ms = decided.true_ms, duration_ms
                message.term = decided.term
            case QueueReturned(cause=cause, delay_ms=delay_ms):
                message.condition, message.lease_id = WAITING, 0
                message.due_ms, message.term = decided.leader_ms + delay_ms, decided.term
                if cause == RELEASED:
                    message.deliveries -= 1
                else:
                    message.cause = cause
            case QueueDying(cause=cause):
                message.condition = DEAD
                self.dead.append(Dead(command.partition, offset, message.deliveries, cause))
            case _:
                raise AssertionError(command)

    def grant(self, message: Message, command: QueueGranted, decided: Decided) -> None:
        """A message gets a holder."""
        assert message.condition in (FRESH, WAITING), f"a message was granted that is {message.condition}"
        if message.condition == WAITING and message.term == decided.term:
            assert decided.leader_ms >= message.due_ms, "a message was granted before its wait was over"
        message.condition, message.lease_id = HELD, command.lease_id
        message.deliveries += 1
        message.since_ms, message.duration_ms = decided.true_ms, command.duration_ms
        message.term = decided.term
