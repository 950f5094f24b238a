"""A producer that sends numbered messages without pause and keeps the books, whatever happens to the broker."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from penstock.testing.ledger import Ledger

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

DELIVERY_TIMEOUT_MS = 60_000
ANSWER_TIMEOUT_S = 30.0
# What the client does with brokers, topics and its producer id; and how much of what it said last is kept.
CLIENT_DEBUG = "broker,topic,metadata,eos,msg,protocol"
SAID_LINES_MAX = 400


class _Said(logging.Handler):
    """Keeps what the client said last."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=SAID_LINES_MAX)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.created:.3f} {record.getMessage()}")


class SteadyProducer:
    """Sends until told to stop, and keeps the ledger; one thread does both.

    Message `number` goes to partition `number % partitions`; its value begins with the number and a space and is filled
    up to `value_bytes`. At most `queue_max` messages wait in the client, at most `per_second` are sent.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partitions: int,
        *,
        per_second: int,
        value_bytes: int = 0,
        queue_max: int = 100_000,
    ) -> None:
        self.ledger = Ledger()
        self._topic = topic
        self._partitions = partitions
        self._per_second = per_second
        self._value_bytes = value_bytes
        self._said = _Said()
        logger = logging.Logger("producer", logging.DEBUG)  # Nobody else's, so that it ends with the test.
        logger.addHandler(self._said)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 2,
                "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
                "queue.buffering.max.messages": queue_max,
                "reconnect.backoff.max.ms": 100,
                "retry.backoff.ms": 20,
                "debug": CLIENT_DEBUG,
            },
            logger=logger,
        )
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def has_more_than(self, acked: int) -> bool:
        """Whether more messages were acknowledged. Raises what ended the sending, which nobody else would tell."""
        if self._failure is not None:
            raise self._failure
        return self.ledger.acked > acked

    def said(self) -> str:
        """What the client said of itself last: why no answers come."""
        return "\n".join(self._said.lines)

    def send_no_more(self) -> None:
        """Numbers no further message; those that were numbered are still sent."""
        self._stopping.set()

    def stop(self) -> None:
        """Sends no more, and waits for the answers to what was sent."""
        self.send_no_more()
        self._thread.join(DELIVERY_TIMEOUT_MS / 1000 + ANSWER_TIMEOUT_S)
        if self._failure is not None:
            raise self._failure
        assert not self._thread.is_alive(), "the producer still waits for answers"

    def _run(self) -> None:
        try:
            started = time.monotonic()
            while not self._stopping.is_set():
                if self.ledger.sent > (time.monotonic() - started) * self._per_second:
                    self._producer.poll(0.005)
                    continue
                self._send()
            self._producer.flush()
        except BaseException as failure:
            self._failure = failure

    def _send(self) -> None:
        number = self.ledger.send()
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    f"{number} ".ljust(self._value_bytes, "x"),
                    partition=number % self._partitions,
                    on_delivery=lambda error, message: self._note(error, message, number),
                )
                return
            except BufferError:
                self._producer.poll(0.01)  # The broker is down or refuses: the client's queue is full.

    def _note(self, error: KafkaError | None, message: Message, number: int) -> None:
        if error is None:
            self.ledger.acknowledge(number, message.partition(), message.offset(), now_ms())


def number_of(message: Message) -> int:
    """The number that a message of a SteadyProducer carries."""
    value = message.value()
    assert value is not None
    return int(value.partition(b" ")[0])


def now_ms() -> int:
    """The clock that the ledger is kept by."""
    return time.monotonic_ns() // 1_000_000
