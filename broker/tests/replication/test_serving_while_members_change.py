"""A leader serves on while a change of its members is under way: it would not be known again for half a client's pause."""

from __future__ import annotations

import random

from penstock.model.errors import ErrorCode
from penstock.raft.configuration import ChangeKind
from penstock.raft.messages import AppendResponse
from penstock.replication.members import MemberChanged
from penstock.service.api import FetchPartition, NewTopic, ProduceBatches
from penstock.testing.kafka_wire import batch_of
from penstock.testing.simulated_disk import SimulatedDisk
from penstock.testing.simulated_shard import CONTEXT, ManualClock, SimulatedShard

SECOND, THIRD = 7, 8
LEADER = 1


async def test_messages_are_taken_and_read_while_two_voters_decide_on_a_third() -> None:
    shard = SimulatedShard(SimulatedDisk(0), random.Random(0), ManualClock())
    await shard.lead()
    await shard.wait(shard.topics.create_topics(CONTEXT, [NewTopic("t", 1)]))
    shard.member.replica.tick()  # Its only voter gives it a lease, which lasts as long as the clock stands still.
    for member in (SECOND, THIRD):
        assert shard.member.replica.propose_change(MemberChanged(ChangeKind.VOTER, member)) is None
        assert member in shard.member.replica.core.configuration.voters
        if member == SECOND:
            last = shard.shard.log.next_index - 1
            answer = AppendResponse(shard.member.own_member, SECOND, shard.shard.epoch, last)
            shard.member.replica.step(answer)
            await shard.until(lambda: SECOND in shard.shard.machines.members.configuration.voters)

    assert shard.shard.leading
    assert THIRD not in shard.shard.machines.members.configuration.voters
    batch = [ProduceBatches("t", 0, memoryview(batch_of(b"x")))]
    (written,) = await shard.wait(shard.data.produce(CONTEXT, batch, LEADER, 1000))
    assert (written.error, written.base_offset) == (ErrorCode.NONE, 0)
    asked = [FetchPartition("t", 0, 0, max_bytes=1000)]
    (read,) = await shard.wait(shard.data.fetch(CONTEXT, asked, min_bytes=0, max_bytes=1000, max_wait_ms=0))
    assert (read.error, read.high_watermark) == (ErrorCode.NONE, 0)
