"""Stands for election when the leader's process has ended: the timer and the messages of `replication.succession`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from penstock.raft.messages import VoteRequest, VoteResponse
from penstock.replication.succession import Succession
from penstock.runtime.replica import Replica


class Successor:
    """`can_lead` says whether the log has room for what a leader writes first; `lasting_seconds` is how long to try."""

    def __init__(
        self,
        replica: Replica,
        chance: random.Random,
        *,
        can_lead: Callable[[], bool],
        lasting_seconds: float,
    ) -> None:
        self._replica = replica
        self._chance = chance
        self._can_lead = can_lead
        self._lasting = lasting_seconds
        self._rules = Succession(replica.own_member)
        self._timer: asyncio.TimerHandle | None = None
        replica.on_vote = self._noted

    def leader_is_gone(self, voters: Sequence[int], rank: int) -> None:
        """Its connection to here ended; `rank` of the other voters come before this one."""
        now = asyncio.get_running_loop().time()
        held = self._rules.begin(now, voters, rank, lasting=self._lasting, chance=self._chance.random())
        self._replica.leader_is_gone()
        for request in held:
            self._replica.step(request)
        self._go_on()

    def close(self) -> None:
        """Stands no more."""
        self._rules.end()
        self._arm()

    def _noted(self, message: VoteRequest | VoteResponse) -> None:
        now = asyncio.get_running_loop().time()
        if self._replica.core.leader:
            if isinstance(message, VoteRequest) and message.sender != self._replica.own_member:
                self._rules.heard(message, now)
            return
        self._rules.noted(message, now, self._chance.random())
        self._arm()

    def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        if self._replica.core.leader:
            self._rules.end()
        elif self._rules.stands(loop.time(), self._chance.random()) and self._can_lead():
            self._replica.campaign()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._rules.due
        self._timer = None if due is None else asyncio.get_running_loop().call_at(due, self._go_on)
