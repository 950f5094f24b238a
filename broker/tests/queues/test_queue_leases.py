"""Leasing and settling through the service, over fakes in virtual time: answers wait for the commit, entries are few, leases end."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from penstock.codec.records import Record, build_batch
from penstock.delivery.commands import QueueExtended, QueueGranted, QueueReturned, QueueSettled
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings
from penstock.service import queue_driver, queue_granting
from penstock.service.queue_api import LeaseRequest
from penstock.service.queue_receipts import Receipt, decode_receipt, encode_receipt
from queue_scene import CONTEXT, GROUP, SETTINGS, Scene, ScenePartition, told

DISK_FULL = PenstockError(ErrorCode.KAFKA_STORAGE_ERROR, "the disk is full")


def settings(**changes: object) -> QueueSettings:
    return msgspec.structs.replace(SETTINGS, **changes)


async def test_a_lease_is_answered_once_it_is_committed() -> None:
    scene = Scene()
    scene.produce("a", "b")
    scene.log.held = True
    leasing = scene.leasing(5)
    await scene.settle()
    assert not leasing.done()
    scene.log.commit()
    assert [(value, count) for _, value, count in told(await leasing)] == [("a", 1), ("b", 1)]
    assert scene.counters.leased == 2


async def test_an_acknowledged_message_never_comes_again() -> None:
    scene = Scene()
    scene.produce("a", "b")
    [(receipt, _, _)] = await scene.lease(1)
    scene.log.held = True
    asked = asyncio.ensure_future(scene.service.acknowledge(CONTEXT, GROUP, [receipt]))
    await scene.settle()
    assert not asked.done()
    scene.log.held = False
    scene.log.commit()
    assert await asked == [(receipt, ErrorCode.NONE, "")]
    await scene.clock.advance(1_000_000)
    assert [value for _, value, _ in await scene.lease(9)] == ["b"]
    assert scene.counters.acknowledged == 1


async def test_requests_of_one_turn_share_an_entry_and_the_messages() -> None:
    scene = Scene()
    scene.produce(*map(str, range(10)))
    leasing = [scene.leasing(8) for _ in range(4)]
    hands = [told(leased) for leased in await asyncio.gather(*leasing)]
    assert [len(hand) for hand in hands] == [3, 3, 2, 2]
    assert sorted(int(value) for hand in hands for _, value, _ in hand) == list(range(10))
    assert len(scene.log.of(QueueGranted)) == 1
    receipts = [[receipt for receipt, _, _ in hand] for hand in hands]
    asked = [scene.service.acknowledge(CONTEXT, GROUP, each) for each in receipts]
    for results in await asyncio.gather(*asked):
        assert {error for _, error, _ in results} == {ErrorCode.NONE}
    assert len(scene.log.of(QueueSettled)) == 1


async def test_a_lease_takes_from_every_partition_and_begins_with_another_each_time() -> None:
    scene = Scene(partitions=3)
    for partition in range(3):
        scene.produce(*(f"{partition}{number}" for number in range(3)), partition=partition)
    seen = []
    for _ in range(3):
        seen += [value[0] for _, value, _ in await scene.lease(1)]
    assert sorted(seen) == ["0", "1", "2"]
    assert len(await scene.lease(100)) == 6


async def test_leases_of_other_durations_and_members_are_other_entries() -> None:
    scene = Scene()
    scene.produce("a", "b", "c")
    first, second, third = (
        scene.leasing(1, lease_ms=1_000),
        scene.leasing(1, lease_ms=2_000),
        scene.leasing(1, member="m"),
    )
    await asyncio.gather(first, second, third)
    granted = scene.log.of(QueueGranted)
    assert [(each.duration_ms, each.member) for each in granted] == [(1_000, ""), (2_000, ""), (30_000, "m")]
    assert len({each.lease_id for each in granted}) == 3


async def test_who_waits_is_woken_by_messages_and_told_when_the_wait_is_over() -> None:
    scene = Scene()
    waiting, patient = scene.leasing(1, wait_ms=1_000), scene.leasing(1, wait_ms=60_000)
    await scene.clock.advance(1_000)
    assert told(await waiting) == []
    assert not patient.done()
    scene.produce("late")
    await scene.settle()
    assert [value for _, value, _ in told(patient.result())] == ["late"]
    assert scene.service.waiting_count == 0
    assert not scene.partitions[0].waiters, "nobody waits, so nobody watches"


async def test_a_lease_that_runs_out_gives_its_messages_to_whoever_waits() -> None:
    scene = Scene(settings=settings(lease_ms=5_000))
    scene.produce("a")
    [(receipt, _, _)] = await scene.lease(1)
    waiting = scene.leasing(1, wait_ms=60_000)
    await scene.clock.advance(4_999)
    assert not waiting.done()
    await scene.clock.advance(1)
    # It failed, so it comes after the back-off.
    assert not waiting.done()
    await scene.clock.advance(10_000)
    assert [(value, count) for _, value, count in told(await waiting)] == [("a", 2)]
    assert scene.counters.expired == 1
    [(_, error, sentence)] = await scene.service.acknowledge(CONTEXT, GROUP, [receipt])
    assert error is ErrorCode.INVALID_RECORD_STATE
    assert "ran out" in sentence


async def test_a_new_leader_gives_every_lease_its_whole_duration_again() -> None:
    scene = Scene(settings=settings(lease_ms=5_000))
    scene.produce("a")
    [(receipt, _, _)] = await scene.lease(1)
    await scene.clock.advance(4_000)
    scene.fail_over()
    await scene.clock.advance(4_999)
    assert scene.counters.expired == 0
    [(_, error, _)] = await scene.service.acknowledge(CONTEXT, GROUP, [receipt])
    assert error is ErrorCode.NONE, "the holder may still settle it"


async def test_a_step_of_the_wall_clock_ends_no_lease() -> None:
    scene = Scene(settings=settings(lease_ms=5_000))
    scene.produce("a")
    await scene.lease(1)
    scene.clock.WALL_MS += 3_600_000
    await scene.clock.advance(4_000)
    assert scene.counters.expired == 0
    await scene.clock.advance(2_000)
    assert scene.counters.expired == 1


async def test_what_is_released_comes_at_once_and_was_not_delivered() -> None:
    scene = Scene()
    scene.produce("a")
    [(receipt, _, _)] = await scene.lease(1)
    waiting = scene.leasing(1, wait_ms=1_000)
    [(_, error, _)] = await scene.service.release(CONTEXT, GROUP, [receipt])
    assert error is ErrorCode.NONE
    assert [(value, count) for _, value, count in told(await waiting)] == [("a", 1)]
    assert scene.counters.released == 1


async def test_a_lease_that_is_extended_lasts() -> None:
    scene = Scene(settings=settings(lease_ms=5_000))
    scene.produce("a")
    [(receipt, _, _)] = await scene.lease(1)
    await scene.clock.advance(4_000)
    [(_, error, _)] = await scene.service.extend(CONTEXT, GROUP, [receipt], 20_000)
    assert error is ErrorCode.NONE
    await scene.clock.advance(19_000)
    assert scene.counters.expired == 0
    await scene.clock.advance(2_000)
    assert scene.counters.expired == 1


async def test_what_an_entry_in_flight_names_waits_for_it() -> None:
    scene = Scene()
    scene.produce("a")
    [(receipt, _, _)] = await scene.lease(1)
    scene.log.held = True
    extending = asyncio.ensure_future(scene.service.extend(CONTEXT, GROUP, [receipt], 60_000))
    await scene.settle()
    settling = asyncio.ensure_future(scene.service.acknowledge(CONTEXT, GROUP, [receipt]))
    again = asyncio.ensure_future(scene.service.acknowledge(CONTEXT, GROUP, [receipt]))
    await scene.settle()
    assert not extending.done()
    scene.log.held = False
    scene.log.commit()
    assert [error for _, error, _ in await extending] == [ErrorCode.NONE]
    # The same receipt twice in one turn is one settling.
    assert [error for _, error, _ in [*await settling, *await again]] == [ErrorCode.NONE] * 2
    assert [type(command) for command in scene.log.commands[-2:]] == [QueueExtended, QueueSettled]


async def test_whoever_goes_away_leaves_its_messages_to_others() -> None:
    scene = Scene()
    scene.produce("a", "b")
    scene.log.held = True
    gone = scene.leasing(1)
    await scene.settle()
    gone.cancel()
    await scene.settle()
    scene.log.held = False
    scene.log.commit()
    await scene.settle()
    assert [(value, count) for _, value, count in await scene.lease(9)] == [("a", 1), ("b", 1)]
    waiting = scene.leasing(1, wait_ms=1_000)
    await scene.settle()
    waiting.cancel()
    await scene.settle()
    assert scene.service.waiting_count == 0


async def test_a_full_window_stops_new_messages_and_is_told() -> None:
    scene = Scene(settings=settings(in_flight_max=2))
    scene.produce("a", "b", "c")
    [(first, _, _), _] = await scene.lease(5)
    full = await scene.leasing(5)
    assert (full.messages, full.window_full) == ([], True)
    waiting = scene.leasing(5, wait_ms=1_000)
    await scene.service.acknowledge(CONTEXT, GROUP, [first])
    assert [value for _, value, _ in told(await waiting)] == ["c"]


HOSTILE = [
    "",
    "x",
    "A" * 28,
    "é" * 28,
    "=" * 28,
    "-" * 28,
    encode_receipt(1, 2**64 - 1, 2**64 - 1),
    encode_receipt(2**32 - 1, 0, 1),
    encode_receipt(1, 0, 0),
    encode_receipt(1, 0, 2**63),
    "a" * 10_000,
]


async def test_a_receipt_may_be_anything() -> None:
    scene = Scene()
    scene.produce("a", "b")
    [(receipt, _, _)] = await scene.lease(1)
    for verb in (scene.service.acknowledge, scene.service.release):
        results = await verb(CONTEXT, GROUP, HOSTILE)
        assert [text for text, _, _ in results] == HOSTILE
        assert ErrorCode.NONE not in {error for _, error, _ in results}
    other = Scene()
    other.produce("a")
    known = decode_receipt(receipt)
    assert known == Receipt(scene.partitions[0].key, 0, 1)
    # Nobody holds it there.
    [(_, error, _)] = await other.service.acknowledge(CONTEXT, GROUP, [receipt])
    assert error is ErrorCode.INVALID_RECORD_STATE


async def test_results_are_in_the_order_of_the_receipts_also_where_one_comes_twice() -> None:
    scene = Scene()
    scene.produce("a", "b")
    receipts = [receipt for receipt, _, _ in await scene.lease(2)]
    asked = [receipts[1], "no receipt", receipts[0], receipts[1]]
    results = await scene.service.acknowledge(CONTEXT, GROUP, asked)
    assert [text for text, _, _ in results] == asked
    assert [error for _, error, _ in results] == [
        ErrorCode.NONE,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.NONE,
        ErrorCode.NONE,
    ]


async def test_a_group_that_is_none_is_refused_with_a_sentence() -> None:
    scene = Scene()
    with pytest.raises(PenstockError, match="declare it first") as refused:
        await scene.service.lease(CONTEXT, LeaseRequest("nobody", 1))
    assert refused.value.code is ErrorCode.GROUP_ID_NOT_FOUND
    with pytest.raises(PenstockError):
        await scene.service.acknowledge(CONTEXT, "nobody", ["x"])


async def test_whoever_waits_is_told_when_another_broker_leads() -> None:
    scene = Scene()
    scene.produce("a")
    [(receipt, _, _)] = await scene.lease(1)
    waiting = scene.leasing(1, wait_ms=10_000)
    scene.log.held = True
    asked = asyncio.ensure_future(scene.service.acknowledge(CONTEXT, GROUP, [receipt]))
    await scene.settle()
    scene.service.stop()
    scene.log.lose(PenstockError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "no longer"))
    for task in (waiting, asked):
        with pytest.raises(PenstockError) as told_so:
            await task
        assert told_so.value.retriable
    with pytest.raises(PenstockError):
        await scene.lease(1)


async def test_a_log_that_takes_nothing_is_told_and_tried_again() -> None:
    scene = Scene(settings=settings(lease_ms=1_000))
    scene.produce("a", "b")
    await scene.lease(1)
    scene.log.refusal = DISK_FULL
    with pytest.raises(PenstockError, match="disk is full"):
        await scene.lease(1)
    await scene.clock.advance(5_000)
    assert scene.counters.expired == 0
    scene.log.refusal = None
    await scene.clock.advance(queue_driver.RETRY_MS)
    assert scene.counters.expired == 1
    assert [value for _, value, _ in await scene.lease(1)] == ["b"]


async def test_an_answer_is_bounded_and_the_rest_goes_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.produce("x" * 600_000, "y" * 600_000, "z")
    # The average says that all three fit; they do not.
    scene.partitions[0].size_bytes = 30
    taken = await scene.lease(10)
    assert [value[0] for _, value, _ in taken] == ["x", "y"]
    assert [(value, count) for _, value, count in await scene.lease(10)] == [("z", 1)]
    assert len(scene.log.of(QueueReturned)) == 1


async def test_too_many_that_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_granting, "WAITING_MAX", 2)
    monkeypatch.setattr(queue_driver, "RECEIPTS_WAITING_MAX", 1)
    scene = Scene()
    waiting = [scene.leasing(1, wait_ms=1_000) for _ in range(2)]
    await scene.settle()
    with pytest.raises(PenstockError, match="wait for messages") as refused:
        await scene.lease(1)
    assert refused.value.code is ErrorCode.THROTTLING_QUOTA_EXCEEDED
    scene.produce("a", "b")
    receipts = [told(await each)[0][0] for each in waiting]
    scene.log.held = True
    first = asyncio.ensure_future(scene.service.extend(CONTEXT, GROUP, receipts, 1_000))
    await scene.settle()
    parked = asyncio.ensure_future(scene.service.acknowledge(CONTEXT, GROUP, receipts[:1]))
    await scene.settle()
    with pytest.raises(PenstockError, match="receipts of group"):
        await scene.service.acknowledge(CONTEXT, GROUP, receipts[1:])
    scene.log.held = False
    scene.log.commit()
    await asyncio.gather(first, parked)


async def test_what_retention_takes_is_passed_over_and_counted() -> None:
    scene = Scene()
    scene.produce("a", "b")
    scene.produce("c")
    [(receipt, _, _)] = await scene.lease(1)
    scene.partitions[0].log_start = 2
    assert [value for _, value, _ in await scene.lease(9)] == ["c"]
    assert scene.counters.lost == 2
    [(_, error, _)] = await scene.service.acknowledge(CONTEXT, GROUP, [receipt])
    assert error is ErrorCode.INVALID_RECORD_STATE


async def test_a_partition_that_comes_later_is_worked_through_from_its_beginning() -> None:
    scene = Scene()
    scene.partitions.append(ScenePartition(99, "t", 1))
    scene.produce("new", partition=1)
    waiting = scene.leasing(5, wait_ms=1_000)
    assert [value for _, value, _ in told(await waiting)] == ["new"]


async def test_a_batch_that_cannot_be_taken_apart_is_given_up_and_stops_nobody() -> None:
    scene = Scene()
    damaged = bytearray(build_batch([Record(None, b"lost", 1)]))
    damaged[-5:] = b"\xff" * 5
    scene.partitions[0].append(bytes(damaged))
    scene.produce("good")
    assert [value for _, value, _ in await scene.lease(9)] == ["good"]
    await scene.settle()
    [buried] = scene.topics.of("work.dlq")[0].records
    told_of = dict(buried.headers)
    assert (buried.value, told_of["penstock-dlq-problem"]) == (None, b"it cannot be read")


async def test_one_read_serves_the_messages_of_a_batch_one_by_one() -> None:
    scene = Scene()
    scene.produce(*map(str, range(50)))
    for number in range(50):
        assert [value for _, value, _ in await scene.lease(1)] == [str(number)]
    assert scene.topics.reads == 1
