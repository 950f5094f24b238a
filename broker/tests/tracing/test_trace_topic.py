"""The topic `__trace` on a shard: what is written, when it is not, who may do what to it; and what is found there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from penstock.codec.records import Record, build_batch
from penstock.config.broker_options import BROKER_OPTIONS
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import parse_header
from penstock.partition.batches import KEPT_FROM
from penstock.service.api import ConfigOperation, FetchPartition, NewTopic, ProduceBatches
from penstock.service.messages import FindLimits, MessageServiceImpl
from penstock.service.settings import Settings
from penstock.service.trace_api import Verdict
from penstock.service.trace_topic import EVENTS_PER_WRITE_MAX, TraceTopic
from penstock.service.traces import RECORDS_MAX, TraceServiceImpl, Tracing
from penstock.testing.simulated_shard import CONTEXT, SimulatedShard
from penstock.tracing.context import TraceContext
from penstock.tracing.derived import derived_trace_id, partition_seed
from penstock.tracing.record import TRACE_TOPIC, trace_key
from penstock.tracing.rules import Rule, write_rules
from penstock.tracing.span import Span
from trace_scene import PRODUCER, UNSAMPLED, TraceScene, batch

ALL = {"penstock.tracing.sampling": "1"}


class Kept:
    """A scene whose spans go to the topic."""

    def __init__(self, scene: TraceScene, **options: int) -> None:
        self.scene, self.shard = scene, scene.shard
        self.topic = TraceTopic(
            self.shard.shard, lambda: self.shard.topics.make_own(TRACE_TOPIC), "broker-0", **options
        )
        self.messages = MessageServiceImpl(self.shard.shard, self.shard.settings, FindLimits())
        self.traces = self.service(self.topic)

    def service(self, topic: TraceTopic | None, collector: str = "") -> TraceServiceImpl:
        catalog = self.shard.shard.machines.catalog
        tracing = Tracing("cluster", collector, topic)
        return TraceServiceImpl(catalog, self.shard.settings, self.shard.clock, self.messages, tracing)

    @classmethod
    async def make(cls, *, topic: dict[str, str] | None = None, **options: int) -> Kept:
        return cls(await TraceScene.make(topic=topic), **options)

    def emit_all(self) -> int:
        spans, self.scene.spans[:] = list(self.scene.spans), []
        for span in spans:
            self.topic.emit(span)
        return len(spans)

    async def write(self) -> int:
        count = self.emit_all()
        await self.shard.wait(self.topic.settle())
        return count

    async def found(self, trace_id: int) -> list[str]:
        found = await self.shard.wait(self.traces.find(CONTEXT, trace_id, None))
        return [record.what for record in found.records]

    async def verdict(self, offset: int, service: TraceServiceImpl | None = None) -> Verdict:
        stored = await self.shard.wait(self.messages.get(CONTEXT, "orders", 0, offset))
        return (service or self.traces).whose(stored).verdict


async def alter(shard: SimulatedShard, name: str, value: str) -> None:
    await shard.wait(shard.topics.alter_broker_config(CONTEXT, [ConfigOperation(name, "set", value)]))


# --- writing --------------------------------------------------------------------------------------------


async def test_events_are_written_by_trace_and_found_again() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(PRODUCER))
    await kept.scene.fetch()
    assert await kept.write() == 4
    assert sorted(await kept.found(PRODUCER.trace_id)) == ["append", "deliver", "receive", "replicate"]
    assert await kept.found(PRODUCER.trace_id + 1) == []
    assert kept.scene.counters.topic_written == 4
    found = await kept.shard.wait(kept.traces.find(CONTEXT, PRODUCER.trace_id, None))
    assert {record.broker for record in found.records} == {"broker-0"}
    assert {(record.topic, record.partition, record.offset, record.last) for record in found.records} == {
        ("orders", 0, 0, 2)
    }
    # What is in the topic is an ordinary message with the trace as its key.
    message = await kept.shard.wait(kept.messages.get(CONTEXT, TRACE_TOPIC, 0, 0))
    assert message.record.key == trace_key(PRODUCER.trace_id)


async def test_a_timer_writes_what_nobody_asks_for() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(PRODUCER))
    kept.emit_all()
    assert len(kept.topic) == 3
    async with asyncio.timeout(20):
        await kept.shard.until(lambda: kept.shard.shard.table.get(TRACE_TOPIC, 0) is not None)
        await kept.shard.until(lambda: not len(kept.topic))
    assert kept.scene.counters.topic_written == 3


async def test_a_full_queue_drops_and_counts_and_produces_go_on() -> None:
    kept = await Kept.make(topic=ALL, queue_max=5)
    for _ in range(3):
        assert (await kept.scene.produce(batch())).error is ErrorCode.NONE
    assert kept.emit_all() == 9
    assert (len(kept.topic), kept.scene.counters.topic_queue_full) == (5, 4)
    await kept.shard.wait(kept.topic.settle())
    assert (len(kept.topic), kept.scene.counters.topic_written) == (0, 5)


async def test_one_write_is_bounded_and_a_question_waits_for_all() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(PRODUCER))
    (receive,) = kept.scene.named("receive")
    for _ in range(2 * EVENTS_PER_WRITE_MAX + 1):
        kept.topic.emit(receive)
    found = await kept.shard.wait(kept.traces.find(CONTEXT, PRODUCER.trace_id, None))
    partition = kept.shard.shard.table.require(TRACE_TOPIC, 0)
    assert partition.high_watermark == 2 * EVENTS_PER_WRITE_MAX + 1
    # So many are told at a time, the newest first; the rest is found from where the answer ends.
    assert len(found.records) == RECORDS_MAX
    assert found.before == partition.high_watermark - RECORDS_MAX
    more = await kept.shard.wait(kept.traces.find(CONTEXT, PRODUCER.trace_id, found.before))
    assert len(more.records) == RECORDS_MAX
    assert more.before == found.before - RECORDS_MAX


async def test_a_log_that_takes_nothing_costs_events_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(PRODUCER))
    await kept.write()
    caplog.set_level(logging.INFO)
    kept.shard.shard.refuse_batches = "the disk is full"
    (first, *_) = await emitted(kept)
    for _ in range(3):
        kept.topic.emit(first)
        await kept.shard.wait(kept.topic.settle())
    assert kept.scene.counters.topic_failed == 3
    assert [record.levelname for record in caplog.records if TRACE_TOPIC in record.getMessage()] == [
        "WARNING"
    ]
    kept.shard.shard.refuse_batches = None
    kept.topic.emit(first)
    await kept.shard.wait(kept.topic.settle())
    assert kept.scene.counters.topic_written == 4
    assert "are written to __trace again" in caplog.text


async def emitted(kept: Kept) -> list[Span]:
    """Spans of a fetch, for the log takes no produce."""
    await kept.scene.fetch()
    spans, kept.scene.spans[:] = list(kept.scene.spans), []
    return spans


async def test_who_leads_no_more_keeps_what_is_queued_until_it_leads_again() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(PRODUCER))
    kept.emit_all()
    kept.shard.shard.leading = False
    await kept.shard.wait(kept.topic.settle())
    assert (len(kept.topic), kept.scene.counters.topic_written) == (3, 0)
    kept.shard.shard.leading = True
    kept.topic.led()
    await kept.shard.wait(kept.topic.settle())
    assert kept.scene.counters.topic_written == 3


async def test_a_stop_writes_what_it_can_and_counts_the_rest() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(PRODUCER))
    await kept.write()
    await kept.scene.fetch()
    kept.emit_all()
    kept.topic.close()
    assert kept.scene.counters.topic_written == 4
    await kept.scene.fetch()
    kept.emit_all()
    assert (len(kept.topic), kept.scene.counters.topic_failed) == (0, 1)
    unmade = await Kept.make()
    await unmade.scene.produce(batch(PRODUCER))
    unmade.emit_all()
    unmade.shard.shard.leading = False
    unmade.topic.close()
    assert unmade.scene.counters.topic_failed == 3


async def test_a_topic_that_cannot_be_made_is_tried_again_later(caplog: pytest.LogCaptureFixture) -> None:
    kept = await Kept.make()
    # Names that differ only in . and _ share metric names, so this one is in the way.
    await kept.shard.wait(kept.shard.topics.create_topics(CONTEXT, [NewTopic("._trace")]))
    await kept.scene.produce(batch(PRODUCER))
    await kept.write()
    await kept.shard.wait(kept.topic.settle())
    assert (len(kept.topic), kept.scene.counters.topic_written) == (3, 0)
    assert sum("cannot be written" in record.getMessage() for record in caplog.records) == 1
    await kept.shard.wait(kept.shard.topics.delete_topics(CONTEXT, ["._trace"]))
    kept.topic.led()
    await kept.shard.wait(kept.topic.settle())
    assert kept.scene.counters.topic_written == 3


async def test_a_topic_that_somebody_deleted_is_made_again() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(PRODUCER))
    await kept.write()
    (deleted,) = await kept.shard.wait(kept.shard.topics.delete_topics(CONTEXT, [TRACE_TOPIC]))
    assert deleted.error is ErrorCode.NONE
    assert await kept.found(PRODUCER.trace_id) == []
    await kept.scene.fetch()
    await kept.write()
    assert await kept.found(PRODUCER.trace_id) == ["deliver"]


# --- whose topic it is ----------------------------------------------------------------------------------


async def test_it_is_internal_and_clients_may_read_it_and_not_write() -> None:
    kept = await Kept.make(topic=ALL)
    await kept.scene.produce(batch())
    await kept.write()
    shard = kept.shard
    metadata = await shard.wait(shard.topics.metadata(CONTEXT, None))
    assert {topic.name: topic.internal for topic in metadata.topics} == {"orders": False, TRACE_TOPIC: True}
    asked = [ProduceBatches(TRACE_TOPIC, 0, memoryview(build_batch([Record(b"k", b"v")])))]
    (refused,) = await shard.wait(shard.data.produce(CONTEXT, asked, -1, 1000))
    assert refused.error is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert "clients may read it, and not write to it" in (refused.message or "")
    read = shard.data.fetch(
        CONTEXT, [FetchPartition(TRACE_TOPIC, 0, 0, 1 << 20)], min_bytes=1, max_bytes=1 << 20, max_wait_ms=0
    )
    (fetched,) = await shard.wait(read)
    assert fetched.error is ErrorCode.NONE
    assert fetched.records
    # Neither what was refused nor what was read is followed itself.
    assert kept.scene.spans == []


async def test_clients_do_not_make_it_or_give_it_partitions() -> None:
    kept = await Kept.make()
    topics = kept.shard.topics
    (made,) = await kept.shard.wait(topics.create_topics(CONTEXT, [NewTopic(TRACE_TOPIC, 3)]))
    assert made.error is ErrorCode.INVALID_TOPIC_EXCEPTION
    metadata = await kept.shard.wait(topics.metadata(CONTEXT, [TRACE_TOPIC], allow_auto_create=True))
    assert [topic.error for topic in metadata.topics] == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    await kept.shard.wait(topics.make_own(TRACE_TOPIC))
    (grown,) = await kept.shard.wait(topics.create_partitions(CONTEXT, [(TRACE_TOPIC, 3)]))
    assert grown.error is ErrorCode.INVALID_TOPIC_EXCEPTION


async def test_its_retention_is_that_of_its_own_settings_or_what_somebody_gave_it() -> None:
    kept = await Kept.make()
    shard = kept.shard
    await shard.wait(shard.topics.make_own(TRACE_TOPIC))
    kept_for = (
        shard.settings.topic(TRACE_TOPIC).retention_ms,
        shard.settings.topic(TRACE_TOPIC).retention_bytes,
    )
    assert kept_for == (86_400_000, 256 * 1024 * 1024)
    shown = {entry.name: entry for entry in shard.topics.describe_topic_config(CONTEXT, TRACE_TOPIC)}
    assert (shown["retention.ms"].value, shown["retention.ms"].synonyms[0][0]) == (
        "86400000",
        "tracing.topic.retention.ms",
    )
    catalog = shard.shard.machines.catalog
    told = Settings(catalog, {"tracing.topic.retention.ms": 5000, "tracing.topic.retention.bytes": 1 << 20})
    assert (told.topic(TRACE_TOPIC).retention_ms, told.topic(TRACE_TOPIC).retention_bytes) == (5000, 1 << 20)
    assert told.topic("orders").retention_ms == 604_800_000
    own = [ConfigOperation("retention.ms", "set", "7000")]
    await shard.wait(shard.topics.alter_topic_config(CONTEXT, TRACE_TOPIC, own))
    assert told.topic(TRACE_TOPIC).retention_ms == 7000


async def test_old_events_go() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(PRODUCER))
    await kept.write()
    kept.shard.clock.now += 86_400_000 + 60_000
    await kept.shard.wait(kept.shard.maintenance.retain())
    partition = kept.shard.shard.table.require(TRACE_TOPIC, 0)
    assert partition.log_start == partition.high_watermark == 3
    assert await kept.found(PRODUCER.trace_id) == []


def test_no_setting_of_it_is_kept_in_the_cluster_where_an_older_release_would_not_know_it() -> None:
    assert not any(
        option.dynamic for name, option in BROKER_OPTIONS.options.items() if name.startswith("tracing.topic.")
    )


async def test_making_it_is_told_in_words_of_the_first_feature_level() -> None:
    kept = await Kept.make()
    proposed: list[Command] = []
    propose = kept.shard.shard.propose

    def note(commands: Sequence[Command]) -> asyncio.Future[None]:
        proposed.extend(commands)
        return propose(commands)

    kept.shard.shard.propose = note  # type: ignore[method-assign]
    await kept.scene.produce(batch(PRODUCER))
    await kept.write()
    assert [type(command).__name__ for command in proposed] == ["TopicCreated", "PartitionsOpened"]
    assert {command.feature_level for command in proposed} == {1}


# --- asking ---------------------------------------------------------------------------------------------


async def test_what_decides_about_a_message_is_told_also_of_one_within_a_batch() -> None:
    kept = await Kept.make(topic=ALL)
    await kept.scene.produce(batch(PRODUCER), batch(UNSAMPLED), batch())
    assert [await kept.verdict(offset) for offset in (0, 2, 4, 8)] == [
        Verdict.CONTEXT,
        Verdict.CONTEXT,
        Verdict.CONTEXT_NOT_SAMPLED,
        Verdict.RATIO,
    ]
    partition = kept.shard.shard.table.require("orders", 0)
    stored = await kept.shard.wait(kept.messages.get(CONTEXT, "orders", 0, 8))
    seed = partition_seed("cluster", partition.topic_id, 0)
    assert kept.traces.whose(stored).trace_id == derived_trace_id(seed, 6)
    assert await kept.verdict(0, kept.service(None)) is Verdict.OFF
    assert await kept.verdict(0, kept.service(None, "http://collector")) is Verdict.CONTEXT


async def test_rules_ratios_and_topics_that_are_not_traced_are_told() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(), batch(UNSAMPLED))
    assert await kept.verdict(0) is Verdict.NOT_PICKED
    await alter(
        kept.shard, "tracing.rules", write_rules([Rule("r", kept.shard.clock.now + 1000, key="order-*")])
    )
    assert [await kept.verdict(offset) for offset in (0, 3)] == [Verdict.RULE, Verdict.RULE]
    kept.shard.clock.now += 1001
    assert await kept.verdict(0) is Verdict.NOT_PICKED
    own = [ConfigOperation("penstock.tracing", "set", "false")]
    await kept.shard.wait(kept.shard.topics.alter_topic_config(CONTEXT, "orders", own))
    assert await kept.verdict(0) is Verdict.TOPIC_OFF


async def test_a_derived_trace_leads_to_its_batch() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(), batch(), partition=1)
    partition = kept.shard.shard.table.require("orders", 1)
    trace_id = derived_trace_id(partition_seed("cluster", partition.topic_id, 1), 3)
    assert kept.traces.place(trace_id) == ("orders", 1, 3)
    assert kept.traces.place(PRODUCER.trace_id) is None


async def test_records_that_are_not_ours_are_counted_and_left_out() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(PRODUCER))
    await kept.write()
    shard = kept.shard.shard
    key = trace_key(PRODUCER.trace_id)
    strange = memoryview(
        build_batch([Record(key, b'{"v": 2}', 1), Record(key, None, 1), Record(key, b"\xff", 1)])
    )
    shard.append(shard.table.require(TRACE_TOPIC, 0), parse_header(strange), (strange[KEPT_FROM:],))
    await kept.shard.settle()
    found = await kept.shard.wait(kept.traces.find(CONTEXT, PRODUCER.trace_id, None))
    assert (len(found.records), found.unreadable) == (3, 3)


async def test_without_the_topic_nothing_is_found_and_nothing_is_made() -> None:
    kept = await Kept.make()
    assert await kept.found(5) == []
    assert TRACE_TOPIC not in kept.shard.shard.machines.catalog.topics.committed
    with pytest.raises(PenstockError):
        kept.shard.shard.table.require(TRACE_TOPIC, 0)


async def test_another_trace_in_the_same_batch_of_events_is_not_mixed_in() -> None:
    kept = await Kept.make()
    await kept.scene.produce(batch(PRODUCER), batch(TraceContext(5, 6, True)))
    await kept.write()
    assert sorted(await kept.found(5)) == ["append", "receive", "replicate"]
