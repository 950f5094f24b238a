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

import msgspec

from master_process import TICK_MS, TIMING, Append, Appended, Process, Volume
from penstock.replication.master_lease import (
    Conflict,
    LeaseRecord,
    Missing,
    Observation,
    Release,
    Stored,
    Unavailable,
    Unknown,
    WriteOutcome,
)
from penstock.replication.master_outputs import Create, Read, Write
from penstock.replication.takeover import FailoverPolicy, Replication
from penstock.testing.memory_lease import MemoryLease

LIFE_MS = 60_000
HEALING_MS = 30_000
PRODUCE_MS = 60
EVENTS_KEPT = 40
# A hung disk ends a leadership within this time: no renewal after the first, no acknowledging after the second.
HUNG_MS_MAX = TIMING.log_stall_ms_max + TIMING.renew_interval_ms + TIMING.duration_ms
# Who stood still has to do something before it can end.
AWAKE_MS = 3 * TICK_MS
KINDS = ("kill", "pause", "hang", "api", "cut_off", "slow", "partition", "hand_over", "remove", "restore")


class Violation(Exception):  # noqa: N818  what happened is no error of this program
    """A promise was broken."""


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
        self.store = MemoryLease()
        self.acknowledged: tuple[int, ...] = ()
        self.acknowledged_count = 0
        # What happened, for who asks whether anything did.
        self.masters = 0
        self.losses = 0
        self.released_by_operator = 0
        self.faults_met: set[str] = set()
        self.epoch = 0
        self.events: deque[str] = deque(maxlen=EVENTS_KEPT)
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._starts = itertools.count(1)
        self._entries = itertools.count(1)
        self._history: list[LeaseRecord] = []
        # Until when, by fault.
        self._api_away_until = 0
        self._slow_until = 0
        self._cut_off: dict[int, int] = {}
        self._partitioned: dict[frozenset[int], int] = {}
        self._healed = False
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
            self._started(process)
        self._produce()
        for _ in range(self.chance.randrange(4, 12)):
            kind = self.chance.choice(KINDS)
            self.at(self.chance.randrange(2000, LIFE_MS), lambda kind=kind: self._fault(kind))  # type: ignore[misc]
        self.run(LIFE_MS)
        self._heal()
        before = self.acknowledged_count
        self.run(LIFE_MS + HEALING_MS)
        leaders = [process for process in self.processes.values() if process.acknowledges]
        if len(leaders) != 1 or self.acknowledged_count == before:
            raise self.violated(f"it did not recover: {leaders}, {self.store.record}")
        record = self.store.record
        if record is None or record.in_sync != frozenset(self.members):
            raise self.violated(f"not everybody is in sync again: {record}")

    def _started(self, process: Process) -> None:
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
        if self._partitioned.get(frozenset({process.member, member}), 0) > self.now:
            return
        delay = self.chance.randrange(1, 15)
        self.later(delay, lambda: self.to(self.processes[member], lambda: self._receive(member, message)))

    def _receive(self, member: int, message: Append | Appended) -> None:
        if self.processes[member].alive:
            self.processes[member].received(message)

    def exchange(self, process: Process, asked: Read | Create | Write) -> None:
        """Goes to the API server and back, if it does; given up after the timeout of the process's own clock."""
        chance = self.chance
        process.exchange += 1
        number = process.exchange
        troubled = self._slow_until > self.now
        cut_off = self._cut_off.get(process.member, 0) > self.now
        there = self._delay(troubled)
        lost = chance.random() < (0.3 if troubled else 0.01) or (cut_off and chance.random() < 0.5)
        # Who is cut off in one direction still writes.
        answer_lost = cut_off or chance.random() < (0.3 if troubled else 0.01)
        wall_us = process.wall_us

        def arrives() -> None:
            if lost:
                return
            if self._api_away_until > self.now:
                if chance.random() < 0.5:
                    self.to(process, lambda: self._answer(process, number, asked, None))
                return
            result = self._effect(asked, wall_us)
            if not answer_lost:
                self.later(
                    self._delay(troubled),
                    lambda: self.to(process, lambda: self._answer(process, number, asked, result)),
                )

        self.later(there, arrives)
        timeout = process.true_ms(TIMING.request_timeout_ms)
        self.later(timeout, lambda: self.to(process, lambda: self._answer(process, number, asked, None)))

    def _delay(self, troubled: bool) -> int:
        return self.chance.randrange(1, 1500 if troubled else 20)

    def _effect(self, asked: Read | Create | Write, wall_us: int) -> Observation | WriteOutcome:
        store, before = self.store, self.store.record
        store.wall_us = wall_us
        match asked:
            case Read():
                return store.read_now()
            case Create(record=record):
                outcome: Stored | Conflict = store.create_now(record)
            case Write(record=record, if_version=version):
                outcome = store.swap_now(record, version)
        if isinstance(outcome, Stored):
            assert store.record is not None
            self._history.append(store.record)
            self.note(
                f"lease {record.holder} e{record.epoch} {set(record.in_sync)} -> {record.pending} {record.released}"
            )
            claims = before is not None and before.holder != record.holder
            if claims and before is not None and int(record.holder[0]) not in before.in_sync:
                raise self.violated(f"{record.holder} took over, and the set was {before.in_sync}")
        return outcome

    def _answer(
        self,
        process: Process,
        number: int,
        asked: Read | Create | Write,
        result: Observation | WriteOutcome | None,
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
        self._end(process, self.chance.randrange(100, 1000))

    def _end(self, process: Process, restart_after: int) -> None:
        process.alive = False
        process.leading = None

        def restart() -> None:
            fresh = Process(self, process.volume, next(self._starts))
            # Its disk is the same one.
            fresh.hung_since_true = process.hung_since_true
            self.processes[process.member] = fresh
            fresh.carry_out()
            self._started(fresh)

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

    # --- faults ----------------------------------------------------------------------------------

    def _fault(self, kind: str) -> None:
        chance = self.chance
        process = self.processes[chance.choice(self.members)]
        # Who leads is hit more often than by chance.
        leader = next((one for one in self.processes.values() if one.leading is not None), process)
        victim = leader if chance.random() < 0.6 else process
        length = chance.randrange(200, 15_000)
        self.note(f"fault {kind} {victim.member} {length}")
        self.faults_met.add(kind)
        match kind:
            case "kill":
                self._kill(victim, length)
            case "pause":
                self._pause(victim, length)
            case "hang":
                self._hang(victim, length)
            case "api":
                self._api_away_until = self.now + length
            case "slow":
                self._slow_until = self.now + length
            case "cut_off":
                self._cut_off[victim.member] = self.now + length
            case "partition":
                other = chance.choice([member for member in self.members if member != victim.member])
                self._partitioned[frozenset({victim.member, other})] = self.now + length
            case "hand_over":
                to = chance.choice(self.members)
                self.to(leader, lambda: leader.hand_over(to))
            case "remove":
                self.store.record = None
            case "restore":
                self._restore_older()

    def _kill(self, process: Process, length: int) -> None:
        if not process.alive:
            return
        holder = process.election._election.holder
        self._end(process, length)
        if self.shape.operator:
            self.later(self.chance.randrange(300, 3000), lambda: self._operator_releases(holder))

    def _operator_releases(self, holder: str) -> None:
        record = self.store.record
        if record is not None and record.holder == holder and record.released is None:
            self.store.swap_now(
                msgspec.structs.replace(record, released=Release("its container ended")), record.version
            )
            assert self.store.record is not None
            self._history.append(self.store.record)
            self.released_by_operator += 1
            self.note(f"operator releases {holder}")

    def _pause(self, process: Process, length: int) -> None:
        if process.paused or not process.alive:
            return
        process.paused = True
        self.later(length, lambda: self._resume(process))

    def _resume(self, process: Process) -> None:
        if not process.paused:
            return
        process.paused = False
        process.awake_since_true = self.now
        if not process.alive:
            return
        backlog, process.backlog = process.backlog, []
        for action in backlog:
            self.later(self.chance.randrange(TICK_MS), lambda action=action: self.to(process, action))  # type: ignore[misc, arg-type]
        self._started(process)

    def _hang(self, process: Process, length: int) -> None:
        process.hung_since_true = self.now

        def works() -> None:
            self.processes[process.member].hung_since_true = None
            process.hung_since_true = None

        self.later(length * 2, works)

    def _restore_older(self) -> None:
        """From a backup. Everybody whom it names has heard of a newer epoch: who has not could not tell."""
        volumes = {member: process.volume for member, process in self.processes.items()}
        older = [
            record
            for record in self._history
            if all(
                max(volumes[member].epoch, volumes[member].written_in) > record.epoch
                for member in record.in_sync
            )
        ]
        if older and self.store.record is not None:
            self._put_back(self.chance.choice(older))

    def _put_back(self, record: LeaseRecord) -> None:
        self.store.wall_us = record.renewed_at_us
        if isinstance(self.store.read_now(), Missing):
            self.store.create_now(record)
        else:
            assert self.store.record is not None
            self.store.swap_now(record, self.store.record.version)
        self.note(f"somebody writes {record.holder} e{record.epoch} {set(record.in_sync)}")

    def _heal(self) -> None:
        self.note("healed")
        self._api_away_until = self._slow_until = 0
        self._cut_off.clear()
        self._partitioned.clear()
        for process in self.processes.values():
            process.hung_since_true = None
            self._resume(process)
        if self._history and self.store.record not in self._history:
            self._put_back(self._history[-1])


def run_life(seed: int) -> World:
    """Raises Violation."""
    world = World(seed)
    world.live()
    return world
