"""A whole shard with its services on a simulated disk, driven step by step.

Real parts everywhere but for the disk, the threads and the clock: log, machines, partitions, checkpoints, retention and
the data and topic services. Everything that happens between two steps comes from the seed.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import msgspec

from penstock.log.disk import Disk
from penstock.log.recovery import LogOptions
from penstock.runtime.clock import Clock
from penstock.runtime.data_folder import FORMAT, META_NAME, Meta
from penstock.runtime.maintenance import Maintenance, MaintenanceOptions
from penstock.runtime.opening import ShardOptions, open_shard
from penstock.runtime.threads import Threads
from penstock.service.context import RequestContext
from penstock.service.data import DataServiceImpl
from penstock.service.fetching import FetchLimits
from penstock.service.settings import Settings
from penstock.service.topics import BrokerIdentity, TopicServiceImpl
from penstock.telemetry.counters import Counters
from penstock.testing.lone_member import lone_member, lone_view
from penstock.testing.manual_threads import ManualThreads
from penstock.testing.simulated_disk import PowerLossError, SimulatedDisk

T = TypeVar("T")

SHARD_UID = uuid.UUID("11111111-2222-3333-4444-555555555555")
CONTEXT = RequestContext(listener="kafka", protocol="kafka")
# More steps than this for one answer is a hang.
STEPS_MAX = 100_000


class ManualClock(Clock):
    """Time that the test moves."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return self.now

    def monotonic_ms(self) -> int:
        """See `Clock.monotonic_ms`."""
        return self.now


class SimulatedFolder:
    """A data folder on one simulated disk."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.log_disk: Disk = disk

    def save_meta(self, meta: Meta) -> None:
        """See `DataFolder.save_meta`."""
        self.disk.write_atomic(META_NAME, msgspec.json.encode(meta))

    def load_meta(self) -> Meta:
        """The identity that was saved, or that of a new member."""
        if META_NAME not in self.disk.names():
            return Meta(FORMAT, "cluster", 0, SHARD_UID, uuid.UUID(int=1), 0)
        return msgspec.json.decode(self.disk.open(META_NAME).read_at(0, 10_000), type=Meta)


class SimulatedShard:
    """Must be made inside a running loop. `fatal` is the error that would have ended the broker."""

    def __init__(
        self,
        disk: SimulatedDisk,
        chance: random.Random,
        clock: ManualClock,
        *,
        segment_bytes: int = 8192,
        sync: bool = True,
        uncommitted_bytes_max: int = 1 << 20,
    ) -> None:
        self.chance = chance
        self.clock = clock
        self.fatal: BaseException | None = None
        self.threads = ManualThreads(chance)
        asyncio.get_running_loop().set_exception_handler(self._broken)
        folder = SimulatedFolder(disk)
        options = ShardOptions(
            LogOptions(segment_bytes=segment_bytes, cache_bytes_max=4096, sync=sync),
            index_cache_bytes_max=1024,
            pending_bytes_max=1 << 20,
            uncommitted_bytes_max=uncommitted_bytes_max,
        )
        threads = cast(Threads, self.threads)
        self.opened = open_shard(folder, folder.load_meta(), options, threads, Counters(), [], self._on_fatal)
        self.shard = self.opened.shard
        self.settings = Settings(self.shard.machines.catalog, {})
        self.data = DataServiceImpl(self.shard, self.settings, clock, FetchLimits())
        self.maintenance = Maintenance(
            self.shard,
            self.opened.snapshots,
            MaintenanceOptions(50, 1 << 20, 1000, 0.85, 0.95),
            clock,
            lambda topic: (
                self.settings.topic(topic).retention_ms,
                self.settings.topic(topic).retention_bytes,
            ),
            lambda _: [*self.data.idle_producers(60_000)],
            lambda: 0,
        )
        self.member = lone_member(self.opened, folder, self.maintenance, clock)
        identity = BrokerIdentity("cluster", "broker", lambda: 1, lone_view(self.member))
        self.topics = TopicServiceImpl(self.shard, self.settings, clock, identity)

    async def lead(self) -> None:
        """Steps until it leads its shard, which is alone."""
        self.member.begin()
        await self.until(lambda: self.shard.leading)

    def _on_fatal(self, error: BaseException) -> None:
        self.fatal = self.fatal or error

    def _broken(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._on_fatal(context.get("exception") or RuntimeError(context["message"]))

    async def step(self) -> None:
        """One step of a thread, or a turn of the loop. Raises what would have ended the broker."""
        if self.chance.random() < 0.7:
            self.threads.step()
        await asyncio.sleep(0)
        if self.threads.power_lost:
            raise PowerLossError
        if self.fatal is not None:
            raise self.fatal

    async def until(self, condition: Callable[[], bool]) -> None:
        """Steps until the condition holds."""
        for _ in range(STEPS_MAX):
            if condition():
                return
            await self.step()
        raise AssertionError(f"nothing came of {STEPS_MAX} steps")

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Steps until the outcome is there."""
        future = asyncio.ensure_future(awaitable)
        try:
            await self.until(future.done)
        except BaseException:
            future.cancel()
            raise
        return future.result()

    async def settle(self) -> None:
        """Steps until nothing is under way."""
        await self.until(lambda: self.threads.idle and self.shard.idle)
