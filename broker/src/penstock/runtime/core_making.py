"""The consensus core of a member, made of what its data folder held."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from penstock.raft.configuration import Configuration
from penstock.raft.core import RaftCore
from penstock.raft.epochs import EpochLog
from penstock.raft.options import RaftOptions
from penstock.raft.ready import HardState
from penstock.raft.state import Mode
from penstock.replication.members import member_id
from penstock.runtime.data_folder import Meta
from penstock.runtime.log_port import MemberLogPort, Snapshots
from penstock.runtime.shard import Shard

TICKS_PER_ELECTION = 10


class CoreMaker(msgspec.Struct, frozen=True):
    """What is the same for every core of one process: a broker that founds its shard makes a second one."""

    shard: Shard
    meta: Callable[[], Meta]
    seeding: Snapshots
    mode: Mode
    chance: random.Random

    def make(self, configuration: Configuration) -> RaftCore:
        """A core with the log as it is; `configuration` is as of its end."""
        log, meta = self.shard.log, self.meta()
        changes = [index for index, _ in self.shard.in_flight.changes()]
        first = log.first_index
        epochs = EpochLog(
            first,
            log.next_index - 1,
            log.epoch_runs,
            epoch_before=log.epoch_of(first - 1) if first > 1 else 0,
            changes=changes,
        )
        applied = self.shard.commit_index
        return RaftCore(
            member_id(meta.storage_id),
            RaftOptions(election_ticks=TICKS_PER_ELECTION),
            log=epochs,
            hard_state=HardState(meta.epoch, meta.vote, applied, led=meta.led),
            configuration=configuration,
            applied=applied,
            port=MemberLogPort(log, self.seeding),
            jitter=self.chance.randrange,
            mode=self.mode,
        )
