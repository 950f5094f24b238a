"""A producer that sends at a fixed rate, whatever the brokers do, and how long each acknowledgement took.

A message counts from the moment at which it was due: one that had to wait behind a stall waited, although the client had
not sent it yet. The client is confluent-kafka with its defaults: acks=all, five milliseconds of linger.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError, Message, Producer

MESSAGE_BYTES = 1024
# What the producer that fills a log may keep in memory, and its batches: those of Kafka's Java client.
FILL_QUEUE_KIB = 64 * 1024
FILL_BATCH_BYTES = 16 * 1024
FLUSH_TIMEOUT_S = 60.0
CLIENT_OPTIONS = {"acks": "all", "enable.idempotence": True, "linger.ms": 5, "log_level": 0}


class DeliveryError(Exception):
    """Messages were not acknowledged; the text quotes one."""


class Acknowledged(NamedTuple):
    """One message: when it was due (monotonic seconds), and how long it took from there to its acknowledgement."""

    due: float
    latency_s: float


class Latencies(NamedTuple):
    """Of the messages of some time, in milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    highest_ms: float


def latencies(acknowledged: Sequence[Acknowledged], begin: float, end: float) -> Latencies:
    """Of those that were due from `begin` to `end`. Raises ValueError when there are none."""
    found = sorted(each.latency_s * 1000 for each in acknowledged if begin <= each.due < end)
    if not found:
        raise ValueError("no message was due in that time")
    return Latencies(len(found), rank(found, 0.5), rank(found, 0.99), found[-1])


def rank(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all does not exceed."""
    return ordered[max(math.ceil(len(ordered) * share), 1) - 1]


class SteadyLoad:
    """A producer in a thread of its own; runs until `stop`."""

    def __init__(self, bootstrap: str, topic: str, per_second: int) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, **CLIENT_OPTIONS})
        self._topic = topic
        self._interval_s = 1.0 / per_second
        self._payload = os.urandom(MESSAGE_BYTES)
        self.acknowledged: list[Acknowledged] = []
        self.failed: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            while due <= time.monotonic():
                self._producer.produce(self._topic, self._payload, on_delivery=partial(self._delivered, due))
                due += self._interval_s
            # The client waits in whole milliseconds; asked for less, it would spin on the core that it needs itself.
            self._producer.poll(max(due - time.monotonic(), 0.001))
        self._producer.flush(FLUSH_TIMEOUT_S)

    def _delivered(self, due: float, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.acknowledged.append(Acknowledged(due, time.monotonic() - due))
        else:
            self.failed.append(str(error))

    def stop(self) -> None:
        """Ends it and waits for what is outstanding. Raises DeliveryError when something was not acknowledged."""
        self._stopping.set()
        self._thread.join()
        if self.failed:
            raise DeliveryError(f"{len(self.failed)} messages failed, the first with: {self.failed[0]}")


def fill(bootstrap: str, topic: str, size_bytes: int) -> None:
    """Produces so many bytes as fast as they are taken. Raises DeliveryError."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            **CLIENT_OPTIONS,
            "batch.size": FILL_BATCH_BYTES,
            "queue.buffering.max.kbytes": FILL_QUEUE_KIB,
        }
    )
    payload = os.urandom(MESSAGE_BYTES)
    failed: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(str(error))

    for _ in range(size_bytes // MESSAGE_BYTES):
        while True:
            try:
                producer.produce(topic, payload, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    left = len(producer)
    while left and (after := producer.flush(FLUSH_TIMEOUT_S)) < left:
        left = after
    if left or failed:
        raise DeliveryError(f"{left + len(failed)} of the messages that fill the log failed: {failed[:1]}")
