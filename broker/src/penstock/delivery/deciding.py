"""What may be done with the messages of one partition of a queue group, and which entries say so.

Each function changes nothing: it reads what is committed, leaves alone what an entry in flight names (`Queue.is_busy`), and
returns commands. Whoever calls appends them before it decides anything else about the same queue (no await in between).
`now_ms` is the leader's clock for this leadership: it begins with the wall's time and goes on with a clock that neither
jumps nor goes back. Chance comes in as an argument in [0, 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from penstock.delivery.commands import QueueCommand, QueueGranted, QueueStartMoved
from penstock.delivery.queue import Queue
from penstock.model.queue_settings import QueueSettings


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
    queue: Queue, request: LeaseRequest, settings: QueueSettings, high_watermark: int, now_ms: int
) -> Grant:
    """Messages whose wait is over first, the longest due before others, then new ones below the high watermark, while
    the window lasts."""
    ...


def settle(queue: Queue, receipts: Iterable[Receipt], now_ms: int) -> Decision:
    """The holders are done with these."""
    ...


def release(queue: Queue, receipts: Iterable[Receipt], now_ms: int) -> Decision:
    """The holders give these back untried: they do not count as delivered and are due at once."""
    ...


def reject(
    queue: Queue, receipts: Iterable[Receipt], failing: Failing, *, retry: bool, delay_ms: int | None = None
) -> Decision:
    """The holders failed with these. They come again after the back-off, or `delay_ms` where the holder says so; they go
    to the dead letters without `retry`, and when they were granted as often as the settings allow."""
    ...


def extend(queue: Queue, receipts: Iterable[Receipt], duration_ms: int, now_ms: int) -> Decision:
    """The leases of these last `duration_ms` from now, be it longer or shorter than before."""
    ...


def expire(queue: Queue, failing: Failing) -> list[QueueCommand]:
    """Leases that ran out: their messages failed, as if rejected with retry."""
    ...


def move_start(queue: Queue, log_start: int, now_ms: int) -> tuple[QueueStartMoved | None, int]:
    """(the command that gives up what fell below the partition's start or None, how many messages it loses)."""
    ...
