"""Giving the leadership to another member, and waiting until it leads."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from penstock.raft.messages import Refusal
from penstock.runtime.links import Links
from penstock.runtime.replica import Replica

# Election timeouts that a hand-over, and the election of the new leader, may take.
HAND_OVER_TIMEOUTS = 3


class Giver(Protocol):
    """Who gives the leadership away: the replica, or its mastership."""

    def hand_over(self, to: int) -> Refusal | None: ...


class HandingOver:
    """See the module's text."""

    def __init__(self, replica: Replica, giver: Giver, links: Links, election_timeout_ms: int) -> None:
        self._replica = replica
        self._giver = giver
        self._links = links
        self._seconds_max = HAND_OVER_TIMEOUTS * election_timeout_ms / 1000

    async def hand_over(self, to: int) -> Refusal | None:
        """Gives the leadership to a voter, or says why not. Returns once it moved."""
        if not self._reaches(to):
            return Refusal("the other broker cannot be reached")
        refusal = self._giver.hand_over(to)
        if refusal is not None:
            return refusal
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds_max):
                await self._replica.settling.until(lambda: self._replica.settled or not self._reaches(to))
        return Refusal("the other broker did not take it") if self._replica.is_leader else None

    def _reaches(self, member: int) -> bool:
        return any(greeting.member == member for greeting in self._links.members())
