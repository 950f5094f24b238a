"""A shard of one broker without sockets: for tests and benchmarks of what is above and below the consensus."""

from __future__ import annotations

import random

from penstock.runtime.clock import Clock
from penstock.runtime.data_folder import MetaStore
from penstock.runtime.maintenance import Maintenance
from penstock.runtime.member import ShardMember
from penstock.runtime.member_options import BrokerIdentity, MemberOptions
from penstock.runtime.opening import OpenedShard
from penstock.service.cluster import ClusterView

ADDRESS = ("127.0.0.1", 9092)


def lone_member(opened: OpenedShard, store: MetaStore, maintenance: Maintenance, clock: Clock) -> ShardMember:
    """The only member of its shard. After `begin`, and once its disk has answered, it leads."""
    member = ShardMember(
        opened,
        store,
        MemberOptions(replicas=1, formed=False, election_timeout_ms=1000, peers={}),
        BrokerIdentity("broker", "test", ""),
        clock,
        listeners=lambda: {"kafka": "{}:{}".format(*ADDRESS)},
        covered=lambda: maintenance.checkpoints.covered_index,
        quiet=maintenance.quiet,
        chance=random.Random(0),
    )
    member.replica.on_leading = member.begin_leading
    return member


def lone_view(member: ShardMember) -> ClusterView:
    """What clients are told of it."""
    return ClusterView(member.shard.machines.members, member, 0, 0, lambda _: ADDRESS)
