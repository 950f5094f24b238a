"""What queue groups need of the rest of the broker, and what all of their parts share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from penstock.delivery.machine import QueuesMachine
from penstock.groups.machine import GroupsMachine
from penstock.model.queue_settings import QueueSettings
from penstock.service.ports import Clock, CommandLog
from penstock.service.queue_reading import QueueReader
from penstock.telemetry.queue_counters import QueueCounters

QUEUE_MODE = "queue"


class QueuePartition(Protocol):
    """A partition as its shard's leader has it (`penstock.partition.partition.Partition`)."""

    @property
    def key(self) -> int: ...

    @property
    def topic(self) -> str: ...

    @property
    def number(self) -> int: ...

    @property
    def log_start(self) -> int: ...

    @property
    def high_watermark(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def waiters(self) -> dict[object, Callable[[], None]]:
        """Called once when the high watermark moves."""
        ...


class QueuePartitions(Protocol):
    """The shard's partitions."""

    def of(self, topic: str) -> Sequence[QueuePartition]:
        """By number; none where there is no such topic."""
        ...

    def with_key(self, key: int) -> QueuePartition | None:
        """The partition with this key, if there is one."""
        ...


class LeaderClock:
    """The time of one leadership: the wall's when it begins, then as the monotonic clock goes, so that a step of the wall
    clock neither ends a lease nor keeps one for ever. Milliseconds since the epoch."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ms = clock.now_ms() - clock.monotonic_ms()

    def begin(self) -> None:
        """Another leadership begins."""
        self._ahead_ms = self._clock.now_ms() - self._clock.monotonic_ms()

    def now_ms(self) -> int:
        """The time now."""
        return self._clock.monotonic_ms() + self._ahead_ms


class QueueHouse(msgspec.Struct, frozen=True):
    """What all queue groups of a shard share. `new_lease_id` gives an id that nobody can guess (not 0, below 2^63), `chance` a
    number in [0, 1)."""

    machine: QueuesMachine
    groups: GroupsMachine
    log: CommandLog
    clock: Clock
    time: LeaderClock
    partitions: QueuePartitions
    reader: QueueReader
    counters: QueueCounters
    new_lease_id: Callable[[], int]
    chance: Callable[[], float]

    def settings(self, group: str) -> QueueSettings | None:
        """How the group is declared; None where it is no queue group (any more)."""
        declared = self.groups.declared(group)
        if declared is None or declared.mode != QUEUE_MODE:
            return None
        return declared.queue or QueueSettings()

    def topics(self, group: str) -> tuple[str, ...]:
        """What the group is declared for."""
        declared = self.groups.declared(group)
        return () if declared is None else declared.topics
