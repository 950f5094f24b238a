"""What goes wrong in the life of a simulated shard, when, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from master_process import TICK_MS, TIMING, Process
from penstock.replication.master_lease import LeaseRecord, Release
from penstock.replication.master_outputs import Create, Read, Write

if TYPE_CHECKING:
    from master_world import World

KINDS = (
    "kill", "pause", "hang", "api", "cut_off", "dying", "slow", "partition", "ambush", "hand_over", "remove", "restore",
)  # fmt: skip
LENGTH_MS_MAX = 15_000
# A member that was silent for so long has left the set, and comes back.
SILENCE_MS = 1800
DYING_MS = 8000


class Route(msgspec.Struct, frozen=True):
    """What becomes of one request: how long it takes there and back, and whether it or its answer is lost."""

    there: int
    back: int
    lost: bool
    answer_lost: bool


class Faults:
    """Of one life, with what they have done that lasts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = world.chance
        # For who asks whether anything happened.
        self.met: set[str] = set()
        self.released_by_operator = 0
        # Until when.
        self._api_away_until = 0
        self._slow_until = 0
        self._cut_off: dict[int, int] = {}
        self._partitioned: dict[frozenset[int], int] = {}
        # Whose connection dies: how many requests still arrive, and for how long nothing does then.
        self._dying: dict[int, tuple[int, int]] = {}
        # Who does not hear the API server's answers, to what is under way too.
        self._deaf: dict[int, int] = {}
        # Whether the next change of the set goes wrong.
        self._ambush = False

    # --- what follows from them ------------------------------------------------------------------

    @property
    def api_away(self) -> bool:
        return self._api_away_until > self.world.now

    def apart(self, one: int, other: int) -> bool:
        """Whether these two do not hear each other."""
        return self._partitioned.get(frozenset({one, other}), 0) > self.world.now

    def hears_nothing(self, member: int) -> bool:
        """Whether what the API server sends now is lost."""
        return self._deaf.get(member, 0) > self.world.now

    def route(self, member: int, asked: Read | Create | Write) -> Route:
        chance, now = self.chance, self.world.now
        left, until = self._dying.get(member, (0, 0))
        if until > now:
            # Of what still arrives, writes are not answered and reads late.
            self._dying[member] = (max(0, left - 1), until)
            answer_lost = not isinstance(asked, Read)
            return Route(chance.randrange(1, 20), chance.randrange(600, 950), left == 0, answer_lost)
        slow = self._slow_until > now
        delay_max, loss = (1500, 0.3) if slow else (20, 0.01)
        cut_off = self._cut_off.get(member, 0) > now
        return Route(
            chance.randrange(1, delay_max),
            chance.randrange(1, delay_max),
            chance.random() < loss or (cut_off and chance.random() < 0.5),
            # Who is cut off in one direction still writes.
            cut_off or chance.random() < loss,
        )

    def set_changes(self, member: int) -> None:
        """A master's write that changes the set takes effect."""
        if not self._ambush:
            return
        self._ambush = False
        world, chance, length = self.world, self.chance, self.chance.randrange(500, DYING_MS)
        world.note(f"ambush of {member}")
        self._dying[member] = (0, world.now + length)
        self._deaf[member] = world.now + length
        for other in world.members:
            self._partitioned[frozenset({member, other})] = world.now + length
        process = world.processes[member]
        world.later(chance.randrange(100, 1500), lambda: self._kill(process, length))

    # --- one of them -----------------------------------------------------------------------------

    def strike(self, kind: str) -> None:
        world, chance = self.world, self.chance
        process = world.processes[chance.choice(world.members)]
        # Who leads is hit more often than by chance.
        leader = next((one for one in world.processes.values() if one.leading is not None), process)
        victim = leader if chance.random() < 0.6 else process
        length = chance.randrange(200, LENGTH_MS_MAX)
        until = world.now + length
        world.note(f"fault {kind} {victim.member} {length}")
        self.met.add(kind)
        match kind:
            case "kill":
                self._kill(victim, length)
            case "pause":
                self._pause(victim, length)
            case "hang":
                self._hang(victim, 2 * length)
            case "api":
                self._api_away_until = until
            case "slow":
                self._slow_until = until
            case "cut_off":
                self._cut_off[victim.member] = until
            case "dying":
                self._dying[victim.member] = (chance.randrange(4), world.now + DYING_MS)
            case "partition":
                self._partition(victim, length)
            case "ambush":
                self._ambush = True
                self._partition(victim, SILENCE_MS)
            case "hand_over":
                to = chance.choice(world.members)
                world.to(leader, lambda: leader.hand_over(to))
            case "remove":
                world.store.record = None
            case "restore":
                self._restore_older()

    def heal(self) -> None:
        """Nothing of them lasts."""
        world = self.world
        world.note("healed")
        self._api_away_until = self._slow_until = 0
        self._cut_off.clear()
        self._partitioned.clear()
        self._dying.clear()
        self._deaf.clear()
        self._ambush = False
        for process in world.processes.values():
            process.hung_since_true = None
            self._resume(process)
        if world.history and world.store.record not in world.history:
            self._put_back(world.history[-1])

    def _partition(self, process: Process, length: int) -> None:
        other = self.chance.choice([member for member in self.world.members if member != process.member])
        self._partitioned[frozenset({process.member, other})] = self.world.now + length

    def _kill(self, process: Process, length: int) -> None:
        if not process.alive:
            return
        holder = process.election._election.holder
        self.world.end(process, length)
        if self.world.shape.operator:
            self.world.later(self.chance.randrange(300, 3000), lambda: self._operator_releases(holder))

    def _operator_releases(self, holder: str) -> None:
        world, record = self.world, self.world.store.record
        if record is not None and record.holder == holder and record.released is None:
            released = msgspec.structs.replace(record, released=Release("its container ended"))
            world.store.swap_now(released, record.version)
            assert world.store.record is not None
            world.history.append(world.store.record)
            self.released_by_operator += 1
            world.note(f"operator releases {holder}")

    def _pause(self, process: Process, length: int) -> None:
        if process.alive and not process.paused:
            process.paused = True
            self.world.later(length, lambda: self._resume(process))

    def _resume(self, process: Process) -> None:
        if not process.paused:
            return
        world = self.world
        process.paused = False
        process.awake_since_true = world.now
        backlog, process.backlog = process.backlog, []
        for action in backlog:
            world.later(self.chance.randrange(TICK_MS), lambda action=action: world.to(process, action))  # type: ignore[misc]
        world.started(process)

    def _hang(self, process: Process, length: int) -> None:
        process.hung_since_true = self.world.now

        def works() -> None:
            self.world.processes[process.member].hung_since_true = None
            process.hung_since_true = None

        self.world.later(length, works)

    def _restore_older(self) -> None:
        """From a backup. Everybody whom it names has heard of a newer epoch: who has not could not tell."""
        known = {
            member: max(process.volume.epoch, process.volume.written_in)
            for member, process in self.world.processes.items()
        }
        older = [
            record
            for record in self.world.history
            if all(known[member] > record.epoch for member in record.in_sync)
        ]
        present = self.world.store.record
        if older and present is not None:
            # Those that name somebody who is not in the set any more do the most harm where they are believed.
            worst = [record for record in older if record.in_sync - present.in_sync]
            self._put_back(self.chance.choice(worst or older))

    def _put_back(self, record: LeaseRecord) -> None:
        store = self.world.store
        store.wall_us = record.renewed_at_us
        if store.record is None:
            store.create_now(record)
        else:
            store.swap_now(record, store.record.version)
        self.world.note(f"somebody writes {record.holder} e{record.epoch} {set(record.in_sync)}")


# The longest that a disk may hang under a master: no renewal after the first, no acknowledging after the second.
HUNG_MS_MAX = TIMING.log_stall_ms_max + TIMING.renew_interval_ms + TIMING.duration_ms
