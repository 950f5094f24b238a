"""A shard in mode MasterSlave under every fault that its election promises to survive, from one seed.

Brokers are killed, stand still, lose their disks' answers and each other; requests to the Lease are late, lost before or
after they took effect, or take effect after they were given up; the API server goes away, for all or for one; somebody
removes the Lease or puts an old one in its place; an operator releases it after a crash; leadership is handed over. Clocks
run at different rates from different beginnings, wall clocks are wrong. What is never made: an answer of the API server
that is older than the question, because it promises that for one object.

Checked after every step: one broker at most would acknowledge; and when one becomes master: its epoch is above all before
and on its disk, it was in the set that the Lease named, it holds all that was acknowledged (or, where that is allowed, has
told of a loss), and whoever led before it has ended. At the end, made whole again, the shard has a master, everybody is in
sync, and something new is acknowledged.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from master_faults import HUNG_MS_MAX, KINDS, Faults
from master_process import TICK_MS, TIMING, Append, Appended, Process, Volume
from penstock.replication.master_lease import LeaseRecord, Unavailable, Unknown
from penstock.replication.master_outputs import Create, Read, Write
from penstock.replication.takeover import FailoverPolicy, Replication
from penstock.testing.lease_server import Answer
from penstock.testing.simulated_cluster.checks import Violation

LIFE_MS = 60_000
HEALING_MS = 30_000
PRODUCE_MS = 60
EVENTS_KEPT = 40
# Who stood still has to do something before it can end.
AWAKE_MS = 3 * TICK_MS


@dataclass(frozen=True)
class Shape:
    """What does not change in one life."""

    brokers: int
    policy: FailoverPolicy
    drift: float
    operator: bool


def shape_of(chance: Random) -> Shape:
    brokers = chance.choice((2, 3))
    replication = chance.choice((Replication.SYNC, Replication.SYNC, Replication.ASYNC))
    lossy = replication is Replication.ASYNC and chance.random() < 0.5
    policy = FailoverPolicy(
        replication=replication,
        min_in_sync=chance.choice((1, brokers - 1)),
        max_lag=5 if lossy else 0,
        allow_data_loss=lossy,
    )
    return Shape(brokers, policy, drift=0.02, operator=chance.random() < 0.5)


class World:
    """One life. `now` is the true time, in milliseconds."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.shape = shape_of(self.chance)
        self.members = range(1, self.shape.brokers + 1)
        self.now = 0
        self.acknowledged: tuple[int, ...] = ()
        self.acknowledged_count = 0
        # What happened, for who asks whether anything did.
        self.masters = 0
        self.losses = 0
        self.epoch = 0
        self.events: deque[str] = deque(maxlen=EVENTS_KEPT)
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._starts = itertools.count(1)
        self._entries = itertools.count(1)
        self.faults = Faults(self)
        self.server = self.faults.server
        self.store = self.server.lease
        self.server.on_written = self._written
        self.processes = {
            member: Process(self, Volume(member), next(self._starts)) for member in self.members
        }

    # --- time ------------------------------------------------------------------------------------

    def at(self, when: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (max(when, self.now), next(self._order), action))

    def later(self, delay: int, action: Callable[[], None]) -> None:
        self.at(self.now + delay, action)

    def run(self, until: int) -> None:
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
            self._check()
        self.now = until

    def note(self, text: str) -> None:
        self.events.append(f"{self.now:>6} {text}")

    def violated(self, what: str) -> Violation:
        return Violation(f"seed {self.seed}, {self.now} ms: {what}\n" + "\n".join(self.events))

    # --- a life ----------------------------------------------------------------------------------

    def live(self) -> None:
        for process in self.processes.values():
            self.started(process)
        self._produce()
        for _ in range(self.chance.randrange(4, 12)):
            kind = self.chance.choice(KINDS)
            self.at(self.chance.randrange(2000, LIFE_MS), lambda kind=kind: self.faults.strike(kind))  # type: ignore[misc]
        self.run(LIFE_MS)
        self.faults.heal()
        before = self.acknowledged_count
        self.run(LIFE_MS + HEALING_MS)
        leaders = [process for process in self.processes.values() if process.acknowledges]
        if len(leaders) != 1 or self.acknowledged_count == before:
            raise self.violated(f"it did not recover: {leaders}, {self.store.record}")
        record = self.store.record
        if record is None or record.in_sync != frozenset(self.members):
            raise self.violated(f"not everybody is in sync again: {record}")

    def started(self, process: Process) -> None:
        self.later(self.chance.randrange(TICK_MS), lambda: self._tick(process))

    def _tick(self, process: Process) -> None:
        if process.alive and not process.paused:
            process.tick()
            self.later(self.chance.randrange(TICK_MS // 2, TICK_MS), lambda: self._tick(process))

    def _produce(self) -> None:
        for process in self.processes.values():
            if process.acknowledges:
                process.produce(next(self._entries))
        self.later(PRODUCE_MS, self._produce)

    # --- what brokers ask for --------------------------------------------------------------------

    def to(self, process: Process, action: Callable[[], None]) -> None:
        """Something reaches a process; one that stands still meets it when it goes on."""
        if not process.alive:
            return
        if process.paused:
            process.backlog.append(action)
        else:
            action()

    def on_disk(self, process: Process, action: Callable[[], None]) -> None:
        def done() -> None:
            if process.alive and process.hung_since_true is not None:
                self.later(20, done)
            else:
                self.to(process, action)

        self.later(self.chance.randrange(1, 15), done)

    def send(self, process: Process, member: int, message: Append | Appended) -> None:
        if self.faults.apart(process.member, member):
            return
        delay = self.chance.randrange(1, 15)
        self.later(delay, lambda: self.to(self.processes[member], lambda: self._receive(member, message)))

    def _receive(self, member: int, message: Append | Appended) -> None:
        if self.processes[member].alive:
            self.processes[member].received(message)

    def exchange(self, process: Process, asked: Read | Create | Write) -> None:
        """Goes to the API server and back, if it does; given up after the timeout of the process's own clock."""
        process.exchange += 1
        number = process.exchange

        def answer(result: Answer) -> None:
            self.to(process, lambda: self._answer(process, number, asked, result))

        self.server.ask(process.member, asked, process.wall_us, answer)
        self.later(process.true_ms(TIMING.request_timeout_ms), lambda: answer(None))

    def _written(self, before: LeaseRecord | None, record: LeaseRecord) -> None:
        self.note(
            f"lease {record.holder} e{record.epoch} {set(record.in_sync)} -> {record.pending} {record.released}"
        )
        member = int(record.holder[0])
        if before is not None and before.holder != record.holder and member not in before.in_sync:
            raise self.violated(f"{record.holder} took over, and the set was {before.in_sync}")
        if before is not None and record.epoch == before.epoch and record.in_sync != before.in_sync:
            self.faults.set_changes(member)

    def _answer(
        self,
        process: Process,
        number: int,
        asked: Read | Create | Write,
        result: Answer,
    ) -> None:
        if process.exchange != number or not process.alive:
            return
        process.exchange += 1
        if isinstance(asked, Read):
            process.election.observed(result or Unavailable("no answer"), process.clock)  # type: ignore[arg-type]
        else:
            outcome = result or Unknown("no answer")
            process.election.written(asked.request_id, outcome, process.clock)  # type: ignore[arg-type]
        process.carry_out()

    # --- what brokers tell -----------------------------------------------------------------------

    def became_master(self, process: Process, epoch: int) -> None:
        self.note(f"master {process.member} e{epoch} with {len(process.volume.log)} entries")
        if epoch <= self.epoch:
            raise self.violated(f"epoch {epoch} is not above {self.epoch}")
        if process.volume.epoch != epoch:
            raise self.violated(f"epoch {epoch} is not on the disk, which has {process.volume.epoch}")
        for other in self.processes.values():
            ought_to_know = other.awake_since_true + AWAKE_MS < self.now and not other.paused
            if other is not process and other.alive and other.leading is not None and ought_to_know:
                raise self.violated(f"{other.member} leads while {process.member} begins to")
        self.epoch = epoch
        self.masters += 1
        self._check_acknowledged(process)

    def _check_acknowledged(self, process: Process) -> None:
        log = process.volume.log
        if log[: len(self.acknowledged)] == self.acknowledged:
            return
        if process.loss_told and self.shape.policy.allow_data_loss:
            same = itertools.takewhile(
                lambda pair: pair[0] == pair[1], zip(log, self.acknowledged, strict=False)
            )
            self.acknowledged = tuple(entry for entry, _ in same)
            self.losses += 1
            return
        raise self.violated(f"{process.member} became master without all that was acknowledged")

    def acknowledge(self, process: Process, entries: tuple[int, ...]) -> None:
        if entries[: len(self.acknowledged)] != self.acknowledged:
            raise self.violated(f"{process.member} acknowledges a log without what was acknowledged before")
        self.acknowledged_count += len(entries) - len(self.acknowledged)
        self.acknowledged = entries

    def exited(self, process: Process, why: str) -> None:
        self.note(f"exit {process.member}: {why}")
        self.end(process, self.chance.randrange(100, 1000))

    def end(self, process: Process, restart_after: int) -> None:
        process.alive = False
        process.leading = None

        def restart() -> None:
            fresh = Process(self, process.volume, next(self._starts))
            # Its disk is the same one.
            fresh.hung_since_true = process.hung_since_true
            self.processes[process.member] = fresh
            fresh.carry_out()
            self.started(fresh)

        self.later(restart_after, restart)

    def _check(self) -> None:
        acknowledging = [process for process in self.processes.values() if process.acknowledges]
        if len(acknowledging) > 1:
            raise self.violated(f"{[process.member for process in acknowledging]} acknowledge at once")
        for process in acknowledging:
            hung = process.hung_since_true
            if hung is not None and self.now - hung > HUNG_MS_MAX * (1 + self.shape.drift) + TICK_MS:
                raise self.violated(
                    f"{process.member} leads with a disk that has hung for {self.now - hung} ms"
                )


def run_life(seed: int) -> World:
    """Raises Violation."""
    world = World(seed)
    world.live()
    return world
