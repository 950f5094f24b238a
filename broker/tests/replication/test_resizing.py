"""How many brokers there should be: kept in the log, asked of the leader, and found by those that were there before."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from penstock.catalog.topics import ClusterConfigured, PartitionPlace, Topic, TopicCreated
from penstock.model.errors import ErrorCode, PenstockError
from penstock.raft.configuration import ChangeKind
from penstock.replication.features import FEATURE_LEVEL, RESIZED_LEVEL
from penstock.replication.leaving import Demand
from penstock.replication.members import MemberChanged, Members, ShardResized, member_id
from penstock.runtime.links import Links
from penstock.session.peer_connection import Greeting
from penstock.testing.simulated_disk import SimulatedDisk
from penstock.testing.simulated_shard import ManualClock, SimulatedShard

WAIT_SECONDS_MAX = 5.0


# --- the number in the log ------------------------------------------------------------------------


def test_the_number_is_part_of_the_state_and_of_its_snapshot() -> None:
    members = Members()
    members.apply(1, MemberChanged(ChangeKind.VOTER, 1))
    before = members.snapshot()
    assert members.replicas == 0, "nobody said so yet"
    members.apply(2, ShardResized(5))
    assert members.replicas == 5
    again = Members()
    again.restore(members.snapshot())
    assert (again.replicas, again.recovery) == (5, None)
    again.restore(before)
    assert again.replicas == 0


async def shard_of_one() -> SimulatedShard:
    shard = SimulatedShard(SimulatedDisk(0), random.Random(0), ManualClock())
    await shard.lead()
    return shard


async def ask(shard: SimulatedShard, replicas: int) -> None:
    task = asyncio.create_task(shard.member.resizing.ask(replicas))
    await shard.until(task.done)
    task.result()


async def test_a_leader_writes_the_number_once_the_shard_knows_how() -> None:
    shard = await shard_of_one()
    resizing, members = shard.member.resizing, shard.shard.machines.members
    assert resizing.replicas == 1, "as its configuration says"
    with pytest.raises(
        PenstockError, match=f"can change from {RESIZED_LEVEL} on: upgrade all its brokers"
    ) as told:
        await resizing.ask(3)
    assert told.value.code is ErrorCode.UNSUPPORTED_VERSION
    while members.level < FEATURE_LEVEL:
        shard.member.tick()
        await shard.settle()
    await ask(shard, 3)
    assert (resizing.replicas, set(resizing.wanted)) == (3, {0, 1, 2})
    last = shard.shard.log.next_index
    await ask(shard, 3)
    assert shard.shard.log.next_index == last, "what is so already is not written again"


# --- what writes need -----------------------------------------------------------------------------


async def test_the_most_that_any_topic_asks_for_is_what_writes_need() -> None:
    shard = await shard_of_one()
    catalog, settings = shard.shard.machines.catalog, shard.settings

    def make(name: str, **config: str) -> None:
        catalog.apply(1, TopicCreated(Topic(name, name.encode(), (PartitionPlace(1),), config)))

    assert settings.demand() == Demand(1)
    catalog.apply(1, ClusterConfigured({"min.insync.replicas": "2"}))
    assert settings.demand() == Demand(2)
    make("plain")
    make("less", **{"min.insync.replicas": "1"})
    assert settings.demand() == Demand(2)
    make("more", **{"min.insync.replicas": "3"})
    assert settings.demand() == Demand(3, "more")


# --- finding each other ---------------------------------------------------------------------------


def greeting(ordinal: int, peer: str = "") -> Greeting:
    storage = uuid.UUID(int=(ordinal + 1) << 65)
    return Greeting(
        cluster_id="c",
        shard_id=0,
        shard_uid="u",
        ordinal=ordinal,
        member=member_id(storage),
        storage_id=str(storage),
        name=f"b{ordinal}",
        release="0.1.0",
        feature_level=FEATURE_LEVEL,
        founded=True,
        peer=peer,
    )


class Broker:
    """The links of one broker, and whom it could send to."""

    def __init__(self, ordinal: int, peers: dict[int, tuple[str, int]]) -> None:
        nothing: Callable[..., None] = lambda *_: None  # noqa: E731
        self.peer = ""
        callbacks: dict[str, Any] = dict.fromkeys(("on_joined", "on_left", "on_gone", "on_frame"), nothing)
        self.links = Links(peers, lambda: greeting(ordinal, self.peer), **callbacks)

    async def start(self) -> tuple[str, int]:
        host, port = await self.links.listen("127.0.0.1", 0)
        self.peer = f"{host}:{port}"
        self.links.dial()
        return host, port

    @property
    def reached(self) -> set[int]:
        return {other.ordinal for other in self.links.members()}


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not done():  # noqa: ASYNC110 (nothing is called back)
            await asyncio.sleep(0)


async def test_a_broker_that_came_later_is_dialled_once_it_is_wanted() -> None:
    old = Broker(0, {})
    new = Broker(3, {0: await old.start()})
    try:
        await new.start()
        await until(lambda: new.reached == {0})
        old.links.dial_only({1, 2})
        assert old.reached == set()
        old.links.dial_only({1, 2, 3})
        await until(lambda: old.reached == {3})
        # Not wanted any more, it is let be while the connection lasts, and not sought when it is gone.
        old.links.dial_only({1, 2})
        await asyncio.sleep(0)
        assert old.reached == {3}
        await new.links.close()
        await until(lambda: old.reached == set())
        old.links.dial_only({1, 2})
        assert old.links._dialers == {}
        old.links.dial_only({3})
        assert set(old.links._dialers) == {3}, "where it was is remembered"
    finally:
        await new.links.close()
        await old.links.close()


async def test_who_sends_something_is_answered() -> None:
    """A broker whose log ends before another one joined does not know that one; but it may lead by now, or stand for it."""
    old = Broker(0, {})
    new = Broker(3, {0: await old.start()})
    try:
        await new.start()
        await until(lambda: new.reached == {0})
        shard = await shard_of_one()
        resizing = shard.member.resizing
        resizing._links = old.links
        resizing.reach_peers(lambda member: False)
        assert old.links._dialers == {}
        resizing.reach_peers(lambda member: member == greeting(3).member)
        await until(lambda: old.reached == {3})
    finally:
        await new.links.close()
        await old.links.close()


async def test_links_that_were_closed_dial_nobody() -> None:
    links = Broker(0, {1: ("127.0.0.1", 1)}).links
    links.dial_only({1})
    assert links._dialers == {}, "not before they were started"
    links.dial()
    assert set(links._dialers) == {1}
    await links.close()
    links.dial_only({1, 2})
    assert set(links._dialers) <= {1}
