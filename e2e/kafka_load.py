"""Numbered messages through a real Kafka client, booked in a ledger: the load of both demos and of the scenarios.

It runs beside a local broker (`make demo`) and inside a pod (`pod_load.py`); it needs confluent-kafka and
`penstock.testing.ledger`, nothing else. One thread produces and serves its answers; afterwards the same thread reads
every partition from its beginning to its end, so that a loss, a second copy and a changed order are all seen. With
`read_along` another consumer reads while the producer writes: what it was handed must be what is read in the end.

The client is as its users have it: acks=all, idempotent, patient enough to live through a broker's restart.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from penstock.testing.availability.load import CONNECTION

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.testing.ledger import Ledger

QUEUED_MESSAGES_MAX = 20_000
"""How many messages the client may hold back; small enough that a kill in the middle meets work in flight."""
DELIVERY_MS_MAX = 120_000
"""How long the client retries one message; longer than any restart that a scenario waits for."""
CLIENT_TIMEOUTS = {
    **CONNECTION,
    # The default of 30 s would be measured as the broker's recovery, too: a pod's old address does not refuse
    # connections in every pod network, and the name points to it for a moment.
    "socket.connection.setup.timeout.ms": 2_000,
}
"""What is not as in librdkafka: how long a client waits before it looks elsewhere is a good part of what it notices."""
READ_BATCH_MESSAGES = 2_000
READ_SECONDS_MAX = 120.0
READ_ALONG_SECONDS = 0.1
"""How often the consumer that reads along is asked for what it has."""
KEYS = 997
"""Number of different keys; prime, so that keys and partitions do not march in step."""
PROGRESS_SECONDS = 0.5


class LoadError(Exception):
    """The load could not be carried through; the sentence says how far it came."""


@dataclass(frozen=True)
class LoadPlan:
    """What to send where. `rate` is messages per second, 0 means as fast as the broker takes them; `read_along` has a
    consumer read what is produced meanwhile."""

    bootstrap: str
    topic: str
    run: str
    messages: int
    payload_bytes: int = 100
    rate: float = 0.0
    read_along: bool = False


@dataclass
class KafkaLoad:
    """One load run; `produce`, then `consume`. `now_ms` is the clock of the ledger, `progress` is called now and then,
    and once `stopped` says so nothing more is sent."""

    plan: LoadPlan
    ledger: Ledger
    now_ms: Callable[[], int]
    progress: Callable[[Ledger], None] = field(default=lambda _: None)
    stopped: Callable[[], bool] = field(default=lambda: False)
    errors: dict[str, int] = field(default_factory=dict)
    """Errors that the clients mentioned, with their counts; those of a restart are expected."""
    _progress_at: float = 0.0
    _along: Consumer | None = None
    _along_at: float = 0.0

    def produce(self, at_half: Callable[[], None] = lambda: None) -> None:
        """Sends all messages and waits for their answers; calls `at_half` once, when half of them were handed over.

        Raises LoadError when answers are still missing after the client's own patience, or when the consumer that reads
        along has not seen everything acknowledged in READ_SECONDS_MAX.
        """
        producer = Producer(self._producer_settings())
        if self.plan.read_along:
            self._along = self._begin_reading_along()
        try:
            self._send_all(producer, at_half)
            self._await_answers(producer)
            if self._along is not None:
                self._finish_reading_along()
        finally:
            if self._along is not None:
                self._along.close()
        self.progress(self.ledger)

    def consume(self) -> None:
        """Reads every partition from its beginning to its end and books the messages of this run.

        Raises LoadError when the ends were not reached in READ_SECONDS_MAX.
        """
        consumer = Consumer(self._consumer_settings())
        try:
            partitions = self._partitions(consumer)
            consumer.assign(
                [TopicPartition(self.plan.topic, number, OFFSET_BEGINNING) for number in partitions]
            )
            unfinished = set(partitions)
            deadline = time.monotonic() + READ_SECONDS_MAX
            while unfinished:
                unfinished -= self._take(consumer.consume(READ_BATCH_MESSAGES, PROGRESS_SECONDS))
                self._report()
                if time.monotonic() > deadline:
                    raise LoadError(
                        f"the ends of partitions {sorted(unfinished)} were not reached in {READ_SECONDS_MAX:.0f} s"
                        f" ({self._mentioned()})"
                    )
        finally:
            consumer.close()
        self.progress(self.ledger)

    def _send_all(self, producer: Producer, at_half: Callable[[], None]) -> None:
        started = time.monotonic()
        for position in range(self.plan.messages):
            if self.stopped():
                return
            if position == self.plan.messages // 2:
                at_half()
            if self.plan.rate:
                self._wait_until(producer, started + position / self.plan.rate)
            self._send(producer, self.ledger.send())
            producer.poll(0)
            self._read_along()
            self._report()

    def _await_answers(self, producer: Producer) -> None:
        deadline = time.monotonic() + DELIVERY_MS_MAX / 1000
        while producer.flush(PROGRESS_SECONDS) > 0:
            self._read_along()
            self._report()
            if time.monotonic() > deadline:
                raise LoadError(
                    f"{len(producer)} messages are without an answer {DELIVERY_MS_MAX / 1000:.0f} s after the last was sent"
                    f" ({self._mentioned()})"
                )

    def _begin_reading_along(self) -> Consumer:
        """A consumer that stands at the ends of all partitions, behind which everything of this run will be."""
        consumer = Consumer(self._consumer_settings())
        places = [TopicPartition(self.plan.topic, number) for number in self._partitions(consumer)]
        for place in places:
            _, place.offset = consumer.get_watermark_offsets(place, timeout=READ_SECONDS_MAX)
        consumer.assign(places)
        return consumer

    def _read_along(self) -> None:
        """Books what the consumer that reads along has received; it is not waited for."""
        now = time.monotonic()
        if self._along is None or now < self._along_at:
            return
        self._along_at = now + READ_ALONG_SECONDS
        self._take(self._along.consume(READ_BATCH_MESSAGES, 0))

    def _finish_reading_along(self) -> None:
        assert self._along is not None
        deadline = time.monotonic() + READ_SECONDS_MAX
        while missing := self.ledger.missing():
            self._take(self._along.consume(READ_BATCH_MESSAGES, PROGRESS_SECONDS))
            self._report()
            if time.monotonic() > deadline:
                raise LoadError(
                    f"the consumer that reads along was not given {len(missing)} acknowledged messages, the first is number"
                    f" {missing[0]} ({self._mentioned()})"
                )

    def _producer_settings(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.plan.bootstrap,
            "client.id": f"load-{self.plan.run}",
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "queue.buffering.max.messages": QUEUED_MESSAGES_MAX,
            "message.timeout.ms": DELIVERY_MS_MAX,
            "partitioner": "murmur2_random",
            **self._connection_settings(),
        }

    def _consumer_settings(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.plan.bootstrap,
            "client.id": f"load-{self.plan.run}",
            "group.id": f"load-{self.plan.run}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            **self._connection_settings(),
        }

    def _connection_settings(self) -> dict[str, Any]:
        return {
            **CLIENT_TIMEOUTS,
            "error_cb": self._mention,
            "log_level": 0,  # its errors are counted; on stderr they would drown the progress
        }

    def _partitions(self, consumer: Consumer) -> list[int]:
        deadline = time.monotonic() + READ_SECONDS_MAX
        why: object = "nothing was asked"
        while time.monotonic() < deadline:
            try:
                topic = consumer.list_topics(self.plan.topic, timeout=READ_SECONDS_MAX).topics[
                    self.plan.topic
                ]
                if topic.error is None and topic.partitions:
                    return sorted(topic.partitions)
                why = topic.error
            except KafkaException as error:
                why = error
            time.sleep(PROGRESS_SECONDS)
        raise LoadError(f"topic {self.plan.topic} cannot be read: {why}")

    def _send(self, producer: Producer, number: int) -> None:
        head = f"{self.plan.run}:{number}:"
        value = head.ljust(self.plan.payload_bytes, ".").encode()
        while True:
            try:
                producer.produce(
                    self.plan.topic,
                    value,
                    key=str(number % KEYS).encode(),
                    on_delivery=self._answer_to(number),
                )
                return
            except BufferError:
                producer.poll(PROGRESS_SECONDS)  # answers make room
                self._report()

    def _answer_to(self, number: int) -> Callable[[KafkaError | None, Any], None]:
        def answered(error: KafkaError | None, message: Any) -> None:
            if error is None:
                self.ledger.acknowledge(number, message.partition(), message.offset(), self.now_ms())
            else:
                self._mention(error)

        return answered

    def _wait_until(self, producer: Producer, moment: float) -> None:
        while (left := moment - time.monotonic()) > 0:
            producer.poll(min(left, PROGRESS_SECONDS))
            self._report()

    def _take(self, messages: list[Any]) -> set[int]:
        """Books messages; returns the partitions whose end was reached."""
        ended = set()
        for message in messages:
            error = message.error()
            if error is None:
                self._book(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                self._mention(error)
        return ended

    def _book(self, message: Any) -> None:
        run, number, _ = message.value().split(b":", 2)
        if run.decode() == self.plan.run:
            self.ledger.receive(int(number), message.partition(), message.offset())

    def _mention(self, error: KafkaError) -> None:
        name = error.name()
        self.errors[name] = self.errors.get(name, 0) + 1

    def _mentioned(self) -> str:
        if not self.errors:
            return "the client named no error"
        return "the client named " + ", ".join(f"{name} {count} times" for name, count in self.errors.items())

    def _report(self) -> None:
        now = time.monotonic()
        if now >= self._progress_at:
            self._progress_at = now + PROGRESS_SECONDS
            self.progress(self.ledger)
