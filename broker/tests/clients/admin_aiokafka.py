"""Administrative calls of aiokafka's AIOKafkaAdminClient. It can neither delete a group nor its offsets; offsets are
reset the way its users do it, by a consumer that commits for a group without members."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from client_driver import ALL_CALLS, AdminError, GroupView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence


class AiokafkaAdmin:
    """aiokafka's admin client, each call in a loop of its own."""

    name = "aiokafka"
    version = version("aiokafka")
    calls = ALL_CALLS - {"reset_topic_config", "delete_group", "delete_offsets"}

    def create_topic(
        self, bootstrap: str, topic: str, partitions: int, config: Mapping[str, str] | None = None
    ) -> None:
        new = NewTopic(topic, partitions, 1, topic_configs=dict(config or {}))
        answer = _call(bootstrap, lambda client: client.create_topics([new]))
        for _, code, message in answer.topic_errors:
            _raise(code, message)

    def topics(self, bootstrap: str) -> dict[str, int]:
        found = _call(bootstrap, lambda client: client.describe_topics())
        return {one["topic"]: len(one["partitions"]) for one in found}

    def delete_topic(self, bootstrap: str, topic: str) -> None:
        answer = _call(bootstrap, lambda client: client.delete_topics([topic]))
        for _, code in answer.topic_error_codes:
            _raise(code, topic)

    def add_partitions(self, bootstrap: str, topic: str, total: int) -> None:
        _call(bootstrap, lambda client: client.create_partitions({topic: NewPartitions(total)}))

    def topic_config(self, bootstrap: str, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = _call(bootstrap, lambda client: client.describe_configs([resource]))
        (code, message, _, _, entries) = answer.resources[0]
        _raise(code, message)
        return {entry[0]: entry[1] for entry in entries}

    def set_topic_config(self, bootstrap: str, topic: str, name: str, value: str) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})
        for answer in _call(bootstrap, lambda client: client.alter_configs([resource])):
            for code, message, _, _ in answer.resources:
                _raise(code, message)

    def reset_topic_config(self, bootstrap: str, topic: str, name: str) -> None:
        raise AdminError("the client has no such call")

    def groups(self, bootstrap: str) -> set[str]:
        return {one[0] for one in _call(bootstrap, lambda client: client.list_consumer_groups())}

    def describe_group(self, bootstrap: str, group: str) -> GroupView:
        (answer,) = _call(bootstrap, lambda client: client.describe_consumer_groups([group]))
        found = answer.to_object()["groups"][0]
        _raise(found["error_code"], group)
        return GroupView(found["state"].lower(), len(found["members"]))

    def committed(self, bootstrap: str, group: str, topic: str) -> dict[int, int]:
        found = _call(bootstrap, lambda client: client.list_consumer_group_offsets(group))
        return {one.partition: told.offset for one, told in found.items() if one.topic == topic}

    def reset_offset(self, bootstrap: str, group: str, topic: str, partition: int, offset: int) -> None:
        async def commit() -> None:
            async with AIOKafkaConsumer(
                bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
            ) as consumer:
                consumer.assign([TopicPartition(topic, partition)])
                await consumer.commit({TopicPartition(topic, partition): offset})

        _run(commit)

    def delete_offsets(self, bootstrap: str, group: str, topic: str, partitions: Sequence[int]) -> None:
        raise AdminError("the client has no such call")

    def delete_group(self, bootstrap: str, group: str) -> None:
        raise AdminError("the client has no such call")

    def delete_records(self, bootstrap: str, topic: str, partition: int, before: int) -> None:
        asked = {TopicPartition(topic, partition): RecordsToDelete(before_offset=before)}
        found = _call(bootstrap, lambda client: client.delete_records(asked))
        if found[TopicPartition(topic, partition)] != before:
            raise AdminError(f"the low watermarks are {found} and {before} was asked for")


def _call(bootstrap: str, call: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> Any:
    async def connected() -> Any:
        client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await client.start()
        try:
            return await call(client)
        finally:
            await client.close()

    return _run(connected)


def _run(call: Callable[[], Any]) -> Any:
    try:
        return asyncio.run(call())
    except KafkaError as error:
        raise AdminError(f"{type(error).__name__}: {error}") from error


def _raise(code: int, message: str | None) -> None:
    if code:
        raise AdminError(f"{for_code(code).__name__}: {message}")
