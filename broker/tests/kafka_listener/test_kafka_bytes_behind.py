"""librdkafka leaves bytes behind one of its requests; a broker that hangs up on them cannot be administered by it."""

from __future__ import annotations

import struct

from penstock.testing.kafka_wire import KafkaWire, fake_broker


async def test_bytes_behind_a_request_are_ignored() -> None:
    async with fake_broker() as (cluster, listener):
        cluster.topics.create("t")
        wire = await KafkaWire.connect(listener.address)
        whole = wire.frame("Metadata", 12, topics=None)
        await wire.send(struct.pack(">i", len(whole) - 4 + 3) + whole[4:] + bytes(3))
        _, answer = await wire.read("Metadata", 12)
        assert answer.topics[0].name == "t"
        assert (await wire.ask("Metadata", 12, topics=None)).topics[0].name == "t", "the connection goes on"
        await wire.close()
