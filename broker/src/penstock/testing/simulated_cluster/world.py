"""One life of a simulated cluster: its brokers, network and clients, the faults on the way, and the end that must be well.

`run_life(seed)` lives it. A violation carries the seed and what happened last; `shrink` looks for fewer faults that
still lead to one.
"""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from penstock.log.errors import DataFolderError, LogDamagedError
from penstock.raft.modes import mode_named
from penstock.replication.features import FEATURE_LEVEL
from penstock.runtime.forked_tails import LogForkedError
from penstock.runtime.mastership import MastershipLostError
from penstock.testing.simulated_cluster.agenda import Agenda
from penstock.testing.simulated_cluster.async_checks import AsyncChecks
from penstock.testing.simulated_cluster.broker import (
    CAPACITY_BYTES,
    ClusterOptions,
    LeftBehindError,
    Observer,
    SimulatedBroker,
)
from penstock.testing.simulated_cluster.checks import Checks, Violation
from penstock.testing.simulated_cluster.clients import Clients
from penstock.testing.simulated_cluster.ending import check_end, is_settled
from penstock.testing.simulated_cluster.faults import Fault, apply, plan
from penstock.testing.simulated_cluster.leases import Leases, short
from penstock.testing.simulated_cluster.network import LATENCY_SECONDS_MAX, Disorder, Network
from penstock.testing.simulated_cluster.queue_members import QueueBook, QueueMember
from penstock.testing.simulated_cluster.recording import recorded
from penstock.testing.simulated_cluster.resizing import BROKERS_MAX, Resizing
from penstock.testing.simulated_cluster.shapes import Shape, shape_of
from penstock.testing.simulated_disk import PowerLossError

# Virtual seconds: faults begin and end, clients go on for a while, and then everything has to settle.
FAULTS_BEGIN = 1.5
CLIENTS_GO_ON_SECONDS = 2.0
SETTLING_SECONDS_MAX = 60.0
# In mode MasterSlave somebody leads again before this: whoever has to come back may stand still or be down for the longest
# that a fault lasts, and then wait until its own former Lease is over.
MASTER_SECONDS_MAX = 8.0
MASTER_LOOK_SECONDS = 0.1
GROWTH_AT = 3.0
RETRY_START_SECONDS = 0.5
EVENTS_KEPT = 400
# As long as a leader may take for granted that nobody else leads: less than an election timeout.
LEASE_SECONDS_MAX = 1.0
# Faults that a broker which is to grow into a shard of three cannot bear yet.
NEED_OTHERS = ("isolate", "one_way", "cut", "fork", "volume", "flip", "lost_snapshot")


class Outcome(msgspec.Struct):
    """What a life came to."""

    seed: int
    entries: int
    acknowledged: int
    read: int
    epochs: int
    steps: int
    faults: int


class World(Observer):
    """See the module's text. `faults` and `shape` may take the place of the seed's own."""

    def __init__(self, seed: int, faults: Sequence[Fault] | None = None, shape: Shape | None = None) -> None:
        self.seed = seed
        self.shape: Shape = shape or shape_of(seed)
        own = plan(seed, self.shape, FAULTS_BEGIN)
        self.faults = list(own if faults is None else faults)
        self.chance = random.Random(f"life {seed}")
        self.agenda = Agenda()
        self.network = Network(self.agenda, self.chance)
        self.checks = AsyncChecks() if self.shape.replication == "async" else Checks()
        self.network.watch = self._sent
        mode = mode_named(self.shape.mode, self.shape.replication)
        options = ClusterOptions(seed, self.shape.sync, self.shape.segment_bytes, mode=mode)
        self.brokers = [
            SimulatedBroker(ordinal, options, self.agenda, self.network, self)
            for ordinal in range(BROKERS_MAX if self.shape.resizes else self.shape.brokers)
        ]
        self.violation: BaseException | None = None
        self.leases = None if mode.elects else self._make_leases()
        self.resizing = Resizing(self, self.shape.brokers)
        self.clients = Clients(
            self.agenda, self.chance, self.brokers, self.checks, self._client_failed, self.shape
        )
        if self.leases is None:
            self.clients.lease_in_doubt = lambda: self.agenda.now < self.network.last_cut + LEASE_SECONDS_MAX
        self.queue_book = QueueBook()
        self.events: deque[tuple[float, str, tuple[Any, ...]]] = deque(maxlen=EVENTS_KEPT)
        self.faults_are_over = False
        self._grown = not self.shape.grows

    def _make_leases(self) -> Leases:
        leases = Leases(self, self.shape)
        if isinstance(self.checks, AsyncChecks):
            self.checks.on_loss = self._lost
            self.checks.check_loss = leases.check_loss
        else:
            self.checks.copies = lambda: leases.in_sync
            leases.on_recorded = self._recorded
        for broker in self.brokers:
            broker.make_elector = leases.elector
        return leases

    def _recorded(self) -> None:
        """The in-sync set is another one."""
        try:
            self.checks.recorded(self.brokers)
        except Violation as violation:
            self.failed_to_keep(violation)

    def failed_to_keep(self, violation: Violation) -> None:
        """An invariant does not hold; the first one counts."""
        self.violation = self.violation or violation

    def _lost(self) -> None:
        """The end of what was acknowledged is gone: nobody is told of it again."""
        self.say("acknowledged entries are lost")
        self.clients.lost()

    # --- the life --------------------------------------------------------------------------------

    def live(self) -> Outcome:
        """From the first start to the last check. Raises Violation."""
        self.begin()
        for fault in self.faults:
            self.agenda.at(fault.at, self._make, fault)
        faults_end = FAULTS_BEGIN + self.shape.faults_seconds
        self.agenda.at(faults_end, self._end_faults)
        self._run_until(faults_end + CLIENTS_GO_ON_SECONDS)
        self.clients.stopped = True
        self._settle()
        if self.shape.power_cycle_at_end:
            for broker in self.resizing.present:
                self.crash(broker, power=True, announced=True, back_after=0.1)
            self._run_until(self.agenda.now + 1)
            self._settle()
        check_end(self)
        if isinstance(self.checks, AsyncChecks):
            for broker in self.brokers:
                self.checks.collect(broker.disk)
            self.checks.check_losses()
        return Outcome(
            self.seed,
            len(self.checks.committed),
            self.clients.acknowledged,
            self.clients.read,
            self.checks.epochs_led,
            self.agenda.steps,
            len(self.faults),
        )

    def begin(self) -> None:
        """Starts brokers and clients."""
        first = 1 if self.shape.grows else self.shape.brokers
        for broker in self.brokers:
            broker.replicas = first
        release = random.Random(f"release {self.seed}")
        for broker in self.brokers[:first]:
            # A release of the time before, until it is restarted.
            broker.feature_level = release.choice((FEATURE_LEVEL - 1, FEATURE_LEVEL))
            if self.shape.queue_members:
                broker.feature_level = FEATURE_LEVEL
            self._start(broker)
        self.agenda.at(1.0, self._formed)
        if self.shape.grows:
            self.agenda.at(GROWTH_AT, self._grow)
        if self.shape.resizes:
            self.agenda.at(FAULTS_BEGIN, self.resizing.look)
        self.clients.start()
        for _ in range(self.shape.queue_members):
            self.clients.employ(QueueMember(self.clients, self.queue_book).run())

    def _formed(self) -> None:
        """The operator writes down that the shard exists, once it does."""
        if self.checks.committed:
            for broker in self.brokers:
                broker.formed = True
        else:
            self.agenda.after(0.5, self._formed)

    def _grow(self) -> None:
        if not self.checks.committed:
            self.agenda.after(0.5, self._grow)
            return
        self.say("the shard grows to %d brokers", self.shape.brokers)
        self._grown = True
        for broker in self.brokers:
            broker.replicas = self.shape.brokers
            broker.formed = True
            if broker.up:
                self.restart_in_order(broker, 0.1)
            else:
                self._start(broker)

    def _make(self, fault: Fault) -> None:
        if fault.kind in NEED_OTHERS and not self._grown:
            return
        self.say("fault: %s", fault.kind)
        apply(self, fault)

    def _end_faults(self) -> None:
        self.say("faults are over")
        self.faults_are_over = True
        network = self.network
        network.heal()
        network.disorder, network.latency_seconds_max = Disorder(), LATENCY_SECONDS_MAX
        network.snapshots_cut_until = 0.0
        if self.leases is not None:
            self.leases.ambush = False
            self.leases.server.heal()
        for broker in self.brokers:
            broker.pace.slowness, broker.pace.hung_until = 1.0, 0.0
            broker.disk.capacity_bytes = CAPACITY_BYTES
            if broker.up:
                broker.disk.sync_fails = False
                broker.disk.fail_after(None)
            if broker.damaged:
                self._replace(broker)
        if self.shape.resizes:
            self.resizing.upgrade()
        if self.leases is not None:
            self._await_master(self.agenda.now + MASTER_SECONDS_MAX)

    def _await_master(self, deadline: float) -> None:
        """Somebody leads again in time, by itself."""
        if any(broker.up and broker.shard.leading for broker in self.brokers):
            return
        if self.agenda.now > deadline:
            self.failed_to_keep(
                Violation(f"no master {MASTER_SECONDS_MAX} s after the last fault: {self._standing()}")
            )
        self.agenda.after(MASTER_LOOK_SECONDS, self._await_master, deadline)

    def _settle(self) -> None:
        deadline = self.agenda.now + SETTLING_SECONDS_MAX
        while not (is_settled(self) and self._in_sync()):
            if self.agenda.now > deadline:
                raise Violation(f"nothing settled within {SETTLING_SECONDS_MAX} s: {self._standing()}")
            self._run_until(self.agenda.now + 0.5)

    def _in_sync(self) -> bool:
        """Whether everybody who is there may take over."""
        leases = self.leases
        if leases is None:
            return True
        members = {broker.member.own_member for broker in self.resizing.present}
        return leases.is_whole and leases.in_sync == members

    def _standing(self) -> str:
        parts = []
        if self.leases is not None:
            record = self.leases.truth
            parts.append(f"in sync: {short(self.leases.in_sync)}, the Lease: {record}")
        for broker in self.brokers:
            if not broker.up:
                parts.append(f"broker {broker.ordinal} is down")
                continue
            core, shard = broker.member.replica.core, broker.shard
            parts.append(
                f"broker {broker.ordinal} {broker.member.own_member % 10_000} {core.role} of epoch {core.epoch} serves:"
                f" {shard.leading}, log {shard.log.first_index}-{shard.log.next_index - 1}, stored {shard.stored_index},"
                f" committed {core.committed_index}, applied {shard.commit_index},"
                f" voters {[v % 10_000 for v in core.configuration.voters]},"
                f" learners {[v % 10_000 for v in core.configuration.learners]},"
                f" {[(item.member % 10_000, item.state, item.match, item.next) for item in core.status().followers]},"
                f" waits for: {broker.member.waiting_for}, clients done: {self.clients.done}"
            )
        return "; ".join(parts)

    def _run_until(self, when: float) -> None:
        while self.agenda.now < when:
            self.agenda.run_until(min(self.agenda.now + 0.05, when))
            if self.violation is not None:
                raise self.violation

    # --- what faults do --------------------------------------------------------------------------

    def crash(self, broker: SimulatedBroker, *, power: bool, announced: bool, back_after: float) -> None:
        """The process ends, and is started again."""
        if broker.up:
            self.say("broker %d ends, power loss: %s", broker.ordinal, power)
            broker.crash(power=power, announced=announced)
            self.agenda.after(back_after, self.start_again, broker)

    def restart_in_order(self, broker: SimulatedBroker, back_after: float) -> None:
        """The process is stopped as its users would, and started again."""
        self.say("broker %d is stopped", broker.ordinal)
        broker.stop(lambda: self._start_later(broker, back_after))

    def _start_later(self, broker: SimulatedBroker, seconds: float) -> None:
        self.agenda.after(seconds, self.start_again, broker)

    def hand_over(self, broker: SimulatedBroker) -> None:
        """The leader hands over to whom it likes."""
        self.say("broker %d hands over", broker.ordinal)
        assert broker.loop is not None
        with broker.loop.running():
            broker.loop.create_task(broker.member.hand_over())

    def block(self, pairs: Iterable[tuple[int, int]], seconds: float) -> None:
        """Nothing gets through from the first to the second of each pair."""
        pairs = list(pairs)
        self.say("nothing gets through: %s", pairs)
        for sender, receiver in pairs:
            self.network.block(sender, receiver)
        self.agenda.after(seconds, self.network.heal)

    def may_lose_volume(self, broker: SimulatedBroker) -> bool:
        """Whether the shard can bear the loss of this copy: it has all others, whole, as voters."""
        present = self.resizing.present
        if self.leases is not None:
            members = {other.member.own_member for other in present if other.up}
            if len(members) < 2 or self.leases.in_sync != members or not self.leases.is_whole:
                return False
        elif len(present) < 3:
            return False
        if not self._grown or any(other.damaged for other in self.brokers):
            return False
        leading = [other for other in present if other.up and other.shard.leading]
        if not broker.up or len(leading) != 1 or not all(other.up for other in present):
            return False
        if broker not in present or self.resizing.under_way:
            return False  # Whoever else still holds a copy may be about to go.
        members = {other.member.own_member for other in present}
        configuration = leading[0].shard.machines.members.configuration
        return broker.formed and set(configuration.voters) == members and not configuration.learners

    def _replace(self, broker: SimulatedBroker) -> None:
        self.say("the damaged volume of broker %d is replaced by an empty one", broker.ordinal)
        if broker.up:
            broker.crash(power=False, announced=True)
            self.agenda.after(0.2, self.start_again, broker)
        broker.replace_volume()

    def _forget(self, broker: SimulatedBroker) -> None:
        """As `runtime.forgetting`: beside others, it comes back as another member that has nothing. Alone, what is on the
        disk is all there is."""
        if len(self.resizing.present) > 1 and self._grown:
            broker.replace_volume()

    # --- starts and ends -------------------------------------------------------------------------

    def start_again(self, broker: SimulatedBroker) -> None:
        """Starts a broker that is down and should not be."""
        if not broker.up and broker in self.resizing.present:
            self._start(broker)

    def _start(self, broker: SimulatedBroker) -> None:
        try:
            broker.start()
        except LogDamagedError as error:
            if not broker.damaged:
                self.failed(broker, error)
                return
            self.say("broker %d does not start: %s", broker.ordinal, error)
            broker.replace_volume()
            self._start_later(broker, RETRY_START_SECONDS)
        except LeftBehindError as error:
            self.say("broker %d does not start: %s", broker.ordinal, error)
        except PowerLossError:
            self._start_later(broker, RETRY_START_SECONDS)
        except (DataFolderError, OSError) as error:
            if broker.disk.capacity_bytes == CAPACITY_BYTES:
                self.failed(broker, error)
                return
            self.say("broker %d does not start: %s", broker.ordinal, error)
            self._start_later(broker, RETRY_START_SECONDS)

    def _sent(self, node: int, data: bytes) -> None:
        try:
            self.checks.sent(self.brokers[node], data)
        except Violation as violation:
            self.violation = self.violation or violation

    def turned(self, broker: SimulatedBroker) -> None:
        """See `Observer`."""
        if self.violation is None and broker.loop is not None:
            try:
                self.checks.observe(broker)
                if self.leases is not None:
                    self.leases.check_one_master()
            except Violation as violation:
                self.violation = violation

    def end(self) -> None:
        """Nothing runs any more, and no task is left to Python's collector."""
        for broker in self.brokers:
            if broker.loop is not None:
                broker.disk.switch_off()
                broker.loop.kill()
        self.clients.loop.kill()

    def ended(self, broker: SimulatedBroker, error: BaseException | None) -> None:
        """See `Observer`."""
        if self.leases is not None:
            self.leases.ended(broker)
        if error is None:
            return
        self.say("broker %d ends: %r", broker.ordinal, error)
        if isinstance(error, LogForkedError) and isinstance(self.checks, AsyncChecks):
            # What was set aside stays when the log goes.
            self.checks.collect(broker.disk)
            self._forget(broker)
        elif (isinstance(error, LogDamagedError) and broker.damaged) or (
            isinstance(error, OSError) and error.errno == errno.EIO and broker.disk.sync_fails
        ):
            self._forget(broker)
        elif isinstance(error, MastershipLostError):
            self.checks.ended(broker)
        elif not isinstance(error, PowerLossError):
            self.failed(broker, error)
        self._start_later(broker, RETRY_START_SECONDS)

    def stopped_to_restart(self, broker: SimulatedBroker) -> None:
        """See `Observer`."""
        self.start_again(broker)

    def failed(self, broker: SimulatedBroker, error: BaseException) -> None:
        """See `Observer`."""
        if self.violation is None:
            if not isinstance(error, Violation):
                violation = Violation(f"broker {broker.ordinal} met {error!r}")
                violation.__cause__ = error
                error = violation
            self.violation = error

    def _client_failed(self, error: BaseException) -> None:
        self.violation = self.violation or error

    def say(self, text: str, *args: object) -> None:
        """For the end of a life that went wrong."""
        self.events.append((self.agenda.now, text, args))


def run_life(seed: int, faults: Sequence[Fault] | None = None, shape: Shape | None = None) -> Outcome:
    """Lives the seed's life, in the shape that it stands for or in this one. Raises Violation, with what happened last."""
    world = World(seed, faults, shape)
    with recorded(world):
        try:
            return world.live()
        except Exception as error:
            violation = Violation(f"seed {seed}: {error}\n{_last_events(world)}")
            raise violation from error
        finally:
            world.end()


def _last_events(world: World) -> str:
    lines = [f"{world.shape}"]
    for when, text, args in world.events:
        lines.append(f"{when:8.3f}  {text % args if args else text}")
    return "\n".join(lines)


def shrink(
    seed: int,
    runs_max: int,
    run: Callable[[int, Sequence[Fault]], object] = run_life,
    shape: Shape | None = None,
) -> list[Fault]:
    """Fewer faults with which this seed's life still goes wrong; all of them when none can be left out."""
    faults = list(World(seed, shape=shape).faults)
    size = max(len(faults) // 2, 1)
    while runs_max > 0:
        for begin in range(0, len(faults), size):
            fewer = faults[:begin] + faults[begin + size :]
            runs_max -= 1
            try:
                run(seed, fewer)
            except Violation:
                faults = fewer
                break
        else:
            if size == 1:
                break
            size = max(size // 2, 1)
    return faults
