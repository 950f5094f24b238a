"""What goes wrong in a run, and when: drawn from a seed, printable, and carried out one fault after the other.

Drawing is a function of the seed. A fault names its target by role, because who leads is known only when it happens.
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
SIGNALS = (KILL, PAUSE)
NETWORK = (CUT, CUT_FROM, CUT_TO, ISOLATE, LOSS, LOSS_AND_KILL)
LEADER, FOLLOWER, ANYBODY = "the leader", "a follower", "anybody"

PROGRESS_TIMEOUT_S = 30.0
"""Within this time after a fault has passed, appends must be acknowledged again."""


@dataclass(frozen=True)
class Fault:
    """`quiet_s` after the last one ended, `kind` befalls `target` for `for_s`; `loss` is a part of all packets."""

    kind: str
    target: str
    quiet_s: float
    for_s: float
    loss: float = 0.0

    def __str__(self) -> str:
        loss = f" of {self.loss:.0%}" if self.loss else ""
        return f"after {self.quiet_s:.2f} s: {self.kind}{loss}, {self.target}, for {self.for_s:.2f} s"


def draw(
    seed: int,
    count: int,
    *,
    kinds: Sequence[str] = SIGNALS,
    targets: Sequence[str] = (LEADER,),
    for_s: tuple[float, float] = (0.3, 1.5),
    quiet_s: tuple[float, float] = (0.1, 0.6),
) -> list[Fault]:
    """`count` faults of these kinds; the pairs are bounds of their lengths, and of the time before each. Every kind comes up before one comes up again, so that a short run misses none."""
    random = Random(seed)
    faults: list[Fault] = []
    kinds_left: list[str] = []
    for _ in range(count):
        if not kinds_left:
            kinds_left = random.sample(kinds, len(kinds))
        kind = kinds_left.pop()
        loss = random.uniform(0.1, 0.2) if kind in (LOSS, LOSS_AND_KILL) else 0.0
        faults.append(
            Fault(kind, random.choice(targets), random.uniform(*quiet_s), random.uniform(*for_s), loss)
        )
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
            await asyncio.sleep(fault.quiet_s)
            victim = await self._victim(fault.target)
            self.done.append(f"{fault} (broker {victim})")
            await self._begin(fault, victim)
            await asyncio.sleep(fault.for_s)
            await self._end(fault, victim)
            await self._workload.progress(PROGRESS_TIMEOUT_S)

    async def _victim(self, target: str) -> int:
        leader = await asyncio.to_thread(self._shard.leader)
        others = [number for number in range(self._shard.replicas) if number != leader]
        if target == LEADER or not others:
            return leader
        return self._random.choice(others if target == FOLLOWER else [leader, *others])

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
