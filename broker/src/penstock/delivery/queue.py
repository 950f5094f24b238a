"""One partition of a queue group: which messages are settled, and what is known of those that are not.

interface only
"""

from __future__ import annotations

import msgspec


class Open(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message that was granted and is not settled: held when `lease_id` is not 0, else it waits. Messages that went
    the same way share one."""

    deliveries: int
    """Grants that count."""
    lease_id: int
    member: str
    at_ms: int
    """When the lease runs out, or the wait is over, by the clock of the leader that wrote it."""
    duration_ms: int
    """How long the lease or the wait is: another leader starts it anew."""
    first_failure_ms: int = -1
    cause: str = ""
    """Why the last delivery failed: REJECTED or EXPIRED, empty before the first failure."""

    @property
    def held(self) -> bool:
        return self.lease_id != 0


class Counts(msgspec.Struct, frozen=True):
    """held, waiting, dying (on their way to the dead letters)."""

    held: int
    waiting: int
    dying: int


class Queue:
    """State of (group, topic, partition)."""

    group: str
    topic: str
    partition: int
    floor: int
    """Every message below is settled."""
    fresh_from: int
    """The first message that was never granted, as committed. All from here on are fresh."""
    moving: bool
    """An entry in flight sets the position or drops the queue: nothing is decided until it is committed."""

    def get(self, offset: int) -> Open | None:
        """The message as committed, None when it is settled or was never granted."""
        ...

    def is_busy(self, offset: int) -> bool:
        """Whether an entry in flight is about this granted message."""
        ...

    def counts(self) -> Counts:
        """Of what is committed. Looks at every open message."""
        ...

    @property
    def open_count(self) -> int:
        """Messages held or waiting, as committed."""
        ...

    def unsettled(self, high_watermark: int) -> int:
        """The lag: messages below the high watermark that are not settled."""
        ...

    def oldest_unsettled(self, high_watermark: int) -> int | None:
        """The lowest offset that is not settled, None when there is none below the high watermark."""
        ...

    def next_expiry_ms(self, now_ms: int) -> int | None:
        """When the next lease runs out, None while nothing is held. Only on the leader: the first question about time in a
        leadership starts every lease anew."""
        ...

    def next_due_ms(self, now_ms: int) -> int | None:
        """When the next waiting message is due; it may be in the past. Only on the leader."""
        ...
