"""An ideal Lease for simulated shards in mode MasterSlave: who is master is known in one place, and told without a network.

It stands in for the election, so that what comes of an election can be tested alone. It names a master only when the one
before is gone, was told to stop, or has stood still for so long that its time is over; only a member of the recorded in-sync
set; and in an epoch above all that it and the member know. The in-sync set is recorded some time after the master was told of
the change, and the master hears of that later still; a master may die anywhere on the way.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from penstock.replication.election_status import ElectionStatus
from penstock.runtime.mastership import Mastership
from penstock.testing.simulated_cluster.agenda import Agenda
from penstock.testing.simulated_cluster.broker import SimulatedBroker
from penstock.testing.simulated_cluster.virtual_loop import VirtualLoop

# Seconds: how often the oracle looks; how long a master may act without having been looked at; how long its disk may finish
# nothing.
LOOK_SECONDS = 0.1
LEASE_SECONDS = 1.0
STALL_SECONDS_MAX = 1.5
# The longest that the oracle takes for one thing.
DELAY_SECONDS_MAX = 0.1
# How long a shard is without a master that was not missed at once.
VACANCY_SECONDS_MAX = 1.0

Say = Callable[..., None]


class OracleElector:
    """One process's: implements `runtime.mastership.Elector`."""

    def __init__(self, oracle: Oracle, broker: SimulatedBroker) -> None:
        self.broker = broker
        self.loop = broker.loop
        self.valid_until = 0.0
        self.progress = oracle.agenda.now
        self._oracle = oracle

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return self.loop is not None and self.broker.loop is self.loop and not self.loop.dead

    @property
    def mastership(self) -> Mastership:
        """Of its process."""
        mastership = self.broker.member.mastership
        assert mastership is not None
        return mastership

    @property
    def running(self) -> VirtualLoop:
        """Its process's loop."""
        assert self.loop is not None
        return self.loop

    def may_serve(self, now_ms: int) -> bool:
        """See `Elector.may_serve`."""
        return self._oracle.holder is self and now_ms < int(self.valid_until * 1000)

    def log_progress(self) -> None:
        """See `Elector.log_progress`."""
        self.progress = self._oracle.agenda.now

    def log_at(self, epoch: int, last_index: int) -> None:
        """See `Elector.log_at`."""

    def found(self) -> None:
        """See `Elector.found`."""
        self._oracle.found(self)

    def leader_gone(self) -> None:
        """See `Elector.leader_gone`."""

    def unfit(self, why: str | None) -> None:
        """See `Elector.unfit`."""

    def status(self) -> ElectionStatus:
        """See `Elector.status`."""
        return ElectionStatus("master" if self._oracle.holder is self else "following")

    def caught_up(self, member: int) -> None:
        """See `Elector.caught_up`."""
        self._oracle.want(self, self._oracle.wanted | {member})

    def fell_behind(self, member: int) -> None:
        """See `Elector.fell_behind`."""
        self._oracle.want(self, self._oracle.wanted - {member})

    def hand_over(self, to: int) -> str | None:
        """See `Elector.hand_over`."""
        return self._oracle.hand_over(self, to)


class Oracle:
    """See the module's text. `in_sync` is the recorded set, `pending` the one that is to take its place."""

    def __init__(self, agenda: Agenda, chance: random.Random, say: Say, *, sync: bool) -> None:
        self.agenda = agenda
        self.epoch = 0
        self.holder: OracleElector | None = None
        self.in_sync: frozenset[int] = frozenset()
        self.pending: frozenset[int] | None = None
        self.wanted: frozenset[int] = frozenset()
        self.on_recorded: Callable[[], None] = lambda: None
        self._chance = chance
        self._say = say
        self._sync = sync
        self._electors: dict[int, OracleElector] = {}
        self._vacant_until = 0.0
        self._successor = 0
        agenda.after(LOOK_SECONDS, self._look)

    def elector(self, broker: SimulatedBroker) -> OracleElector:
        """For a process that is being made."""
        made = self._electors[broker.ordinal] = OracleElector(self, broker)
        return made

    # --- who is master ---------------------------------------------------------------------------

    def found(self, elector: OracleElector) -> None:
        """The only member of a shard that never was."""
        if not self.in_sync:
            self.in_sync = self.wanted = frozenset({elector.broker.member.own_member})

    def _look(self) -> None:
        self.agenda.after(LOOK_SECONDS, self._look)
        holder, now = self.holder, self.agenda.now
        if holder is None:
            if now >= self._vacant_until:
                self._name()
        elif not holder.alive:
            self._vacate(self._chance.random() * VACANCY_SECONDS_MAX)
        elif holder.running.paused_until > now:
            if now >= holder.valid_until:
                self._say("the oracle waits no longer for broker %d", holder.broker.ordinal)
                late = holder.running.paused_until + self._chance.random() * DELAY_SECONDS_MAX
                self.agenda.at(late, self._end, holder, "it had stood still")
                self._vacate(0)
        elif now - holder.progress > STALL_SECONDS_MAX:
            self.revoke("its disk hangs")
        else:
            holder.valid_until = now + LEASE_SECONDS
            with holder.running.running():
                holder.mastership.probe()

    def revoke(self, why: str) -> None:
        """The master is to stop, for whatever reason."""
        holder = self.holder
        if holder is not None and holder.alive and holder.running.paused_until <= self.agenda.now:
            self._end(holder, why)
            self._vacate(self._chance.random() * DELAY_SECONDS_MAX)

    def _end(self, elector: OracleElector, why: str) -> None:
        if elector.alive:
            with elector.running.running():
                elector.mastership.exit(why)

    def _vacate(self, seconds: float, successor: int = 0) -> None:
        self.holder = None
        self._vacant_until = self.agenda.now + seconds
        self._successor = successor

    def _name(self) -> None:
        entitled = [
            elector
            for elector in self._electors.values()
            if elector.alive
            and not elector.broker.stopping
            and elector.running.paused_until <= self.agenda.now
            and elector.broker.member.own_member in self.in_sync
        ]
        chosen = [
            elector for elector in entitled if elector.broker.member.own_member == self._successor
        ] or entitled
        if chosen:
            self._successor = 0
            self._grant(self._chance.choice(chosen))

    def _grant(self, elector: OracleElector) -> None:
        member = elector.broker.member
        epoch = self.epoch = max(self.epoch, member.replica.core.epoch) + 1
        self.holder, self.pending = elector, None
        if not self._sync:
            # The others may hold what this one never had.
            self.in_sync = frozenset({member.own_member})
        self.wanted = self.in_sync
        elector.valid_until = self.agenda.now + LEASE_SECONDS
        elector.progress = self.agenda.now
        self._say("the oracle names broker %d for epoch %d", elector.broker.ordinal, epoch)

        def stored() -> None:
            if self.holder is elector and self.epoch == epoch:
                elector.mastership.become_master(epoch, self._sets())

        with elector.running.running():
            refusal = elector.mastership.persist_epoch(epoch, stored)
        assert refusal is None, refusal

    def hand_over(self, elector: OracleElector, to: int) -> str | None:
        """The master gives up in favour of another one, which holds everything."""
        if self.holder is not elector:
            return "this broker is not master"
        if self.pending is not None or to not in self.in_sync:
            return f"member {to} is not in sync"
        self._vacate(self._chance.random() * DELAY_SECONDS_MAX, to)
        elector.mastership.stop_acknowledging("leadership was handed over")
        if self._chance.random() < 0.5 and not elector.broker.stopping:
            self.agenda.after(
                self._chance.random() * DELAY_SECONDS_MAX, self._end, elector, "leadership was handed over"
            )
        return None

    # --- the in-sync set -------------------------------------------------------------------------

    def want(self, elector: OracleElector, wanted: frozenset[int]) -> None:
        """The master would have another set."""
        if self.holder is elector:
            self.wanted = wanted
            self._propose()

    def _propose(self) -> None:
        if self.pending is None and self.wanted != self.in_sync:
            self.pending = self.wanted
            self._tell()
            delay = self._chance.random() * DELAY_SECONDS_MAX
            self.agenda.after(delay, self._record, self.holder, self.epoch, self.pending)

    def _record(self, holder: OracleElector, epoch: int, pending: frozenset[int]) -> None:
        if self.epoch != epoch or (self.holder is not holder and self._chance.random() < 0.5):
            return  # It never arrived.
        self._say("the in-sync set is %s", sorted(member % 10_000 for member in pending))
        self.in_sync, self.pending = pending, None
        self.on_recorded()
        self.agenda.after(self._chance.random() * DELAY_SECONDS_MAX, self._recorded, holder, epoch)

    def _recorded(self, holder: OracleElector, epoch: int) -> None:
        if self.holder is holder and self.epoch == epoch and holder.alive:
            self._tell()
            self._propose()

    def _sets(self) -> tuple[frozenset[int], ...]:
        assert self.holder is not None
        if not self._sync:
            return (frozenset({self.holder.broker.member.own_member}),)
        return (self.in_sync,) if self.pending is None else (self.in_sync, self.pending)

    def _tell(self) -> None:
        holder = self.holder
        if holder is not None and holder.alive:
            with holder.running.running():
                holder.mastership.sets_changed(self._sets())
