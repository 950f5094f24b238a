"""One broker: a data folder, its shard, the services, the listeners; started in this order, stopped in reverse."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
from collections.abc import Callable
from typing import Protocol

import msgspec

from penstock import __version__
from penstock.admin.listener import AdminHttpListener
from penstock.config.broker_config import BrokerConfig, Listener
from penstock.delivery.machine import QueuesMachine
from penstock.groups.machine import GroupsMachine
from penstock.groups.settings import GroupSettings
from penstock.listeners.http.listener import DataHttpListener
from penstock.listeners.http.services import HttpServices
from penstock.listeners.kafka.limits import KafkaLimits
from penstock.listeners.kafka.server import KafkaListener
from penstock.listeners.kafka.services import KafkaServices
from penstock.model.commands import Command, StateMachine
from penstock.process.electing import make_elector
from penstock.process.group_ports import LoopClock, ShardPositions
from penstock.process.opening import MemberOpening, broker_name, other_peers
from penstock.process.peers import LeaderAddress, LeaderRequests, PeerListener, ServedRequests
from penstock.process.queue_groups import make_queues
from penstock.process.queues import http_queues, kafka_queues, member_queues
from penstock.process.tracing import make_exporter, make_trace_topic, make_tracing
from penstock.raft.modes import mode_named
from penstock.replication.comparing import ComparingOptions
from penstock.runtime.data_folder import DataFolder
from penstock.runtime.maintenance import Maintenance, MaintenanceOptions
from penstock.runtime.member import ShardMember
from penstock.runtime.member_options import BrokerIdentity as MemberIdentity
from penstock.runtime.member_options import MemberOptions
from penstock.runtime.opening import OpenedShard
from penstock.runtime.shard import Shard
from penstock.runtime.threads import Threads
from penstock.service.broker import BrokerServiceImpl, Identity
from penstock.service.cluster import ClusterView
from penstock.service.data import DataServiceImpl
from penstock.service.fetching import FetchLimits
from penstock.service.groups import ConsumerGroups
from penstock.service.measuring import Measuring
from penstock.service.messages import FindLimits, MessageServiceImpl
from penstock.service.settings import Settings
from penstock.service.topics import BrokerIdentity, TopicServiceImpl
from penstock.service.trace_topic import TraceTopic
from penstock.service.traces import TraceServiceImpl, Tracing
from penstock.telemetry.counters import Counters
from penstock.telemetry.logs import fields
from penstock.telemetry.samples import Queue
from penstock.telemetry.span_exporter import SpanExporter

logger = logging.getLogger(__name__)

SAMPLE_SECONDS = 1.0
# The loop's own pulse: how late it is tells the longest stall.
PULSE_SECONDS = 0.02


class RunningListener(Protocol):
    """What every kind of listener can do."""

    name: str

    @property
    def address(self) -> tuple[str, int]: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Broker:
    """A broker in this process. `start` returns once clients are served; `stop` once everything is flushed. `on_restart`:
    it wants to be stopped, and another one made of the same folder."""

    def __init__(
        self,
        config: BrokerConfig,
        on_fatal: Callable[[BaseException], None],
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self.counters = Counters()
        self.clock = LoopClock()
        self._on_fatal = on_fatal
        self._on_restart = on_restart
        self._listeners: list[tuple[Listener, RunningListener]] = []
        self._pulses: list[asyncio.Task[None]] = []
        self._queues: list[Queue] = []
        self._description: dict[str, object] = {}
        self._span_exporter: SpanExporter | None = None
        self._trace_topic: TraceTopic | None = None
        self._serving = ServedRequests()

    @property
    def listener_addresses(self) -> dict[str, str]:
        """Listener name to the HOST:PORT that it listens on."""
        return {running.name: "{}:{}".format(*running.address) for _, running in self._listeners}

    def described(self) -> dict[str, object]:
        """What log lines say of this broker: its epoch as it is now, once the log is open."""
        return {**self._description, "epoch": self._shard.epoch} if self._description else {}

    # --- starting --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises DataFolderError, LogDamagedError or OSError with a sentence when it cannot serve."""
        self._folder = DataFolder(self.config.data)
        self._threads = Threads(asyncio.get_running_loop())
        self._groups_machine, self._queues_machine = GroupsMachine(), QueuesMachine()
        machines: list[StateMachine] = [self._groups_machine, self._queues_machine]
        opening = MemberOpening(
            self.config, self._folder, self._threads, self.counters, machines, self._on_fatal
        )
        opened = await opening.open()
        self._shard = opened.shard
        self._description = {
            "cluster": self.config.text("cluster.name"),
            "broker": broker_name(self.config, opened.meta),
            "shard": opened.meta.shard_id,
        }
        self._settings = Settings(self._shard.machines.catalog, self.config.values)
        self._maintenance = self._make_maintenance(opened)
        self._make_member(opened)
        self._make_services(opened)
        self._make_tracing(opened)
        self._maintenance.start()
        self._pulses = [asyncio.create_task(self._pulse()), asyncio.create_task(self._sample())]
        # The peers' listener comes last: whoever connects there is told where the others are.
        for listener in sorted(self.config.listeners, key=lambda listener: listener.protocol == "peer"):
            await self._listen(listener)
        if self._elector is not None:
            self._elector.start()
        await self.member.start()
        if not self.config.peers and self._elector is None:
            # Alone, there is nobody to wait for: clients find a leader.
            await self._leading.wait()
        self.broker_service.starting = False

    def _make_maintenance(self, opened: OpenedShard) -> Maintenance:
        config = self.config
        options = MaintenanceOptions(
            flush_interval_ms=config.integer("flush.interval.ms"),
            flush_bytes=config.integer("flush.bytes"),
            retention_interval_ms=config.integer("log.retention.check.interval.ms"),
            disk_warn_ratio=float(config.value("log.disk.warn.ratio")),
            disk_refuse_ratio=float(config.value("log.disk.refuse.ratio")),
            disk_free_bytes=config.integer("log.disk.free.bytes"),
        )

        def retention(topic: str) -> tuple[int, int]:
            settings = self._settings.topic(topic)
            return settings.retention_ms, settings.retention_bytes

        return Maintenance(
            opened.shard,
            opened.snapshots,
            options,
            self.clock,
            retention,
            self._expired,
            lambda: self._settings.integer("log.disk.bytes"),
        )

    def _expired(self, now_ms: int) -> list[Command]:
        return [*self.data.idle_producers(self._settings.integer("producer.id.expiration.ms"))]

    def _group_settings(self) -> GroupSettings:
        value = self._settings.integer
        return GroupSettings(
            initial_rebalance_delay_ms=value("group.initial.rebalance.delay.ms"),
            session_timeout_ms_min=value("group.min.session.timeout.ms"),
            session_timeout_ms_max=value("group.max.session.timeout.ms"),
            members_max=value("group.max.size"),
            groups_max=value("group.count.max"),
            offsets_retention_ms=value("offsets.retention.minutes") * 60_000,
            offset_metadata_bytes_max=value("offset.metadata.max.bytes"),
        )

    def _make_member(self, opened: OpenedShard) -> None:
        config, meta, checkpoints = self.config, opened.meta, self._maintenance.checkpoints
        own = config.peers.get(meta.ordinal)
        self._elector = make_elector(config, meta, self.clock)
        self.member = ShardMember(
            opened,
            self._folder,
            MemberOptions(
                replicas=config.integer("replicas"),
                formed=bool(config.value("shard.formed")),
                election_timeout_ms=config.integer("raft.election.timeout.ms"),
                peers=other_peers(config, meta),
                comparing=ComparingOptions(
                    config.integer("state.hash.entries"), config.integer("state.hash.interval.ms")
                ),
                mode=mode_named(config.text("mode"), config.text("replication")),
            ),
            MemberIdentity(broker_name(config, meta), __version__, "{}:{}".format(*own) if own else ""),
            self.clock,
            listeners=self._advertised_listeners,
            http=self._http_listeners,
            covered=lambda: checkpoints.covered_index,
            quiet=self._maintenance.quiet,
            chance=random.Random(),
            elector=self._elector,
        )
        if self._elector is not None:
            assert self.member.mastership is not None
            self.member.mastership.on_given = self._gave_leadership
            self._elector.attach(self.member.mastership)
        self.member.requests.serve = self._serving.serve
        self.member.recoveries.on_restart = self._on_restart
        self.member.replica.on_leading = self._began_leading
        self.member.replica.on_following = self._stopped_leading
        self.member.seeding.on_begun_anew = checkpoints.begin_anew
        self.member.resizing.demand = self._settings.demand
        self._leading = asyncio.Event()

    def _began_leading(self) -> None:
        self.counters.leaderships += 1
        self.member.begin_leading()
        self._take_settings()
        self.groups.start()
        if self._trace_topic is not None:
            self._trace_topic.led()
        self.queues.start()
        self._leading.set()

    def _take_settings(self) -> None:
        """Of the leader, as they are now."""
        self.groups.configure(self._group_settings())
        if self._elector is not None:
            self._elector.min_in_sync(self._settings.integer("min.insync.replicas"))

    def _gave_leadership(self, why: str) -> None:
        """Another life follows, with another name in the Lease, when whoever asked for it knows who leads."""
        logger.info("beginning anew as a follower: %s", why)
        self._pulses.append(asyncio.create_task(self._begin_anew()))

    async def _begin_anew(self) -> None:
        await self.member.until_settled()
        self._on_restart()

    def _stopped_leading(self) -> None:
        self.groups.stop()
        self.queues.stop()
        self._leading.clear()

    def _advertised_listeners(self) -> dict[str, str]:
        """Of the Kafka listeners: where this broker's clients are told to find it."""
        return {
            listener.name: "{}:{}".format(*self.advertised(listener.name))
            for listener, _ in self._listeners
            if listener.protocol == "kafka"
        }

    def _http_listeners(self) -> dict[str, str]:
        """Of the HTTP listeners: where the shard's other brokers reach them."""
        return {
            listener.name: "{}:{}".format(*running.address)
            for listener, running in self._listeners
            if listener.protocol in ("http", "admin")
        }

    def _make_services(self, opened: OpenedShard) -> None:
        config, meta, shard = self.config, opened.meta, opened.shard
        name = broker_name(config, meta)
        view = self._view = ClusterView(
            shard.machines.members, self.member, meta.shard_id, meta.ordinal, self.advertised
        )
        self.data = DataServiceImpl(shard, self._settings, self.clock, FetchLimits())
        self.messages = MessageServiceImpl(shard, self._settings, FindLimits())
        self.topics = TopicServiceImpl(
            shard,
            self._settings,
            self.clock,
            BrokerIdentity(meta.cluster_id, name, lambda: self.member.resizing.replicas, view),
        )
        self.groups = ConsumerGroups(
            self._groups_machine,
            shard,
            self.clock,
            ShardPositions(shard, view),
            lambda: secrets.token_hex(16),
            self._group_settings(),
            self._queues_machine,
            lambda: shard.machines.members.level,
        )
        self.queues = make_queues(
            shard, self._queues_machine, self._groups_machine, self.clock, self.data, self.topics
        )
        self.groups.registry.on_queue_changed = self.queues.changed
        self.topics.goes_with_topic = self.queues.topic_dropped
        self._queues = member_queues(self.member, self.queues)
        self._measuring = Measuring(shard, self.groups.registry, self._queues, self.clock)
        self.topics.on_topic_deleted = self.groups.topic_deleted
        self.topics.on_settings_changed = self._take_settings
        self.broker_service = BrokerServiceImpl(
            Identity(
                cluster_id=meta.cluster_id,
                cluster_name=config.text("cluster.name"),
                name=name,
                node_id=view.node_id,
                shard_id=meta.shard_id,
                shard_uid=str(meta.shard_uid),
                storage_id=str(meta.storage_id),
                version=__version__,
                started_at_ms=self.clock.now_ms(),
                mode=config.text("mode"),
            ),
            shard,
            self._maintenance,
            self.counters,
            self.clock,
            self._described_listeners,
            self.member,
            view,
        )

    def _make_tracing(self, opened: OpenedShard) -> None:
        config, meta, shard = self.config, opened.meta, opened.shard
        exporter = self._span_exporter = make_exporter(config, meta, self.counters)
        topic = self._trace_topic = make_trace_topic(config, meta, shard, self.topics)
        tracing = make_tracing(exporter, topic, shard, self._settings, self.clock, meta)
        if tracing is not None:
            self.data.tracing, self.groups.tracing = tracing, tracing.reading
        if exporter is not None:
            exporter.start()
        self.traces = TraceServiceImpl(
            shard.machines.catalog,
            self._settings,
            self.clock,
            self.messages,
            Tracing(meta.cluster_id, config.text("tracing.endpoint"), topic),
        )

    async def _listen(self, listener: Listener) -> None:
        running: RunningListener
        if listener.protocol == "peer":
            running = PeerListener(listener.name, listener.host, listener.port, self.member.links)
        else:
            running = self._make_listener(listener)
        try:
            await running.start()
        except OSError as error:
            raise OSError(
                error.errno,
                f"listener {listener.name} cannot use {listener.host}:{listener.port}: {error.strerror or error};"
                f" stop what uses it, or choose another address with --listen {listener.name}=HOST:PORT",
            ) from error
        self._listeners.append((listener, running))
        address = "{}:{}".format(*running.address)
        logger.info(
            "listening", extra=fields(listener=listener.name, protocol=listener.protocol, address=address)
        )

    def _make_listener(self, listener: Listener) -> RunningListener:
        where = (listener.name, listener.host, listener.port)
        if listener.protocol == "kafka":
            services = KafkaServices(
                self.data,
                self.topics,
                self.groups,
                self.clock.monotonic_ms,
                LeaderRequests(self.member, self._serving),
            )
            config = self.config
            limits = KafkaLimits(
                request_bytes_max=config.integer("socket.request.max.bytes"),
                queued_request_bytes_max=config.integer("queued.request.bytes.max"),
                connections_max=config.integer("max.connections"),
                connection_idle_ms_max=config.integer("connections.max.idle.ms"),
            )
            kafka = KafkaListener(*where, services, limits)
            self._serving.add(kafka)
            self.counters.watch("kafka", kafka.counters.shared)
            self._queues += kafka_queues(kafka)
            return kafka
        http = HttpServices(
            self.data,
            self.topics,
            self.groups,
            self.broker_service,
            self.counters,
            self.messages,
            self.traces,
            self._measuring,
            self.queues,
            LeaderAddress(broker_name(self.config, self.member.meta), self.member, self._view),
        )
        running: DataHttpListener | AdminHttpListener
        if listener.protocol == "http":
            running = DataHttpListener(*where, http)
        else:
            running = AdminHttpListener(*where, http)
        self._queues += http_queues(listener.protocol, running)
        return running

    # --- who and where ---------------------------------------------------------------------------

    def advertised(self, listener_name: str) -> tuple[str, int]:
        """This broker's host and port as clients of the listener are told. Requests that came by another protocol's
        listener get the first Kafka listener's."""
        kafka = [pair for pair in self._listeners if pair[0].protocol == "kafka"]
        chosen = next((pair for pair in kafka if pair[0].name == listener_name), kafka[0] if kafka else None)
        if chosen is None:
            return "", 0
        listener, running = chosen
        if listener.advertise is not None:
            return listener.advertise
        host, port = running.address
        # Everything is not an address that a client could connect to.
        return ("127.0.0.1" if host in ("0.0.0.0", "::") else host), port

    def _described_listeners(self) -> list[tuple[str, str, str, str]]:
        described = []
        for listener, running in self._listeners:
            address = "{}:{}".format(*running.address)
            kafka = listener.protocol == "kafka"
            advertised = "{}:{}".format(*self.advertised(listener.name)) if kafka else address
            described.append((listener.name, listener.protocol, address, advertised))
        return described

    # --- running and stopping --------------------------------------------------------------------

    async def _pulse(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PULSE_SECONDS
            await asyncio.sleep(PULSE_SECONDS)
            self.counters.loop_was_late(loop.time() - due)

    async def _sample(self) -> None:
        while True:
            self.broker_service.sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def stop(self) -> None:
        """Hands over, stops accepting, finishes what was begun, flushes, leaves a checkpoint, lets go of the folder."""
        self.broker_service.stopping = True
        if self.member.mastership is not None:
            self.member.mastership.stopping = True
        if self._trace_topic is not None:
            # While it leads: what is told later is lost.
            await self._trace_topic.settle()
        await self._hand_over()
        # The admin listener goes last, so that probes and people see the broker stopping.
        for _, running in sorted(self._listeners, key=lambda pair: pair[0].protocol == "admin"):
            await running.stop()
        for task in self._pulses:
            task.cancel()
        await asyncio.gather(*self._pulses, return_exceptions=True)
        self.groups.stop()
        if self._trace_topic is not None:
            self._trace_topic.close()
        self.queues.stop()
        await self._measuring.close()
        if self._elector is not None:
            await self._elector.close()
        await self.member.close()
        await self._maintenance.stop()
        await self._threads.close()
        self._folder.save_meta(msgspec.structs.replace(self.member.replica.meta, running_boot=""))
        self._folder.close()
        if self._span_exporter is not None:
            # Last: whoever starts on the folder next does not wait for a collector.
            await self._span_exporter.close()

    async def _hand_over(self) -> None:
        if self.member.replica.is_leader and self.member.standings():
            refusal = await self.member.hand_over()
            if refusal is not None:
                logger.warning("stopping without a hand-over: %s", refusal.sentence)

    @property
    def shard(self) -> Shard:
        """The shard, for tests and tools inside the process."""
        return self._shard


def exit_now(code: int) -> None:
    """Ends the process without another write to the disk."""
    logging.shutdown()
    os._exit(code)
