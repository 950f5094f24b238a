"""kafka-python: the pure Python client, with every assignor and a background heartbeat thread."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.codec import has_snappy, has_zstd
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

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
    from collections.abc import Mapping

POLL_MS = 50
LOOKUP_TIMEOUT_MS = 10_000
FLUSH_TIMEOUT_S = 60.0


class KafkaPythonDriver:
    """Drives kafka-python's producer and consumer."""

    name = "kafka-python"
    version = version("kafka-python")
    # These two take a library each that the client only uses where it finds it.
    codecs = ("none", "gzip", "lz4", *(["snappy"] if has_snappy() else []), *(["zstd"] if has_zstd() else []))

    def start_load(
        self, bootstrap: str, topic: str, messages: int, *, per_second: int | None = None, codec: str = "none"
    ) -> Load:
        def body(load: ThreadedLoad) -> None:
            producer = KafkaProducer(
                bootstrap_servers=bootstrap,
                acks="all",
                enable_idempotence=True,
                compression_type=None if codec == "none" else codec,
                linger_ms=5,
                reconnect_backoff_max_ms=500,
            )
            try:
                pace = Pace(per_second)
                for number in range(messages):
                    pace.wait_for(number)
                    sent = producer.send(topic, str(number).encode(), str(number % KEYS).encode())
                    sent.add_callback(
                        lambda told, number=number: load.note(number, told.partition, told.offset)
                    )
                producer.flush(timeout=FLUSH_TIMEOUT_S)
            finally:
                producer.close()

        return ThreadedLoad(body, messages)

    def read_all(self, bootstrap: str, topic: str, count: int, timeout_s: float = 30.0) -> list[Receipt]:
        consumer = _consumer(bootstrap)
        try:
            partitions = _partitions(consumer, topic)
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            return _read(consumer, count, timeout_s)
        finally:
            consumer.close()

    def read_from_time(
        self, bootstrap: str, topic: str, timestamp_ms: int, count: int, timeout_s: float = 30.0
    ) -> list[Receipt]:
        consumer = _consumer(bootstrap)
        try:
            partitions = _partitions(consumer, topic)
            consumer.assign(partitions)
            found = consumer.offsets_for_times(dict.fromkeys(partitions, timestamp_ms))
            for partition in partitions:
                if found.get(partition) is None:
                    consumer.seek_to_end(partition)
                else:
                    consumer.seek(partition, found[partition].offset)
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
        settings = {
            "group_id": group,
            "group_instance_id": instance,
            "enable_auto_commit": True,
            "session_timeout_ms": SESSION_TIMEOUT_MS,
            "heartbeat_interval_ms": HEARTBEAT_INTERVAL_MS,
            "partition_assignment_strategy": [
                CooperativeStickyAssignor if cooperative else RangePartitionAssignor
            ],
        }

        def body(member: ThreadedMember) -> None:
            consumer = _consumer(bootstrap, **settings)
            try:
                consumer.subscribe([topic])
                while not member.leaving.is_set():
                    for receipt in _receipts(consumer.poll(POLL_MS)):
                        member.note_read(receipt)
                    member.note_assigned(frozenset(one.partition for one in consumer.assignment()))
            finally:
                consumer.close()
                member.note_assigned(frozenset())

        return ThreadedMember(body)


def _consumer(bootstrap: str, **settings: Any) -> KafkaConsumer:
    return KafkaConsumer(
        bootstrap_servers=bootstrap,
        **{
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "reconnect_backoff_max_ms": 500,
            **settings,
        },
    )


def _partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    partitions = consumer.partitions_for_topic(topic)
    if not partitions:
        raise ClientError(f"the client knows no partitions of {topic}")
    return [TopicPartition(topic, partition) for partition in sorted(partitions)]


def _read(consumer: KafkaConsumer, count: int, timeout_s: float) -> list[Receipt]:
    receipts: list[Receipt] = []
    deadline = time.monotonic() + timeout_s
    while len(receipts) < count:
        if time.monotonic() > deadline:
            raise ClientError(f"{len(receipts)} of {count} messages read after {timeout_s:g} s")
        receipts += _receipts(consumer.poll(POLL_MS))
    return receipts


def _receipts(polled: Mapping[TopicPartition, list[Any]]) -> list[Receipt]:
    return [
        Receipt(int(record.value), record.partition, record.offset, record.timestamp)
        for records in polled.values()
        for record in records
    ]
