"""Keys, headers, timestamps, tombstones and large values come through as they were sent, from each library to all."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaPythonTopicPartition

from client_driver import ClientError
from client_matrix import scenario
from client_peer import create_topic

READ_TIMEOUT_S = 30.0
LARGE = 900_000  # below the megabyte that is both the clients' and the topics' default
LIBRARIES = ("confluent-kafka", "kafka-python", "aiokafka")


class Record(NamedTuple):
    """One record as a user sees it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


def records() -> list[Record]:
    """What is sent, with times of today: older ones are retention's."""
    now_ms = int(time.time() * 1000)
    return [
        Record(b"key", b"value", (), now_ms),
        Record(None, b"no key", (), now_ms + 1),
        Record(b"tombstone", None, (), now_ms + 2),
        Record(b"", b"", (), now_ms + 3),
        Record(
            bytes(range(256)), "größer → 大".encode(), (("trace-id", b"\x00\xff"), ("empty", b"")), now_ms - 5
        ),
        Record(b"twice", b"same header twice", (("a", b"1"), ("a", b"2")), now_ms),
        Record(b"large", b"x" * LARGE, (("h", b"v"),), now_ms + 4),
    ]


@scenario("keys, headers, timestamps, tombstones, large values, read by all libraries")
@pytest.mark.parametrize("writer", LIBRARIES)
def test_records_come_through(writer: str, bootstrap: str) -> None:
    topic = create_topic(bootstrap, 1)
    sent = records()
    _WRITERS[writer](bootstrap, topic, sent)
    for reader, read in _READERS.items():
        assert read(bootstrap, topic, len(sent)) == sent, reader


def _write_confluent(bootstrap: str, topic: str, sent: list[Record]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for record in sent:
        producer.produce(
            topic, record.value, record.key, headers=list(record.headers), timestamp=record.timestamp_ms
        )
    assert producer.flush(READ_TIMEOUT_S) == 0


def _read_confluent(bootstrap: str, topic: str, count: int) -> list[Record]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        messages = list(itertools.islice(iter(lambda: consumer.poll(READ_TIMEOUT_S), None), count))
        return [
            Record(one.key(), one.value(), tuple(one.headers() or ()), one.timestamp()[1]) for one in messages
        ]
    finally:
        consumer.close()


def _write_kafka_python(bootstrap: str, topic: str, sent: list[Record]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for record in sent:
        producer.send(
            topic, record.value, record.key, headers=list(record.headers), timestamp_ms=record.timestamp_ms
        )
    producer.flush(READ_TIMEOUT_S)
    producer.close()


def _read_kafka_python(bootstrap: str, topic: str, count: int) -> list[Record]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, consumer_timeout_ms=READ_TIMEOUT_S * 1000)
    partition = KafkaPythonTopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    try:
        return [
            Record(one.key, one.value, tuple(one.headers), one.timestamp)
            for one in itertools.islice(consumer, count)
        ]
    finally:
        consumer.close()


def _write_aiokafka(bootstrap: str, topic: str, sent: list[Record]) -> None:
    async def write() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            for record in sent:
                await producer.send_and_wait(
                    topic,
                    record.value,
                    record.key,
                    headers=list(record.headers),
                    timestamp_ms=record.timestamp_ms,
                )

    asyncio.run(write())


def _read_aiokafka(bootstrap: str, topic: str, count: int) -> list[Record]:
    async def read() -> list[Record]:
        async with AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            found = [await consumer.getone() for _ in range(count)]
        return [Record(one.key, one.value, tuple(one.headers), one.timestamp) for one in found]

    try:
        return asyncio.run(asyncio.wait_for(read(), READ_TIMEOUT_S))
    except TimeoutError as error:
        raise ClientError(f"aiokafka did not read {count} records within {READ_TIMEOUT_S:g} s") from error


_WRITERS = {
    "confluent-kafka": _write_confluent,
    "kafka-python": _write_kafka_python,
    "aiokafka": _write_aiokafka,
}
_READERS = {
    "confluent-kafka": _read_confluent,
    "kafka-python": _read_kafka_python,
    "aiokafka": _read_aiokafka,
}
