"""A listener with fake services behind it and one connection to it, for each test that asks; on the broker's own loop."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable

import pytest_asyncio
import uvloop

from penstock.testing.kafka_wire import KafkaWire, ServedWire, fake_broker


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], AbstractEventLoop]]:
    """Transports differ between loops in when they pause, flush and notice an end; the broker runs on uvloop."""
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[ServedWire]:
    async with fake_broker() as (cluster, listener):
        wire = await KafkaWire.connect(listener.address)
        yield ServedWire(cluster, listener, wire)
        await wire.close()
