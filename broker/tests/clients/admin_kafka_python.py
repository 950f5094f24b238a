"""Administrative calls of kafka-python's KafkaAdminClient: all of the matrix."""

from __future__ import annotations

import contextlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, NoError

from client_driver import ALL_CALLS, AdminError, GroupView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class KafkaPythonAdmin:
    """kafka-python's admin client."""

    name = "kafka-python"
    version = version("kafka-python")
    calls = ALL_CALLS

    def create_topic(
        self, bootstrap: str, topic: str, partitions: int, config: Mapping[str, str] | None = None
    ) -> None:
        with _client(bootstrap) as client:
            client.create_topics(
                {
                    topic: {
                        "num_partitions": partitions,
                        "replication_factor": 1,
                        "configs": dict(config or {}),
                    }
                }
            )

    def topics(self, bootstrap: str) -> dict[str, int]:
        with _client(bootstrap) as client:
            return {one["name"]: len(one["partitions"]) for one in client.describe_topics()}

    def delete_topic(self, bootstrap: str, topic: str) -> None:
        with _client(bootstrap) as client:
            client.delete_topics([topic])

    def add_partitions(self, bootstrap: str, topic: str, total: int) -> None:
        with _client(bootstrap) as client:
            client.create_partitions({topic: total})

    def topic_config(self, bootstrap: str, topic: str) -> dict[str, str]:
        with _client(bootstrap) as client:
            found = client.describe_configs([_resource(topic)], config_filter="all")
            return {name: entry["value"] for name, entry in found["topic"][topic].items()}

    def set_topic_config(self, bootstrap: str, topic: str, name: str, value: str) -> None:
        with _client(bootstrap) as client:
            _check(client.alter_configs([_resource(topic, {name: value})], raise_on_unknown=False))

    def reset_topic_config(self, bootstrap: str, topic: str, name: str) -> None:
        with _client(bootstrap) as client:
            _check(client.reset_configs([_resource(topic, {name: ""})]))

    def groups(self, bootstrap: str) -> set[str]:
        with _client(bootstrap) as client:
            return {group["group_id"] for group in client.list_groups()}

    def describe_group(self, bootstrap: str, group: str) -> GroupView:
        with _client(bootstrap) as client:
            found = client.describe_groups([group])[group]
            return GroupView(found["group_state"].lower(), len(found["members"]))

    def committed(self, bootstrap: str, group: str, topic: str) -> dict[int, int]:
        with _client(bootstrap) as client:
            found = client.list_group_offsets(group)[group]
            return {one.partition: told.offset for one, told in found.items() if one.topic == topic}

    def reset_offset(self, bootstrap: str, group: str, topic: str, partition: int, offset: int) -> None:
        with _client(bootstrap) as client:
            found = client.reset_group_offsets(group, {TopicPartition(topic, partition): offset})
            _raise_first(told["error"] for told in found.values())

    def delete_offsets(self, bootstrap: str, group: str, topic: str, partitions: Sequence[int]) -> None:
        with _client(bootstrap) as client:
            found = client.delete_group_offsets(group, [TopicPartition(topic, one) for one in partitions])
            _raise_first(found.values())

    def delete_group(self, bootstrap: str, group: str) -> None:
        with _client(bootstrap) as client:
            told = client.delete_groups([group])[group]
            if told != "OK":
                raise AdminError(told)

    def delete_records(self, bootstrap: str, topic: str, partition: int, before: int) -> None:
        with _client(bootstrap) as client:
            found = client.delete_records({TopicPartition(topic, partition): before})
            low = found[TopicPartition(topic, partition)]["low_watermark"]
            if low != before:
                raise AdminError(f"the low watermark is {low} and {before} was asked for")


@contextlib.contextmanager
def _client(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """A client for one call; its errors are worded as the matrix expects them."""
    try:
        client = KafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            yield client
        finally:
            client.close()
    except KafkaError as error:
        raise AdminError(f"{type(error).__name__}: {error}") from error


def _resource(topic: str, configs: dict[str, str] | None = None) -> ConfigResource:
    return ConfigResource(ConfigResourceType.TOPIC, topic, configs)


def _check(told: dict[str, dict[str, Any]]) -> None:
    for results in told.values():
        for resource, result in results.items():
            if result not in ("OK", None, {}):
                raise AdminError(f"{resource}: {result}")


def _raise_first(errors: Any) -> None:
    for error in errors:
        if error is not NoError:
            raise AdminError(error.__name__)
