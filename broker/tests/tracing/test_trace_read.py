"""What is told of fetches and commits: each followed batch that is delivered, and the newest one that a commit settles."""

from __future__ import annotations

from itertools import pairwise

import pytest

from penstock.codec.compression import Compression
from penstock.groups.commands import OffsetEntry
from penstock.service.api import ConfigOperation, FetchPartition
from penstock.service.deliver_trace import BATCHES_PER_FETCH_MAX, LOOKS_PER_FETCH_MAX, split_buffers
from penstock.service.looking import OPENED_PER_SECOND_MAX
from penstock.testing.simulated_shard import CONTEXT
from penstock.tracing.context import TraceContext
from penstock.tracing.rules import Rule, write_rules
from penstock.tracing.span import Kind, Link
from trace_scene import PRODUCER, UNSAMPLED, TraceScene, batch, compressed

ALL = {"penstock.tracing.sampling": "1"}
OTHER = TraceContext(5, 6, True)


async def test_each_followed_batch_of_a_fetch_is_told_below_its_receive_span() -> None:
    scene = await TraceScene.make()
    await scene.produce(batch(PRODUCER), batch(UNSAMPLED), batch(), batch(OTHER))
    scene.shard.clock.now += 50
    await scene.fetch()
    first, second = scene.named("deliver")
    received = scene.named("receive")
    assert [first.trace_id, second.trace_id] == [PRODUCER.trace_id, 5]
    assert [first.parent_id, second.parent_id] == [span.span_id for span in received]
    assert (first.kind, first.links) == (Kind.SERVER, (Link(*PRODUCER[:2]),))
    assert first.attributes["messaging.operation.type"] == "receive"
    assert first.attributes["messaging.kafka.offset"] == 0
    assert second.attributes["messaging.kafka.offset"] == 9
    assert len({span.span_id for span in scene.spans}) == len(scene.spans)


async def test_a_derived_trace_has_no_link_and_the_same_parent() -> None:
    scene = await TraceScene.make(topic=ALL)
    await scene.produce(batch())
    await scene.fetch()
    deliver, receive = scene.one("deliver"), scene.one("receive")
    assert (deliver.trace_id, deliver.parent_id, deliver.links) == (receive.trace_id, receive.span_id, ())


@pytest.mark.parametrize("topic", [{}, {"message.timestamp.type": "LogAppendTime"}])
async def test_another_leader_finds_the_same_ids_by_looking_into_the_batch(topic: dict[str, str]) -> None:
    scene = await TraceScene.make(topic=topic)
    await scene.produce(batch(PRODUCER), compressed(PRODUCER))
    looked = scene.counters.looked
    # One that has seen nothing of it.
    other = TraceScene(scene.shard)
    scene.shard.data.tracing = other.tracing
    await scene.fetch()
    received = scene.named("receive")
    assert [(span.trace_id, span.parent_id) for span in other.named("deliver")] == [
        (PRODUCER.trace_id, span.span_id) for span in received
    ]
    assert scene.counters.looked == looked + 2


async def test_what_was_decided_is_remembered_so_that_many_groups_cost_no_second_look() -> None:
    scene = await TraceScene.make()
    await scene.produce(batch(PRODUCER), batch(), compressed(PRODUCER))
    assert scene.counters.looked == 3
    for _ in range(5):
        await scene.fetch()
    assert scene.counters.looked == 3
    assert len(scene.named("deliver")) == 10


async def test_a_new_rule_is_asked_about_messages_that_are_there_already() -> None:
    scene = await TraceScene.make()
    await scene.produce(batch(), batch(key=b"other"))
    await scene.fetch()
    assert not scene.spans
    rules = write_rules([Rule("a", scene.shard.clock.now + 1000, key="order-*")])
    change = ConfigOperation("tracing.rules", "set", rules)
    await scene.shard.wait(scene.shard.topics.alter_broker_config(CONTEXT, [change]))
    await scene.fetch()
    assert scene.one("deliver").attributes["messaging.kafka.offset"] == 0


async def test_how_many_batches_of_a_fetch_are_looked_into_is_bounded() -> None:
    scene = await TraceScene.make()
    for _ in range(LOOKS_PER_FETCH_MAX + 10):
        await scene.produce(batch(PRODUCER, count=1), acks=1)
    fresh = TraceScene(scene.shard)
    scene.shard.data.tracing = fresh.tracing
    await scene.fetch()
    assert len(fresh.named("deliver")) == LOOKS_PER_FETCH_MAX
    # The next one goes on where it stopped.
    await scene.fetch()
    assert len(fresh.named("deliver")) == LOOKS_PER_FETCH_MAX + LOOKS_PER_FETCH_MAX + 10


async def test_how_many_batches_of_a_fetch_are_told_is_bounded() -> None:
    scene = await TraceScene.make()
    many = [batch(PRODUCER, count=1)] * 500
    for _ in range(3):
        await scene.produce(*many)
    result = await scene.fetch()
    assert sum(1 for _ in split_buffers(result.records)) > BATCHES_PER_FETCH_MAX
    assert len(scene.named("deliver")) == BATCHES_PER_FETCH_MAX


async def test_compressed_batches_share_the_rate_at_which_producers_are_opened() -> None:
    scene = await TraceScene.make()
    for _ in range(OPENED_PER_SECOND_MAX):
        await scene.produce(compressed(PRODUCER), acks=1)
    fresh = TraceScene(scene.shard)
    fresh.batches.looking.budget.per_second = 3
    scene.shard.data.tracing = fresh.tracing
    await scene.fetch()
    assert len(fresh.named("deliver")) == 3


async def test_a_consumer_that_waited_is_told_from_the_commit_on() -> None:
    scene = await TraceScene.make()
    asked_ms = scene.shard.clock.now
    asked = [FetchPartition("orders", 0, 0, 1 << 20)]
    answer = scene.shard.data.fetch(CONTEXT, asked, min_bytes=1, max_bytes=1 << 20, max_wait_ms=60_000)
    scene.shard.clock.now += 500
    await scene.produce(batch(PRODUCER))
    await scene.shard.wait(answer)
    await scene.settle()
    deliver, replicate = scene.one("deliver"), scene.one("replicate")
    assert deliver.start_ns == replicate.end_ns > asked_ms * 1_000_000


# --- settle ---------------------------------------------------------------------------------------------


async def delivered(*batches: bytes) -> TraceScene:
    scene = await TraceScene.make()
    await scene.produce(*batches)
    await scene.fetch()
    return scene


def commit(scene: TraceScene, offset: int, group: str = "billing", error: str | None = None) -> int:
    before = len(scene.named("settle"))
    scene.tracing.reading.settling(CONTEXT, group, "member-1", [OffsetEntry("orders", 0, offset)])(error)
    return len(scene.named("settle")) - before


async def test_a_commit_settles_the_newest_followed_batch_before_it() -> None:
    scene = await delivered(batch(PRODUCER), batch(OTHER), batch())
    assert commit(scene, 7) == 1
    span = scene.one("settle")
    # Offset 7 lies behind the first two batches (0 to 2, 3 to 5).
    assert (span.trace_id, span.links) == (5, (Link(5, 6),))
    assert span.parent_id == scene.named("receive")[1].span_id
    assert span.attributes["messaging.consumer.group.name"] == "billing"
    assert span.attributes["penstock.committed_offset"] == 7
    assert span.attributes["penstock.member"] == "member-1"
    assert span.attributes["messaging.operation.type"] == "settle"
    assert span.attributes["messaging.kafka.offset"] == 3


async def test_a_batch_is_settled_once_for_each_group() -> None:
    scene = await delivered(batch(PRODUCER), batch(OTHER))
    assert [commit(scene, offset) for offset in (2, 3, 3, 5, 6, 6)] == [0, 1, 0, 0, 1, 0]
    assert commit(scene, 6, "shipping") == 1


async def test_a_commit_that_failed_is_told_and_settles_nothing() -> None:
    scene = await delivered(batch(PRODUCER))
    assert commit(scene, 3, error="NOT_COORDINATOR") == 1
    assert scene.one("settle").error == "NOT_COORDINATOR"
    assert commit(scene, 3) == 1


async def test_a_commit_without_a_followed_batch_is_not_told() -> None:
    scene = await delivered(batch(UNSAMPLED))
    assert commit(scene, 3) == 0


@pytest.mark.parametrize("cuts", [(16,), (16, 61), ()])
def test_buffers_are_split_where_batches_end(cuts: tuple[int, ...]) -> None:
    whole = [batch(PRODUCER), compressed(), batch(compression=Compression.LZ4)]
    buffers = [
        memoryview(item)[start:end] for item in whole for start, end in pairwise((0, *cuts, len(item)))
    ]
    assert [b"".join(part) for part in split_buffers(buffers)] == whole
