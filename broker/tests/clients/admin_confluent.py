"""Administrative calls of confluent-kafka's AdminClient: all of the matrix."""

from __future__ import annotations

import contextlib
import functools
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from client_driver import ALL_CALLS, AdminError, GroupView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

TIMEOUT_S = 20.0
_STATES = {"prepare_rebalance": "preparingrebalance", "complete_rebalance": "completingrebalance"}


class ConfluentAdmin:
    """librdkafka's admin API."""

    name = "confluent-kafka"
    version = version("confluent-kafka")
    # librdkafka 2.x has no binding for OffsetDelete in Python.
    calls = ALL_CALLS - {"delete_offsets"}

    def create_topic(
        self, bootstrap: str, topic: str, partitions: int, config: Mapping[str, str] | None = None
    ) -> None:
        _wait(
            _admin(bootstrap).create_topics([NewTopic(topic, partitions, config=dict(config or {}))])[topic]
        )

    def topics(self, bootstrap: str) -> dict[str, int]:
        listing = _admin(bootstrap).list_topics(timeout=TIMEOUT_S)
        return {name: len(topic.partitions) for name, topic in listing.topics.items()}

    def delete_topic(self, bootstrap: str, topic: str) -> None:
        _wait(_admin(bootstrap).delete_topics([topic])[topic])

    def add_partitions(self, bootstrap: str, topic: str, total: int) -> None:
        _wait(_admin(bootstrap).create_partitions([NewPartitions(topic, total)])[topic])

    def topic_config(self, bootstrap: str, topic: str) -> dict[str, str]:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        entries = _wait(_admin(bootstrap).describe_configs([resource])[resource])
        return {name: entry.value for name, entry in entries.items()}

    def set_topic_config(self, bootstrap: str, topic: str, name: str, value: str) -> None:
        _alter(bootstrap, topic, ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET))

    def reset_topic_config(self, bootstrap: str, topic: str, name: str) -> None:
        _alter(bootstrap, topic, ConfigEntry(name, None, incremental_operation=AlterConfigOpType.DELETE))

    def groups(self, bootstrap: str) -> set[str]:
        found = _wait(_admin(bootstrap).list_consumer_groups())
        if found.errors:
            raise AdminError(str(found.errors))
        return {group.group_id for group in found.valid}

    def describe_group(self, bootstrap: str, group: str) -> GroupView:
        found = _wait(_admin(bootstrap).describe_consumer_groups([group])[group])
        state = found.state.name.lower().removeprefix("consumer_group_state_")
        return GroupView(_STATES.get(state, state), len(found.members))

    def committed(self, bootstrap: str, group: str, topic: str) -> dict[int, int]:
        asked = [ConsumerGroupTopicPartitions(group)]
        found = _wait(_admin(bootstrap).list_consumer_group_offsets(asked)[group])
        return {
            one.partition: one.offset
            for one in found.topic_partitions
            if one.topic == topic and one.offset >= 0
        }

    def reset_offset(self, bootstrap: str, group: str, topic: str, partition: int, offset: int) -> None:
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition, offset)])
        found = _wait(_admin(bootstrap).alter_consumer_group_offsets([asked])[group])
        for one in found.topic_partitions:
            if one.error is not None:
                raise AdminError(str(one.error))

    def delete_offsets(self, bootstrap: str, group: str, topic: str, partitions: Sequence[int]) -> None:
        raise AdminError("the client has no such call")

    def delete_group(self, bootstrap: str, group: str) -> None:
        _wait(_admin(bootstrap).delete_consumer_groups([group])[group])

    def delete_records(self, bootstrap: str, topic: str, partition: int, before: int) -> None:
        asked = TopicPartition(topic, partition, before)
        found = _wait(_admin(bootstrap).delete_records([asked])[asked])
        if found.low_watermark != before:
            raise AdminError(f"the low watermark is {found.low_watermark} and {before} was asked for")


@functools.lru_cache(maxsize=4)
def _admin(bootstrap: str) -> AdminClient:
    """One client per broker: a call's future does not keep its client alive, and dies with it."""
    return AdminClient({"bootstrap.servers": bootstrap})


def _alter(bootstrap: str, topic: str, entry: ConfigEntry) -> None:
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    _wait(_admin(bootstrap).incremental_alter_configs([resource])[resource])


def _wait(future: Future[Any]) -> Any:
    with _worded():
        return future.result(TIMEOUT_S)


@contextlib.contextmanager
def _worded() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise AdminError(str(error)) from error
