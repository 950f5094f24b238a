"""A full disk: produce is refused with a clear error, everything else goes on, and produce resumes when there is room."""

from __future__ import annotations

import asyncio
import gc
import random

import msgspec
import pytest

from penstock.codec.records import Record, build_batch
from penstock.log.errors import DataFolderError
from penstock.model.errors import ErrorCode
from penstock.partition.partition import MissingRun
from penstock.service.api import AppendResult, ConfigOperation, FetchPartition, NewTopic, ProduceBatches
from penstock.testing.simulated_disk import SimulatedDisk
from penstock.testing.simulated_shard import CONTEXT, ManualClock, SimulatedShard

BATCH = build_batch([Record(value=b"x" * 1000, timestamp=1000)])


class FullDisk:
    """A shard on a small disk, filled until produce is refused."""

    def __init__(self, capacity_bytes: int = 150_000) -> None:
        self.disk = SimulatedDisk(1, capacity_bytes=capacity_bytes)
        self.shard = SimulatedShard(self.disk, random.Random(1), ManualClock(1000))
        self.produced = 0

    async def produce(self) -> AppendResult:
        asked = [ProduceBatches("t", 0, memoryview(BATCH))]
        (result,) = await self.shard.wait(self.shard.data.produce(CONTEXT, asked, -1, 10_000))
        self.produced += result.error is ErrorCode.NONE
        return result

    async def fill(self) -> AppendResult:
        await self.shard.lead()
        await self.shard.wait(self.shard.topics.create_topics(CONTEXT, [NewTopic("t", 1)]))
        while (result := await self.produce()).error is ErrorCode.NONE:
            await self.maintain()
        return result

    async def maintain(self) -> None:
        self.shard.maintenance.begin_checkpoint()
        await self.shard.wait(self.shard.maintenance.settle())

    async def forget(self, offset: int) -> None:
        await self.shard.wait(self.shard.data.delete_records(CONTEXT, [("t", 0, offset)], 1000))
        await self.shard.wait(self.shard.maintenance.retain())
        await self.shard.wait(self.shard.maintenance.settle())

    async def readable(self) -> int:
        partition = self.shard.shard.table.require("t", 0)
        asked = [FetchPartition("t", 0, partition.log_start, 10**6)]
        (result,) = await self.shard.wait(
            self.shard.data.fetch(CONTEXT, asked, min_bytes=1, max_bytes=10**6, max_wait_ms=0)
        )
        assert result.error is ErrorCode.NONE
        return len(result.records)


def test_produce_is_refused_and_resumes() -> None:
    async def scenario() -> None:
        full = FullDisk()
        refused = await full.fill()
        assert refused.error is ErrorCode.KAFKA_STORAGE_ERROR
        assert "disk is full" in (refused.message or "")
        assert full.produced > 50
        assert await full.readable() > 0
        change = [ConfigOperation("retention.ms", "set", "600000")]
        await full.shard.wait(full.shard.topics.alter_topic_config(CONTEXT, "t", change))
        await full.shard.wait(full.shard.maintenance.watch_disk())
        assert full.shard.maintenance.disk.state == "refuse"
        await full.forget(full.produced - 5)
        await full.shard.wait(full.shard.maintenance.watch_disk())
        assert full.shard.maintenance.disk.state != "refuse"
        assert (await full.produce()).error is ErrorCode.NONE

    asyncio.run(scenario())


def test_a_disk_without_one_free_byte_still_gets_room_by_retention() -> None:
    """Index files and snapshots need room as well: a spare gives its own."""

    async def scenario() -> None:
        full = FullDisk()
        await full.fill()
        rest = full.disk.open("somebody-else", create=True)
        rest.write_at(0, [bytes(full.disk.available_bytes())])
        assert full.disk.available_bytes() == 0
        segments = len(full.shard.shard.log.segments)
        await full.forget(full.produced - 5)
        assert len(full.shard.shard.log.segments) < segments
        assert (await full.produce()).error is ErrorCode.NONE
        assert full.shard.fatal is None

    asyncio.run(scenario())


@pytest.mark.parametrize(("free_bytes", "state"), [(0, "refuse"), (1 << 30, "warn"), (1 << 40, "refuse")])
def test_a_few_percent_of_a_large_disk_are_room_enough(
    free_bytes: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        scene = SimulatedShard(SimulatedDisk(0), random.Random(0), ManualClock())
        await scene.lead()
        maintenance = scene.maintenance
        monkeypatch.setattr(scene.shard.log.disk, "space_bytes", lambda: (1 << 40, 8 << 30))
        monkeypatch.setattr(
            maintenance, "_options", msgspec.structs.replace(maintenance._options, disk_free_bytes=free_bytes)
        )
        await scene.wait(maintenance.watch_disk())
        assert maintenance.disk.state == state

    asyncio.run(scenario())


def test_room_that_a_volume_never_had_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the size is configured, a file system may have less."""

    async def scenario() -> None:
        scene = SimulatedShard(SimulatedDisk(0), random.Random(0), ManualClock())
        await scene.lead()
        maintenance, log = scene.maintenance, scene.shard.log
        spare = len(log.spares) * log.segment_bytes
        options = msgspec.structs.replace(
            maintenance._options, disk_refuse_ratio=0.01, disk_free_bytes=spare + 1
        )
        monkeypatch.setattr(maintenance, "_options", options)
        monkeypatch.setattr(maintenance, "_disk_bytes", lambda: 10 * (spare + log.segment_bytes))
        for available, state in ((1, "ok"), (0, "refuse")):
            monkeypatch.setattr(log.disk, "space_bytes", lambda available=available: (1 << 40, available))
            await scene.wait(maintenance.watch_disk())
            assert maintenance.disk.state == state

    asyncio.run(scenario())


@pytest.mark.parametrize("left_bytes", [0, 200])
def test_a_full_disk_starts_again(left_bytes: int) -> None:
    """A start has to write its epoch first: where not even that finds room, a spare gives its own."""

    async def scenario() -> None:
        full = FullDisk()
        await full.fill()
        rest = full.disk.open("somebody-else", create=True)
        rest.write_at(0, [bytes(full.disk.available_bytes() - left_bytes)])
        again = SimulatedShard(full.disk, random.Random(2), ManualClock(2000))
        await again.lead()
        partition = again.shard.table.require("t", 0)
        assert partition.high_watermark == full.produced
        full.shard = again
        await full.forget(full.produced - 5)
        assert (await full.produce()).error is ErrorCode.NONE

    asyncio.run(scenario())


def test_a_full_disk_without_spares_says_what_to_do() -> None:
    async def scenario() -> None:
        full = FullDisk()
        await full.fill()
        for spare in full.shard.shard.log.spares:
            full.disk.remove(spare)
        rest = full.disk.open("somebody-else", create=True)
        rest.write_at(0, [bytes(full.disk.available_bytes())])
        with pytest.raises(DataFolderError, match="the disk is full to the last byte: free some space"):
            SimulatedShard(full.disk, random.Random(2), ManualClock(2000))

    asyncio.run(scenario())


def test_reading_old_segments_leaves_no_cycle_that_holds_them() -> None:
    """A removed file keeps its room as long as anybody holds it open: nobody may wait for a garbage collection."""

    async def scenario() -> None:
        full = FullDisk()
        await full.fill()
        assert await full.readable() > 0

    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        asyncio.run(scenario())
        gc.collect()
        assert not [item for item in gc.garbage if isinstance(item, MissingRun)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
