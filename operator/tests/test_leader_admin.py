"""Asking whoever leads: leadership moves, brokers go away, and a call is never repeated where it may have been done."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from harness import fake_shard
from penstock_operator.broker_admin import HttpBrokerAdmin
from penstock_operator.leader_admin import ATTEMPTS_MAX, LeaderAdmin
from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fake_broker import FakeShard


@asynccontextmanager
async def asked(leader: str | None = None) -> AsyncIterator[tuple[FakeShard, LeaderAdmin]]:
    async with aiohttp.ClientSession() as session, fake_shard(3) as shard:
        brokers = {
            name: HttpBrokerAdmin(session, f"http://127.0.0.{number}:{broker.port}")
            for number, (name, broker) in enumerate(shard.brokers.items(), 1)
        }
        yield shard, LeaderAdmin(brokers, leader)


@pytest.mark.parametrize("guess", [None, "orders-0-0", "orders-0-2", "unknown"])
async def test_every_call_reaches_the_leader_from_any_guess(guess: str | None) -> None:
    async with asked(guess) as (shard, admin):
        await admin.create_topic("a", 1, {})
        await admin.alter_topic("a", 2, {})
        shard.lead("orders-0-1")
        assert (await admin.topic("a") or {})["partitions"] == 2
        await admin.declare_group("g", {"mode": "stream", "topics": ["a"], "start": {"at": "latest"}})
        assert (await admin.group("g") or {})["topics"] == ["a"]
        shard.lead("orders-0-2")
        assert "offsets" in await admin.reset_group("g", {"at": "earliest"}, False)
        await admin.delete_group("g")
        await admin.delete_topic("a")
        assert shard.topics == shard.groups == {}


async def test_the_leaders_refusal_is_passed_on() -> None:
    async with asked() as (_, admin):
        with pytest.raises(AdminError, match="there is no topic a"):
            await admin.alter_topic("a", 2, {})


async def test_without_a_leader_nothing_is_known() -> None:
    async with asked() as (shard, admin):
        shard.lead("")
        with pytest.raises(AdminUnreachableError, match="shard 0 has no leader"):
            await admin.topic("a")
        shard.lead("orders-0-9")
        with pytest.raises(AdminUnreachableError, match="orders-0-9 leads shard 0 and cannot be reached"):
            await admin.topic("a")


async def test_a_leader_that_is_gone_is_looked_for_at_the_next_call() -> None:
    async with asked("orders-0-0") as (shard, admin):
        await shard.brokers["orders-0-0"].stop()
        with pytest.raises(AdminUnreachableError, match="does not answer"):
            await admin.create_topic("a", 1, {})
        assert shard.requests == [], "it may have been done, so nobody else is asked to do it"
        shard.lead("orders-0-1")
        await admin.create_topic("a", 1, {})
        assert shard.topics.keys() == {"a"}


async def test_brokers_that_disagree_for_ever_are_asked_a_few_times_only() -> None:
    async with asked() as (shard, admin):
        for name, broker in shard.brokers.items():
            # Everybody says it leads, and nobody does what a leader does.
            broker.believes = name
        shard.leader = "orders-0-9"
        with pytest.raises(AdminUnreachableError, match="changes its leader faster"):
            await admin.create_topic("a", 1, {})
        assert len(shard.requests) == ATTEMPTS_MAX
