"""How a queue group delivers: how long a lease lasts, when a failed message comes again, when it is given up.

Both the declaration of a group and the decisions about its messages speak of these, so they stand below both.
"""

from __future__ import annotations

import msgspec

LEASE_MS_MIN = 1
LEASE_MS_MAX = 12 * 3_600_000
"""Half a day: whoever works longer on one message extends its lease."""
IN_FLIGHT_MAX = 100_000
"""The most that `in_flight_max` may be: each message in flight takes some hundred bytes on every replica."""
DELIVERIES_MAX = 1_000
DELAY_MS_MAX = 24 * 3_600_000
"""The longest wait before a message comes again, by back-off or by request."""
FACTOR_MAX = 100.0


class Backoff(msgspec.Struct, frozen=True, gc=False):
    """The wait after the n-th counted delivery: `initial_ms` * `factor`^(n-1), at most `max_ms`, then up to the part
    `jitter` of it longer, so that what failed together does not come back together."""

    initial_ms: int = 10_000
    factor: float = 2.0
    max_ms: int = 2 * 3_600_000
    jitter: float = 0.1

    def delay_ms(self, deliveries: int, chance: float) -> int:
        """The wait after `deliveries` of them; `chance` in [0, 1) is where in the jitter it falls."""
        delay = float(self.initial_ms)
        for _ in range(deliveries - 1):
            delay *= self.factor
            if delay >= self.max_ms or self.factor <= 1.0:
                break
        return int(min(delay, self.max_ms) * (1.0 + self.jitter * chance))


class QueueSettings(msgspec.Struct, frozen=True, gc=False):
    """What a queue group is declared with. `dead_letter_topic` None means the topic named after the group."""

    lease_ms: int = 30_000
    """How long a lease lasts that does not say so itself."""
    in_flight_max: int = 10_000
    """Messages of the group, in all partitions, that are leased, wait to come again, or are on their way to the dead
    letters. No new one is granted beyond it."""
    deliveries_max: int = 16
    """After so many grants a message that fails again goes to the dead letters."""
    backoff: Backoff = Backoff()
    dead_letter_topic: str | None = None

    def dead_topic(self, group: str) -> str:
        """Where this group's dead letters go."""
        return self.dead_letter_topic or f"{group}.dlq"


def why_refused(settings: QueueSettings) -> str | None:
    """Why a group cannot be declared like this, as a sentence for the person who wrote it; None when it can."""
    backoff = settings.backoff
    bounds: tuple[tuple[str, float, float, float], ...] = (
        ("lease.duration in ms", settings.lease_ms, LEASE_MS_MIN, LEASE_MS_MAX),
        ("lease.maxInFlight", settings.in_flight_max, 1, IN_FLIGHT_MAX),
        ("retry.maxDeliveries", settings.deliveries_max, 1, DELIVERIES_MAX),
        ("retry.backoff.initial in ms", backoff.initial_ms, 0, DELAY_MS_MAX),
        ("retry.backoff.factor", backoff.factor, 1.0, FACTOR_MAX),
        ("retry.backoff.max in ms", backoff.max_ms, 0, DELAY_MS_MAX),
        ("retry.backoff.jitter", backoff.jitter, 0.0, 1.0),
    )
    for name, value, least, most in bounds:
        if not least <= value <= most:
            return f"{name} is {value}: it must be from {least} to {most}"
    return None
