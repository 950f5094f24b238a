"""Unmodified client libraries against the listener with fake services: what only they know about the protocol.

The whole matrix runs against a real broker in `broker/tests/clients`; these find mistakes of translation early.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop

from penstock.testing.kafka_wire import fake_broker

MESSAGES = 200
VALUES = [b"value %d" % number for number in range(MESSAGES)]


@contextmanager
def served() -> Iterator[str]:
    """A listener in a thread of its own, on the loop that the broker uses; gives the bootstrap address."""
    ready = threading.Event()
    address: list[str] = []
    stop: list[Any] = []

    async def serve() -> None:
        async with fake_broker() as (_, listener):
            address.append("{}:{}".format(*listener.address))
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(ended.set))
            ready.set()
            await ended.wait()
            assert listener.counters.internal_errors == 0
            assert listener.counters.closed_for_cause == 0

    failures: list[BaseException] = []

    def run() -> None:
        try:
            uvloop.run(serve())
        except BaseException as error:
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    try:
        yield address[0]
    finally:
        if stop:
            stop[0]()
        thread.join(10)
    if failures:
        raise failures[0]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_confluent_kafka(codec: str) -> None:
    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

    with served() as bootstrap:
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for future in admin.create_topics([NewTopic("t", 2, 1, config={"retention.ms": "1000"})]).values():
            future.result(10)
        resource = ConfigResource(ConfigResource.Type.TOPIC, "t")
        (described,) = admin.describe_configs([resource]).values()
        assert described.result(10)["retention.ms"].value in {"1000", "604800000"}
        producer = Producer(
            {"bootstrap.servers": bootstrap, "compression.type": codec, "enable.idempotence": True}
        )
        errors: list[Any] = []
        for number, value in enumerate(VALUES):
            producer.produce(
                "t", value, partition=number % 2, on_delivery=lambda error, _: errors.append(error)
            )
        assert producer.flush(10) == 0
        assert errors == [None] * MESSAGES
        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": f"g-{codec}", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe(["t"])
        got: list[bytes] = []
        for _ in range(100):
            got += [message.value() for message in consumer.consume(MESSAGES, 0.2)]
            if len(got) == MESSAGES:
                break
        assert sorted(got) == sorted(VALUES)
        consumer.commit(asynchronous=False)
        consumer.close()
        assert {group.group_id for group in admin.list_consumer_groups().result(10).valid} == set()


@pytest.mark.filterwarnings("ignore:.* is deprecated. Use files:DeprecationWarning")
def test_kafka_python() -> None:
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.admin import KafkaAdminClient, NewTopic

    with served() as bootstrap:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        admin.create_topics([NewTopic("t", 1, 1)])
        assert admin.list_topics() == ["t"]
        producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
        futures = [producer.send("t", value, headers=[("h", b"x")]) for value in VALUES]
        assert [future.get(10).offset for future in futures] == list(range(MESSAGES))
        consumer = KafkaConsumer(
            "t",
            bootstrap_servers=bootstrap,
            group_id="g",
            auto_offset_reset="earliest",
            consumer_timeout_ms=10_000,
        )
        got = []
        for message in consumer:
            got.append(message.value)
            if len(got) == MESSAGES:
                break
        assert got == VALUES
        consumer.commit()
        for client in (consumer, producer, admin):
            client.close()


def test_aiokafka() -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    async def drive(bootstrap: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("t", 1, 1)])
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
        await producer.start()
        for value in VALUES:
            await producer.send("t", value)
        await producer.flush()
        consumer = AIOKafkaConsumer(
            "t", bootstrap_servers=bootstrap, group_id="g", auto_offset_reset="earliest"
        )
        await consumer.start()
        async with asyncio.timeout(20):
            got = [(await consumer.getone()).value for _ in range(MESSAGES)]
        assert got == VALUES
        await consumer.commit()
        await consumer.stop()
        await producer.stop()
        await admin.close()

    with served() as bootstrap:
        asyncio.run(drive(bootstrap))
