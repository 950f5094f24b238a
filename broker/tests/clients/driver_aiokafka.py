"""aiokafka: the asyncio client, which speaks no flexible version anywhere; each use gets a loop of its own."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

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
# The client drops a batch that was not delivered within its request timeout, reconnecting included.
DELIVERY_TIMEOUT_MS = 60_000
UNANSWERED_MAX = 500


class AiokafkaDriver:
    """Drives aiokafka's producer and consumer."""

    name = "aiokafka"
    version = version("aiokafka")
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")

    def start_load(
        self, bootstrap: str, topic: str, messages: int, *, per_second: int | None = None, codec: str = "none"
    ) -> Load:
        async def produce(load: ThreadedLoad) -> None:
            producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                acks="all",
                enable_idempotence=True,
                compression_type=None if codec == "none" else codec,
                linger_ms=5,
                request_timeout_ms=DELIVERY_TIMEOUT_MS,
            )
            await producer.start()
            try:
                pace = Pace(per_second)
                waiting: set[asyncio.Future[Any]] = set()
                for number in range(messages):
                    # Messages of one moment are sent together; the loop turns in between.
                    await asyncio.to_thread(pace.wait_for, number) if per_second else None
                    sent = await producer.send(topic, str(number).encode(), str(number % KEYS).encode())
                    sent.add_done_callback(lambda told, number=number: _note(load, told, number))
                    waiting.add(sent)
                    sent.add_done_callback(waiting.discard)
                    if len(waiting) >= UNANSWERED_MAX:
                        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                await producer.flush()
            finally:
                await producer.stop()

        return ThreadedLoad(lambda load: asyncio.run(produce(load)), messages)

    def read_all(self, bootstrap: str, topic: str, count: int, timeout_s: float = 30.0) -> list[Receipt]:
        async def read() -> list[Receipt]:
            async with _consumer(bootstrap, topic) as consumer:
                partitions = _partitions(consumer, topic)
                await consumer.seek_to_beginning(*partitions)
                return await _read(consumer, count, timeout_s)

        return asyncio.run(read())

    def read_from_time(
        self, bootstrap: str, topic: str, timestamp_ms: int, count: int, timeout_s: float = 30.0
    ) -> list[Receipt]:
        async def read() -> list[Receipt]:
            async with _consumer(bootstrap, topic) as consumer:
                partitions = _partitions(consumer, topic)
                found = await consumer.offsets_for_times(dict.fromkeys(partitions, timestamp_ms))
                for partition in partitions:
                    if found.get(partition) is None:
                        await consumer.seek_to_end(partition)
                    else:
                        consumer.seek(partition, found[partition].offset)
                return await _read(consumer, count, timeout_s)

        return asyncio.run(read())

    def join(
        self,
        bootstrap: str,
        topic: str,
        group: str,
        *,
        cooperative: bool = False,
        instance: str | None = None,
    ) -> Member:
        if cooperative:
            raise ClientError("aiokafka has no cooperative assignor")

        async def consume(member: ThreadedMember) -> None:
            consumer = _consumer(
                bootstrap,
                topic,
                group_id=group,
                group_instance_id=instance,
                enable_auto_commit=True,
                session_timeout_ms=SESSION_TIMEOUT_MS,
                heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
                partition_assignment_strategy=[RangePartitionAssignor],
            )
            async with consumer:
                while not member.leaving.is_set():
                    for receipt in _receipts(await consumer.getmany(timeout_ms=POLL_MS)):
                        member.note_read(receipt)
                    member.note_assigned(frozenset(one.partition for one in consumer.assignment()))
            member.note_assigned(frozenset())

        return ThreadedMember(lambda member: asyncio.run(consume(member)))


def _note(load: ThreadedLoad, told: asyncio.Future[Any], number: int) -> None:
    # A message that failed for good is not acknowledged; the ledger counts it as unacknowledged.
    if not told.cancelled() and told.exception() is None:
        load.note(number, told.result().partition, told.result().offset)


def _consumer(bootstrap: str, topic: str, **settings: Any) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        **{"auto_offset_reset": "earliest", "enable_auto_commit": False, **settings},
    )


def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """All partitions: a consumer without a group is assigned them when it starts."""
    partitions = [one for one in consumer.assignment() if one.topic == topic]
    if not partitions:
        raise ClientError(f"the client knows no partitions of {topic}")
    return sorted(partitions)


async def _read(consumer: AIOKafkaConsumer, count: int, timeout_s: float) -> list[Receipt]:
    receipts: list[Receipt] = []
    deadline = time.monotonic() + timeout_s
    while len(receipts) < count:
        if time.monotonic() > deadline:
            raise ClientError(f"{len(receipts)} of {count} messages read after {timeout_s:g} s")
        receipts += _receipts(await consumer.getmany(timeout_ms=POLL_MS))
    return receipts


def _receipts(polled: Mapping[TopicPartition, list[Any]]) -> list[Receipt]:
    return [
        Receipt(int(record.value), record.partition, record.offset, record.timestamp)
        for records in polled.values()
        for record in records
    ]
