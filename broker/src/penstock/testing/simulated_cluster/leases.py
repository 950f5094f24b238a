"""Who leads simulated shards in mode MasterSlave: the real election of every process, over a simulated API server.

The judge knows what the Lease truly says, which no broker does, and watches that the election keeps its rules: only a member
of the recorded set takes over, every acquisition has an epoch that nobody had, and never do two brokers that run believe at
one moment that they are masters beyond doubt.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.replication.master_contender import Election
from penstock.replication.master_lease import (
    HolderIdentity,
    LeaseRecord,
    Observation,
    Unavailable,
    Unknown,
    WriteOutcome,
)
from penstock.replication.master_outputs import Create, Read, Write
from penstock.replication.master_timing import lease_timing
from penstock.replication.members import member_id
from penstock.replication.takeover import FailoverPolicy, Replication
from penstock.runtime.lease_elector import LeaseElector
from penstock.testing.lease_server import Answer, Exchange, LeaseServer
from penstock.testing.simulated_cluster.broker import SHARD_UID, SimulatedBroker
from penstock.testing.simulated_cluster.checks import Violation

if TYPE_CHECKING:
    from penstock.testing.simulated_cluster.shapes import Shape
    from penstock.testing.simulated_cluster.world import World

# A quarter of the defaults: lives are short.
TIMING = lease_timing(1500, 500)
JITTER_MS_MAX = 100
# Seconds after which an operator has found out that a container ended, at most.
RELEASE_SECONDS_MAX = 1.5
# How long a master whose write changes the set hears of nobody, in seconds, when that write goes wrong.
AMBUSH_SECONDS_MAX = 3.0
# The longest that a disk may hang under a master: no renewal after the first, no acknowledging after the second; and a tenth
# for its clock and what was under way.
HUNG_SECONDS_MAX = (TIMING.log_stall_ms_max + TIMING.renew_interval_ms + TIMING.duration_ms) / 1000 * 1.1


class LeaseClient:
    """A `LeaseStore`: the way of one process to the API server."""

    def __init__(self, server: LeaseServer, broker: SimulatedBroker) -> None:
        assert broker.loop is not None
        self._server = server
        self._broker = broker
        self._loop = broker.loop

    async def read(self) -> Observation:
        """See `LeaseStore.read`."""
        answer = await self._ask(Read())
        return Unavailable("refused") if answer is None else answer  # type: ignore[return-value]

    async def create(self, record: LeaseRecord) -> WriteOutcome:
        """See `LeaseStore.create`."""
        return self._outcome(await self._ask(Create(0, record)))

    async def compare_and_swap(self, record: LeaseRecord, if_version: str) -> WriteOutcome:
        """See `LeaseStore.compare_and_swap`."""
        return self._outcome(await self._ask(Write(0, record, if_version)))

    async def close(self) -> None:
        """See `LeaseStore.close`."""

    def _outcome(self, answer: Answer) -> WriteOutcome:
        return Unknown("refused") if answer is None else answer  # type: ignore[return-value]

    async def _ask(self, asked: Exchange) -> Answer:
        future = self._loop.create_future()

        def answered(answer: Answer) -> None:
            if not self._loop.dead and not future.done():
                future.set_result(answer)

        self._server.ask(self._broker.ordinal, asked, self._broker.clock.now_ms() * 1000, answered)
        return await future  # type: ignore[no-any-return]


class Leases:
    """The Lease of one simulated shard, and the judge of who holds it."""

    def __init__(self, world: World, shape: Shape) -> None:
        self._world = world
        agenda = world.agenda
        self._chance = random.Random(f"leases {world.seed}")
        self.server = LeaseServer(
            lambda: agenda.now * 1000,
            lambda delay_ms, call: agenda.after(delay_ms / 1000, call),  # type: ignore[arg-type]
            self._chance,
            TIMING.request_timeout_ms,
        )
        self.server.on_written = self._written
        self.policy = FailoverPolicy(
            replication=Replication(shape.replication),
            min_in_sync=shape.min_in_sync,
            max_lag=shape.max_lag,
            allow_data_loss=shape.allow_data_loss,
        )
        self.on_recorded: Callable[[], None] = lambda: None
        self._starts = 0
        self._epoch = 0
        # Of claims that may have lost something: where the log of who claimed it ended, by epoch.
        self._losses: dict[int, int] = {}
        self.ambush = False

    def elector(self, broker: SimulatedBroker) -> LeaseElector:
        """For a process that is being made."""
        self._starts += 1
        broker.holder = f"{broker.ordinal}.{self._starts}"
        identity = HolderIdentity(
            member=member_id(broker.opened.meta.storage_id),
            ordinal=broker.ordinal,
            pod_name=f"broker-{broker.ordinal}",
            container_id=broker.holder,
        )
        election = Election(
            holder=broker.holder,
            identity=identity,
            shard_uid=str(SHARD_UID),
            policy=self.policy,
            timing=TIMING,
        )
        client = LeaseClient(self.server, broker)
        return LeaseElector(election, client, broker.clock, lambda: broker.chance.randrange(JITTER_MS_MAX))

    @property
    def truth(self) -> LeaseRecord | None:
        """What was written last by those who may, whatever somebody did to the Lease since."""
        return self.server.history[-1] if self.server.history else None

    @property
    def in_sync(self) -> frozenset[int]:
        """Who may take over."""
        return self.truth.in_sync if self.truth is not None else frozenset()

    @property
    def is_whole(self) -> bool:
        """Whether the Lease is there and no change of its set is under way."""
        record = self.server.lease.record
        return record is not None and record is self.truth and record.pending is None

    # --- the judge -------------------------------------------------------------------------------

    def _written(self, before: LeaseRecord | None, record: LeaseRecord) -> None:
        try:
            self._check_written(before, record)
        except Violation as violation:
            self._world.failed_to_keep(violation)
        if before is None or before.in_sync != record.in_sync:
            self._world.say("the in-sync set is %s", short(record.in_sync))
            self.on_recorded()
        if (
            self.ambush
            and before is not None
            and (before.in_sync, before.pending)
            != (
                record.in_sync,
                record.pending,
            )
        ):
            self.ambush = False
            self._ambush(int(record.holder.partition(".")[0]))

    def _check_written(self, before: LeaseRecord | None, record: LeaseRecord) -> None:
        if before is not None and before.holder == record.holder:
            return
        assert record.identity is not None
        self._world.say(
            "broker %d holds the Lease in epoch %d%s",
            record.identity.ordinal,
            record.epoch,
            f": {record.loss}" if record.loss_epoch == record.epoch else "",
        )
        if before is not None and record.identity.member not in before.in_sync:
            raise Violation(f"{record.holder_name} took over, and was not in the in-sync set")
        if record.epoch <= self._epoch:
            raise Violation(f"epoch {record.epoch} was claimed, epoch {self._epoch} was claimed before")
        if self._epoch and before is None:
            raise Violation(f"{record.holder_name} made a Lease where there had been one")
        self._epoch = record.epoch
        if record.loss_epoch == record.epoch:
            self._losses[record.epoch] = record.log_end

    def check_one_master(self) -> None:
        """At one moment at most one broker would acknowledge something. Raises Violation."""
        masters = [broker for broker in self._world.brokers if self.serves(broker)]
        if len(masters) > 1:
            raise Violation(f"brokers {[broker.ordinal for broker in masters]} are masters at one time")
        for broker in masters:
            hung = broker.pace.hung_for(self._world.agenda.now)
            if hung > HUNG_SECONDS_MAX:
                raise Violation(
                    f"broker {broker.ordinal} is master with a disk that has hung for {hung:.1f} s"
                )

    def serves(self, broker: SimulatedBroker) -> bool:
        """Whether it runs and takes itself for the master."""
        loop, elector = broker.loop, broker.elector
        if loop is None or elector is None or loop.dead or loop.paused_until > self._world.agenda.now:
            return False
        return elector.may_serve(broker.clock.monotonic_ms())

    def check_loss(self, lost: tuple[int, int], by_epoch: int) -> None:
        """An entry (index, epoch) that was acknowledged is gone, by a master of `by_epoch`: somebody has to have said so when
        it took over. Raises Violation."""
        index, epoch = lost
        told = [end for claimed, end in self._losses.items() if epoch < claimed <= by_epoch]
        if not any(index > end for end in told):
            raise Violation(
                f"entry {index} of epoch {epoch} is lost in epoch {by_epoch}, and no claim said so"
            )

    # --- what happens to it ----------------------------------------------------------------------

    def ended(self, broker: SimulatedBroker) -> None:
        """A process is gone, which an operator may find out."""
        holder = broker.holder
        if self._world.shape.operator:
            seconds = self._chance.random() * RELEASE_SECONDS_MAX
            self._world.agenda.after(seconds, self._release, holder)

    def _release(self, holder: str) -> None:
        if self.server.release(holder, "its container ended"):
            self._world.say("the Lease of %s is released", holder)

    def known_epoch(self, member: int) -> int:
        """The newest epoch that a member keeps on its disk; of one whose disk is gone, more than any."""
        for broker in self._world.brokers:
            meta = broker.kept_meta()
            if meta is not None and member_id(meta.storage_id) == member:
                return meta.epoch
        return self._epoch + 1

    def cut_off(self, broker: SimulatedBroker, seconds: float) -> None:
        """Nothing of this broker reaches the API server any more, nor the other way round."""
        until_ms = (self._world.agenda.now + seconds) * 1000
        self.server.dying[broker.ordinal] = (0, until_ms)
        self.server.deaf[broker.ordinal] = until_ms

    def _ambush(self, ordinal: int) -> None:
        """Whoever just changed the set hears of nobody any more, and ends soon."""
        world, chance = self._world, self._chance
        seconds = 0.3 + chance.random() * AMBUSH_SECONDS_MAX
        self.cut_off(world.brokers[ordinal], seconds)
        others = [other.ordinal for other in world.brokers if other.ordinal != ordinal]
        world.block([(ordinal, other) for other in others] + [(other, ordinal) for other in others], seconds)
        world.agenda.after(chance.random() * seconds, self._kill, ordinal)

    def _kill(self, ordinal: int) -> None:
        self._world.crash(
            self._world.brokers[ordinal], power=False, announced=False, back_after=self._chance.random()
        )


def short(members: frozenset[int]) -> list[int]:
    """For people."""
    return sorted(member % 10_000 for member in members)
