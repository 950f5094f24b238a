"""What goes wrong in a run, and when: drawn from a seed, printable, and carried out one fault after the other.

Drawing is a function of the seed. When a fault begins and passes is told in operations of the clients, not in seconds, so
that it means the same on every machine; and it names its target by role, because who leads is known only when it happens.
Carrying out means signals to brokers that the test started, and cables of a network that the test made.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lin_workload import Workload
    from penstock.testing.fault_network import FaultNetwork
    from penstock.testing.shard_processes import ShardProcesses

KILL, PAUSE = "kill -9", "SIGSTOP"
CUT, CUT_FROM, CUT_TO, ISOLATE = "cut off", "not heard", "hears nothing", "cut off, from clients too"
LOSS, LOSS_AND_KILL = "packet loss", "packet loss and kill -9"
NETWORK = (CUT, CUT_FROM, CUT_TO, ISOLATE, LOSS, LOSS_AND_KILL)
LEADER, FOLLOWER, ANYBODY = "the leader", "a follower", "anybody"

LOSS_RANGE = (0.1, 0.2)
PROGRESS_TIMEOUT_S = 30.0
"""Within this time what a fault waits for must have happened, and appends must be acknowledged again after it."""


@dataclass(frozen=True)
class Fault:
    """Once `after` more appends are acknowledged, `kind` befalls `target`; `loss` is a part of all packets.

    It passes when `lasts` more appends are acknowledged, and where it befell the leader only after another one leads. A
    broker that is alone acknowledges none meanwhile: there, when so many operations more have ended in any way.
    """

    kind: str
    target: str
    after: int
    lasts: int
    loss: float = 0.0

    def __str__(self) -> str:
        loss = f" of {self.loss:.0%}" if self.loss else ""
        return f"after {self.after} appends: {self.kind}{loss}, {self.target}, for {self.lasts} more"

    @property
    def deposes(self) -> bool:
        """Whether its target cannot go on leading several brokers."""
        return self.kind != LOSS


def draw(
    seed: int,
    kinds: Sequence[tuple[str, str]],
    *,
    after: tuple[int, int] = (10, 80),
    lasts: tuple[int, int] = (20, 60),
) -> list[Fault]:
    """One fault of each (kind, target) in an order of the seed; the pairs of numbers are bounds of when they begin and
    how long they last."""
    random = Random(seed)
    faults = []
    for kind, target in random.sample(kinds, len(kinds)):
        loss = random.uniform(*LOSS_RANGE) if kind in (LOSS, LOSS_AND_KILL) else 0.0
        faults.append(Fault(kind, target, random.randint(*after), random.randint(*lasts), loss))
    return faults


class Faults:
    """Carries them out on a shard. `network` is needed for those of `NETWORK` alone."""

    def __init__(
        self, shard: ShardProcesses, workload: Workload, seed: int, network: FaultNetwork | None = None
    ) -> None:
        self._shard = shard
        self._workload = workload
        self._network = network
        self._random = Random(seed)
        self.done: list[str] = []
        """What happened to whom."""

    async def carry_out(self, faults: Sequence[Fault]) -> None:
        """One after the other; after each, appends must be acknowledged again. Raises TimeoutError, ServerError."""
        for fault in faults:
            await self._workload.until_appended(fault.after, PROGRESS_TIMEOUT_S)
            leader, victim = await self._choose(fault.target)
            self.done.append(f"{fault} (broker {victim}, broker {leader} led)")
            await self._begin(fault, victim)
            await self._wait(fault, leads=leader == victim, victim=victim)
            await self._end(fault, victim)
            await self._workload.until_all_appended(PROGRESS_TIMEOUT_S)

    async def _choose(self, target: str) -> tuple[int, int]:
        """(who leads, whom it befalls)."""
        # Of two brokers and a Lease the other one may take over only once it is named in sync again after the last fault.
        leader = await asyncio.to_thread(self._shard.leader_with_heir)
        others = [number for number in range(self._shard.replicas) if number != leader]
        if target == LEADER or not others:
            return leader, leader
        return leader, self._random.choice(others if target == FOLLOWER else [leader, *others])

    async def _wait(self, fault: Fault, *, leads: bool, victim: int) -> None:
        if self._shard.replicas == 1:
            await self._workload.until_ended(fault.lasts, PROGRESS_TIMEOUT_S)
            return
        if leads and fault.deposes:
            # Not to be left in the middle: the thread would go on asking.
            await asyncio.to_thread(self._shard.leader, other_than=victim, timeout_s=PROGRESS_TIMEOUT_S)
        await self._workload.until_appended(fault.lasts, PROGRESS_TIMEOUT_S)

    async def _begin(self, fault: Fault, victim: int) -> None:
        if fault.loss:
            await asyncio.to_thread(self._cables.lose, fault.loss)
        if fault.kind in (KILL, LOSS_AND_KILL):
            await asyncio.to_thread(self._shard.kill, victim)
        elif fault.kind == PAUSE:
            self._shard.pause(victim)
        elif fault.kind != LOSS:
            await asyncio.to_thread(self._separate, fault.kind, victim)

    async def _end(self, fault: Fault, victim: int) -> None:
        if fault.kind in (KILL, LOSS_AND_KILL):
            await asyncio.to_thread(self._shard.restart, victim)
        elif fault.kind == PAUSE:
            self._shard.resume(victim)
        if fault.kind in NETWORK:
            await asyncio.to_thread(self._cables.heal)

    def _separate(self, kind: str, victim: int) -> None:
        others = [number for number in range(self._shard.replicas) if number != victim]
        for other in others:
            if kind != CUT_TO:
                self._cables.cut(victim, other)
            if kind != CUT_FROM:
                self._cables.cut(other, victim)
        if kind == ISOLATE:
            self._cables.cut_clients(victim)

    @property
    def _cables(self) -> FaultNetwork:
        assert self._network is not None, "this fault needs a network of its own"
        return self._network
