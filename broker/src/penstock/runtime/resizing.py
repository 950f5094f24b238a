"""How many brokers the shard should have: asking for it, knowing it, and letting brokers go that are too many.

The number stands in the log, so that every leader goes by it, also one that was started from an older configuration
file; the file's counts until somebody asks for another. A broker that came since a peer was started is found by that
peer because it says in its greeting where it is reached: nobody is restarted for it. Which step may be taken is decided
in `replication.leaving`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet

from penstock.model.errors import ErrorCode, PenstockError
from penstock.raft.messages import Refusal
from penstock.replication.features import RESIZED_LEVEL
from penstock.replication.leaving import Demand, Departure, GiveLead, Hold, next_departure
from penstock.replication.members import ShardResized
from penstock.replication.membership import Change, Roster
from penstock.runtime.links import Links
from penstock.runtime.shard import Shard

logger = logging.getLogger(__name__)


class Resizing:
    """`replicas` is the configuration file's; `hand_over` gives the leadership to a member. `demand` tells how many copies
    in sync writes need."""

    def __init__(
        self,
        shard: Shard,
        links: Links,
        replicas: int,
        hand_over: Callable[[int], Awaitable[Refusal | None]],
    ) -> None:
        self._shard = shard
        self._links = links
        self.file_replicas = replicas
        self._hand_over = hand_over
        self._handing_over: asyncio.Task[None] | None = None
        self.demand: Callable[[], Demand] = Demand

    @property
    def replicas(self) -> int:
        """The brokers that the shard should have."""
        return self._shard.machines.members.replicas or self.file_replicas

    @property
    def wanted(self) -> AbstractSet[int]:
        """Their places, by ordinal."""
        return set(range(self.replicas))

    async def ask(self, replicas: int) -> None:
        """Leader: the shard should have so many brokers; returns when that is committed. Brokers that are too many then go
        one after the other. Raises PenstockError."""
        self._shard.check_leading()
        members = self._shard.machines.members
        if members.level < RESIZED_LEVEL:
            raise PenstockError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"the shard uses feature level {members.level}, and the number of its brokers can change from {RESIZED_LEVEL}"
                " on: upgrade all its brokers first, and have those that are away come back",
            )
        if members.replicas != replicas:
            logger.info("the shard is to have %d brokers, not %d", replicas, self.replicas)
            await self._shard.propose([ShardResized(replicas)])

    def departure(self, roster: Roster, in_sync: AbstractSet[int]) -> Departure | None:
        """Leader: what comes next for brokers that are too many; None when there are none."""
        if all(roster.ordinals.get(voter, 0) in roster.wanted for voter in roster.voters):
            return None
        return next_departure(roster, in_sync, self.demand())

    def sentence(self, roster: Roster, in_sync: Sequence[int]) -> tuple[str, bool]:
        """The same for people, and whether somebody has to change what is asked for first; empty when there is nothing."""
        step = self.departure(roster, set(in_sync))
        return ("", False) if step is None else (step.reason, isinstance(step, Hold) and step.refused)

    def let_go(self, roster: Roster, in_sync: AbstractSet[int]) -> Change | None:
        """Leader: the change of the members to propose now; a hand-over is begun here."""
        step = self.departure(roster, in_sync)
        if isinstance(step, GiveLead) and self._handing_over is None:
            logger.info("handing over, because %s", step.reason)
            self._handing_over = asyncio.get_running_loop().create_task(self._give_lead(step.member))
        return step if isinstance(step, Change) else None

    async def _give_lead(self, member: int) -> None:
        try:
            refusal = await self._hand_over(member)
            if refusal is not None:
                logger.warning("the leadership stays here for now: %s", refusal.sentence)
        finally:
            self._handing_over = None

    def why_apart(self, own: int, ordinal: int) -> str | None:
        """Why nobody leads this broker, member `own`: it is not wanted, or a leader said that it is no member. What its log
        tells of that may not be known to be committed."""
        if ordinal not in self.wanted:
            return f"the shard is to have {self.replicas} brokers, and this one is not among them"
        leading = (greeting for greeting in self._links.members() if greeting.leads)
        found = next((greeting.name for greeting in leading if own not in greeting.members), None)
        return None if found is None else f"{found} leads the shard, and this broker is no member of it"

    def reach_peers(self, heard: Callable[[int], bool]) -> None:
        """Connects to the brokers that should be there, to those that still are members, and to those that are `heard`, by member:
        where this log ends too early to know them, a leader or a candidate among them waits for an answer. Others are not
        waited for."""
        members = self._shard.machines.members
        known = members.announcements.committed
        configured = {known[member].ordinal for member in members.configuration.members if member in known}
        self._links.dial_only(self.wanted | configured | self._links.callers(heard))

    async def close(self) -> None:
        """Ends a hand-over that is under way."""
        if self._handing_over is not None:
            self._handing_over.cancel()
            await asyncio.gather(self._handing_over, return_exceptions=True)
