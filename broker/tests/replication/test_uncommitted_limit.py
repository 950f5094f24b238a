"""What a leader takes while its followers do not answer: `log.uncommitted.bytes.max`, and producers are told."""

from __future__ import annotations

import asyncio
import random

import pytest

from penstock.codec.entry import ENTRY_HEADER_SIZE
from penstock.model.errors import ErrorCode
from penstock.raft.configuration import ChangeKind
from penstock.raft.messages import AppendResponse
from penstock.replication.members import MemberChanged
from penstock.service.api import AppendResult, NewTopic, ProduceBatches
from penstock.testing.kafka_wire import batch_of
from penstock.testing.simulated_disk import SimulatedDisk
from penstock.testing.simulated_shard import CONTEXT, ManualClock, SimulatedShard

SILENT = 7
BYTES_MAX = 4000
LEADER, ALL = 1, -1
BATCH = batch_of(b"x" * 400)
ENTRY_BYTES = len(BATCH) + ENTRY_HEADER_SIZE


async def leader_of_silent() -> SimulatedShard:
    """Leads two voters of which the other one says nothing since it was added; nothing is committed any more."""
    shard = SimulatedShard(SimulatedDisk(0), random.Random(0), ManualClock(), uncommitted_bytes_max=BYTES_MAX)
    await shard.lead()
    await shard.wait(shard.topics.create_topics(CONTEXT, [NewTopic("t", 1)]))
    assert shard.member.replica.propose_change(MemberChanged(ChangeKind.VOTER, SILENT)) is None
    answer(shard)
    await shard.until(lambda: SILENT in shard.shard.machines.members.configuration.voters)
    await shard.until(lambda: shard.threads.idle)
    return shard


async def produce(shard: SimulatedShard, acks: int, timeout_ms: int = 60_000) -> AppendResult:
    asked = [ProduceBatches("t", 0, memoryview(BATCH))]
    (result,) = await shard.wait(shard.data.produce(CONTEXT, asked, acks, timeout_ms))
    return result


def answer(shard: SimulatedShard) -> None:
    """The other one holds everything at last."""
    last, epoch = shard.shard.log.next_index - 1, shard.shard.epoch
    shard.member.replica.step(AppendResponse(shard.member.own_member, SILENT, epoch, last))


@pytest.mark.parametrize("batches_at_once", [1, 20])
async def test_no_more_waits_for_followers_than_is_allowed(batches_at_once: int) -> None:
    shard = await leader_of_silent()
    commit, before = shard.shard.commit_index, shard.shard.appended_bytes
    taken = BYTES_MAX // ENTRY_BYTES
    results: list[AppendResult] = []
    while len(results) < 20:
        # In one turn of the loop nothing is written, and nothing counted, between them.
        asked = [produce(shard, LEADER) for _ in range(batches_at_once)]
        results += await asyncio.gather(*asked)
    assert [result.error for result in results[: taken + 1]] == [ErrorCode.NONE] * taken + [
        ErrorCode.NOT_ENOUGH_REPLICAS
    ]
    assert {result.error for result in results[taken:]} == {ErrorCode.NOT_ENOUGH_REPLICAS}
    assert all("log.uncommitted.bytes.max" in str(result.message) for result in results[taken:])
    assert shard.shard.appended_bytes - before == taken * ENTRY_BYTES <= BYTES_MAX
    assert shard.shard.commit_index == commit


async def test_who_waits_for_all_is_told_in_time_and_served_when_the_follower_answers() -> None:
    shard = await leader_of_silent()
    assert (await produce(shard, ALL, timeout_ms=1)).error is ErrorCode.REQUEST_TIMED_OUT
    while (await produce(shard, LEADER)).error is ErrorCode.NONE:
        pass
    assert (await produce(shard, ALL)).error is ErrorCode.NOT_ENOUGH_REPLICAS
    answer(shard)
    # Nothing was appended since; it is taken at once all the same.
    assert shard.shard.commit_index == shard.shard.log.next_index - 1
    assert (await produce(shard, LEADER)).error is ErrorCode.NONE


async def test_a_batch_above_the_limit_is_taken_where_nothing_waits() -> None:
    shard = await leader_of_silent()
    large = batch_of(b"x" * BYTES_MAX)
    asked = [ProduceBatches("t", 0, memoryview(large))]
    outcomes = [
        (await shard.wait(shard.data.produce(CONTEXT, asked, LEADER, 60_000)))[0].error for _ in range(2)
    ]
    assert outcomes == [ErrorCode.NONE, ErrorCode.NOT_ENOUGH_REPLICAS]
