"""A process may end when entries of a new epoch are on its disk and the epoch itself is not yet."""

from __future__ import annotations

import random

import msgspec
import pytest

from penstock.raft.ready import Role
from penstock.service.api import NewTopic
from penstock.testing.simulated_disk import SimulatedDisk
from penstock.testing.simulated_shard import CONTEXT, ManualClock, SimulatedFolder, SimulatedShard

VOTE = 7


@pytest.mark.parametrize("checkpoint", [False, True])
async def test_the_log_tells_the_epoch_that_was_not_written(*, checkpoint: bool) -> None:
    """Also where a checkpoint covers all of its entries, so that none is read again."""
    disk, clock = SimulatedDisk(0), ManualClock()
    first = SimulatedShard(disk, random.Random(0), clock)
    await first.lead()
    await first.wait(first.topics.create_topics(CONTEXT, [NewTopic("t", 1)]))
    if checkpoint:
        first.maintenance.begin_checkpoint()
        await first.wait(first.maintenance.settle())
    await first.settle()
    epoch = first.shard.epoch
    folder = SimulatedFolder(disk)
    folder.save_meta(msgspec.structs.replace(folder.load_meta(), epoch=epoch - 1, vote=VOTE))

    second = SimulatedShard(disk, random.Random(0), clock)
    assert bool(second.opened.report.entries_read) is not checkpoint
    kept = folder.load_meta()
    assert (kept.epoch, kept.vote) == (epoch, 0), "a vote in the epoch before is none in this one"
    assert second.member.replica.core.role is Role.FOLLOWER
    await second.lead()
    assert second.shard.epoch == epoch + 1
