"""What is known of a message that was granted: while it is not settled, and while it is on its way to the dead letters."""

from __future__ import annotations

import msgspec


class Open(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Not settled. It is held when `lease_id` is not 0, else it waits. Messages that went the same way share one of these."""

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
    """Why the last counted delivery failed: REJECTED or EXPIRED; empty before the first failure."""

    @property
    def held(self) -> bool:
        """Whether somebody has a lease of it."""
        return self.lease_id != 0


class DeadLetter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message on its way to a dead-letter topic, as number `sequence` of the group's there, with what its headers say."""

    sequence: int
    topic: str
    partition: int
    offset: int
    deliveries: int
    cause: str
    """REJECTED or EXPIRED: how the last delivery ended."""
    first_failure_ms: int
    last_failure_ms: int
    gone: bool = False
    """Its topic was deleted: another one of that name holds other messages."""
