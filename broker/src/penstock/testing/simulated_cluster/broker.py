"""One broker of the simulated cluster: a disk that stays, and a process that comes and goes.

The process is made as `process.assembly` makes it, below the listeners. It ends by a crash (the power goes, or only the
process), by its own wish after an error of its disk, or in order.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from typing import cast

import msgspec

from penstock.delivery.machine import QueuesMachine
from penstock.groups.machine import GroupsMachine
from penstock.log.disk import Disk
from penstock.log.errors import DataFolderError
from penstock.log.recovery import LogOptions
from penstock.process.group_ports import ShardPositions
from penstock.process.queue_groups import make_queues
from penstock.raft.modes import RAFT
from penstock.raft.state import Mode
from penstock.replication.comparing import ComparingOptions
from penstock.replication.features import FEATURE_LEVEL
from penstock.runtime.clock import Clock
from penstock.runtime.data_folder import FORMAT, META_NAME, Meta
from penstock.runtime.lease_elector import LeaseElector
from penstock.runtime.maintenance import Maintenance, MaintenanceOptions
from penstock.runtime.member import ShardMember
from penstock.runtime.member_options import BrokerIdentity as MemberIdentity
from penstock.runtime.member_options import MemberOptions
from penstock.runtime.opening import OpenedShard, ShardOptions, open_shard
from penstock.runtime.shard import Shard
from penstock.runtime.threads import Threads
from penstock.service.cluster import ClusterView
from penstock.service.context import RequestContext
from penstock.service.data import DataServiceImpl
from penstock.service.fetching import FetchLimits
from penstock.service.groups import ConsumerGroups
from penstock.service.settings import Settings
from penstock.service.topics import BrokerIdentity, TopicServiceImpl
from penstock.telemetry.counters import Counters
from penstock.testing.simulated_cluster.agenda import Agenda
from penstock.testing.simulated_cluster.network import Network, NodeSockets
from penstock.testing.simulated_cluster.threads import Pace, SimulatedThreads
from penstock.testing.simulated_cluster.virtual_loop import VirtualLoop
from penstock.testing.simulated_disk import PowerLossError, SimulatedDisk

SHARD_UID = uuid.UUID("11111111-2222-3333-4444-555555555555")
CONTEXT = RequestContext(listener="kafka", protocol="kafka")
WALL_CLOCK_BEGINS_MS = 1_700_000_000_000
CAPACITY_BYTES = 4 * 1024 * 1024
# Often: a replica that goes wrong is to be found near where it did.
COMPARING = ComparingOptions(entries=10, interval_ms=100)
# In mode MasterSlave: by how much a broker's clock may run faster or slower than the truth, and when it began to count.
CLOCK_DRIFT = 0.003
CLOCK_BEGINS_MS_MAX = 1_000_000


class ClusterOptions(msgspec.Struct, frozen=True):
    """What all brokers of one life have in common."""

    seed: int
    sync: bool
    segment_bytes: int = 8192
    election_timeout_ms: int = 1000
    mode: Mode = RAFT


class LeftBehindError(DataFolderError):
    """The copy is of before the shard was recovered without it: the process ends and leaves it as it is."""


class WallClock(Clock):
    """A broker's clocks: the one that people set may jump. The other runs at its own rate, from anywhere."""

    def __init__(self, agenda: Agenda, rate: float, begins_ms: int) -> None:
        self._agenda = agenda
        self._rate = rate
        self._begins_ms = begins_ms
        self.offset_ms = 0

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return WALL_CLOCK_BEGINS_MS + self.offset_ms + int(self._agenda.now * 1000)

    def monotonic_ms(self) -> int:
        """See `Clock.monotonic_ms`."""
        return self._begins_ms + int(self._agenda.now * 1000 * self._rate)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """See `service.ports.Clock`."""
        return asyncio.get_running_loop().call_later(seconds, callback)


class VolumeFolder:
    """A data folder on one simulated disk."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.log_disk: Disk = disk

    def save_meta(self, meta: Meta) -> None:
        """See `DataFolder.save_meta`."""
        self.disk.write_atomic(META_NAME, msgspec.json.encode(meta))

    def load_meta(self) -> Meta | None:
        """See `DataFolder.load_meta`."""
        if META_NAME not in self.disk.names():
            return None
        return msgspec.json.decode(self.disk.open(META_NAME).read_at(0, 10_000), type=Meta)


class Observer:
    """Who is told of a broker's life; `checks` and `world` implement parts of it."""

    def turned(self, broker: SimulatedBroker) -> None:
        """A turn of its loop is over."""

    def ended(self, broker: SimulatedBroker, error: BaseException | None) -> None:
        """Its process is gone; with the error that it ended for, if it did so by itself."""

    def stopped_to_restart(self, broker: SimulatedBroker) -> None:
        """It has stopped in order, and wants to be started anew."""

    def failed(self, broker: SimulatedBroker, error: BaseException) -> None:
        """Something was raised that nobody caught."""


class SimulatedBroker:
    """See the module's text. Without a process, `loop` is None."""

    def __init__(
        self, ordinal: int, options: ClusterOptions, agenda: Agenda, network: Network, observer: Observer
    ) -> None:
        self.ordinal = ordinal
        self.chance = random.Random(f"{options.seed}-{ordinal}")
        self.clock = _clock(ordinal, options, agenda)
        self.pace = Pace()
        # Beyond the configuration's replicas, and whether the shard existed before: the operator's knowledge.
        self.replicas = 1
        self.formed = False
        # What its release knows; whoever comes back was upgraded meanwhile.
        self.feature_level = FEATURE_LEVEL
        self.loop: VirtualLoop | None = None
        # Finds out who is master, for each process anew; None where members elect. And the name of the last process.
        self.make_elector: Callable[[SimulatedBroker], LeaseElector] | None = None
        self.elector: LeaseElector | None = None
        self.holder = ""
        # The process that was told to end in order.
        self._stopping: VirtualLoop | None = None
        self.volume = 0
        self.disk: SimulatedDisk
        # What the current volume met, so that what follows from it is expected.
        self.damaged = False
        self._options = options
        self._agenda = agenda
        self._network = network
        self._observer = observer
        self.replace_volume()

    def replace_volume(self) -> None:
        """An empty disk takes the place of the one there was."""
        assert self.loop is None
        self.volume += 1
        self.damaged = False
        self.disk = SimulatedDisk(self.chance.randrange(1 << 30), capacity_bytes=CAPACITY_BYTES)

    # --- life ------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether there is a process."""
        return self.loop is not None

    def start(self) -> None:
        """Begins a process. Raises LogDamagedError, DataFolderError, OSError."""
        assert self.loop is None
        self.disk.fail_after(None)
        self.disk.sync_fails = False
        sockets = NodeSockets(self._network, self.ordinal)
        loop = VirtualLoop(  # type: ignore[abstract]
            self._agenda,
            self.chance,
            on_error=self._raised,
            on_turn=lambda: self._observer.turned(self),
            sockets=sockets,
        )
        sockets.loop = loop
        self.loop = loop
        try:
            with loop.running():
                self._assemble(loop)
        except BaseException:
            self._end(announced=True)
            raise
        loop.create_task(self._begin())

    async def _begin(self) -> None:
        self.maintenance.start()
        if self.elector is not None:
            self.elector.start()
        await self.member.links.listen(f"broker-{self.ordinal}", 9190)
        await self.member.start()

    def _assemble(self, loop: VirtualLoop) -> None:
        self.threads = SimulatedThreads(loop, self.chance, self.pace, self._power_went)
        self.folder = VolumeFolder(self.disk)
        meta = self.folder.load_meta() or self._new_meta()
        if meta.left_behind:
            raise LeftBehindError(meta.left_behind)
        options = ShardOptions(
            LogOptions(
                segment_bytes=self._options.segment_bytes, cache_bytes_max=4096, sync=self._options.sync
            ),
            index_cache_bytes_max=2048,
            pending_bytes_max=1 << 20,
        )
        self.groups_machine, self.queues_machine = GroupsMachine(), QueuesMachine()
        self.opened: OpenedShard = open_shard(
            self.folder,
            meta,
            options,
            cast(Threads, self.threads),
            Counters(),
            [self.groups_machine, self.queues_machine],
            self._fatal,
        )
        self.settings = Settings(self.shard.machines.catalog, {})
        self.maintenance = self._make_maintenance()
        self.member = self._make_member()
        self._make_services()

    def _new_meta(self) -> Meta:
        storage_id = uuid.UUID(int=self.chance.getrandbits(128))
        return Meta(FORMAT, "cluster", 0, SHARD_UID, storage_id, self.ordinal)

    def kept_meta(self) -> Meta | None:
        """What its disk would still say after a power loss."""
        kept = self.disk.durable(META_NAME)
        return None if kept is None else msgspec.json.decode(kept, type=Meta)

    @property
    def shard(self) -> Shard:
        """The process's shard."""
        return self.opened.shard

    def _make_maintenance(self) -> Maintenance:
        def retention(topic: str) -> tuple[int, int]:
            settings = self.settings.topic(topic)
            return settings.retention_ms, settings.retention_bytes

        return Maintenance(
            self.shard,
            self.opened.snapshots,
            MaintenanceOptions(50, 1 << 14, 1000, 0.85, 0.95),
            self.clock,
            retention,
            lambda _: [],
            lambda: 0,
        )

    def _make_member(self) -> ShardMember:
        checkpoints = self.maintenance.checkpoints
        peers = {n: (f"broker-{n}", 9190) for n in range(self.replicas) if n != self.ordinal}
        self.elector = elector = self.make_elector(self) if self.make_elector is not None else None
        member = ShardMember(
            self.opened,
            self.folder,
            MemberOptions(
                self.replicas,
                self.formed,
                self._options.election_timeout_ms,
                peers,
                COMPARING,
                self._options.mode,
            ),
            MemberIdentity(
                f"broker-{self.ordinal}", "simulated", f"broker-{self.ordinal}:9190", self.feature_level
            ),
            self.clock,
            listeners=lambda: {"kafka": f"broker-{self.ordinal}:9092"},
            covered=lambda: checkpoints.covered_index,
            quiet=self.maintenance.quiet,
            chance=self.chance,
            elector=elector,
        )
        if elector is not None:
            assert member.mastership is not None
            elector.attach(member.mastership)
        member.replica.on_leading = self._began_leading
        member.replica.on_following = self._stopped_leading
        member.seeding.on_begun_anew = checkpoints.begin_anew
        member.recoveries.on_restart = self._restart_soon
        member.resizing.demand = self.settings.demand
        return member

    def _began_leading(self) -> None:
        self.member.begin_leading()
        self.groups.start()
        self.queues.start()

    def _stopped_leading(self) -> None:
        self.groups.stop()
        self.queues.stop()

    def _make_services(self) -> None:
        shard = self.shard

        def address(_: str) -> tuple[str, int]:
            return f"broker-{self.ordinal}", 9092

        view = ClusterView(shard.machines.members, self.member, 0, self.ordinal, address)
        self.view = view
        self.data = DataServiceImpl(shard, self.settings, self.clock, FetchLimits())
        identity = BrokerIdentity(
            "cluster", f"broker-{self.ordinal}", lambda: self.member.resizing.replicas, view
        )
        self.topics = TopicServiceImpl(shard, self.settings, self.clock, identity)
        self.groups = ConsumerGroups(
            self.groups_machine,
            shard,
            self.clock,
            ShardPositions(shard, view),
            lambda: f"{self.chance.getrandbits(64):016x}",
            None,
            self.queues_machine,
            lambda: shard.machines.members.level,
        )
        self.queues = make_queues(
            shard,
            self.queues_machine,
            self.groups_machine,
            self.clock,
            self.data,
            self.topics,
            lambda: self.chance.getrandbits(62) + 1,
            self.chance.random,
        )
        self.groups.registry.on_queue_changed = self.queues.changed
        self.topics.goes_with_topic = self.queues.topic_dropped

    # --- ends ------------------------------------------------------------------------------------

    def _raised(self, error: BaseException) -> None:
        if isinstance(error, PowerLossError):
            self._agenda.after(0, self._power_went)
            return
        self._observer.failed(self, error)

    def _fatal(self, error: BaseException) -> None:
        """As `process.main` does: the process ends on the spot."""
        if self.loop is None or self.loop.dead:
            return
        self.loop.dead = True
        if isinstance(error, PowerLossError):
            self._agenda.after(0, self._power_went)
        else:
            # What was not synced when a sync failed may be gone.
            power = self.disk.sync_fails and self._options.sync
            self._agenda.after(0, lambda: self._crash(error, power=power, announced=True))

    def _power_went(self) -> None:
        self._crash(PowerLossError(), power=True, announced=False)

    def crash(self, *, power: bool, announced: bool) -> None:
        """The process ends; with the power, what was not synced goes too. `announced`: its kernel tells its peers."""
        self._crash(None, power=power, announced=announced)

    def _crash(self, error: BaseException | None, *, power: bool, announced: bool) -> None:
        if self.loop is None:
            return
        if power:
            self.disk.lose_power()
        self._end(announced=announced)
        self._observer.ended(self, error)

    def _end(self, *, announced: bool) -> None:
        assert self.loop is not None
        loop, self.loop = self.loop, None
        loop.dead = True
        self.feature_level = FEATURE_LEVEL
        self._network.leave(self.ordinal, announced=announced)
        # What ends now can touch the disk no more.
        self.disk.switch_off()
        loop.kill()

    @property
    def stopping(self) -> bool:
        """Whether its process was told to end, and has not yet."""
        return self.loop is not None and self._stopping is self.loop

    def stop(self, then: Callable[[], None]) -> None:
        """Ends in order: hands over, lets go of its links, leaves a checkpoint."""
        assert self.loop is not None
        loop = self._stopping = self.loop

        def stopped(task: asyncio.Task[None]) -> None:
            if not loop.dead and self.loop is loop:
                if task.exception() is not None:
                    self._raised(cast(BaseException, task.exception()))
                self._agenda.after(0, self._stopped, loop, then)

        with loop.running():
            loop.create_task(self._stop()).add_done_callback(stopped)

    def _restart_soon(self) -> None:
        self._agenda.after(0, self._restart)

    def _restart(self) -> None:
        if self.loop is not None:
            self.stop(lambda: self._observer.stopped_to_restart(self))

    def _stopped(self, loop: VirtualLoop, then: Callable[[], None]) -> None:
        if self.loop is loop:
            self._end(announced=True)
            self._observer.ended(self, None)
            then()

    async def _stop(self) -> None:
        if self.member.mastership is not None:
            self.member.mastership.stopping = True
        if self.member.replica.is_leader and self.member.standings():
            await self.member.hand_over()
        self.groups.stop()
        if self.elector is not None:
            await self.elector.close()
        await self.member.close()
        await self.maintenance.stop()


def _clock(ordinal: int, options: ClusterOptions, agenda: Agenda) -> WallClock:
    if options.mode.elects:
        return WallClock(agenda, 1.0, 0)
    chance = random.Random(f"clock {options.seed}-{ordinal}")
    return WallClock(agenda, 1 + chance.uniform(-1, 1) * CLOCK_DRIFT, chance.randrange(CLOCK_BEGINS_MS_MAX))
