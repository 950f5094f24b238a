"""Both HTTP listeners over services in memory, on free ports of this machine, and a client for each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from penstock.admin.listener import AdminHttpListener
from penstock.listeners.http.listener import DataHttpListener
from penstock.testing.memory_services import MemoryServices


@pytest.fixture
def services() -> MemoryServices:
    return MemoryServices()


@pytest_asyncio.fixture
async def data(services: MemoryServices) -> AsyncIterator[aiohttp.ClientSession]:
    listener = DataHttpListener("http", "127.0.0.1", 0, services.http)
    await listener.start()
    async with aiohttp.ClientSession("http://{}:{}".format(*listener.address)) as session:
        yield session
    await listener.stop()


@pytest_asyncio.fixture
async def admin(services: MemoryServices) -> AsyncIterator[aiohttp.ClientSession]:
    listener = AdminHttpListener("admin", "127.0.0.1", 0, services.http)
    await listener.start()
    async with aiohttp.ClientSession("http://{}:{}".format(*listener.address)) as session:
        yield session
    await listener.stop()
