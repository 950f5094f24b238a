"""A producer and a consumer that go on through a fault, each in a thread of its own, and when what came.

The clients are librdkafka's. All that differs from its defaults stands in `CONNECTION`, `PRODUCER` and `CONSUMER`, because
what a fault costs is to a good part what a client waits before it looks elsewhere.
"""

from __future__ import annotations

import contextlib
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from penstock.testing.availability.books import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message

CONNECTION = {
    # How long a request may stay unanswered: a paused broker keeps its connections open. The default is 60 s.
    "socket.timeout.ms": 2_000,
    # A broker that starts anew is found again soon; the default of 10 s would be measured as the shard's own time.
    "reconnect.backoff.max.ms": 500,
}
"""What every client here is told."""

# Longer than any fault lasts: the client gives nothing up.
DELIVERY_TIMEOUT_MS = 120_000
PRODUCER = {
    **CONNECTION,
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 0,
    "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
}
CONSUMER = {
    **CONNECTION,
    "auto.offset.reset": "earliest",
    "session.timeout.ms": 45_000,
    "fetch.wait.max.ms": 500,
}

PARTITIONS = 3
PAYLOAD_BYTES = 100
PER_SECOND = 500
"""A message every two milliseconds: what is shorter is not seen."""

CALL_TIMEOUT_S = 30.0
FLOW_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = DELIVERY_TIMEOUT_MS / 1000 + 10
POLL_INTERVAL_S = 0.005
JOIN_INTERVAL_S = 0.05
# A client's own errors are counted by what they say; so many different ones are kept.
MENTIONED_MAX = 100


class LoadError(Exception):
    """Messages do not flow, or a client ended; the sentence says how far it came."""


class Load:
    """Runs until `stop`. The lists grow while it does: moments are seconds of the monotonic clock."""

    def __init__(self, bootstrap: str, topic: str, per_second: int = PER_SECOND) -> None:
        self.topic = topic
        self.sent = 0
        self.acked: list[Place] = []
        self.acked_at: list[float] = []
        self.read: list[Place] = []
        self.read_at: list[float] = []
        self.mentioned: dict[str, int] = {}
        """What the clients complained of, and how often; during a fault that is ordinary."""
        self._bootstrap = bootstrap
        self._interval_s = 1 / per_second
        self._sending, self._reading = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._producer = self._new_producer()
        self._threads = [
            threading.Thread(target=self._run, args=(body,)) for body in (self._send_all, self._read_all)
        ]
        self._sending.set()
        self._reading.set()
        for thread in self._threads:
            thread.start()

    # --- for whoever breaks things ---------------------------------------------------------------

    def wait_flow(self, messages: int) -> None:
        """Waits until so many more messages were acknowledged, and the consumer got as many. Raises LoadError."""
        acked, read = len(self.acked) + messages, len(self.read) + messages
        self._wait(lambda: len(self.acked) >= acked and len(self.read) >= read, f"{messages} more messages")

    def finish(self, since: int = 0) -> None:
        """Sends nothing more; waits for all answers, and until the consumer has what was acknowledged, but for the first
        `since`. Raises LoadError."""
        self._sending.clear()
        sender = self._threads[0]
        sender.join(ANSWER_TIMEOUT_S)
        if sender.is_alive():
            raise LoadError(f"{len(self._producer)} messages have no answer: {self.mentioned}")
        wanted = {place.number for place in self.acked[since:]}
        # Counting is enough most of the time.
        self._wait(
            lambda: len(self.read) >= len(wanted) and wanted <= {place.number for place in self.read},
            "messages that were acknowledged at the consumer",
        )

    def stop_reading(self) -> None:
        """Ends the consumer. It leaves its group, for which it waits long where nobody serves."""
        self._reading.clear()
        self._threads[1].join()

    def close(self) -> None:
        """Ends both clients, whatever is outstanding."""
        self._sending.clear()
        self._reading.clear()
        for thread in self._threads:
            while thread.is_alive():
                # Again and again: the thread may have sent one more, or begun with another producer.
                self._producer.purge()
                thread.join(JOIN_INTERVAL_S)

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + FLOW_TIMEOUT_S
        while not done():
            if self._failure is not None:
                raise LoadError("a client failed") from self._failure
            if time.monotonic() > deadline:
                raise LoadError(
                    f"no {what} within {FLOW_TIMEOUT_S:.0f} s; {self.sent} sent, {len(self.acked)} acknowledged,"
                    f" {len(self.read)} read: {self.mentioned}"
                )
            time.sleep(POLL_INTERVAL_S)

    # --- the producer ----------------------------------------------------------------------------

    def _new_producer(self) -> Producer:
        return Producer({**self._common(), **PRODUCER})

    def _send_all(self) -> None:
        due = time.monotonic()
        while self._sending.is_set():
            try:
                while due <= time.monotonic():
                    self._send(self.sent)
                    self.sent += 1
                    due += self._interval_s
                # The client waits in whole milliseconds; asked for less, it would spin.
                self._producer.poll(max(due - time.monotonic(), 0.001))
            except KafkaException as error:
                self._begin_anew(error)
        while len(self._producer):
            self._producer.poll(POLL_INTERVAL_S)

    def _send(self, number: int) -> None:
        value = f"{number}:".ljust(PAYLOAD_BYTES, ".").encode()
        partition = number % PARTITIONS
        self._producer.produce(
            self.topic, value, partition=partition, on_delivery=partial(self._answered, number)
        )

    def _begin_anew(self, error: KafkaException) -> None:
        """An idempotent producer cannot go on once a broker has forgotten what it wrote; its user starts another one. What
        it held is given up: the books count it as not acknowledged. Raises any other error."""
        if not error.args[0].fatal():
            raise error
        self._mention(error.args[0])
        given_up, self._producer = self._producer, self._new_producer()
        given_up.purge()
        while len(given_up):
            with contextlib.suppress(KafkaException):  # It says once more that it is over.
                given_up.poll(POLL_INTERVAL_S)

    def _answered(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.acked.append(_place(number, message))
            self.acked_at.append(time.monotonic())
        else:
            self._mention(error)

    # --- the consumer ----------------------------------------------------------------------------

    def _read_all(self) -> None:
        group = f"{self.topic}-readers"
        consumer = Consumer({**self._common(), "group.id": group, **CONSUMER})
        consumer.subscribe([self.topic])
        try:
            while self._reading.is_set():
                message = consumer.poll(0.1)
                if message is None:
                    continue
                if (error := message.error()) is not None:
                    self._mention(error)
                    continue
                self.read.append(_place(_number(message), message))
                self.read_at.append(time.monotonic())
        finally:
            consumer.close()

    # --- both ------------------------------------------------------------------------------------

    def _common(self) -> dict[str, Any]:
        return {"bootstrap.servers": self._bootstrap, "log_level": 0, "error_cb": self._mention}

    def _run(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as failure:
            self._failure = failure

    def _mention(self, error: KafkaError) -> None:
        text = str(error)
        if text in self.mentioned or len(self.mentioned) < MENTIONED_MAX:
            self.mentioned[text] = self.mentioned.get(text, 0) + 1


def create_topic(bootstrap: str, topic: str) -> None:
    """A topic of PARTITIONS partitions. Raises KafkaException."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **CONNECTION})
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(CALL_TIMEOUT_S)


def read_back(bootstrap: str, topic: str) -> Sequence[Place]:
    """Everything from the beginning of all partitions to their ends. Raises LoadError."""
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "log_level": 0,
        "group.id": f"{topic}-read-back",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        **CONSUMER,
    }
    consumer = Consumer(settings)
    try:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
        found: list[Place] = []
        ended: set[int] = set()
        deadline = time.monotonic() + FLOW_TIMEOUT_S
        while len(ended) < PARTITIONS:
            if time.monotonic() > deadline:
                raise LoadError(
                    f"{len(found)} messages were read, the ends of partitions {sorted(ended)} alone were reached"
                )
            for message in consumer.consume(1_000, 0.1):
                error = message.error()
                if error is None:
                    found.append(_place(_number(message), message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition() or 0)
        return found
    finally:
        consumer.close()


def _number(message: Message) -> int:
    value = message.value()
    assert value is not None, "every message has its number as its value"
    return int(value.partition(b":")[0])


def _place(number: int, message: Message) -> Place:
    partition, offset, epoch = message.partition(), message.offset(), message.leader_epoch()
    assert partition is not None
    assert offset is not None
    return Place(number, partition, offset, -1 if epoch is None else epoch)
