"""A whole shard, simulated through power losses: what was acknowledged is there, offsets are dense, catalogs agree."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable

import msgspec
import pytest

from penstock.codec.records import BatchOptions, Record, build_batch, read_records
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.api import ConfigOperation, FetchPartition, NewTopic, ProduceBatches
from penstock.testing.simulated_disk import PowerLossError, SimulatedDisk
from penstock.testing.simulated_shard import CONTEXT, ManualClock, SimulatedShard

SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "40"))
LIVES = 4
OPERATIONS_PER_LIFE = 25
NAMES = ("a", "b", "c")


class TopicModel(msgspec.Struct):
    """What was promised of a topic: its partitions, its setting, and every acknowledged message by partition and offset."""

    topic_id: bytes
    partitions: int
    retention: set[str | None]
    acknowledged: dict[tuple[int, int], bytes] = {}
    log_start: dict[int, int] = {}


class Simulation:
    """One disk, one model, several lives of a shard."""

    def __init__(self, seed: int, *, sync_works: bool = True) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.disk = SimulatedDisk(seed, sync_works=sync_works, capacity_bytes=600_000)
        self.clock = ManualClock()
        self.topics: dict[str, TopicModel] = {}
        # Names of topics whose creation, growth or deletion was under way when the power went.
        self.uncertain: set[str] = set()
        self.values = 0
        self.producer: tuple[int, int] | None = None
        self.checked_messages = 0

    async def live(self) -> None:
        try:
            self.disk.fail_after(self.chance.randint(20, 400))
            shard = SimulatedShard(self.disk, self.chance, self.clock)
            await shard.lead()
            await self.check(shard)
            for _ in range(self.chance.randint(1, OPERATIONS_PER_LIFE)):
                self.clock.now += self.chance.randint(0, 1000)
                await self.act(shard)
            self.disk.lose_power()
        except PowerLossError:
            pass

    # --- operations ----------------------------------------------------------------------------------

    async def act(self, shard: SimulatedShard) -> None:
        name = self.chance.choice(NAMES)
        action = self.chance.randrange(13)
        if action <= 5:
            await self.produce_together(shard)
        elif action == 6:
            await self.create(shard, name)
        elif action == 7 and self.chance.random() < 0.3:
            await self.delete(shard, name)
        elif action == 8:
            await self.grow(shard, name)
        elif action == 9:
            await self.configure(shard, name)
        elif action == 10:
            await self.delete_records(shard, name)
        elif action == 11:
            await shard.wait(shard.maintenance.retain())
            await shard.wait(shard.maintenance.settle())
            self.note_starts(shard)
        else:
            shard.maintenance.begin_checkpoint()
            if self.chance.random() < 0.8:
                await shard.wait(shard.maintenance.settle())

    async def produce_together(self, shard: SimulatedShard) -> None:
        """Several requests, begun before the first is answered, so that they share and overlap group commits."""
        pending: list[tuple[str, int, list[bytes], Awaitable[list[object]]]] = []
        for _ in range(self.chance.randint(1, 4)):
            name = self.chance.choice(NAMES)
            topic = self.topics.get(name)
            if topic is None:
                continue
            partition = self.chance.randrange(topic.partitions)
            values = [self.value() for _ in range(self.chance.randint(1, 4))]
            records = [Record(value=value, timestamp=self.clock.now) for value in values]
            batch = memoryview(build_batch(records, 0, BatchOptions()))
            answer = shard.data.produce(CONTEXT, [ProduceBatches(name, partition, batch)], -1, 10_000)
            pending.append((name, partition, values, answer))  # type: ignore[arg-type]
            for _ in range(self.chance.randint(0, 3)):
                await shard.step()
        for name, partition, values, answer in pending:
            (result,) = await shard.wait(answer)
            if result.error is ErrorCode.KAFKA_STORAGE_ERROR:  # type: ignore[attr-defined]
                continue
            assert result.error is ErrorCode.NONE, result  # type: ignore[attr-defined]
            for number, value in enumerate(values):
                self.topics[name].acknowledged[(partition, result.base_offset + number)] = value  # type: ignore[attr-defined]

    def value(self) -> bytes:
        self.values += 1
        return b"%d:" % self.values + self.chance.randbytes(self.chance.randint(1, 400))

    async def create(self, shard: SimulatedShard, name: str) -> None:
        known = name in self.topics
        self.uncertain.add(name)
        count = self.chance.randint(1, 3)
        (outcome,) = await shard.wait(shard.topics.create_topics(CONTEXT, [NewTopic(name, count)]))
        self.uncertain.discard(name)
        if outcome.error is ErrorCode.NONE:
            assert not known
            self.topics[name] = TopicModel(outcome.topic_id, count, {None})
        else:
            assert known or outcome.error is ErrorCode.KAFKA_STORAGE_ERROR

    async def delete(self, shard: SimulatedShard, name: str) -> None:
        self.uncertain.add(name)
        (outcome,) = await shard.wait(shard.topics.delete_topics(CONTEXT, [name]))
        self.uncertain.discard(name)
        if outcome.error is ErrorCode.NONE:
            del self.topics[name]

    async def grow(self, shard: SimulatedShard, name: str) -> None:
        topic = self.topics.get(name)
        if topic is None or topic.partitions > 5:
            return
        self.uncertain.add(name)
        (outcome,) = await shard.wait(shard.topics.create_partitions(CONTEXT, [(name, topic.partitions + 1)]))
        self.uncertain.discard(name)
        topic.partitions += outcome.error is ErrorCode.NONE

    async def configure(self, shard: SimulatedShard, name: str) -> None:
        topic = self.topics.get(name)
        if topic is None:
            return
        value = str(self.chance.choice((500, 5_000, 100_000)))
        topic.retention.add(value)
        try:
            operation = ConfigOperation("retention.ms", "set", value)
            await shard.wait(shard.topics.alter_topic_config(CONTEXT, name, [operation]))
        except PenstockError as error:
            assert error.code is ErrorCode.KAFKA_STORAGE_ERROR  # noqa: PT017
        else:
            topic.retention = {value}

    async def delete_records(self, shard: SimulatedShard, name: str) -> None:
        topic = self.topics.get(name)
        if topic is None:
            return
        number = self.chance.randrange(topic.partitions)
        partition = shard.shard.table.require(name, number)
        target = self.chance.randint(partition.log_start, partition.high_watermark)
        try:
            await shard.wait(shard.data.delete_records(CONTEXT, [(name, number, target)], 1000))
        except PenstockError as error:
            assert error.code is ErrorCode.KAFKA_STORAGE_ERROR  # noqa: PT017
        else:
            topic.log_start[number] = max(topic.log_start.get(number, 0), target)

    def note_starts(self, shard: SimulatedShard) -> None:
        for name, topic in self.topics.items():
            for number in range(topic.partitions):
                start = shard.shard.table.require(name, number).log_start
                topic.log_start[number] = max(topic.log_start.get(number, 0), start)

    # --- what must hold ------------------------------------------------------------------------------

    async def check(self, shard: SimulatedShard) -> None:
        await shard.settle()
        found = {summary.name: summary for summary in shard.topics.list_topics(CONTEXT)}
        for name in NAMES:
            if name in self.uncertain:
                self.adopt(shard, name)
            assert (name in found) == (name in self.topics), name
            if name in found:
                await self.check_topic(shard, name, self.topics[name])
        self.uncertain.clear()
        table = {(p.topic, p.number) for p in shard.shard.table}
        assert table == {(name, n) for name, topic in self.topics.items() for n in range(topic.partitions)}

    def adopt(self, shard: SimulatedShard, name: str) -> None:
        """What was under way may have happened or not."""
        topic = shard.shard.machines.catalog.topics.committed.get(name)
        model = self.topics.get(name)
        if topic is None:
            self.topics.pop(name, None)
        elif model is None:
            self.topics[name] = TopicModel(topic.topic_id, len(topic.partitions), {None})
        else:
            assert topic.topic_id == model.topic_id
            assert len(topic.partitions) in (model.partitions, model.partitions + 1)
            model.partitions = len(topic.partitions)

    async def check_topic(self, shard: SimulatedShard, name: str, model: TopicModel) -> None:
        topic = shard.shard.machines.catalog.topics.committed[name]
        assert topic.topic_id == model.topic_id
        assert len(topic.partitions) == model.partitions
        assert topic.config.get("retention.ms") in model.retention
        model.retention = {topic.config.get("retention.ms")}
        for number in range(model.partitions):
            partition = shard.shard.table.require(name, number)
            assert partition.log_start >= model.log_start.get(number, 0)
            # A start that was being moved when the power went may have moved.
            model.log_start[number] = partition.log_start
            found = await self.read(shard, name, number)
            offsets = range(partition.log_start, partition.high_watermark)
            assert list(found) == list(offsets), "offsets are not dense"
            for (of, offset), value in list(model.acknowledged.items()):
                if of != number or offset < partition.log_start:
                    continue
                assert found.get(offset) == value, f"{name}-{number} offset {offset} was lost or changed"
                self.checked_messages += 1
            model.acknowledged.update({(number, offset): value for offset, value in found.items()})

    async def read(self, shard: SimulatedShard, name: str, number: int) -> dict[int, bytes]:
        partition = shard.shard.table.require(name, number)
        found: dict[int, bytes] = {}
        offset = partition.log_start
        while offset < partition.high_watermark:
            asked = FetchPartition(name, number, offset, self.chance.randint(1, 2000))
            (result,) = await shard.wait(
                shard.data.fetch(CONTEXT, [asked], min_bytes=1, max_bytes=1 << 20, max_wait_ms=0)
            )
            assert result.error is ErrorCode.NONE, result
            assert result.records
            for view in whole_batches(b"".join(result.records)):
                for record in read_records(view):
                    if record.offset >= partition.log_start:
                        found[record.offset] = record.value or b""
                    offset = record.offset + 1
        return found

    async def finish(self) -> None:
        self.disk.fail_after(None)
        shard = SimulatedShard(self.disk, self.chance, self.clock)
        await shard.lead()
        await self.check(shard)


def whole_batches(data: bytes) -> list[memoryview]:
    views, position = [], 0
    while position < len(data):
        end = position + 12 + int.from_bytes(data[position + 8 : position + 12], "big")
        views.append(memoryview(data)[position:end])
        position = end
    return views


def run(simulation: Simulation) -> None:
    # Each life has a loop of its own: what was under way when the power went ends with it.
    for _ in range(LIVES):
        asyncio.run(simulation.live())
    asyncio.run(simulation.finish())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_simulated_shard_keeps_what_it_acknowledged(seed: int) -> None:
    run(Simulation(seed))


def test_simulated_shard_without_fdatasync_is_noticed() -> None:
    """The proof that the test above can fail."""
    noticed = 0
    for seed in range(12):
        try:
            run(Simulation(seed, sync_works=False))
        except Exception:  # lost, refused as damaged, or not even readable: each is a notice
            noticed += 1
    assert noticed > 6


def test_simulated_shard_is_really_checked() -> None:
    """The runs above read back a good number of messages, and meet retention and dropped segments."""
    checked = 0
    for seed in range(8):
        simulation = Simulation(seed)
        run(simulation)
        checked += simulation.checked_messages
    assert checked > 100
