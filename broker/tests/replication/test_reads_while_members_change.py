"""A leader that may append nothing until a change of its members is applied leads on: reads wait for it, none is sent away."""

from __future__ import annotations

import asyncio
import random

from penstock.model.errors import ErrorCode
from penstock.raft.configuration import ChangeKind
from penstock.raft.messages import AppendResponse
from penstock.replication.members import MemberChanged
from penstock.service.api import FetchPartition, NewTopic
from penstock.testing.simulated_disk import SimulatedDisk
from penstock.testing.simulated_shard import CONTEXT, ManualClock, SimulatedShard

SECOND, THIRD = 7, 8


def add(shard: SimulatedShard, member: int) -> None:
    assert shard.member.replica.propose_change(MemberChanged(ChangeKind.VOTER, member)) is None


async def test_a_fetch_is_answered_once_the_change_of_two_voters_is_applied() -> None:
    shard = SimulatedShard(SimulatedDisk(0), random.Random(0), ManualClock())
    await shard.lead()
    await shard.wait(shard.topics.create_topics(CONTEXT, [NewTopic("t", 1)]))
    shard.member.replica.tick()  # Its only voter gives it a lease, which lasts as long as the clock stands still.
    add(shard, SECOND)
    await shard.until(lambda: SECOND in shard.shard.machines.members.configuration.voters)
    add(shard, THIRD)
    assert not shard.shard.leading

    asked = [FetchPartition("t", 0, 0, max_bytes=1000)]
    fetch = asyncio.ensure_future(
        shard.data.fetch(CONTEXT, asked, min_bytes=1, max_bytes=1000, max_wait_ms=0)
    )
    await shard.until(lambda: shard.threads.idle)
    assert not fetch.done()
    last = shard.shard.log.next_index - 1
    shard.member.replica.step(AppendResponse(shard.member.own_member, SECOND, shard.shard.epoch, last))
    (result,) = await shard.wait(fetch)
    assert shard.shard.leading
    assert result.error is ErrorCode.NONE
