"""What a scrape measures on a whole broker: topics, lag in messages and seconds, queues, and what it costs the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.codec.records import Record, build_batch
from penstock.config.broker_config import load_config
from penstock.log.segment import Segment
from penstock.log.segment_index import PartitionRun, RunSummary
from penstock.model.errors import ErrorCode
from penstock.partition.partition import MissingRun, Partition
from penstock.process.assembly import Broker
from penstock.service import measuring, unread
from penstock.service.api import FetchPartition, NewTopic, ProduceBatches
from penstock.service.group_api import OffsetToCommit
from penstock.service.measuring import Measuring
from penstock.telemetry.samples import GroupSample, QueueSample, queue_samples
from penstock.testing.simulated_shard import CONTEXT, ManualClock

NOW_MS = 2_000_000_000_000
MIB = 1024 * 1024


def fail(error: BaseException) -> None:
    raise AssertionError("the broker's log failed") from error


class Scene:
    """A broker that is alone, measured at a time that the test says."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.clock = ManualClock(NOW_MS)
        self.measuring = Measuring(broker.shard, broker.groups.registry, [], self.clock)

    async def topic(self, name: str, partitions: int = 1) -> None:
        new = NewTopic(name, partitions, config={"retention.ms": "-1"})
        (outcome,) = await self.broker.topics.create_topics(CONTEXT, [new])
        assert outcome.error is ErrorCode.NONE, outcome.message

    async def produce(
        self, topic: str, partition: int, age_s: int, *, size: int = 10, records: int = 1
    ) -> None:
        """One batch whose messages are that old."""
        timestamp = -1 if age_s < 0 else NOW_MS - age_s * 1000
        batch = build_batch([Record(value=b"x" * size, timestamp=timestamp)] * records)
        asked = [ProduceBatches(topic, partition, memoryview(batch))]
        (result,) = await self.broker.data.produce(CONTEXT, asked, -1, 10_000)
        assert result.error is ErrorCode.NONE, result.message

    async def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        asked = [OffsetToCommit(topic, partition, offset)]
        ((_, _, error),) = await self.broker.groups.commit_offsets(CONTEXT, group, -1, "", None, asked)
        assert error is ErrorCode.NONE

    async def group(self, name: str) -> GroupSample:
        return next(group for group in (await self.measuring.samples()).groups if group.name == name)

    def partition(self, topic: str, number: int = 0) -> Partition:
        return self.broker.shard.table.require(topic, number)

    async def seal(self, topic: str) -> None:
        """Fills the log's segment, so that the runs written so far are in an index file and nowhere else."""
        active = self.broker.shard.log.active
        while self.broker.shard.log.active is active:
            await self.produce(topic, 0, 0, size=300_000)
        self.broker._maintenance.begin_checkpoint()
        await self.broker._maintenance.settle()
        # The newest runs are kept for consumers that follow closely.
        cache = self.broker.shard.table.cache
        cache._runs.clear()
        cache.size_bytes = 0


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    config = tmp_path / "broker.json"
    config.write_text('{"log.segment.bytes": 1048576}')
    broker = Broker(load_config(tmp_path / "data", config_file=config, listen=["admin=127.0.0.1:0"]), fail)
    await broker.start()
    yield Scene(broker)
    await broker.stop()


async def test_topics_and_groups_are_as_their_services_tell(scene: Scene) -> None:
    await scene.topic("orders", 3)
    await scene.topic("quiet")
    for partition, records in ((0, 5), (1, 2)):
        await scene.produce("orders", partition, 60, records=records)
    await scene.commit("billing", "orders", 0, 2)
    await scene.commit("billing", "orders", 1, 2)
    samples = await scene.measuring.samples()
    told = [(t.name, t.partitions, t.messages, t.bytes) for t in scene.broker.topics.list_topics(CONTEXT)]
    assert sorted(samples.topics) == told
    assert [topic.messages for topic in sorted(samples.topics)] == [7, 0]
    overviews = await scene.broker.groups.list_groups(CONTEXT)
    assert [group[:4] for group in samples.groups] == [
        (o.group, o.state, o.members, o.lag) for o in overviews
    ]
    assert [group.lag for group in samples.groups] == [3]


async def test_the_age_is_that_of_the_oldest_message_that_was_not_read(scene: Scene) -> None:
    await scene.topic("orders", 2)
    await scene.produce("orders", 0, 300, records=2)
    await scene.produce("orders", 0, 60)
    await scene.produce("orders", 1, 120)
    await scene.commit("billing", "orders", 0, 1)
    # The batch of the message that comes next, although its first one is read.
    assert (await scene.group("billing")).lag_seconds == 300
    await scene.commit("billing", "orders", 0, 2)
    assert (await scene.group("billing")).lag_seconds == 60
    await scene.commit("billing", "orders", 1, 0)
    assert (await scene.group("billing")).lag_seconds == 120
    scene.clock.now += 5000
    assert (await scene.group("billing")).lag_seconds == 125
    await scene.commit("billing", "orders", 0, 3)
    await scene.commit("billing", "orders", 1, 1)
    assert (await scene.group("billing"))[3:5] == (0, 0)


async def test_nothing_is_said_where_the_age_is_not_known(scene: Scene) -> None:
    await scene.topic("orders", 2)
    await scene.produce("orders", 0, 300)
    await scene.produce("orders", 1, -1)
    await scene.commit("billing", "orders", 0, 0)
    assert (await scene.group("billing")).lag_seconds == 300
    await scene.commit("billing", "orders", 1, 0)
    assert (await scene.group("billing"))[3:5] == (2, None)


async def test_a_clock_that_is_ahead_makes_nothing_younger_than_now(scene: Scene) -> None:
    await scene.topic("orders")
    await scene.produce("orders", 0, 10)
    await scene.commit("billing", "orders", 0, 0)
    scene.clock.now = NOW_MS - 60_000
    assert (await scene.group("billing"))[3:5] == (1, 0)


async def test_positions_below_the_log_start_and_of_topics_that_are_gone(scene: Scene) -> None:
    await scene.topic("orders")
    await scene.topic("gone")
    for age_s in (300, 200, 100):
        await scene.produce("orders", 0, age_s)
        await scene.produce("gone", 0, age_s)
    await scene.commit("billing", "orders", 0, 0)
    await scene.broker.data.delete_records(CONTEXT, [("orders", 0, 1)], 1000)
    assert (await scene.group("billing"))[3:5] == (2, 200)
    await scene.commit("late", "gone", 0, 0)
    await scene.commit("late", "orders", 0, 2)
    assert (await scene.group("late"))[3:5] == (4, 300)
    await scene.broker.topics.delete_topics(CONTEXT, ["gone"])
    assert (await scene.group("late"))[3:5] == (1, 100)


async def test_what_only_an_index_file_knows_is_loaded_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.topic("orders")
    for age_s in (300, 200):
        await scene.produce("orders", 0, age_s)
    await scene.seal("orders")
    with pytest.raises(MissingRun):
        scene.partition("orders").timestamp_at(1)
    await scene.commit("billing", "orders", 0, 1)
    loads = []
    load = unread.load_run

    def counting(segment: Segment, summary: RunSummary) -> PartitionRun:
        loads.append(segment.name)
        return load(segment, summary)

    monkeypatch.setattr(unread, "load_run", counting)
    for _ in range(3):
        assert (await scene.group("billing")).lag_seconds == 200
    assert len(loads) == 1
    await scene.commit("billing", "orders", 0, 0)
    assert (await scene.group("billing")).lag_seconds == 300
    assert len(loads) == 2


async def test_a_scrape_loads_a_bounded_number_of_runs_and_the_next_ones_the_rest(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "RUN_LOADS_MAX", 2)
    await scene.topic("filling")
    await scene.topic("orders", 5)
    for partition in range(5):
        for age_s in (500 - partition, 100):
            await scene.produce("orders", partition, age_s)
    await scene.seal("filling")
    for partition in range(5):
        await scene.commit("billing", "orders", partition, 0)
    ages = [(await scene.group("billing")).lag_seconds for _ in range(4)]
    assert ages == [None, None, 500, 500]


@pytest.mark.parametrize(("bytes_max", "ages"), [(1, [None, None, 500]), (MIB, [500, 500, 500])])
async def test_the_bytes_that_a_scrape_loads_are_bounded_and_a_larger_run_comes_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, bytes_max: int, ages: list[float | None]
) -> None:
    monkeypatch.setattr(unread, "RUN_BYTES_MAX", bytes_max)
    await scene.topic("filling")
    await scene.topic("orders", 3)
    for partition in range(3):
        for age_s in (500 - partition, 100):
            await scene.produce("orders", partition, age_s)
    await scene.seal("filling")
    for partition in range(3):
        await scene.commit("billing", "orders", partition, 0)
    assert [(await scene.group("billing")).lag_seconds for _ in range(3)] == ages


async def test_a_run_of_one_batch_needs_no_file(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "load_run", None)
    await scene.topic("filling")
    await scene.topic("orders")
    await scene.produce("orders", 0, 77)
    await scene.seal("filling")
    await scene.commit("billing", "orders", 0, 0)
    assert (await scene.group("billing")).lag_seconds == 77


async def test_an_index_that_cannot_be_read_is_said_and_the_age_is_not(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.topic("orders")
    await scene.produce("orders", 0, 300)
    await scene.seal("orders")

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(unread, "load_run", broken)
    await scene.commit("billing", "orders", 0, 0)
    group = await scene.group("billing")
    assert (group.lag, group.lag_seconds) == (scene.partition("orders").high_watermark, None)
    assert "how old unread messages are cannot be told: [Errno 5]" in caplog.text


async def test_groups_are_measured_where_they_are_coordinated_alone(scene: Scene) -> None:
    await scene.topic("orders")
    await scene.commit("billing", "orders", 0, 0)
    scene.broker.groups.stop()
    samples = await scene.measuring.samples()
    assert (len(samples.topics), samples.groups) == (1, [])


async def test_who_scrapes_meanwhile_is_given_the_same_and_may_go_away(scene: Scene) -> None:
    await scene.topic("orders", 2000)
    first = asyncio.create_task(scene.measuring.samples())
    second = asyncio.create_task(scene.measuring.samples())
    await asyncio.sleep(0)
    first.cancel()
    samples = await second
    assert [topic.partitions for topic in samples.topics] == [2000]
    assert first.cancelled()
    assert (await scene.measuring.samples()) is not samples
    await scene.measuring.close()


async def test_others_get_their_turn_between_slices(scene: Scene) -> None:
    """Of partitions, of one group's positions, and of groups."""
    partitions = 3 * measuring.STEPS_PER_TURN
    await scene.topic("wide", partitions)
    assert await turns(scene) >= 3
    every = [OffsetToCommit("wide", number, 0) for number in range(partitions)]
    await scene.broker.groups.commit_offsets(CONTEXT, "all", -1, "", None, every)
    assert await turns(scene) >= 6
    for number in range(measuring.STEPS_PER_TURN):
        await scene.commit(f"one-{number}", "wide", 0, 0)
    assert await turns(scene) >= 8


async def turns(scene: Scene) -> int:
    """How often another task ran while a scrape gathered."""
    count = 0
    gathering = asyncio.create_task(scene.measuring.samples())
    while not gathering.done():
        await asyncio.sleep(0)
        count += 1
    return count


async def test_queues_show_what_waits(scene: Scene) -> None:
    await scene.topic("orders")
    asked = [FetchPartition("orders", 0, 0, MIB)]
    fetch = scene.broker.data.fetch(CONTEXT, asked, min_bytes=1, max_bytes=MIB, max_wait_ms=60_000)
    assert isinstance(fetch, asyncio.Future)
    await asyncio.sleep(0)
    queues = await queues_of(scene)
    assert queues["fetches_for_messages", "items"] == QueueSample("fetches_for_messages", "items", 1, None)
    limits = {name: queue.limit for name, queue in queues.items() if queue.limit is not None}
    assert limits == {
        ("entries_for_disk", "bytes"): 128 * MIB,
        ("entries_for_commit", "bytes"): 256 * MIB,
        ("requests_for_leader", "items"): 1000,
        ("messages_for_entries", "items"): 1024,
        ("frames_for_peer", "bytes"): 64 * MIB,
        ("admin_requests_for_answer", "items"): 1024,
    }
    producing = asyncio.create_task(scene.produce("orders", 0, 0))
    await asyncio.sleep(0)
    waiting = await queues_of(scene)
    assert waiting["requests_for_commit", "items"].length == 1
    assert waiting["entries_for_commit", "items"].length == 1
    assert waiting["entries_for_commit", "bytes"].length > 0
    assert waiting["entries_for_disk", "items"].length == 1
    assert waiting["entries_for_disk", "bytes"].length > 0
    await producing
    await fetch
    assert all(queue.length == 0 for queue in (await queues_of(scene)).values())


async def queues_of(scene: Scene) -> dict[tuple[str, str], QueueSample]:
    return {queue[:2]: queue for queue in queue_samples(scene.broker._queues)}


async def test_refused_produce_is_counted_by_its_reason(scene: Scene) -> None:
    await scene.topic("orders")
    asked = [ProduceBatches("orders", 7, memoryview(b"")), ProduceBatches("orders", 0, None)]
    await scene.broker.data.produce(CONTEXT, asked, -1, 1000)
    await scene.broker.data.produce(CONTEXT, asked, 5, 1000)
    assert scene.broker.counters.produce_refused == {
        "UNKNOWN_TOPIC_OR_PARTITION": 1,
        "INVALID_RECORD": 1,
        "INVALID_REQUIRED_ACKS": 2,
    }


async def test_a_leadership_is_counted(scene: Scene) -> None:
    assert scene.broker.counters.leaderships == 1
