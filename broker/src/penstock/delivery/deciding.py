"""What may be done with the messages of one partition of a queue group, and which entries say so.

Each function changes nothing: it reads what is committed, leaves alone what an entry in flight names (`Queue.is_busy`), and
returns commands. Whoever calls appends them before it decides anything else about the same queue (no await in between).
`now_ms` is the leader's clock for this leadership: it begins with the wall's time and goes on with a clock that neither
jumps nor goes back. Chance comes in as an argument in [0, 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from penstock.delivery.commands import (
    EXPIRED,
    REJECTED,
    RELEASED,
    QueueCommand,
    QueueDying,
    QueueExtended,
    QueueGranted,
    QueueReturned,
    QueueSettled,
    QueueStartMoved,
)
from penstock.delivery.queue import SPAN_MAX, Queue
from penstock.delivery.ranges import Ranges, count_in, ranges_of
from penstock.model.queue_settings import QueueSettings

RANGES_PER_COMMAND_MAX = 10_000
"""More go into several commands, which bounds the size of a log entry."""
EXPIRED_PER_DECISION_MAX = 10_000
"""Messages whose leases ran out that one decision takes up; the next takes up the rest."""


class Receipt(NamedTuple):
    """What a holder names a message by."""

    offset: int
    lease_id: int


class LeaseRequest(msgspec.Struct, frozen=True):
    """Who wants messages of this partition. `lease_id` is drawn by chance, not 0, below 2^63; `duration_ms` was checked."""

    lease_id: int
    member: str
    duration_ms: int
    messages_max: int


class Grant(msgspec.Struct, frozen=True):
    """The answer to a LeaseRequest, which counts when `command` (None: nothing to grant) is committed. `redelivered` tells
    how often a message was granted, this time included; one that is not in it comes for the first time."""

    command: QueueGranted | None
    redelivered: dict[int, int]
    window_full: bool
    """There would be more, but too many messages are in flight: a condition of the group."""


class Decision(msgspec.Struct, frozen=True):
    """What becomes of receipts. Those in neither list were accepted, which counts when `commands` are committed."""

    commands: list[QueueCommand]
    busy: list[Receipt]
    """Named by an entry in flight: ask again when what is appended now is committed."""
    refused: list[Receipt]
    """Not held under this lease: it ran out, or the message was settled or given back before."""


class Failing(msgspec.Struct, frozen=True):
    """What a decision about failed messages needs: the group's settings, the dead-letter topic with the number that its next
    dead letter gets (`QueuesMachine.next_sequence`), chance for the jitter, and the time."""

    settings: QueueSettings
    dead_topic: str
    next_sequence: int
    chance: float
    now_ms: int


def grant(
    queue: Queue,
    request: LeaseRequest,
    settings: QueueSettings,
    high_watermark: int,
    now_ms: int,
    in_flight: int | None = None,
) -> Grant:
    """Messages whose wait is over first, the longest due before others, then new ones below the high watermark, while
    the window lasts. `in_flight` is what the group has in flight where the caller knows it, with what it was just granted
    elsewhere and is not appended yet; None: what its queues have."""
    if queue.moving:
        return Grant(None, {}, window_full=False)
    again = sorted(queue.due_waits(now_ms, request.messages_max))
    wanted = request.messages_max - len(again)
    first = queue.next_fresh
    fresh = high_watermark - first
    ranges = ranges_of(again)
    window_full = False
    if wanted > 0 and fresh > 0:
        if in_flight is None:
            in_flight = queue.group_in_flight
        room = min(settings.in_flight_max - in_flight, queue.floor + SPAN_MAX - first)
        count = min(wanted, fresh, room)
        window_full = room < min(wanted, fresh)
        if count > 0:
            ranges = (*ranges, (first, first + count - 1))
    if not ranges:
        return Grant(None, {}, window_full)
    redelivered = {offset: queue.messages[offset].deliveries + 1 for offset in again}
    place = (queue.group, queue.topic, queue.partition, now_ms)
    command = QueueGranted(*place, request.lease_id, request.member, request.duration_ms, ranges)
    return Grant(command, redelivered, window_full)


def settle(queue: Queue, receipts: Iterable[Receipt], now_ms: int) -> Decision:
    """The holders are done with these."""
    held, busy, refused = _judged(queue, receipts, now_ms)
    place = (queue.group, queue.topic, queue.partition, now_ms)
    return Decision([QueueSettled(*place, ranges) for ranges in _parts(held)], busy, refused)


def release(queue: Queue, receipts: Iterable[Receipt], now_ms: int) -> Decision:
    """The holders give these back untried: they do not count as delivered and are due at once."""
    held, busy, refused = _judged(queue, receipts, now_ms)
    place = (queue.group, queue.topic, queue.partition, now_ms)
    return Decision([QueueReturned(*place, RELEASED, 0, ranges) for ranges in _parts(held)], busy, refused)


def reject(
    queue: Queue, receipts: Iterable[Receipt], failing: Failing, *, retry: bool, delay_ms: int | None = None
) -> Decision:
    """The holders failed with these. They come again after the back-off, or `delay_ms` where the holder says so; they go
    to the dead letters without `retry`, and when they were granted as often as the settings allow."""
    held, busy, refused = _judged(queue, receipts, failing.now_ms)
    deliveries_max = failing.settings.deliveries_max if retry else 0
    return Decision(_failed(queue, held, REJECTED, failing, deliveries_max, delay_ms), busy, refused)


def extend(queue: Queue, receipts: Iterable[Receipt], duration_ms: int, now_ms: int) -> Decision:
    """The leases of these last `duration_ms` from now, be it longer or shorter than before."""
    held, busy, refused = _judged(queue, receipts, now_ms)
    place = (queue.group, queue.topic, queue.partition, now_ms)
    return Decision([QueueExtended(*place, duration_ms, ranges) for ranges in _parts(held)], busy, refused)


def expire(queue: Queue, failing: Failing) -> list[QueueCommand]:
    """Leases that ran out: their messages failed, as if rejected with retry."""
    expired = sorted(queue.due_leases(failing.now_ms, EXPIRED_PER_DECISION_MAX))
    return _failed(queue, expired, EXPIRED, failing, failing.settings.deliveries_max, None)


def move_start(queue: Queue, log_start: int, now_ms: int) -> tuple[QueueStartMoved | None, int]:
    """(the command that gives up what fell below the partition's start or None, how many messages it loses)."""
    if queue.moving or log_start <= queue.start_staged:
        return None, 0
    command = QueueStartMoved(queue.group, queue.topic, queue.partition, now_ms, log_start)
    return command, queue.unsettled(log_start)


def _judged(
    queue: Queue, receipts: Iterable[Receipt], now_ms: int
) -> tuple[list[int], list[Receipt], list[Receipt]]:
    """(offsets that are held under these leases, ascending; receipts of busy ones; refused receipts)."""
    # What comes of it may end after a time, and in a new leadership nothing may have asked for the timers yet.
    queue.timers(now_ms)
    held: list[int] = []
    busy: list[Receipt] = []
    refused: list[Receipt] = []
    messages = queue.messages
    for receipt in receipts:
        offset, lease_id = receipt
        message = messages.get(offset)
        if message is None or message.lease_id != lease_id or not lease_id:
            refused.append(receipt)
        elif queue.is_busy(offset):
            busy.append(receipt)
        else:
            held.append(offset)
    return sorted(set(held)), busy, refused


def _failed(
    queue: Queue,
    offsets: list[int],
    cause: str,
    failing: Failing,
    deliveries_max: int,
    delay_ms: int | None,
) -> list[QueueCommand]:
    """The commands for messages whose delivery failed: those of as many deliveries wait equally long."""
    backoff = failing.settings.backoff
    alike: dict[int, list[int]] = {}
    dying: list[int] = []
    for offset in offsets:
        deliveries = queue.messages[offset].deliveries
        if deliveries >= deliveries_max:
            dying.append(offset)
        else:
            alike.setdefault(deliveries, []).append(offset)
    place = (queue.group, queue.topic, queue.partition, failing.now_ms)
    commands: list[QueueCommand] = []
    for deliveries, waiting in alike.items():
        delay = backoff.delay_ms(deliveries, failing.chance) if delay_ms is None else delay_ms
        commands += [QueueReturned(*place, cause, delay, ranges) for ranges in _parts(waiting)]
    sequence = failing.next_sequence
    for ranges in _parts(dying):
        commands.append(QueueDying(*place, cause, failing.dead_topic, sequence, ranges))
        sequence += count_in(ranges)
    return commands


def _parts(offsets: list[int]) -> Iterator[Ranges]:
    """The ranges of ascending offsets, as many at a time as a command may name."""
    ranges = ranges_of(offsets)
    for start in range(0, len(ranges), RANGES_PER_COMMAND_MAX):
        yield ranges[start : start + RANGES_PER_COMMAND_MAX]
