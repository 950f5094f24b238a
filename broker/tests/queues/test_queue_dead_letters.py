"""Rejected messages: when they come again, when they are given up, and that each dead letter is written exactly once."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from penstock.codec.records import Record
from penstock.delivery.commands import QueueBuried, QueueDying, QueueGroupDropped, QueueProducerAssigned
from penstock.groups.commands import GroupDeleted
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.queue_outbox import RETRY_SECONDS
from penstock.session.producers import BATCHES_REMEMBERED
from queue_scene import CONTEXT, GROUP, SETTINGS, TOPIC, Scene

DEAD = "work.dlq"


async def rejected(
    scene: Scene, most: int = 1, *, retry: bool = True, delay_ms: int | None = None
) -> list[str]:
    """Leases and rejects; the values."""
    leased = await scene.lease(most)
    receipts = [receipt for receipt, _, _ in leased]
    results = await scene.service.reject(CONTEXT, GROUP, receipts, retry=retry, delay_ms=delay_ms)
    assert {error for _, error, _ in results} <= {ErrorCode.NONE}
    return [value for _, value, _ in leased]


def dead_letters(scene: Scene) -> list[Record]:
    partitions = scene.topics.of(DEAD)
    return partitions[0].records if partitions else []


async def test_a_rejected_message_comes_again_after_a_growing_pause() -> None:
    scene = Scene()
    scene.produce("a")
    for pause_ms in (10_000, 20_000, 40_000):
        assert await rejected(scene) == ["a"]
        await scene.clock.advance(pause_ms - 1)
        assert await scene.lease(1) == []
        await scene.clock.advance(1)
    assert [(value, count) for _, value, count in await scene.lease(1)] == [("a", 4)]
    assert scene.counters.rejected == 3


async def test_a_pause_can_be_asked_for() -> None:
    scene = Scene()
    scene.produce("a")
    await rejected(scene, delay_ms=500)
    waiting = scene.leasing(1, wait_ms=10_000)
    await scene.clock.advance(499)
    assert not waiting.done()
    await scene.clock.advance(1)
    assert len((await waiting).messages) == 1


async def test_after_the_last_delivery_it_is_given_up_with_its_story() -> None:
    scene = Scene(settings=msgspec.structs.replace(SETTINGS, deliveries_max=2, lease_ms=1_000))
    scene.produce("poison", headers=[("own", b"1"), ("penstock-dlq-cause", b"older")])
    await rejected(scene, delay_ms=0)
    assert len(await scene.lease(1)) == 1
    await scene.clock.advance(1_000)  # The second lease runs out.
    [buried] = dead_letters(scene)
    began = scene.clock.WALL_MS
    assert buried.value == b"poison"
    assert dict(buried.headers) == {
        "own": b"1",
        "penstock-dlq-cause": b"expired",
        "penstock-dlq-deliveries": b"2",
        "penstock-dlq-topic": b"t",
        "penstock-dlq-partition": b"0",
        "penstock-dlq-offset": b"0",
        "penstock-dlq-first-failure": str(began).encode(),
        "penstock-dlq-last-failure": str(began + 1_000).encode(),
        "penstock-dlq-group": b"work",
        "penstock-dlq-timestamp": b"5",
    }
    assert len({name for name, _ in buried.headers}) == len(buried.headers)
    assert buried.timestamp == began + 1_000
    await scene.clock.advance(10_000_000)
    assert await scene.lease(1) == []
    assert scene.counters.dead_lettered == 1


async def test_without_retry_it_is_given_up_at_once() -> None:
    scene = Scene()
    scene.produce(*map(str, range(20)))
    assert len(await rejected(scene, 20, retry=False)) == 20
    await scene.settle()
    await scene.clock.advance(0)
    assert [record.value for record in dead_letters(scene)] == [str(number).encode() for number in range(20)]
    assert len(scene.log.of(QueueDying)) == 1
    assert len(scene.log.of(QueueBuried)) == 20 // BATCHES_REMEMBERED
    assert len(scene.log.of(QueueProducerAssigned)) == 1
    assert scene.machine.outbox_topics(GROUP) == []


async def test_another_leader_writes_what_was_not_struck_out_and_nothing_twice() -> None:
    scene = Scene()
    scene.produce(*map(str, range(12)))
    leased = await scene.lease(12)
    receipts = [receipt for receipt, _, _ in leased]
    producer, allocated = scene.producers.decide_allocate()
    scene.log.propose([allocated, QueueProducerAssigned(GROUP, 0, producer)])
    scene.log.held = True
    rejecting = asyncio.ensure_future(scene.service.reject(CONTEXT, GROUP, receipts, retry=False))
    await scene.settle()
    scene.log.commit()
    await rejecting
    for _ in range(3):
        # What is written is never struck out, and no more is written than a partition remembers.
        await scene.settle()
        assert len(dead_letters(scene)) == BATCHES_REMEMBERED
        scene.fail_over()
    scene.log.held = False
    await scene.clock.advance(5_000)
    assert [record.value for record in dead_letters(scene)] == [str(number).encode() for number in range(12)]
    assert scene.data.writes == 12


async def test_a_topic_that_takes_nothing_is_tried_again_in_order() -> None:
    scene = Scene()
    scene.produce("a", "b", "c")
    scene.data.refusals = [ErrorCode.KAFKA_STORAGE_ERROR] * 2
    await rejected(scene, 3, retry=False)
    await scene.settle()
    assert dead_letters(scene) == []
    await scene.clock.advance(2_000 * RETRY_SECONDS)
    assert [record.value for record in dead_letters(scene)] == [b"a", b"b", b"c"]


async def test_a_message_too_large_for_its_dead_letter_topic_is_named_there() -> None:
    scene = Scene()
    scene.produce("large")
    scene.data.refusals = [ErrorCode.MESSAGE_TOO_LARGE]
    await rejected(scene, retry=False)
    await scene.settle()
    [buried] = dead_letters(scene)
    assert buried.value is None
    assert dict(buried.headers)["penstock-dlq-problem"] == b"the message is larger than the topic allows"


async def test_a_dead_letter_whose_message_is_gone_is_still_written() -> None:
    scene = Scene()
    scene.produce("a", "b")
    scene.data.refusals = [ErrorCode.KAFKA_STORAGE_ERROR]
    await rejected(scene, 2, retry=False)
    await scene.settle()
    scene.service.stop()  # What was read is forgotten.
    scene.partitions[0].log_start = 2
    scene.lead()
    await scene.clock.advance(5_000)
    assert [record.value for record in dead_letters(scene)] == [None, None]
    assert dict(dead_letters(scene)[0].headers)["penstock-dlq-problem"] == b"it fell out of its partition"


async def test_another_topic_of_the_name_lends_no_content() -> None:
    scene = Scene()
    scene.produce("old")
    scene.data.refusals = [ErrorCode.KAFKA_STORAGE_ERROR]
    await rejected(scene, 1, retry=False)
    await scene.settle()
    scene.log.propose(scene.service.topic_dropped(TOPIC))
    assert scene.service.topic_dropped(TOPIC) == [], "it is told once"
    scene.partitions = scene.topics.make(TOPIC)
    scene.produce("new")
    scene.fail_over()
    await scene.clock.advance(5_000)
    [buried] = dead_letters(scene)
    assert buried.value is None
    assert dict(buried.headers)["penstock-dlq-problem"] == b"its topic was deleted"


async def test_a_group_that_is_deleted_takes_what_waits_with_it() -> None:
    scene = Scene()
    waiting = scene.leasing(1, wait_ms=10_000)
    await scene.settle()
    scene.log.propose([GroupDeleted(GROUP, 1), QueueGroupDropped(GROUP, 1)])
    scene.service.changed(GROUP)
    with pytest.raises(PenstockError, match="was deleted"):
        await waiting
    scene.declare(SETTINGS)
    scene.produce("again")
    found = scene.leasing(1, wait_ms=1_000)
    await scene.settle()
    assert len((await found).messages) == 1


async def test_what_a_failover_left_of_a_deleted_group_is_cleared() -> None:
    scene = Scene()
    scene.produce("a")
    await scene.lease(1)
    scene.log.propose([GroupDeleted(GROUP, 1)])
    assert scene.machine.groups() == [GROUP]
    scene.fail_over()
    await asyncio.sleep(0)
    assert scene.machine.groups() == []
