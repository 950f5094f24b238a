"""The window of a group, its timers and its outbox where several partitions, busy moments and doubtful commits meet."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from penstock.delivery.commands import QueueGranted, QueueReturned
from penstock.delivery.deciding import Grant
from penstock.groups.commands import GroupDeclared
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings
from penstock.service import queue_granting
from queue_scene import CONTEXT, GROUP, SETTINGS, Scene, told

DOUBT = PenstockError(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, "fewer copies hold it")


def settings(**changes: object) -> QueueSettings:
    return msgspec.structs.replace(SETTINGS, **changes)


async def test_one_request_fills_the_window_over_all_partitions_and_no_more() -> None:
    scene = Scene(partitions=10, settings=settings(in_flight_max=3))
    for partition in range(10):
        scene.produce("a", "b", partition=partition)
    leased = await scene.leasing(20)
    assert len(leased.messages) == 3
    assert leased.window_full
    assert sum(queue.in_flight for queue in scene.machine.queues(GROUP)) == 3
    await scene.service.release(CONTEXT, GROUP, [message.receipt for message in leased.messages])
    # Both in one turn: what the first is granted counts for the second.
    hands = await asyncio.gather(scene.leasing(20, member="one"), scene.leasing(20, member="two"))
    assert sum(len(hand.messages) for hand in hands) == 3


async def test_a_partition_that_has_nothing_is_asked_once_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a turn costs members times partitions, whoever waits for what."""
    asked = 0

    def counted(*arguments: Any) -> Grant:
        nonlocal asked
        asked += 1
        return grant(*arguments)

    grant = queue_granting.grant
    monkeypatch.setattr(queue_granting, "grant", counted)
    scene = Scene(partitions=5)
    waiting = [scene.leasing(1, wait_ms=60_000, member=str(number)) for number in range(7)]
    await scene.settle()
    assert asked == 5
    scene.produce("a", partition=3)
    await scene.settle()
    assert sum(leasing.done() for leasing in waiting) == 1
    # Each partition, the one with a message twice; and each once more when that is committed.
    assert asked == 5 + 6 + 5
    await scene.clock.advance(60_000)
    assert all(leasing.done() for leasing in waiting)


async def test_what_a_topic_that_left_the_declaration_has_in_flight_fills_no_window() -> None:
    scene = Scene(settings=settings(in_flight_max=1))
    [other] = scene.topics.make("other")
    scene.produce("a")
    assert len(await scene.lease(5)) == 1
    changed = settings(in_flight_max=1)
    scene.log.propose([GroupDeclared(GROUP, 0, "queue", ("other",), "earliest", None, None, changed)])
    scene.service.changed(GROUP)
    waiting = scene.leasing(1, wait_ms=1_000)
    await scene.settle()
    other.append(scene.partitions[0].batches[0])
    await scene.settle()
    assert [value for _, value, _ in told(await waiting)] == ["a"]
    # What that topic had waits for nobody, and keeps no timer busy.
    await scene.clock.advance(100_000)
    patient = scene.leasing(1, wait_ms=1_000_000)
    await scene.settle()
    assert min(timer.at_ms for timer in scene.clock.pending) >= scene.clock.ms + 1_000
    patient.cancel()


async def test_what_happens_meanwhile_does_not_put_off_the_end_of_a_lease() -> None:
    scene = Scene(settings=settings(lease_ms=5_000))
    scene.produce("a", "b")
    [(receipt, _, _), (held, _, _)] = await scene.lease(2)
    await scene.clock.advance(4_990)
    for _ in range(20):
        # The loop is late for its timers, and turns come before them.
        scene.clock.ms += 10
        await scene.service.extend(CONTEXT, GROUP, [held], 60_000)
        await scene.settle()
        await scene.lease(1)
    assert [command.cause for command in scene.log.of(QueueReturned)] == ["expired"]
    [(_, error, _)] = await scene.service.acknowledge(CONTEXT, GROUP, [receipt])
    assert error is ErrorCode.INVALID_RECORD_STATE


async def test_who_waits_for_room_is_served_when_a_dead_letter_is_buried() -> None:
    scene = Scene(settings=settings(in_flight_max=1))
    scene.produce("a", "b")
    [(receipt, _, _)] = await scene.lease(1)
    waiting = scene.leasing(1, wait_ms=60_000)
    await scene.settle()
    assert not waiting.done()
    scene.log.held = True
    rejecting = asyncio.ensure_future(scene.service.reject(CONTEXT, GROUP, [receipt], retry=False))
    await scene.settle()
    scene.log.commit()
    await rejecting
    while scene.machine.outbox_topics(GROUP):
        await scene.settle()
        assert not waiting.done()
        scene.log.commit()
    scene.log.held = False
    await scene.settle()
    assert scene.data.writes == 1
    assert waiting.done()
    assert [value for _, value, _ in told(waiting.result())] == ["b"]


async def test_what_is_committed_after_all_is_carried_on() -> None:
    """The in-sync set fell below its minimum: who waited was told that it is not known, and it was committed later."""
    scene = Scene(settings=settings(lease_ms=5_000))
    scene.produce("a", "b")
    [(receipt, _, _)] = await scene.lease(1)
    scene.log.held = True
    rejecting = asyncio.ensure_future(scene.service.reject(CONTEXT, GROUP, [receipt], retry=False))
    leasing = scene.leasing(1)
    await scene.settle()
    scene.log.doubt(DOUBT)
    for asked in (rejecting, leasing):
        with pytest.raises(PenstockError, match="fewer copies"):
            await asked
    await scene.clock.advance(1_000)
    scene.log.held = False
    scene.log.commit()
    await scene.clock.advance(200)
    assert scene.data.writes == 1
    assert len(scene.log.of(QueueGranted)) == 2
    # The lease that nobody was told of runs out like any other.
    await scene.clock.advance(6_000)
    assert scene.counters.expired == 1
