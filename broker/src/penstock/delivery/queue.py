"""One partition of a queue group: which messages are settled, held, or wait to be granted again.

A message is in one of four conditions:

| condition | is | becomes |
| --- | --- | --- |
| fresh | at or above `fresh_from` | held (QueueGranted) |
| held | in `messages`, with a lease | settled (QueueSettled, QueueDying), waiting (QueueReturned), held for longer (QueueExtended) |
| waiting | in `messages`, without a lease | held (QueueGranted) |
| settled | below the floor, or a bit above it | nothing else, but for QueuePositionSet |

and every one is settled that QueueStartMoved finds below the partition's start. Messages are granted for the first time in
the order of their offsets. Entries in flight change none of this: what they name is only marked, and left alone until
they are committed or dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from penstock.delivery.commands import (
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
from penstock.delivery.messages import Open
from penstock.delivery.ranges import Ranges, offsets_in, ranges_of
from penstock.delivery.settled import SettledSet
from penstock.delivery.timers import QueueTimers

SPAN_MAX = 64 * 1024 * 1024
"""Fresh messages are not granted so far above the floor: behind one that is not settled for days, the set of settled ones
stays below some 10 MB."""


class Counts(msgspec.Struct, frozen=True):
    """Messages that are held, that wait to be granted again, that are on their way to the dead letters."""

    held: int
    waiting: int
    dying: int


class Queue:
    """State of (group, topic, partition). See the module's text; `apply` is the only one that changes it.

    `messages` are the open ones, `dying` is how many are in the group's outbox. Decisions read the methods.
    """

    __slots__ = (
        "_busy",
        "_fresh_from_staged",
        "_index_staged",
        "_start_staged",
        "_timers",
        "dying",
        "fresh_from",
        "group",
        "group_queues",
        "messages",
        "moving",
        "partition",
        "settled",
        "topic",
    )

    def __init__(self, group: str, topic: str, partition: int, floor: int) -> None:
        self.group = group
        self.topic = topic
        self.partition = partition
        # All queues of the group, this one too: they share the window.
        self.group_queues: Collection[Queue] = (self,)
        self.messages: dict[int, Open] = {}
        self.settled = SettledSet(floor)
        self.fresh_from = floor
        self.dying = 0
        # An entry in flight sets the position, or drops the queue: nothing is decided before it is committed.
        self.moving = False
        # Offset of an open message to the index of the last entry in flight that names it.
        self._busy: dict[int, int] = {}
        # Where fresh messages and the partition begin once what is in flight is committed, and the last of it.
        self._fresh_from_staged = floor
        self._start_staged = 0
        self._index_staged = 0
        # The leader's alone, see `timers`.
        self._timers: QueueTimers | None = None

    # --- what decisions read -------------------------------------------------------------------------

    @property
    def floor(self) -> int:
        """Every message below is settled."""
        return self.settled.floor

    def get(self, offset: int) -> Open | None:
        """The message as committed, None when it is settled or fresh."""
        return self.messages.get(offset)

    def is_busy(self, offset: int) -> bool:
        """Whether an entry in flight is about this open message."""
        return self.moving or offset in self._busy or offset < self._start_staged

    @property
    def next_fresh(self) -> int:
        """The first message that was never granted and that no entry in flight grants."""
        return max(self.fresh_from, self._fresh_from_staged, self._start_staged)

    @property
    def start_staged(self) -> int:
        """The floor at least, once what is in flight is committed."""
        return max(self.settled.floor, self._start_staged)

    @property
    def in_flight(self) -> int:
        """Open messages, those that an entry in flight grants, and dying ones."""
        return len(self.messages) + max(self._fresh_from_staged - self.fresh_from, 0) + self.dying

    @property
    def group_in_flight(self) -> int:
        """The same of the whole group, which is what counts for the window."""
        return sum(queue.in_flight for queue in self.group_queues)

    @property
    def open_count(self) -> int:
        """Messages held or waiting."""
        return len(self.messages)

    def counts(self) -> Counts:
        """Looks at every open message."""
        held = sum(1 for message in self.messages.values() if message.lease_id)
        return Counts(held, len(self.messages) - held, self.dying)

    def unsettled(self, high_watermark: int) -> int:
        """The lag: how many messages below the high watermark are not settled."""
        floor = self.settled.floor
        return max(high_watermark - floor - self.settled.count_below(high_watermark), 0)

    def oldest_unsettled(self, high_watermark: int) -> int | None:
        """The lowest message that is not settled, None when there is none below the high watermark."""
        floor = self.settled.floor
        return floor if floor < high_watermark else None

    def due_leases(self, now_ms: int, limit: int) -> list[int]:
        """Messages whose leases ran out."""
        return self.timers(now_ms).leases.due(now_ms, limit, self.messages, self.is_busy)

    def due_waits(self, now_ms: int, limit: int) -> list[int]:
        """Messages whose wait is over, the longest due first."""
        return self.timers(now_ms).waits.due(now_ms, limit, self.messages, self.is_busy)

    def next_expiry_ms(self, now_ms: int) -> int | None:
        """When the next lease runs out, None while nothing is held."""
        return self.timers(now_ms).leases.next_ms(self.messages)

    def next_due_ms(self, now_ms: int) -> int | None:
        """When the next wait is over, which may have been long ago; None while nothing waits."""
        return self.timers(now_ms).waits.next_ms(self.messages)

    def timers(self, now_ms: int) -> QueueTimers:
        """The timers of this leadership; the first question about time starts them."""
        if self._timers is None:
            self._timers = QueueTimers.begun(self.messages, now_ms)
        return self._timers

    # --- entries in flight ---------------------------------------------------------------------------

    def stage(self, index: int, command: QueueCommand) -> None:
        """The entry is in the log: what it names is busy."""
        self._index_staged = index
        match command:
            case QueuePositionSet():
                self.hold(index)
            case QueueStartMoved(log_start=start):
                self._start_staged = max(self._start_staged, start)
            case QueueGranted(ranges=ranges):
                for first, last in ranges:
                    self._busy.update(dict.fromkeys(range(first, min(last + 1, self.fresh_from)), index))
                    self._fresh_from_staged = max(self._fresh_from_staged, last + 1)
            case QueueSettled(ranges=ranges) | QueueReturned(ranges=ranges) | QueueExtended(ranges=ranges):
                self._mark(index, ranges)
            case QueueDying(ranges=ranges):
                self._mark(index, ranges)
            case _:
                raise AssertionError(f"a queue cannot stage {type(command).__name__}")

    def hold(self, index: int) -> None:
        """Entry `index` sets the position or drops the queue: nothing is decided until it is committed."""
        self.moving = True
        self._index_staged = index

    def drop_staged(self) -> None:
        """Nothing is in flight any more, and this broker does not lead."""
        self._forget_staged()
        self._timers = None

    def _mark(self, index: int, ranges: Ranges) -> None:
        for first, last in ranges:
            self._busy.update(dict.fromkeys(range(first, last + 1), index))

    def _forget_staged(self) -> None:
        self.moving = False
        self._busy.clear()
        self._fresh_from_staged = self.fresh_from
        self._start_staged = self._index_staged = 0

    # --- the fold --------------------------------------------------------------------------------------

    def apply(self, index: int, command: QueueCommand) -> list[tuple[int, Open]]:
        """The entry is committed. Gives what QueueDying takes out, ascending."""
        dying: list[tuple[int, Open]] = []
        match command:
            case QueuePositionSet(floor=floor):
                self._reset(floor)
            case QueueStartMoved(log_start=start):
                self._move_start(start)
            case QueueGranted():
                self._grant(command)
            case QueueSettled(ranges=ranges):
                for first, last in ranges:
                    for offset in range(first, last + 1):
                        self.messages.pop(offset, None)
                    self.settled.add(first, last)
            case QueueReturned(ranges=ranges):
                self._change(ranges, lambda message: _returned(message, command))
            case QueueExtended(ranges=ranges, time_ms=time_ms, duration_ms=duration_ms):
                self._change(ranges, lambda message: _extended(message, time_ms, duration_ms))
            case QueueDying(ranges=ranges):
                dying = self._die(ranges)
            case _:
                raise AssertionError(f"a queue cannot apply {type(command).__name__}")
        if index >= self._index_staged:
            self._forget_staged()
        elif self._busy:
            self._no_longer_busy(index, command)
        return dying

    def _reset(self, floor: int) -> None:
        self.messages.clear()
        self.settled = SettledSet(floor)
        self.fresh_from = floor
        if self._timers is not None:
            self._timers = QueueTimers()

    def _move_start(self, start: int) -> None:
        floor = self.settled.floor
        if start <= floor:
            return
        for offset in [offset for offset in self.messages if offset < start]:
            del self.messages[offset]
        self.settled.add(floor, start - 1)
        self.fresh_from = max(self.fresh_from, self.settled.floor)

    def _grant(self, command: QueueGranted) -> None:
        until_ms = command.time_ms + command.duration_ms
        fresh = Open(1, command.lease_id, command.member, until_ms, command.duration_ms)
        again: list[tuple[int, int]] = []
        for first, last in command.ranges:
            if first < self.fresh_from:
                again.append((first, min(last, self.fresh_from - 1)))
            if last >= self.fresh_from:
                first = max(first, self.fresh_from)
                self.messages.update(dict.fromkeys(range(first, last + 1), fresh))
                self.fresh_from = last + 1
                if self._timers is not None:
                    self._timers.add(fresh, ((first, last),), self.messages)
        if again:
            self._change(tuple(again), lambda message: _granted(message, command))

    def _die(self, ranges: Ranges) -> list[tuple[int, Open]]:
        gone = []
        for offset in offsets_in(ranges):
            message = self.messages.pop(offset, None)
            if message is not None:
                gone.append((offset, message))
                self.settled.add(offset, offset)
        self.dying += len(gone)
        return gone

    def _change(self, ranges: Ranges, change: Callable[[Open], Open]) -> None:
        """Puts another `Open` for each; those that shared one share one again."""
        messages = self.messages
        changed: dict[int, tuple[Open, Open, list[int]]] = {}
        for offset in offsets_in(ranges):
            message = messages.get(offset)
            if message is None:
                continue
            alike = changed.get(id(message))
            if alike is None:
                alike = changed[id(message)] = (message, change(message), [])
            messages[offset] = alike[1]
            alike[2].append(offset)
        if self._timers is not None:
            for _, message, offsets in changed.values():
                self._timers.add(message, ranges_of(offsets), messages)

    def _no_longer_busy(self, index: int, command: QueueCommand) -> None:
        busy = self._busy
        for offset in offsets_in(getattr(command, "ranges", ())):
            if busy.get(offset, index + 1) <= index:
                del busy[offset]


def _granted(message: Open, command: QueueGranted) -> Open:
    return Open(
        message.deliveries + 1,
        command.lease_id,
        command.member,
        command.time_ms + command.duration_ms,
        command.duration_ms,
        message.first_failure_ms,
        message.cause,
    )


def _returned(message: Open, command: QueueReturned) -> Open:
    due_ms = command.time_ms + command.delay_ms
    if command.cause == RELEASED:
        return Open(
            message.deliveries - 1, 0, "", due_ms, command.delay_ms, message.first_failure_ms, message.cause
        )
    first_failure_ms = message.first_failure_ms if message.first_failure_ms >= 0 else command.time_ms
    return Open(message.deliveries, 0, "", due_ms, command.delay_ms, first_failure_ms, command.cause)


def _extended(message: Open, time_ms: int, duration_ms: int) -> Open:
    return msgspec.structs.replace(message, at_ms=time_ms + duration_ms, duration_ms=duration_ms)
