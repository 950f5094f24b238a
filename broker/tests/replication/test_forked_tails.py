"""Tails that are set aside: as they are, counted partition by partition, bounded, and found again after a start."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from penstock.codec.entry import parse_entry_header
from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.model.errors import ErrorCode
from penstock.raft.ready import Tail
from penstock.replication.forked_tail import ForkedTail, Offsets
from penstock.runtime import forked_tails
from penstock.runtime.forked_tails import ForkedTails, load_reports
from penstock.service.api import NewTopic, ProduceBatches
from penstock.testing.simulated_disk import SimulatedDisk
from penstock.testing.simulated_shard import CONTEXT, ManualClock, SimulatedShard


class Scene:
    """A shard of one whose log's end is to be set aside."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.shard = SimulatedShard(disk, random.Random(1), ManualClock())
        self.tails = ForkedTails(self.shard.shard)

    async def fill(self, batches: int) -> Tail:
        """Leads, and writes batches of two messages into two partitions in turn; gives them as a tail."""
        shard = self.shard
        await shard.lead()
        await shard.wait(shard.topics.create_topics(CONTEXT, [NewTopic("t", 2)]))
        first = shard.shard.log.next_index
        for number in range(batches):
            records = [Record(value=b"%d" % number, timestamp=1) for _ in range(2)]
            item = ProduceBatches("t", number % 2, memoryview(bytes(build_batch(records, 0, BatchOptions()))))
            (result,) = await shard.wait(shard.data.produce(CONTEXT, [item], -1, 1000))
            assert result.error is ErrorCode.NONE
        last = shard.shard.log.next_index - 1
        return Tail(first, last, ((shard.shard.epoch, first),))

    async def keep(self, tail: Tail) -> ForkedTail:
        kept = asyncio.get_running_loop().create_future()
        self.tails.keep(tail, lambda: kept.set_result(None))
        await self.shard.wait(kept)
        return self.tails.reports[-1]

    def content(self, report: ForkedTail) -> list[int]:
        """The indexes of the entries in the file."""
        file = self.disk.open(report.file)
        data = memoryview(file.read_at(0, file.size()))
        indexes, position = [], 0
        while position < len(data):
            header = parse_entry_header(data, position)
            indexes.append(header.log_index)
            position += header.size_bytes
        return indexes


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(1)


def test_a_tail_is_kept_as_it_is_and_counted(disk: SimulatedDisk) -> None:
    async def run() -> None:
        scene = Scene(disk)
        tail = await scene.fill(5)
        report = await scene.keep(tail)
        assert (report.first_index, report.last_index) == (tail.first, tail.last)
        assert report.entries == report.kept_entries == 5
        assert scene.content(report) == list(range(tail.first, tail.last + 1))
        assert sorted(report.partitions.values(), key=lambda each: each.last) == [
            Offsets(0, 3, 4),
            Offsets(0, 5, 6),
        ]
        assert report.messages == 10
        counters = scene.shard.shard.counters
        assert (counters.forked_entries, counters.forked_messages) == (5, 10)
        assert load_reports(disk) == [report]

    asyncio.run(run())


def test_what_is_set_aside_again_takes_its_own_place(disk: SimulatedDisk) -> None:
    async def run() -> None:
        scene = Scene(disk)
        tail = await scene.fill(3)
        await scene.keep(tail)
        await scene.keep(tail)
        assert len(scene.tails.reports) == len(load_reports(disk)) == 1

    asyncio.run(run())


def test_it_survives_a_power_loss_once_it_was_told(disk: SimulatedDisk) -> None:
    async def run() -> None:
        scene = Scene(disk)
        report = await scene.keep(await scene.fill(3))
        disk.lose_power()
        assert load_reports(disk) == [report]
        assert len(scene.content(report)) == 3

    asyncio.run(run())


def test_what_does_not_fit_is_only_counted(disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        scene = Scene(disk)
        tail = await scene.fill(6)
        monkeypatch.setattr(forked_tails, "PIECE_BYTES", 150)
        monkeypatch.setattr(forked_tails, "FORKED_BYTES_MAX", 350)
        report = await scene.keep(tail)
        assert 0 < report.kept_entries < report.entries == 6
        assert report.kept_bytes <= 350
        kept = report.kept_entries
        assert scene.content(report) == list(range(tail.first, tail.first + kept))
        assert report.messages == 12
        # There is no room for another one at all.
        later = msgspec.structs.replace(tail, first=tail.first + 1)
        report = await scene.keep(later)
        assert report.entries == 5
        assert sum(disk.open(name).size() for name in disk.names() if name.endswith(".forked")) <= 350

    asyncio.run(run())


def test_a_full_disk_is_waited_for(disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        scene = Scene(disk)
        tail = await scene.fill(3)
        monkeypatch.setattr(forked_tails, "DISK_FULL_RETRY_SECONDS", 0)
        capacity, disk.capacity_bytes = disk.capacity_bytes, 0
        kept: list[None] = []
        scene.tails.keep(tail, lambda: kept.append(None))
        for _ in range(200):
            await scene.shard.step()
        assert not kept
        disk.capacity_bytes = capacity
        await scene.shard.until(lambda: bool(kept))
        assert scene.tails.reports[-1].kept_entries == 3

    asyncio.run(run())


def test_a_report_that_cannot_be_read_is_passed_over(disk: SimulatedDisk) -> None:
    disk.write_atomic("00000000000000000005-0000000002.forked.json", b"{")
    assert load_reports(disk) == []


def test_only_the_newest_reports_are_kept_in_mind(disk: SimulatedDisk) -> None:
    for number in range(forked_tails.REPORTS_MAX + 3):
        report = ForkedTail(f"{number:020d}-0000000001.forked", number, number, [1], True)
        disk.write_atomic(f"{number:020d}-0000000001.forked.json", msgspec.json.encode(report))
    reports = load_reports(disk)
    assert len(reports) == forked_tails.REPORTS_MAX
    assert reports[-1].first_index == forked_tails.REPORTS_MAX + 2
    assert reports[0].first_index == 3


def test_of_what_is_not_known_to_be_lost_the_newest_is_kept(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        scene = Scene(disk)
        tail = await scene.fill(6)
        monkeypatch.setattr(forked_tails, "PIECE_BYTES", 150)
        monkeypatch.setattr(forked_tails, "FORKED_BYTES_MAX", 350)
        report = await scene.keep(msgspec.structs.replace(tail, exact=False))
        assert 0 < report.kept_entries < report.entries == 6
        assert scene.content(report) == list(range(report.kept_first_index, tail.last + 1))

    asyncio.run(run())
