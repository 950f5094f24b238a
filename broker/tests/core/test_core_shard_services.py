"""A shard with its services on a real folder and real threads: the promises of produce, fetch, offsets and topics."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.base.crc import crc32c
from penstock.codec.compression import Compression
from penstock.codec.records import BatchOptions, Record, build_batch, read_records
from penstock.log.errors import DataFolderError
from penstock.log.recovery import LogOptions
from penstock.model.errors import ErrorCode
from penstock.runtime.data_folder import DataFolder, claim
from penstock.runtime.maintenance import Maintenance, MaintenanceOptions
from penstock.runtime.opening import ShardOptions, open_shard
from penstock.runtime.threads import Threads
from penstock.service.api import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    AppendResult,
    ConfigOperation,
    FetchedPartition,
    FetchPartition,
    NewTopic,
    PositionQuery,
    ProduceBatches,
)
from penstock.service.data import DataServiceImpl
from penstock.service.fetching import FetchLimits
from penstock.service.settings import Settings
from penstock.service.topics import PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX, BrokerIdentity, TopicServiceImpl
from penstock.telemetry.counters import Counters
from penstock.testing.lone_member import lone_member, lone_view
from penstock.testing.simulated_shard import CONTEXT, ManualClock

MIB = 1024 * 1024


class Member:
    """One life of a shard on a folder."""

    def __init__(self, path: Path, *, sync: bool = True, segment_bytes: int = MIB) -> None:
        self.clock = ManualClock()
        self.fatal: list[BaseException] = []
        self.folder = DataFolder(path)
        self.threads = Threads(asyncio.get_running_loop())
        meta = claim(self.folder, cluster_id="", shard_id=0, shard_uid="", ordinal=0, new_cluster_id="test")
        options = ShardOptions(LogOptions(segment_bytes, 65_536, sync), MIB, 8 * MIB)
        opened = open_shard(self.folder, meta, options, self.threads, Counters(), [], self.fatal.append)
        self.report, self.shard = opened.report, opened.shard
        self.settings = Settings(self.shard.machines.catalog, {})
        self.data = DataServiceImpl(self.shard, self.settings, self.clock, FetchLimits())
        self.maintenance = Maintenance(
            self.shard,
            opened.snapshots,
            MaintenanceOptions(50, MIB, 3_600_000, 1.0, 1.0),
            self.clock,
            lambda topic: (
                self.settings.topic(topic).retention_ms,
                self.settings.topic(topic).retention_bytes,
            ),
            lambda _: [*self.data.idle_producers(60_000)],
            lambda: 1 << 50,
        )
        self.member = lone_member(opened, self.folder, self.maintenance, self.clock)
        identity = BrokerIdentity("test", "broker", lambda: 1, lone_view(self.member))
        self.topics = TopicServiceImpl(self.shard, self.settings, self.clock, identity)
        self.maintenance.start()
        self.leads = asyncio.Event()
        self.member.replica.on_leading = self._lead
        self.member.begin()

    def _lead(self) -> None:
        self.member.begin_leading()
        self.leads.set()

    async def ready(self) -> Member:
        await self.leads.wait()
        return self

    async def stop(self) -> None:
        await self.maintenance.stop()
        await self.threads.close()
        self.folder.close()

    async def create(self, name: str = "t", partitions: int = 1, **config: str) -> None:
        (outcome,) = await self.topics.create_topics(CONTEXT, [NewTopic(name, partitions, config=config)])
        assert outcome.error is ErrorCode.NONE, outcome.message

    async def produce(
        self, batch: bytes, acks: int = -1, *, topic: str = "t", partition: int = 0
    ) -> AppendResult:
        asked = [ProduceBatches(topic, partition, memoryview(batch))]
        (result,) = await self.data.produce(CONTEXT, asked, acks, 10_000)
        return result

    async def fetch(self, offset: int, wait_ms: int = 0, **more: Any) -> FetchedPartition:
        asked = [FetchPartition("t", more.pop("partition", 0), offset, more.pop("partition_bytes", MIB))]
        options = {"min_bytes": 1, "max_bytes": MIB, **more}
        (result,) = await self.data.fetch(CONTEXT, asked, max_wait_ms=wait_ms, **options)
        return result

    async def position(self, timestamp: int) -> tuple[int, int]:
        (found,) = await self.data.list_offsets(CONTEXT, [PositionQuery("t", 0, timestamp)])
        assert found.error is ErrorCode.NONE
        return found.offset, found.timestamp


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    member = await Member(tmp_path).ready()
    await member.create()
    yield member
    await member.stop()


def batch(*values: bytes, timestamp: int = 1000, **options: Any) -> bytes:
    return build_batch(
        [Record(value=value, timestamp=timestamp) for value in values], 0, BatchOptions(**options)
    )


async def test_metadata_waits_for_whoever_is_being_elected(tmp_path: Path) -> None:
    member = Member(tmp_path)
    assert member.member.leader_member == 0
    # No topics: nobody's leader is asked for.
    assert (await member.topics.metadata(CONTEXT, [])).controller_id == -1
    assert not member.shard.leading
    assert (await member.topics.metadata(CONTEXT, None)).controller_id == 0
    assert member.shard.leading
    await member.stop()


def large(size: int = 200_000) -> bytes:
    return batch(b"x" * size)


def values(result: FetchedPartition) -> list[tuple[int, bytes | None]]:
    assert result.error is ErrorCode.NONE
    data, found = b"".join(result.records), []
    while data:
        size = 12 + int.from_bytes(data[8:12], "big")
        found.extend((record.offset, record.value) for record in read_records(memoryview(data[:size])))
        data = data[size:]
    return found


@pytest.mark.parametrize("acks", [1, -1])
async def test_what_is_produced_is_fetched(member: Member, acks: int) -> None:
    assert (await member.produce(batch(b"a", b"b"), acks)).base_offset == 0
    assert (await member.produce(batch(b"c"), acks)).base_offset == 2
    assert values(await member.fetch(0)) == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert values(await member.fetch(2)) == [(2, b"c")]
    assert values(await member.fetch(3)) == []


@pytest.mark.parametrize("acks", [1, -1])
async def test_writes_are_refused_below_the_copies_that_a_topic_asks_for(member: Member, acks: int) -> None:
    await member.create("careful", **{"min.insync.replicas": "2"})
    result = await member.produce(batch(b"a"), acks, topic="careful")
    assert result.error is ErrorCode.NOT_ENOUGH_REPLICAS
    assert "min.insync.replicas=2" in str(result.message)
    (found,) = await member.data.list_offsets(CONTEXT, [PositionQuery("careful", 0, -1)])
    assert found.offset == 0


async def test_copies_are_counted_when_a_leadership_begins(tmp_path: Path) -> None:
    member = Member(tmp_path)
    member.shard.in_sync_count = 3  # As of a leadership long ago.
    await member.ready()
    assert member.shard.in_sync_count == 1
    await member.create(**{"min.insync.replicas": "2"})
    assert (await member.produce(batch(b"a"))).error is ErrorCode.NOT_ENOUGH_REPLICAS
    await member.stop()


async def test_acks_none_is_answered_before_the_disk(member: Member) -> None:
    answer = member.data.produce(CONTEXT, [ProduceBatches("t", 0, memoryview(batch(b"a")))], 0, 1000)
    assert isinstance(answer, asyncio.Future)
    assert answer.done()
    assert values(await member.fetch(0, 10_000)) == [(0, b"a")]


async def test_other_acks_are_refused(member: Member) -> None:
    result = await member.produce(batch(b"a"), 2)
    assert result.error is ErrorCode.INVALID_REQUIRED_ACKS
    assert "not 2" in (result.message or "")


async def test_nothing_is_answered_or_seen_before_it_is_committed(member: Member) -> None:
    gate = asyncio.Event()
    writer = member.shard.threads.writer
    held: list[Any] = []
    member.shard.threads.writer = type(
        "Held", (), {"submit": lambda _, *job: held.append(job) or gate.set()}
    )()
    answer = asyncio.ensure_future(
        member.data.produce(CONTEXT, [ProduceBatches("t", 0, memoryview(batch(b"a")))], -1, 60_000)
    )
    await gate.wait()
    assert not answer.done()
    assert values(await member.fetch(0)) == []
    member.shard.threads.writer = writer
    writer.submit(*held[0])
    (result,) = await answer
    assert result.base_offset == 0
    assert values(await member.fetch(0)) == [(0, b"a")]


async def test_a_duplicate_is_answered_with_the_first_offset_also_while_that_is_uncommitted(
    member: Member,
) -> None:
    sent = batch(b"a", b"b", producer_id=5, producer_epoch=0, base_sequence=0)
    await member.produce(batch(b"before"))
    first, again = await asyncio.gather(member.produce(sent), member.produce(sent))
    assert first.base_offset == again.base_offset == 1
    assert (await member.produce(sent)).base_offset == 1
    assert [value for _, value in values(await member.fetch(0))] == [b"before", b"a", b"b"]
    gap = batch(b"x", producer_id=5, producer_epoch=0, base_sequence=7)
    assert (await member.produce(gap)).error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


async def test_a_late_commit_is_answered_with_a_timeout(member: Member) -> None:
    writer = member.shard.threads.writer
    held: list[tuple[Any, Any]] = []
    member.shard.threads.writer = type("Held", (), {"submit": lambda _, *job: held.append(job)})()
    asked = [ProduceBatches("t", 0, memoryview(batch(b"a")))]
    (result,) = await member.data.produce(CONTEXT, asked, -1, 5)
    assert result.error is ErrorCode.REQUEST_TIMED_OUT
    member.shard.threads.writer = writer
    for job in held:
        writer.submit(*job)


async def test_a_waiting_fetch_wakes_with_the_message(member: Member) -> None:
    waiting = asyncio.ensure_future(member.fetch(0, 60_000))
    await asyncio.sleep(0)
    assert member.shard.table.require("t", 0).waiters
    await member.produce(batch(b"a"))
    assert values(await waiting) == [(0, b"a")]
    assert not member.shard.table.require("t", 0).waiters


async def test_a_fetch_that_is_cancelled_waits_no_more(member: Member) -> None:
    waiting = asyncio.ensure_future(member.fetch(0, 600_000))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0)
    assert not member.shard.table.require("t", 0).waiters


async def test_a_fetch_waits_for_enough_bytes_or_its_time(member: Member) -> None:
    await member.produce(batch(b"a"))
    assert values(await member.fetch(0, 20, min_bytes=10_000)) == [(0, b"a")]


async def test_a_waiting_fetch_learns_that_the_topic_is_gone(member: Member) -> None:
    waiting = asyncio.ensure_future(member.fetch(0, 60_000))
    await asyncio.sleep(0)
    await member.topics.delete_topics(CONTEXT, ["t"])
    assert (await waiting).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def test_offsets_out_of_range_and_other_epochs_are_told(member: Member) -> None:
    await member.produce(batch(b"a"))
    assert (await member.fetch(2)).error is ErrorCode.OFFSET_OUT_OF_RANGE
    assert (await member.fetch(-1)).error is ErrorCode.OFFSET_OUT_OF_RANGE
    epoch = member.shard.epoch
    for asked, error in (
        (epoch, ErrorCode.NONE),
        (epoch - 1, ErrorCode.FENCED_LEADER_EPOCH),
        (epoch + 1, ErrorCode.UNKNOWN_LEADER_EPOCH),
    ):
        partitions = [FetchPartition("t", 0, 0, 1000, asked)]
        (result,) = await member.data.fetch(CONTEXT, partitions, min_bytes=1, max_bytes=1000, max_wait_ms=0)
        assert result.error is error


async def test_the_log_gives_its_own_times(member: Member) -> None:
    await member.create("stamped", **{"message.timestamp.type": "LogAppendTime"})
    member.clock.now = 5_000_000
    result = await member.produce(batch(b"a", b"b", compression=Compression.GZIP), topic="stamped")
    assert result.log_append_time_ms == 5_000_000
    (found,) = await member.data.list_offsets(CONTEXT, [PositionQuery("stamped", 0, 4_999_999)])
    assert (found.offset, found.timestamp) == (0, 5_000_000)


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP, Compression.LZ4])
async def test_offsets_are_exact_by_time(member: Member, compression: Compression) -> None:
    times = [[100, 900], [150, 300], [200, 250, 400], [1000]]
    for group in times:
        records = [Record(value=b"v", timestamp=timestamp) for timestamp in group]
        await member.produce(build_batch(records, 0, BatchOptions(compression=compression)))
    flat = [timestamp for group in times for timestamp in group]
    for asked in range(0, 1101, 50):
        expected = next(((n, t) for n, t in enumerate(flat) if t >= asked), (-1, -1))
        assert await member.position(asked) == expected
    assert await member.position(EARLIEST_TIMESTAMP) == (0, -1)
    assert await member.position(LATEST_TIMESTAMP) == (8, -1)
    assert await member.position(MAX_TIMESTAMP) == (7, 1000)
    # The large time of the first batch is below the start now: the search goes on behind it.
    await member.data.delete_records(CONTEXT, [("t", 0, 2)], 1000)
    assert await member.position(350) == (6, 400)
    await member.data.delete_records(CONTEXT, [("t", 0, 5)], 1000)
    assert await member.position(200) == (5, 250)


async def test_a_batch_whose_body_cannot_be_read_is_found_as_a_whole(member: Member) -> None:
    head = bytearray(batch(b"a", compression=Compression.GZIP)[:61]) + b"no gzip at all"
    head[8:12] = (len(head) - 12).to_bytes(4, "big")
    head[17:21] = crc32c(bytes(head[21:])).to_bytes(4, "big")
    assert (await member.produce(bytes(head))).error is ErrorCode.NONE
    assert await member.position(0) == (0, 1000)


async def test_deleted_records_are_gone_for_good(member: Member, tmp_path: Path) -> None:
    for number in range(5):
        await member.produce(batch(b"%d" % number))
    results = await member.data.delete_records(CONTEXT, [("t", 0, 3), ("t", 7, 0), ("nothing", 0, 0)], 1000)
    assert [(r.error, r.low_watermark) for r in results] == [
        (ErrorCode.NONE, 3),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1),
    ]
    (beyond,) = await member.data.delete_records(CONTEXT, [("t", 0, 6)], 1000)
    assert beyond.error is ErrorCode.OFFSET_OUT_OF_RANGE
    (lower,) = await member.data.delete_records(CONTEXT, [("t", 0, 1)], 1000)
    assert lower.low_watermark == 3
    assert (await member.fetch(2)).error is ErrorCode.OFFSET_OUT_OF_RANGE
    (everything,) = await member.data.delete_records(CONTEXT, [("t", 0, -1)], 1000)
    assert everything.low_watermark == 5


async def test_a_batch_that_no_segment_holds_is_refused_as_too_large(member: Member) -> None:
    await member.create("big", **{"max.message.bytes": str(10 * MIB)})
    result = await member.produce(batch(b"x" * (MIB + 1)), topic="big")
    assert result.error is ErrorCode.MESSAGE_TOO_LARGE
    assert "log.segment.bytes" in (result.message or "")


def open_segments(member: Member) -> int:
    """Segment files that the process holds open, removed ones included."""
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    targets = [os.readlink(link) for link in links if os.path.lexists(link)]
    folder = str(member.folder.path)
    return sum(target.startswith(folder) and ".log" in os.path.basename(target) for target in targets)


async def test_retention_frees_files_and_their_blocks(member: Member) -> None:
    await member.topics.alter_topic_config(
        CONTEXT, "t", [ConfigOperation("retention.bytes", "set", "300000")]
    )
    for _ in range(30):
        assert (await member.produce(large())).error is ErrorCode.NONE
        await member.maintenance.fill_spares()
    before = len(member.shard.log.segments)
    await member.maintenance.retain()
    await member.maintenance.settle()
    assert before >= 6
    assert len(member.shard.log.segments) <= 2
    # One that was dropped while it was flushed is closed when that is done.
    for _ in range(1000):
        if open_segments(member) == len(member.shard.log.segments):
            break
        await asyncio.sleep(0.01)
    assert open_segments(member) == len(member.shard.log.segments)
    partition = member.shard.table.require("t", 0)
    assert partition.log_start > 0
    assert partition.size_bytes >= 300_000
    assert len([n for n in member.shard.log.disk.names() if n.endswith(".log")]) == len(
        member.shard.log.segments
    )
    assert (await member.fetch(partition.log_start)).error is ErrorCode.NONE


async def test_a_deleted_topic_frees_its_segments(member: Member) -> None:
    for _ in range(20):
        await member.produce(large())
        await member.maintenance.fill_spares()
    assert len(member.shard.log.segments) >= 4
    await member.topics.delete_topics(CONTEXT, ["t"])
    await member.maintenance.retain()
    await member.maintenance.settle()
    assert len(member.shard.log.segments) == 1


async def test_partitions_are_bounded_also_within_one_request(member: Member) -> None:
    wanted = [
        NewTopic(f"t{number}", PARTITIONS_PER_TOPIC_MAX)
        for number in range(PARTITIONS_MAX // PARTITIONS_PER_TOPIC_MAX)
    ]
    outcomes = await member.topics.create_topics(CONTEXT, wanted, validate_only=True)
    assert {outcome.error for outcome in outcomes} == {ErrorCode.NONE}
    (outcome,) = await member.topics.create_topics(CONTEXT, [NewTopic("x", PARTITIONS_PER_TOPIC_MAX + 1)])
    assert outcome.error is ErrorCode.INVALID_PARTITIONS
    assert str(PARTITIONS_PER_TOPIC_MAX) in (outcome.message or "")


async def test_a_topic_of_ten_thousand_partitions_stalls_nobody(member: Member) -> None:
    """Its commands are larger than a segment would take at once; others get their turn in between. What counts is the
    processor time between two turns, so that other work of the machine does not."""
    longest = 0.0

    async def pulse() -> None:
        nonlocal longest
        while True:
            began = time.process_time()
            await asyncio.sleep(0.005)
            longest = max(longest, time.process_time() - began)

    beat = asyncio.create_task(pulse())
    await asyncio.sleep(0.05)
    await member.create("wide", PARTITIONS_PER_TOPIC_MAX)
    await member.maintenance.retain()
    member.maintenance.begin_checkpoint()
    await member.maintenance.settle()
    beat.cancel()
    assert len(member.shard.table) == PARTITIONS_PER_TOPIC_MAX + 1
    assert longest < 0.3


async def test_a_restart_gives_the_same_state(tmp_path: Path) -> None:
    first = await Member(tmp_path).ready()
    await first.create("t", 3, **{"retention.ms": "5000"})
    sent = batch(b"a", producer_id=5, producer_epoch=0, base_sequence=0)
    for _ in range(12):
        await first.produce(large(), partition=1)
    await first.produce(sent)
    await first.data.delete_records(CONTEXT, [("t", 1, 4)], 1000)
    before = {machine.name: machine.snapshot() for machine in first.shard.machines.all()}
    offsets = [(p.log_start, p.high_watermark, p.size_bytes) for p in first.shard.table]
    await first.stop()
    second = await Member(tmp_path).ready()
    assert second.report.entries_read == 0
    assert {machine.name: machine.snapshot() for machine in second.shard.machines.all()} == before
    assert [(p.log_start, p.high_watermark, p.size_bytes) for p in second.shard.table] == offsets
    assert second.shard.epoch == first.shard.epoch + 1
    assert (await second.produce(sent)).base_offset == 0
    assert len(values(await second.fetch(4, partition=1, partition_bytes=300_000))) == 1
    await second.stop()


async def test_a_folder_is_for_one_broker(tmp_path: Path) -> None:
    member = await Member(tmp_path).ready()
    with pytest.raises(DataFolderError, match="in use by another broker"):
        DataFolder(tmp_path)
    await member.stop()
    DataFolder(tmp_path).close()


async def test_after_a_failed_sync_nothing_is_acknowledged(member: Member) -> None:
    await member.produce(batch(b"a"))
    file = member.shard.log.active.file
    assert file is not None

    def fail() -> None:
        raise OSError(5, "the disk is gone")

    broken = type(
        "Broken", (), {"write_at": file.write_at, "sync": staticmethod(fail), "read_at": file.read_at}
    )()
    member.shard.log.active.file = broken
    asked = [ProduceBatches("t", 0, memoryview(batch(b"b")))]
    (result,) = await member.data.produce(CONTEXT, asked, -1, 50)
    assert result.error is ErrorCode.REQUEST_TIMED_OUT
    assert [str(error) for error in member.fatal] == ["[Errno 5] the disk is gone"]
    member.shard.log.active.file = file
    (again,) = await member.data.produce(CONTEXT, asked, -1, 50)
    assert again.error is ErrorCode.REQUEST_TIMED_OUT


async def test_flush_async_syncs_after_its_interval(tmp_path: Path) -> None:
    member = await Member(tmp_path, sync=False).ready()
    await member.create()
    await member.produce(batch(b"a"))
    for _ in range(200):
        if member.shard.log.durable_index == member.shard.log.written_index:
            break
        await asyncio.sleep(0.01)
    assert member.shard.log.durable_index == member.shard.log.written_index
    await member.stop()
