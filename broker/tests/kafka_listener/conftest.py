"""A listener with fake services behind it and one connection to it, for each test that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from penstock.testing.kafka_wire import (
    KafkaWire,
    ServedWire,
    fake_broker,
)


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[ServedWire]:
    async with fake_broker() as (cluster, listener):
        wire = await KafkaWire.connect(listener.address)
        yield ServedWire(cluster, listener, wire)
        await wire.close()
