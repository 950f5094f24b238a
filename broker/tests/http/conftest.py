"""Both HTTP listeners over services in memory, on free ports of this machine, and a client for each.

What one broker answers, another that follows it has to answer as well: every test that asks for `data` or `admin` runs
twice, once with a client of the broker that leads, once with a client of one that passes its requests on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
import pytest_asyncio

from penstock.admin.listener import AdminHttpListener
from penstock.listeners.http.listener import DataHttpListener
from penstock.telemetry.counters import Counters
from penstock.testing.memory_services import MemoryLeader, MemoryServices

Listeners = type[DataHttpListener] | type[AdminHttpListener]

LEADER, FOLLOWER = "asks the leader", "asks a follower"
BOTH = [LEADER, FOLLOWER]


@pytest.fixture
def services() -> MemoryServices:
    return MemoryServices()


@asynccontextmanager
async def asking(
    kind: Listeners, services: MemoryServices, asked: str
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of one listener, or of a follower's beside it that passes on what is not its own."""
    leader = kind("listener", "127.0.0.1", 0, services.http)
    following = MemoryLeader()
    follower = kind("listener", "127.0.0.1", 0, replace(services.http, leader=following, counters=Counters()))
    await leader.start()
    await follower.start()
    following.addresses["listener"] = leader.address
    address = leader.address if asked == LEADER else follower.address
    async with aiohttp.ClientSession("http://{}:{}".format(*address)) as session:
        yield session
    await follower.stop()
    await leader.stop()


@pytest_asyncio.fixture(params=BOTH)
async def data(
    services: MemoryServices, request: pytest.FixtureRequest
) -> AsyncIterator[aiohttp.ClientSession]:
    async with asking(DataHttpListener, services, request.param) as session:
        yield session


@pytest_asyncio.fixture(params=BOTH)
async def admin(
    services: MemoryServices, request: pytest.FixtureRequest
) -> AsyncIterator[aiohttp.ClientSession]:
    async with asking(AdminHttpListener, services, request.param) as session:
        yield session
