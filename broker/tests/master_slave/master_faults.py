"""What goes wrong in the life of a simulated shard, when, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from master_process import TICK_MS, TIMING, Process
from penstock.testing.lease_server import LeaseServer

if TYPE_CHECKING:
    from master_world import World

KINDS = (
    "kill", "pause", "hang", "api", "cut_off", "dying", "slow", "partition", "ambush", "hand_over", "remove", "restore",
)  # fmt: skip
LENGTH_MS_MAX = 15_000
# A member that was silent for so long has left the set, and comes back.
SILENCE_MS = 1800
DYING_MS = 8000


class Faults:
    """Of one life, with what they have done that lasts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = world.chance
        # For who asks whether anything happened.
        self.met: set[str] = set()
        self.released_by_operator = 0
        self.server = LeaseServer(lambda: world.now, world.later, world.chance, TIMING.request_timeout_ms)
        # Until when.
        self._partitioned: dict[frozenset[int], int] = {}
        # Whether the next change of the set goes wrong.
        self._ambush = False

    # --- what follows from them ------------------------------------------------------------------

    def apart(self, one: int, other: int) -> bool:
        """Whether these two do not hear each other."""
        return self._partitioned.get(frozenset({one, other}), 0) > self.world.now

    def set_changes(self, member: int) -> None:
        """A master's write that changes the set takes effect."""
        if not self._ambush:
            return
        self._ambush = False
        world, chance, length = self.world, self.chance, self.chance.randrange(500, DYING_MS)
        world.note(f"ambush of {member}")
        self.server.dying[member] = (0, world.now + length)
        self.server.deaf[member] = world.now + length
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
                self.server.away_until = until
            case "slow":
                self.server.slow_until = until
            case "cut_off":
                self.server.cut_off[victim.member] = until
            case "dying":
                self.server.dying[victim.member] = (chance.randrange(4), world.now + DYING_MS)
            case "partition":
                self._partition(victim, length)
            case "ambush":
                self._ambush = True
                self._partition(victim, SILENCE_MS)
            case "hand_over":
                to = chance.choice(world.members)
                world.to(leader, lambda: leader.hand_over(to))
            case "remove":
                self.server.remove()
            case "restore":
                self._restore_older()

    def heal(self) -> None:
        """Nothing of them lasts."""
        world = self.world
        world.note("healed")
        self.server.heal()
        self._partitioned.clear()
        self._ambush = False
        for process in world.processes.values():
            process.hung_since_true = None
            self._resume(process)

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
        if self.server.release(holder, "its container ended"):
            self.released_by_operator += 1
            self.world.note(f"operator releases {holder}")

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
        processes = self.world.processes
        older = self.server.older(
            lambda member: max(processes[member].volume.epoch, processes[member].volume.written_in)
        )
        if older:
            record = self.chance.choice(older)
            self.server.put_back(record)
            self.world.note(f"somebody writes {record.holder} e{record.epoch} {set(record.in_sync)}")


# The longest that a disk may hang under a master: no renewal after the first, no acknowledging after the second.
HUNG_MS_MAX = TIMING.log_stall_ms_max + TIMING.renew_interval_ms + TIMING.duration_ms
