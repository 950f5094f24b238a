"""One broker of the simulated shard: an election, a log that is a list, and as little around them as shows whether what was
acknowledged survives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from penstock.replication.in_sync_set import Sets
from penstock.replication.master_contender import Election
from penstock.replication.master_election import MasterElection
from penstock.replication.master_lease import HolderIdentity
from penstock.replication.master_outputs import (
    BecomeMaster,
    Create,
    Exit,
    MayHaveLost,
    PersistEpoch,
    ProbeLog,
    Read,
    SetsChanged,
    StopAcknowledging,
    Write,
)
from penstock.replication.master_timing import lease_timing
from penstock.replication.takeover import Replication

if TYPE_CHECKING:
    from master_world import World

TIMING = lease_timing()
SHARD = "the-shard"
TICK_MS = 100
HEARTBEAT_MS = 150
# A follower that was not heard for so long leaves the set.
SILENT_MS = 1000


@dataclass
class Volume:
    """What a crash leaves: the log, the epoch in which it was written last, and the highest epoch promised to."""

    member: int
    log: tuple[int, ...] = ()
    written_in: int = 0
    epoch: int = 0


class Append(msgspec.Struct, frozen=True):
    """The master's whole log."""

    sender: int
    epoch: int
    log: tuple[int, ...]


class Appended(msgspec.Struct, frozen=True):
    """A follower holds so many entries of it, or knows a newer epoch."""

    sender: int
    epoch: int
    held: int


@dataclass
class Leading:
    """What a master keeps. `match` counts what each member is known to hold of the master's log."""

    epoch: int
    sets: Sets
    refusal: str | None
    match: dict[int, int] = field(default_factory=dict)
    heard_ms: dict[int, int] = field(default_factory=dict)
    committed: int = 0


class Process:
    """From a start to its end. Times that end in `true` are the world's, others those of its own clock."""

    def __init__(self, world: World, volume: Volume, start: int) -> None:
        self.world = world
        self.volume = volume
        self.member = volume.member
        self.alive = True
        self.paused = False
        self.awake_since_true = world.now
        self.hung_since_true: int | None = None
        self.backlog: list[object] = []
        self.leading: Leading | None = None
        self.loss_told = False
        self.exchange = 0
        self._heartbeat_due_ms = 0
        chance = world.chance
        self._offset_ms = chance.randrange(10**6)
        self._rate = 1 + chance.uniform(-1, 1) * world.shape.drift
        identity = HolderIdentity(
            member=self.member, ordinal=self.member - 1, container_id=f"{self.member}.{start}"
        )
        options = Election(
            holder=f"{self.member}.{start}",
            identity=identity,
            shard_uid=SHARD,
            policy=world.shape.policy,
            timing=TIMING,
        )
        self.election = MasterElection(
            options,
            max(volume.epoch, volume.written_in),
            len(volume.log),
            lambda: chance.randrange(300),
            self.clock,
        )
        # For the broken rule that believes the times in the Lease.
        self.wall_skew_ms = chance.randrange(-20_000, 20_000)
        self.election._view.wall_skew_ms = self.wall_skew_ms - self._offset_ms  # type: ignore[attr-defined]
        if self.member == 1 and not volume.epoch:
            self.election.found(self.clock)

    @property
    def clock(self) -> int:
        """Its boot-time clock."""
        return self._offset_ms + int(self.world.now * self._rate)

    @property
    def wall_us(self) -> int:
        return (self.clock - self._offset_ms + self.wall_skew_ms) * 1000

    def true_ms(self, own_ms: int) -> int:
        return int(own_ms / self._rate)

    @property
    def acknowledges(self) -> bool:
        """Whether it would answer a client now."""
        return (
            self.leading is not None
            and self.alive
            and not self.paused
            and self.election.may_acknowledge(self.clock)
        )

    # --- what happens to it ----------------------------------------------------------------------

    def tick(self) -> None:
        self.election.tick(self.clock)
        self.carry_out()
        leading = self.leading
        if leading is not None and self.alive:
            for member, heard_ms in leading.heard_ms.items():
                if self.clock - heard_ms > SILENT_MS:
                    self.election.fell_behind(member, self.clock)
            self.carry_out()
            if self.alive and self.clock >= self._heartbeat_due_ms:
                self.send_log()

    def received(self, message: Append | Appended) -> None:
        if isinstance(message, Append):
            self._append(message)
        elif self.leading is not None:
            self._appended(self.leading, message)
        self.carry_out()

    def produce(self, entry: int) -> None:
        """A client writes."""
        if self.leading is not None and self.leading.refusal is None and self.acknowledges:
            self.world.on_disk(self, lambda: self._produced(entry))

    def _produced(self, entry: int) -> None:
        if self.leading is None:
            return
        self.volume.log = (*self.volume.log, entry)
        self.volume.written_in = self.leading.epoch
        self.election.log_progress(self.clock)
        self.election.log_at(self.leading.epoch, len(self.volume.log), self.clock)
        self.carry_out()
        self.send_log()
        self._commit()

    def hand_over(self, to: int) -> None:
        """As a driver does: only to who holds everything."""
        leading = self.leading
        if leading is not None and leading.match.get(to) == len(self.volume.log):
            self.election.hand_over(to, self.clock)
            self.carry_out()

    # --- the log ---------------------------------------------------------------------------------

    def send_log(self) -> None:
        if self.leading is not None:
            self._heartbeat_due_ms = self.clock + HEARTBEAT_MS
            for member in self.leading.heard_ms:
                self.world.send(self, member, Append(self.member, self.leading.epoch, self.volume.log))

    def _append(self, message: Append) -> None:
        if message.epoch < self.volume.epoch:
            self.world.send(self, message.sender, Appended(self.member, self.volume.epoch, 0))
            return
        self.election.learned_epoch(message.epoch, self.clock)
        if self.alive and self.leading is None:
            self.world.on_disk(self, lambda: self._appended_to_disk(message))

    def _appended_to_disk(self, message: Append) -> None:
        volume = self.volume
        if self.leading is not None or message.epoch < volume.epoch:
            return
        volume.epoch = message.epoch
        if message.epoch > volume.written_in or len(message.log) > len(volume.log):
            volume.log, volume.written_in = message.log, message.epoch
        self.election.log_at(message.epoch, len(volume.log), self.clock)
        self.carry_out()
        held = len(message.log) if volume.log[: len(message.log)] == message.log else 0
        self.world.send(self, message.sender, Appended(self.member, message.epoch, held))

    def _appended(self, leading: Leading, message: Appended) -> None:
        if message.epoch != leading.epoch:
            self.election.learned_epoch(message.epoch, self.clock)
            return
        member = message.sender
        leading.heard_ms[member] = self.clock
        leading.match[member] = max(leading.match.get(member, 0), message.held)
        self._commit()
        shape = self.world.shape
        if shape.policy.replication is Replication.ASYNC:
            near = len(self.volume.log) - leading.match[member] <= shape.policy.max_lag
        else:
            near = leading.match[member] >= leading.committed
        if near:
            self.election.caught_up(member, self.clock)
        elif shape.policy.replication is Replication.ASYNC:
            self.election.fell_behind(member, self.clock)

    def _commit(self) -> None:
        leading = self.leading
        if leading is None or leading.refusal is not None:
            return
        leading.match[self.member] = len(self.volume.log)
        held = min(leading.match.get(member, 0) for members in leading.sets for member in members)
        if held > leading.committed:
            leading.committed = held
            if self.acknowledges:
                self.world.acknowledge(self, self.volume.log[:held])

    # --- what the election wants -----------------------------------------------------------------

    def carry_out(self) -> None:
        for output in self.election.take():
            match output:
                case Read() | Create() | Write():
                    self.world.exchange(self, output)
                case PersistEpoch(epoch=epoch):
                    self.world.on_disk(self, lambda epoch=epoch: self._persist(epoch))  # type: ignore[misc]
                case MayHaveLost():
                    self.loss_told = True
                case BecomeMaster(epoch=epoch, sets=sets, refusal=refusal):
                    self.leading = Leading(epoch, sets, refusal)
                    others = [member for member in self.world.members if member != self.member]
                    self.leading.heard_ms = dict.fromkeys(others, self.clock)
                    self.world.became_master(self, epoch)
                    self.send_log()
                    self._commit()
                case SetsChanged(sets=sets, refusal=refusal):
                    assert self.leading is not None
                    self.leading.sets, self.leading.refusal = sets, refusal
                    self._commit()
                case ProbeLog():
                    self.world.on_disk(self, lambda: self.election.log_progress(self.clock))
                case StopAcknowledging():
                    self.leading = None
                case Exit(why=why):
                    self.world.exited(self, why)
                    return
                case _:
                    pass

    def _persist(self, epoch: int) -> None:
        self.volume.epoch = max(self.volume.epoch, epoch)
        self.election.epoch_stored(epoch, self.clock)
        self.carry_out()
