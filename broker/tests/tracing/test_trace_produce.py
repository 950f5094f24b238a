"""What is told of a produce request: which spans, below which, with what in them; and that nothing is told where it is off."""

from __future__ import annotations

import asyncio

import pytest

from penstock.codec.records import Record, build_batch
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.api import ConfigOperation, ProduceBatches
from penstock.service.looking import OPENED_PER_SECOND_MAX
from penstock.testing.simulated_shard import CONTEXT
from penstock.tracing.context import TraceContext
from penstock.tracing.derived import Place, derived_span_ids, derived_trace_id, partition_seed
from penstock.tracing.rules import Rule, write_rules
from penstock.tracing.span import Kind
from trace_scene import PRODUCER, UNSAMPLED, TraceScene, batch, compressed

ALL = {"penstock.tracing.sampling": "1"}


async def test_a_batch_in_its_producers_trace_is_received_appended_and_replicated() -> None:
    scene = await TraceScene.make()
    state = ("tracestate", b"a=b")
    records = [
        Record(b"k", b"v", 5, (("traceparent", traceparent_of(PRODUCER)), state, ("message-id", b"m-1")))
    ]
    sent = build_batch([*records, Record(), Record()])
    result = await scene.produce(sent)
    assert result.base_offset == 0
    receive, append, replicate = scene.one("receive"), scene.one("append"), scene.one("replicate")
    partition = scene.shard.shard.table.require("orders", 0)
    epoch = partition.epoch_base + scene.shard.shard.epoch
    ids = derived_span_ids(Place(partition_seed("cluster", partition.topic_id, 0), 0, epoch))
    assert (receive.span_id, append.span_id, replicate.span_id) == ids
    assert {span.trace_id for span in scene.spans} == {PRODUCER.trace_id}
    assert {span.state for span in scene.spans} == {(("a", "b"),)}
    assert (receive.parent_id, receive.parent_remote, receive.kind) == (PRODUCER.span_id, True, Kind.SERVER)
    for inner in (append, replicate):
        assert (inner.parent_id, inner.parent_remote, inner.kind) == (ids.receive, False, Kind.INTERNAL)
    assert receive.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "receive",
        "messaging.operation.type": "send",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "0",
        "messaging.client.id": "",
        "messaging.message.id": "m-1",
        "messaging.kafka.message.key": "k",
        "messaging.kafka.offset": 0,
        "messaging.batch.message_count": 3,
        "messaging.message.envelope.size": len(sent),
        "penstock.last_offset": 2,
        "penstock.log.index": scene.shard.shard.commit_index,
        "penstock.shard": 0,
        "penstock.epoch": epoch,
        "penstock.acks": -1,
        "penstock.protocol": "kafka",
    }
    assert append.attributes["messaging.operation.name"] == "append"
    assert "messaging.operation.type" not in append.attributes
    assert replicate.attributes["penstock.members_in_sync"] == 1
    assert all(span.error is None and not span.events and not span.links for span in scene.spans)


async def test_times_are_those_of_the_request_and_of_the_log() -> None:
    scene = await TraceScene.make()
    clock = scene.shard.clock
    asked = [ProduceBatches("orders", 0, memoryview(batch(PRODUCER)))]
    answer = asyncio.ensure_future(scene.shard.data.produce(CONTEXT, asked, -1, 60_000))
    clock.now += 7
    await scene.shard.wait(answer)
    for span in scene.spans:
        assert (span.end_ns - span.start_ns) == 7_000_000


async def test_a_context_that_is_not_sampled_is_not_followed_whatever_the_ratio() -> None:
    scene = await TraceScene.make(topic=ALL)
    await scene.produce(batch(UNSAMPLED))
    assert not scene.spans
    assert scene.counters.looked == 1


async def test_the_ratio_follows_batches_without_a_context_under_a_derived_trace() -> None:
    scene = await TraceScene.make(topic=ALL)
    await scene.produce(batch())
    await scene.produce(batch())
    partition = scene.shard.shard.table.require("orders", 0)
    seed = partition_seed("cluster", partition.topic_id, 0)
    wanted = [derived_trace_id(Place(seed, offset, 0)) for offset in (0, 3)]
    assert [span.trace_id for span in scene.named("receive")] == wanted
    assert {span.parent_id for span in scene.named("receive")} == {0}
    none = await TraceScene.make()
    await none.produce(batch())
    assert not none.spans


async def test_every_batch_of_a_request_is_judged_for_itself() -> None:
    scene = await TraceScene.make()
    other = TraceContext(5, 6, True)
    result = await scene.produce(batch(PRODUCER), batch(), batch(UNSAMPLED), batch(other))
    assert result.error is ErrorCode.NONE
    assert [
        (span.trace_id, span.attributes["messaging.kafka.offset"]) for span in scene.named("receive")
    ] == [
        (PRODUCER.trace_id, 0),
        (5, 9),
    ]


# --- off ------------------------------------------------------------------------------------------------


async def test_off_looks_into_no_batch() -> None:
    scene = await TraceScene.make(on=False)
    await scene.produce(batch(PRODUCER))
    await scene.fetch()
    assert looks(scene) == (0, 0, 0)
    assert not scene.spans


async def test_a_topic_that_is_not_traced_is_not_looked_into() -> None:
    scene = await TraceScene.make(topic=ALL | {"penstock.tracing": "false"})
    await scene.produce(batch(PRODUCER), compressed(PRODUCER))
    await scene.fetch()
    await scene.produce(b"x" * 100)
    assert looks(scene) == (0, 0, 0)
    assert not scene.spans


def looks(scene: TraceScene) -> tuple[int, int, int]:
    return scene.counters.looked, scene.counters.unreadable, scene.counters.not_opened


# --- looking --------------------------------------------------------------------------------------------


async def test_compressed_batches_are_opened_at_a_rate_and_count_as_without_context_beyond() -> None:
    scene = await TraceScene.make()
    for _ in range(OPENED_PER_SECOND_MAX + 5):
        await scene.produce(compressed(PRODUCER), acks=1)
    assert len(scene.named("receive")) == OPENED_PER_SECOND_MAX
    assert looks(scene) == (OPENED_PER_SECOND_MAX, 0, 5)
    # What is not compressed has no such rate, and the next second has its own.
    await scene.produce(batch(PRODUCER))
    scene.shard.clock.now += 1000
    await scene.produce(compressed(PRODUCER))
    assert len(scene.named("receive")) == OPENED_PER_SECOND_MAX + 2


async def test_records_that_cannot_be_read_are_taken_and_count_as_without_context() -> None:
    scene = await TraceScene.make(topic=ALL)
    garbage = build_batch([Record(b"k", b"v" * 30)])
    body = bytearray(garbage)
    body[61:] = b"\xff" * (len(body) - 61)
    crc = _crc(bytes(body))
    body[17:21] = crc.to_bytes(4, "big")
    assert (await scene.produce(bytes(body))).error is ErrorCode.NONE
    assert looks(scene) == (1, 1, 0)
    assert scene.one("receive").parent_id == 0


def _crc(whole: bytes) -> int:
    from penstock.base.crc import crc32c

    return crc32c(whole[21:])


async def test_too_many_batches_under_way_are_not_followed_and_counted() -> None:
    scene = await TraceScene.make(open_batches_max=2)
    await scene.produce(batch(PRODUCER), batch(PRODUCER), batch(PRODUCER))
    assert len(scene.named("receive")) == 2
    assert scene.counters.too_many_open == 1
    # Those before are committed by now.
    await scene.produce(batch(PRODUCER))
    assert len(scene.named("receive")) == 3


# --- rules ----------------------------------------------------------------------------------------------


async def set_rules(scene: TraceScene, *rules: Rule) -> None:
    change = ConfigOperation("tracing.rules", "set", write_rules(rules))
    await scene.shard.wait(scene.shard.topics.alter_broker_config(CONTEXT, [change]))


@pytest.mark.parametrize("context", [None, UNSAMPLED])
async def test_a_rule_follows_what_it_names_while_it_lives(context: TraceContext | None) -> None:
    scene = await TraceScene.make()
    end = scene.shard.clock.now + 1000
    await set_rules(scene, Rule("a", end, key="order-*"), Rule("b", end, topic="orders", message_id="m-1"))
    await scene.produce(batch(context))
    await scene.produce(batch(context, key=b"other", message_id="m-1"))
    await scene.produce(batch(context, key=b"other", message_id="m-2"))
    assert [span.attributes["messaging.kafka.offset"] for span in scene.named("receive")] == [0, 3]
    if context is not None:
        assert {(span.trace_id, span.parent_id) for span in scene.named("receive")} == {context[:2]}
    scene.shard.clock.now = end
    await scene.produce(batch(context))
    assert len(scene.named("receive")) == 2


# --- what goes wrong ------------------------------------------------------------------------------------


async def test_a_refusal_is_told_in_the_producers_trace_alone() -> None:
    scene = await TraceScene.make(topic=ALL | {"min.insync.replicas": "2"})
    result = await scene.produce(batch(PRODUCER, message_id="m-1"))
    await scene.produce(batch(UNSAMPLED))
    await scene.produce(batch())
    assert result.error is ErrorCode.NOT_ENOUGH_REPLICAS
    span = scene.one("receive")
    assert (span.trace_id, span.parent_id) == PRODUCER[:2]
    assert span.error == result.message
    assert span.attributes["error.type"] == "NOT_ENOUGH_REPLICAS"
    assert span.attributes["messaging.message.id"] == "m-1"
    assert "messaging.kafka.offset" not in span.attributes
    (event,) = span.events
    assert (event.name, event.attributes["penstock.message"]) == ("penstock.refused", result.message)


@pytest.mark.parametrize("hostile", [b"", b"x" * 60, b"x" * 200, batch(PRODUCER)[:-1], batch(PRODUCER)[:70]])
async def test_bytes_that_are_no_batch_are_refused_as_ever(hostile: bytes) -> None:
    scene = await TraceScene.make(topic=ALL)
    assert (await scene.produce(hostile)).error is not ErrorCode.NONE
    assert not scene.spans


async def test_a_disk_that_cannot_keep_up_is_told_as_throttling(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await TraceScene.make()
    monkeypatch.setattr(scene.shard.shard, "_pending_bytes_max", -1)
    assert (await scene.produce(batch(PRODUCER))).error is ErrorCode.REQUEST_TIMED_OUT
    assert [event.name for event in scene.one("receive").events] == ["penstock.throttled"]


async def test_a_leader_that_is_replaced_tells_so_in_all_three_spans() -> None:
    scene = await TraceScene.make()
    asked = [ProduceBatches("orders", 0, memoryview(batch(PRODUCER)))]
    answer = asyncio.ensure_future(scene.shard.data.produce(CONTEXT, asked, -1, 60_000))
    scene.shard.shard.stop_leading(PenstockError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "another broker leads"))
    (result,) = await scene.shard.wait(answer)
    await asyncio.sleep(0)
    assert result.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert sorted(span.name for span in scene.spans) == [
        "append orders",
        "receive orders",
        "replicate orders",
    ]
    for span in scene.spans:
        assert span.error == "another broker leads"
        assert span.attributes["error.type"] == "NOT_LEADER_OR_FOLLOWER"
        assert [event.name for event in span.events] == ["penstock.failover"]


async def test_a_producer_that_goes_away_ends_its_span() -> None:
    scene = await TraceScene.make()
    asked = [ProduceBatches("orders", 0, memoryview(batch(PRODUCER)))]
    answer = scene.shard.data.produce(CONTEXT, asked, -1, 60_000)
    assert isinstance(answer, asyncio.Future)
    answer.cancel()
    await scene.settle()
    assert [event.name for event in scene.one("receive").events] == ["penstock.abandoned"]
    assert scene.one("replicate").error is None


async def test_a_batch_that_is_sent_again_is_told_as_a_repetition() -> None:
    scene = await TraceScene.make()
    (producer, epoch) = await scene.shard.wait(scene.shard.data.init_producer_id(CONTEXT, None, -1, -1))
    sent = batch(PRODUCER, producer_id=producer, producer_epoch=epoch, base_sequence=0)
    first = await scene.produce(sent)
    again = await scene.produce(sent)
    assert (first.base_offset, again.base_offset) == (0, 0)
    original, repeated = scene.named("receive")
    assert (repeated.trace_id, repeated.parent_id) == PRODUCER[:2]
    assert repeated.span_id != original.span_id
    assert [event.name for event in repeated.events] == ["penstock.repeated"]
    assert len(scene.named("append")) == len(scene.named("replicate")) == 1


def traceparent_of(context: TraceContext) -> bytes:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01".encode()
