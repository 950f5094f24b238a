"""Giving the leadership to another member, and waiting until it leads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Protocol

from penstock.raft.messages import Refusal
from penstock.replication.membership import Standing
from penstock.runtime.links import Links
from penstock.runtime.replica import Replica

# Election timeouts that a hand-over, and the election of the new leader, may take.
HAND_OVER_TIMEOUTS = 3


class Giver(Protocol):
    """Who gives the leadership away: the replica, or its mastership."""

    def hand_over(self, to: int) -> Refusal | None: ...


class HandingOver:
    """See the module's text. `standings` tells how the other members do."""

    def __init__(
        self,
        replica: Replica,
        giver: Giver,
        links: Links,
        standings: Callable[[], Mapping[int, Standing]],
        election_timeout_ms: int,
    ) -> None:
        self._replica = replica
        self._giver = giver
        self._links = links
        self._standings = standings
        self._seconds_max = HAND_OVER_TIMEOUTS * election_timeout_ms / 1000

    async def hand_over(self, to: int | None = None) -> Refusal | None:
        """Gives the leadership to `to`, or to the follower that holds most; or says why not. Returns once it moved."""
        connected = self._connected()
        candidates = sorted(
            (
                (standing.match, member)
                for member, standing in self._standings().items()
                if standing.active and member in connected
            ),
            reverse=True,
        )
        voters = self._replica.core.configuration.voters
        chosen = to or next((member for _, member in candidates if member in voters), 0)
        if not chosen:
            return Refusal("no other voter can be reached")
        if chosen not in connected:
            return Refusal("the other broker cannot be reached")
        refusal = self._giver.hand_over(chosen)
        if refusal is not None:
            return refusal
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds_max):
                await self._replica.settling.until(
                    lambda: self._replica.settled or chosen not in self._connected()
                )
        return Refusal("the other broker did not take it") if self._replica.is_leader else None

    def _connected(self) -> set[int]:
        return {greeting.member for greeting in self._links.members()}
