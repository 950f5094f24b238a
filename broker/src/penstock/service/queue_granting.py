"""Hands out the messages of one queue group to those who wait for some: fairly, and with few entries.

Requests for leases of the same kind share one grant per partition and turn of the loop, dealt out evenly; every turn begins
with another partition, and with whoever waits longest. How much is granted is bounded by what answers may hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from penstock.delivery.commands import QueueCommand, QueuePositionSet
from penstock.delivery.deciding import LeaseRequest, grant, move_start
from penstock.delivery.queue import Queue
from penstock.delivery.ranges import offsets_in
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings
from penstock.service.queue_ports import QueueHouse, QueuePartition
from penstock.service.queue_reading import Place
from penstock.service.queue_waiting import Granted, LeaseKind, WaitingLease, dealt, shares

LEASE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of messages in one answer; a first message that is larger comes whole."""

GRANTED_PER_TURN_MAX: Final = 10_000
"""Messages that a group grants before others get their turn."""

WAITING_MAX: Final = 10_000
"""Requests for messages that wait in one group; more are refused."""

Outcome = Callable[[PenstockError | None], None]
Propose = Callable[[Sequence[Command], Outcome], bool]
"""Appends, and calls back with the outcome; whether anything was appended."""


class _Open(msgspec.Struct):
    """What a turn grants from: partitions that may still have something, and what the group has in flight, with what was
    granted in this turn."""

    queues: list[tuple[QueuePartition, Queue]]
    settings: QueueSettings
    now_ms: int
    in_flight: int = 0

    def __post_init__(self) -> None:
        self.in_flight = sum(queue.in_flight for _, queue in self.queues)


class Granting:
    """Who waits in one group. `wake` asks for a turn, `give_back` releases what nobody is there for any more."""

    def __init__(
        self,
        group: str,
        house: QueueHouse,
        propose: Propose,
        wake: Callable[[], None],
        give_back: Callable[[Iterable[Granted]], None],
    ) -> None:
        self.window_full = False
        self._group = group
        self._house = house
        self._propose = propose
        self._wake = wake
        self._give_back = give_back
        self._waiting: dict[WaitingLease, None] = {}
        self._watched: list[QueuePartition] = []
        self._rotation = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, kind: LeaseKind, messages_max: int, wait_ms: int) -> WaitingLease:
        """Somebody wants messages. Raises PenstockError."""
        if len(self._waiting) >= WAITING_MAX:
            raise PenstockError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                f"{WAITING_MAX} requests wait for messages of group {self._group!r} already: try again later.",
            )
        waiting = WaitingLease(kind, messages_max, wait_ms)
        self._waiting[waiting] = None
        if wait_ms:
            waiting.timer = self._house.clock.call_later(wait_ms / 1000, lambda: self._wait_is_over(waiting))
        return waiting

    def leave(self, waiting: WaitingLease) -> None:
        """Nobody waits for this any more: what it was granted, or will be, is given back."""
        self._waiting.pop(waiting, None)
        waiting.stop_timer()
        future = waiting.future
        if not future.done():
            future.cancel()
        elif not future.cancelled() and future.exception() is None:
            self._give_back(future.result())

    def stop(self, error: PenstockError) -> None:
        """Nothing more is granted here."""
        self._watch(())
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            each.fail(error)

    def _wait_is_over(self, waiting: WaitingLease) -> None:
        waiting.timer = None
        # Where a grant is on its way already, it waits for that.
        if waiting in self._waiting:
            del self._waiting[waiting]
            waiting.end()

    # --- a turn ----------------------------------------------------------------------------------

    def turn(self, settings: QueueSettings, now_ms: int) -> None:
        """Grants what can be granted to whoever waits."""
        if not self._waiting:
            self._watch(())
            return
        partitions = self._partitions()
        self._open_queues(partitions, now_ms)
        kinds: dict[LeaseKind, list[WaitingLease]] = {}
        for waiting in self._waiting:
            kinds.setdefault(waiting.kind, []).append(waiting)
        room = GRANTED_PER_TURN_MAX
        self.window_full = False
        open_ = _Open(self._queues(partitions), settings, now_ms)
        for kind, members in kinds.items():
            if room <= 0:
                self._wake()
                break
            if not open_.queues:
                for each in members:
                    each.tried = True
                continue
            room -= self._grant(kind, members, open_, room)
        for waiting in [each for each in self._waiting if each.tried and not each.wait_ms]:
            del self._waiting[waiting]
            waiting.end()
        self._watch(partitions if self._waiting else ())

    def _partitions(self) -> list[QueuePartition]:
        """Of all topics, each turn beginning with another one."""
        found = [
            partition
            for topic in self._house.topics(self._group)
            for partition in self._house.partitions.of(topic)
        ]
        if found:
            self._rotation = (self._rotation + 1) % len(found)
        return found[self._rotation :] + found[: self._rotation]

    def _open_queues(self, partitions: Sequence[QueuePartition], now_ms: int) -> None:
        """A partition that came later is worked through from its beginning; one that lost its oldest messages goes on behind
        them."""
        machine = self._house.machine
        moved: list[Command] = []
        lost = 0
        for partition in partitions:
            place = (self._group, partition.topic, partition.number)
            queue = machine.queue(*place)
            if queue is None:
                if not machine.is_moving(*place):
                    moved.append(QueuePositionSet(*place, now_ms, partition.log_start))
            elif queue.floor < partition.log_start:
                command, messages = move_start(queue, partition.log_start, now_ms)
                if command is not None:
                    moved.append(command)
                    lost += messages
        if moved:
            self._propose(moved, lambda error: self._lost(lost if error is None else 0))

    def _lost(self, messages: int) -> None:
        self._house.counters.lost += messages

    def _queues(self, partitions: Sequence[QueuePartition]) -> list[tuple[QueuePartition, Queue]]:
        found = []
        for partition in partitions:
            queue = self._house.machine.queue(self._group, partition.topic, partition.number)
            if queue is not None:
                found.append((partition, queue))
        return found

    def _grant(self, kind: LeaseKind, members: Sequence[WaitingLease], open_: _Open, room: int) -> int:
        """Grants to requests of one kind, which share; how many messages."""
        left = min(sum(each.messages_max for each in members), room)
        bytes_left = LEASE_BYTES_MAX * len(members)
        grants: list[Granted] = []
        commands: list[QueueCommand] = []
        for each in members:
            each.tried = True
        exhausted: set[int] = set()
        for partition, queue in open_.queues:
            if left <= 0 or bytes_left <= 0:
                break
            size = _message_bytes(partition)
            some = min(left, max(bytes_left // size, 1))
            request = LeaseRequest(self._house.new_lease_id(), kind.member, kind.duration_ms, some)
            answer = grant(
                queue, request, open_.settings, partition.high_watermark, open_.now_ms, open_.in_flight
            )
            self.window_full = self.window_full or answer.window_full
            offsets = () if answer.command is None else offsets_in(answer.command.ranges)
            messages = [(offset, answer.redelivered.get(offset, 1)) for offset in offsets]
            open_.in_flight += len(messages) - len(answer.redelivered)
            if len(messages) < some:
                exhausted.add(partition.key)
            if answer.command is None:
                continue
            place = Place(partition.key, partition.topic, partition.number)
            grants.append(Granted(place, request.lease_id, open_.now_ms + kind.duration_ms, messages))
            commands.append(answer.command)
            left -= len(messages)
            bytes_left -= len(messages) * size
        if exhausted:
            open_.queues = [each for each in open_.queues if each[0].key not in exhausted]
        # Each is of another queue, and all are appended before anything else is decided.
        return self._deliver(members, grants, commands) if commands else 0

    def _deliver(
        self, members: Sequence[WaitingLease], grants: Sequence[Granted], commands: Sequence[QueueCommand]
    ) -> int:
        """Shares out the grants among those that wait, and appends them; how many messages."""
        count = sum(len(granted.messages) for granted in grants)
        hands = dealt(grants, shares(count, [each.messages_max for each in members]))
        served = [(each, hand) for each, hand in zip(members, hands, strict=True) if hand]
        for each, _ in served:
            del self._waiting[each]

        def done(error: PenstockError | None) -> None:
            if error is None:
                self._house.counters.leased += count
            for each, hand in served:
                self._give_back(each.settle(hand, error))

        self._propose(commands, done)
        return count

    def _watch(self, partitions: Sequence[QueuePartition]) -> None:
        for partition in self._watched:
            partition.waiters.pop(self, None)
        for partition in partitions:
            partition.waiters[self] = self._wake
        self._watched = list(partitions)


def _message_bytes(partition: QueuePartition) -> int:
    """About how large a message of this partition is."""
    messages = partition.high_watermark - partition.log_start
    return max(partition.size_bytes // messages, 1) if messages > 0 else 1
