"""Who has been there longest: such a broker leads next, for clients are connected to it already.

A client that lost its connection to a broker tries again at growing intervals (librdkafka up to 10 s apart, the Java client up
to 1 s). Should a broker lead that has just come back, such a client writes nothing until it tries that one again, long
after the shard is well. So brokers tell each other, when they connect, how long they have been running.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

# Brokers that started within this time of each other are alike: what each of them knows of the others' start is as old as
# a greeting was under way, and they must agree on who comes first.
ALIKE_MS = 1000


class Seniority:
    """What one broker knows. Times are in milliseconds of its own clock, which never goes back."""

    def __init__(self, own: int, now_ms: int) -> None:
        self._own = own
        self._started = {own: now_ms}

    def up_ms(self, now_ms: int) -> int:
        """How long this broker has been running, to be told to others."""
        return now_ms - self._started[self._own]

    def met(self, member: int, up_ms: int, now_ms: int) -> None:
        """A member said, just now, that it has been running for `up_ms`."""
        self._started[member] = now_ms - up_ms

    def left(self, member: int) -> None:
        """Nothing can be sent to it any more."""
        self._started.pop(member, None)

    def rank(self, members: Collection[int]) -> int:
        """How many of these members that can be reached come before this one; of those that are alike, by id."""
        return sum(self._is_before(member) for member in members if member != self._own)

    def _is_before(self, member: int) -> bool:
        started = self._started.get(member)
        if started is None:
            return False
        earlier_ms = self._started[self._own] - started
        return earlier_ms > ALIKE_MS or (earlier_ms >= -ALIKE_MS and member < self._own)

    def heir(self, voters: Mapping[int, Heir]) -> int:
        """Who is to lead next of these other voters, or 0 for nobody: one that is in sync, then who has been there longest,
        then who holds most. Who cannot be reached is passed over."""
        candidates = [
            (each.in_sync, -(self._started[member] // ALIKE_MS), each.match, member)
            for member, each in voters.items()
            if member in self._started and member != self._own
        ]
        return max(candidates)[-1] if candidates else 0


class Heir(msgspec.Struct, frozen=True):
    """How a voter does that may lead next: whether it is sent the log as it grows, and how far it holds it."""

    in_sync: bool
    match: int
