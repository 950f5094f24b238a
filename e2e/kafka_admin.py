"""What scenarios ask a broker from the host, with confluent-kafka, through a nodePort listener."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it has no __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

ANSWER_SECONDS_MAX = 20.0
PRODUCED_SECONDS_MAX = 120.0
TAKEN_MS_MAX = 30_000
REFUSAL_MS_MAX = 5_000
"""How long a producer that does not retry looks for a leader."""


class KafkaAdmin:
    """A cluster's topics and groups, as any Kafka tool sees and changes them."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def partitions(self, topic: str) -> int | None:
        """Number of partitions; None when there is no such topic."""
        found = self._client.list_topics(timeout=ANSWER_SECONDS_MAX).topics.get(topic)
        return None if found is None or found.error is not None else len(found.partitions)

    def topics(self) -> set[str]:
        """Names of all topics."""
        return set(self._client.list_topics(timeout=ANSWER_SECONDS_MAX).topics)

    def topic_config(self, topic: str) -> dict[str, str]:
        """Effective configuration of a topic."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        entries = self._one(self._client.describe_configs([resource]))
        return {name: entry.value for name, entry in entries.items()}

    def alter_topic(self, topic: str, name: str, value: str) -> None:
        """Sets one configuration of a topic, behind the operator's back."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self._one(self._client.incremental_alter_configs([resource]))

    def delete_topic(self, topic: str) -> None:
        """Deletes a topic, behind the operator's back."""
        self._one(self._client.delete_topics([topic]))

    def commit(self, group: str, topic: str, offsets: dict[int, int]) -> None:
        """Commits offsets for a group without members, as a consumer that left would have."""
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": group, "log_level": 0})
        try:
            consumer.commit(
                offsets=[TopicPartition(topic, number, offset) for number, offset in offsets.items()],
                asynchronous=False,
            )
        finally:
            consumer.close()

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Committed offsets of a group, by topic and partition."""
        request = [ConsumerGroupTopicPartitions(group)]
        found = self._one(self._client.list_consumer_group_offsets(request))
        return {(part.topic, part.partition): part.offset for part in found.topic_partitions}

    def _one(self, futures: dict[Any, Any]) -> Any:
        (future,) = futures.values()
        return future.result(timeout=ANSWER_SECONDS_MAX)


def answer_to_one_message(bootstrap: str, topic: str) -> str:
    """Produces one message at acks=all without a second try; the name of the error, or "" when it is acknowledged."""
    settings = {"acks": "all", "message.send.max.retries": 0, "message.timeout.ms": REFUSAL_MS_MAX}
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, **settings})
    answers: list[str] = []
    producer.produce(
        topic, b"probe:0:", on_delivery=lambda error, _: answers.append("" if error is None else error.name())
    )
    producer.flush(ANSWER_SECONDS_MAX)
    (answer,) = answers
    return answer


def produce_from_the_past(bootstrap: str, topic: str, age_ms: int, count: int, size: int = 100) -> list[Any]:
    """Produces messages of `size` bytes whose producer says that they are so old; what the broker answered to each that it
    took, in order: `partition()` and `offset()`. Those that were refused until TAKEN_MS_MAX had passed are not among them."""
    settings = {"acks": "all", "linger.ms": 5, "message.timeout.ms": TAKEN_MS_MAX}
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, **settings})
    taken: list[Any] = []

    def answered(error: Any, message: Any) -> None:
        if error is None:
            taken.append(message)

    then = time.time_ns() // 1_000_000 - age_ms
    for _ in range(count):
        while True:
            try:
                producer.produce(topic, bytes(size), timestamp=then, on_delivery=answered)
                break
            except BufferError:
                producer.poll(ANSWER_SECONDS_MAX)
        producer.poll(0)
    left = producer.flush(PRODUCED_SECONDS_MAX)
    assert not left, f"{left} of {count} messages were not answered in time"
    return taken


def messages_read(bootstrap: str, topic: str, count: int) -> int:
    """Reads partition 0 from its beginning, `count` messages at most; returns how many there were in time."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "probe", "log_level": 0})
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        found = consumer.consume(count, ANSWER_SECONDS_MAX)
        return sum(message.error() is None for message in found)
    finally:
        consumer.close()
