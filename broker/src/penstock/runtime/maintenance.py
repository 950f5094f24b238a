"""What a shard does beside serving: spare segments, retention, disk marks, flushes, and checkpoints when they are due.

Each duty is a small step that runs on the loop and hands its file work to a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from penstock.catalog.partitions import starts_moved
from penstock.log.commit_log import SPARES_READY
from penstock.log.maintenance import make_spare, spare_number, sync_segment
from penstock.log.snapshots import SnapshotStore
from penstock.model.commands import Command
from penstock.model.errors import PenstockError
from penstock.runtime.checkpoints import Checkpoints
from penstock.runtime.clock import Clock
from penstock.runtime.duties import Duties
from penstock.runtime.shard import Shard

logger = logging.getLogger(__name__)

# A partition's retention: (retention ms, retention bytes), -1 for no bound.
Retention = Callable[[str], tuple[int, int]]

DISK_OK, DISK_WARN, DISK_REFUSE = "ok", "warn", "refuse"
SPARE_RETRY_SECONDS = 1.0
_SPARES, _CHECKPOINT = "the allocation of spare segments", "the checkpoint"
DISK_CHECK_SECONDS = 2.0
# Entries after which a checkpoint is made even though no segment was filled.
CHECKPOINT_ENTRIES_MAX = 50_000
# Partitions whose retention is looked at in one turn of the loop.
RETENTION_PARTITIONS_PER_TURN = 500


class MaintenanceOptions(msgspec.Struct, frozen=True):
    """Intervals and marks."""

    flush_interval_ms: int
    flush_bytes: int
    retention_interval_ms: int
    disk_warn_ratio: float
    disk_refuse_ratio: float
    # With so much room left nothing is refused: a few percent of a large disk are many segments. 0: the ratio alone decides.
    disk_free_bytes: int = 0


class DiskState(msgspec.Struct):
    """What the last look at the disk saw."""

    total_bytes: int = 0
    used_bytes: int = 0
    state: str = DISK_OK


class Maintenance:
    """Owns the shard's background duties. `disk_bytes` gives the size that the disk marks are
    computed from (0: what the file system says), `expire` further commands that time makes due (groups, producers)."""

    def __init__(
        self,
        shard: Shard,
        snapshots: SnapshotStore,
        options: MaintenanceOptions,
        clock: Clock,
        retention: Retention,
        expire: Callable[[int], list[Command]],
        disk_bytes: Callable[[], int],
    ) -> None:
        self._shard = shard
        self._options = options
        self._clock = clock
        self._retention = retention
        self._expire = expire
        self._disk_bytes = disk_bytes
        self.disk = DiskState()
        # Beyond every number in use, so that no name is given twice.
        self._spare_number = max(map(spare_number, shard.log.spares), default=0)
        self._duties = Duties()
        self.checkpoints = Checkpoints(shard, snapshots)
        self._out_of_room = False
        self._flush_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Begins all duties."""
        self._shard.on_segment_filled = self.begin_checkpoint
        self._shard.on_written = self._written
        self._duties.every(self._options.retention_interval_ms / 1000, "retention", self.retain)
        self._duties.every(DISK_CHECK_SECONDS, "the disk watch", self.watch_disk)
        self._duties.every(SPARE_RETRY_SECONDS, _SPARES, self.fill_spares)

    async def stop(self) -> None:
        """Ends all duties, flushes, and leaves a checkpoint of everything that is committed."""
        await self._duties.stop()
        if self._shard.failed:
            return
        while self._shard.stored_index < self._shard.log.next_index - 1:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._shard.when_stored(self._shard.log.next_index - 1, lambda _: waiter.set_result(None))  # noqa: B023
            await waiter
        # What the last commits set off.
        await self._duties.settle()
        self._closed = True
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        await self._flush()
        try:
            await self.checkpoints.make()
        except OSError as error:
            logger.warning("the next start takes longer, because no checkpoint could be written: %s", error)

    # --- segments --------------------------------------------------------------------------------

    def begin_checkpoint(self) -> None:
        """Makes a checkpoint soon, and new spares: what a segment that was left behind wants."""
        self._duties.begin(_SPARES, self.fill_spares)
        self._duties.begin(_CHECKPOINT, self._checkpoint)

    async def _checkpoint(self) -> None:
        await self.checkpoints.make()
        # The room of dropped segments becomes spares at once, so that produce resumes on a disk that was full.
        self._duties.begin(_SPARES, self.fill_spares)

    async def settle(self) -> None:
        """Returns when no duty is under way."""
        await self._duties.settle()

    async def quiet(self) -> Callable[[], None]:
        """Keeps checkpoints, flushes and allocations from beginning, once those under way are done, until the returned
        function is called."""
        resume = self._duties.hold()
        await self._duties.settle()
        return resume

    async def fill_spares(self) -> None:
        """Allocates spare segments until enough are ready or the disk is full."""
        log = self._shard.log
        while len(log.spares) < SPARES_READY and not self._closed:
            self._spare_number += 1
            make = partial(make_spare, log.disk, self._spare_number, log.segment_bytes)
            name = await self._shard.threads.background(make)
            self._out_of_room = name is None
            if name is None:
                # Retention or a larger volume will make some room; until then batches may be refused.
                return
            log.spares.append(name)

    # --- retention -------------------------------------------------------------------------------

    async def retain(self) -> None:
        """Moves the starts of partitions past what is to be kept, and forgets what time makes due: the leader's part. Then
        drops what no longer is needed: everybody's."""
        if self._shard.leading and not await self._move_starts():
            return
        behind = self._shard.commit_index - self.checkpoints.covered_index
        if behind > CHECKPOINT_ENTRIES_MAX or self.checkpoints.would_free_space:
            self.begin_checkpoint()

    async def _move_starts(self) -> bool:
        now = self._clock.now_ms()
        starts: dict[int, int] = {}
        for number, partition in enumerate(list(self._shard.table)):
            if number % RETENTION_PARTITIONS_PER_TURN == RETENTION_PARTITIONS_PER_TURN - 1:
                await asyncio.sleep(0)
            keep_ms, keep_bytes = self._retention(partition.topic)
            oldest = now - keep_ms if keep_ms >= 0 else None
            start = partition.retention_start(oldest, keep_bytes)
            if start > partition.log_start:
                starts[partition.key] = start
        commands = [*starts_moved(starts), *self._expire(now)]
        if commands:
            try:
                await self._shard.propose(commands)
            except PenstockError as error:
                logger.warning("retention has to wait: %s", error.sentence)
                return False
        return True

    # --- disk ------------------------------------------------------------------------------------

    async def watch_disk(self) -> None:
        """Looks how full the disk is, and refuses produce beyond the second mark."""
        log = self._shard.log
        volume, available = await self._shard.threads.background(log.disk.space_bytes)
        disk_bytes = self._disk_bytes()
        total = disk_bytes or volume
        spare = len(log.spares) * log.segment_bytes
        # Spares are room that the log owns already; on a shared volume everything else counts as used.
        used = volume - available - spare if not disk_bytes else self._log_disk_bytes()
        # A volume never has all the room that it was asked for.
        ratio, free = used / max(total, 1), min(total - used, available + spare)
        before = self.disk.state
        state, refusal = DISK_OK, None
        if self._out_of_room and not log.spares_for_batches():
            state, refusal = DISK_REFUSE, "the disk is full, there is no room for another segment of the log"
        elif ratio >= self._options.disk_refuse_ratio and not 0 < self._options.disk_free_bytes <= free:
            state, refusal = DISK_REFUSE, f"the disk is {ratio:.0%} full"
        elif ratio >= self._options.disk_warn_ratio:
            state = DISK_WARN
        self.disk = DiskState(total, max(used, 0), state)
        self._shard.refuse_batches = (
            f"{refusal}: produce is refused until there is room; free space or grow the volume"
            if refusal
            else None
        )
        if state != before:
            level = logging.INFO if state == DISK_OK else logging.WARNING
            logger.log(level, "disk state changed from %s to %s: %.0f%% in use", before, state, ratio * 100)

    def _log_disk_bytes(self) -> int:
        return len(self._shard.log.segments) * self._shard.log.segment_bytes

    # --- flush: async ----------------------------------------------------------------------------

    def _written(self) -> None:
        log = self._shard.log
        if log.sync or self._closed:
            return
        if log.bytes_since_sync >= self._options.flush_bytes:
            self._start_flush()
        elif self._flush_timer is None:
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_later(self._options.flush_interval_ms / 1000, self._start_flush)

    def _start_flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if not self._closed:
            self._duties.begin("flush", self._flush)

    async def _flush(self) -> None:
        log = self._shard.log
        if log.sync or not log.segments or log.durable_index >= log.written_index:
            return
        index = log.written_index
        log.bytes_since_sync = 0
        segment = log.unsynced_segment()
        began = self._clock.monotonic_ms()
        try:
            if segment is not None:
                await self._shard.threads.flush(partial(sync_segment, segment))
                self._shard.on_synced()
        except OSError as error:
            self._shard.fail(error)
            return
        log.mark_durable(index)
        self._shard.counters.fsyncs += 1
        self._shard.counters.fsync_seconds += (self._clock.monotonic_ms() - began) / 1000
