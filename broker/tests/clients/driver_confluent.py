"""confluent-kafka (librdkafka): the client most of the world outside Java uses."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from client_driver import (
    HEARTBEAT_INTERVAL_MS,
    KEYS,
    SESSION_TIMEOUT_MS,
    ClientError,
    Load,
    Member,
    Pace,
    Receipt,
    ThreadedLoad,
    ThreadedMember,
)

if TYPE_CHECKING:
    from confluent_kafka import Message

POLL_S = 0.05
LOOKUP_TIMEOUT_S = 10.0
DELIVERY_TIMEOUT_MS = 60_000


class ConfluentDriver:
    """Drives librdkafka through its Python binding."""

    name = "confluent-kafka"
    version = version("confluent-kafka")
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")

    def start_load(
        self, bootstrap: str, topic: str, messages: int, *, per_second: int | None = None, codec: str = "none"
    ) -> Load:
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": codec,
                "linger.ms": 5,
                "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,  # That a killed broker does not answer is no news here.
            }
        )

        def body(load: ThreadedLoad) -> None:
            pace = Pace(per_second)
            for number in range(messages):
                pace.wait_for(number)
                producer.produce(
                    topic,
                    str(number).encode(),
                    str(number % KEYS).encode(),
                    on_delivery=lambda error, message, number=number: _note(load, error, message, number),
                )
                producer.poll(0)
            producer.flush()

        return ThreadedLoad(body, messages)

    def read_all(self, bootstrap: str, topic: str, count: int, timeout_s: float = 30.0) -> list[Receipt]:
        consumer = _consumer(bootstrap, "read-all-without-commits")
        try:
            partitions = _partitions(consumer, topic)
            consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
            return _read(consumer, count, timeout_s)
        finally:
            consumer.close()

    def read_from_time(
        self, bootstrap: str, topic: str, timestamp_ms: int, count: int, timeout_s: float = 30.0
    ) -> list[Receipt]:
        consumer = _consumer(bootstrap, "read-from-time-without-commits")
        try:
            asked = [TopicPartition(topic, one, timestamp_ms) for one in _partitions(consumer, topic)]
            consumer.assign(consumer.offsets_for_times(asked, timeout=LOOKUP_TIMEOUT_S))
            return _read(consumer, count, timeout_s)
        finally:
            consumer.close()

    def join(
        self,
        bootstrap: str,
        topic: str,
        group: str,
        *,
        cooperative: bool = False,
        instance: str | None = None,
    ) -> Member:
        settings: dict[str, Any] = {
            "enable.auto.commit": True,
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": HEARTBEAT_INTERVAL_MS,
            "partition.assignment.strategy": "cooperative-sticky" if cooperative else "range",
        }
        if instance is not None:
            settings["group.instance.id"] = instance
        consumer = _consumer(bootstrap, group, **settings)
        return ThreadedMember(lambda member: _consume(member, consumer, topic))


def _note(load: ThreadedLoad, error: KafkaError | None, message: Message, number: int) -> None:
    # A message that failed for good is not acknowledged; the ledger counts it as unacknowledged.
    if error is None:
        load.note(number, message.partition(), message.offset())


def _consumer(bootstrap: str, group: str, **settings: Any) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
            **settings,
        }
    )


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    return sorted(consumer.list_topics(topic, timeout=LOOKUP_TIMEOUT_S).topics[topic].partitions)


def _read(consumer: Consumer, count: int, timeout_s: float) -> list[Receipt]:
    receipts: list[Receipt] = []
    deadline = time.monotonic() + timeout_s
    while len(receipts) < count:
        if time.monotonic() > deadline:
            raise ClientError(f"{len(receipts)} of {count} messages read after {timeout_s:g} s")
        receipts += [_receipt(message) for message in consumer.consume(1000, POLL_S)]
    return receipts


def _receipt(message: Message) -> Receipt:
    error = message.error()
    if error is not None:
        raise ClientError(f"the consumer was told {error}")
    return Receipt(int(message.value()), message.partition(), message.offset(), message.timestamp()[1])


def _consume(member: ThreadedMember, consumer: Consumer, topic: str) -> None:
    consumer.subscribe([topic])
    try:
        while not member.leaving.is_set():
            for message in consumer.consume(1000, POLL_S):
                error = message.error()
                if error is None:
                    member.note_read(_receipt(message))
                elif error.fatal():
                    raise KafkaException(error)
            member.note_assigned(frozenset(one.partition for one in consumer.assignment()))
    finally:
        consumer.close()
        member.note_assigned(frozenset())
