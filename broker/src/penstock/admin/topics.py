"""`/v1/topics` of the admin API: list, make, look at, change and delete topics."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import quote

from penstock.admin.models import (
    ConfigValue,
    PartitionDetail,
    Topic,
    TopicChange,
    TopicCreation,
    TopicDetail,
    TopicList,
)
from penstock.listeners.http.problems import refuse_error
from penstock.listeners.http.routes import Call, NoBody, NoQuery, Reply, Route, Routes
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.api import ConfigOperation, NewTopic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.listeners.http.services import HttpServices
    from penstock.service.api import TopicSummary
    from penstock.service.context import RequestContext

TOPICS = "/v1/topics"
TOPIC = "/v1/topics/{topic}"


class TopicRoutes:
    """Administration of topics."""

    def __init__(self, services: HttpServices) -> None:
        self._topics = services.topics

    def routes(self) -> Routes:
        """The five routes."""
        listing: Route[NoQuery, NoBody] = Route(
            "GET", TOPICS, "listTopics", "All topics.", self.list, {200: TopicList}, NoQuery, NoBody
        )
        creation: Route[NoQuery, TopicCreation] = Route(
            "POST",
            TOPICS,
            "createTopic",
            "Makes a topic; 200 when only validated.",
            self.create,
            {201: Topic, 200: Topic},
            NoQuery,
            TopicCreation,
        )
        detail: Route[NoQuery, NoBody] = Route(
            "GET",
            TOPIC,
            "getTopic",
            "One topic: partitions and configuration.",
            self.get,
            {200: TopicDetail},
            NoQuery,
            NoBody,
        )
        change: Route[NoQuery, TopicChange] = Route(
            "PATCH",
            TOPIC,
            "changeTopic",
            "Adds partitions, changes configuration.",
            self.change,
            {200: Topic},
            NoQuery,
            TopicChange,
        )
        deletion: Route[NoQuery, NoBody] = Route(
            "DELETE",
            TOPIC,
            "deleteTopic",
            "Deletes a topic and its messages.",
            self.delete,
            {204: None},
            NoQuery,
            NoBody,
        )
        return [listing, creation, detail, change, deletion]

    async def list(self, call: Call[NoQuery, NoBody]) -> Reply:
        """All topics."""
        return Reply(TopicList([_topic(summary) for summary in self._topics.list_topics(call.context)]))

    async def get(self, call: Call[NoQuery, NoBody]) -> Reply:
        """One topic; 404 when there is none."""
        summary, details, entries = self._topics.describe_topic(call.context, call.path["topic"])
        topic = _topic(summary)
        return Reply(
            TopicDetail(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=topic.partitions,
                config=topic.config,
                internal=topic.internal,
                messages=topic.messages,
                bytes=topic.bytes,
                partition_details=[
                    PartitionDetail(d.partition, d.log_start, d.high_watermark, d.bytes, d.leader, d.epoch)
                    for d in details
                ],
                effective_config={entry.name: entry.value for entry in entries},
            )
        )

    async def create(self, call: Call[NoQuery, TopicCreation]) -> Reply:
        """Makes a topic; 409 when there is one of that name."""
        asked = call.body
        config = {name: config_text(value) for name, value in asked.config.items()}
        new = NewTopic(name=asked.name, partitions=asked.partitions, config=config)
        [outcome] = await self._topics.create_topics(call.context, [new], validate_only=asked.validate_only)
        refuse_error(outcome.error, outcome.message, f"The topic {asked.name!r} was not made.")
        if asked.validate_only:
            overrides = {name: value for name, value in config.items() if value is not None}
            return Reply(Topic(asked.name, "", asked.partitions, overrides, False, 0, 0))
        return Reply(
            self._summary(call.context, asked.name),
            status=201,
            headers={"Location": f"{TOPICS}/{quote(asked.name)}"},
        )

    async def change(self, call: Call[NoQuery, TopicChange]) -> Reply:
        """Checks everything that is asked for, then does it: a refused change changes nothing."""
        context, name, asked = call.context, call.path["topic"], call.body
        summary, _, _ = self._topics.describe_topic(context, name)
        operations = config_operations(asked.config)
        growth = _growth(summary, asked.partitions)
        if operations:
            await self._topics.alter_topic_config(context, name, operations, validate_only=bool(growth))
        if growth:
            [outcome] = await self._topics.create_partitions(context, [(name, growth)])
            refuse_error(outcome.error, outcome.message, f"Partitions of {name!r} were not added.")
            if operations:
                await self._topics.alter_topic_config(context, name, operations)
        return Reply(self._summary(context, name))

    async def delete(self, call: Call[NoQuery, NoBody]) -> Reply:
        """Deletes a topic; 404 when there is none."""
        name = call.path["topic"]
        [outcome] = await self._topics.delete_topics(call.context, [name])
        refuse_error(outcome.error, outcome.message, f"The topic {name!r} was not deleted.")
        return Reply(status=204)

    def _summary(self, context: RequestContext, name: str) -> Topic:
        summary, _, _ = self._topics.describe_topic(context, name)
        return _topic(summary)


def _topic(summary: TopicSummary) -> Topic:
    return Topic(
        name=summary.name,
        # Kafka's tools write a topic id as URL-safe base64 without padding.
        topic_id=base64.urlsafe_b64encode(summary.topic_id).decode().rstrip("="),
        partitions=summary.partitions,
        config=summary.config,
        internal=summary.internal,
        messages=summary.messages,
        bytes=summary.bytes,
    )


def _growth(summary: TopicSummary, partitions: int | None) -> int:
    """The new number of partitions, 0 when nothing is to change."""
    if partitions is None or partitions == summary.partitions:
        return 0
    if partitions < summary.partitions:
        raise PenstockError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {summary.name!r} has {summary.partitions} partitions and cannot have fewer ({partitions}); "
            "make a new topic instead.",
        )
    return partitions


def config_text(value: ConfigValue) -> str | None:
    """A setting as Kafka writes it: text, with true and false in lower case."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def config_operations(changes: Mapping[str, ConfigValue]) -> list[ConfigOperation]:
    """What a map of settings asks for: null is back to the default."""
    return [
        ConfigOperation(name, "delete" if value is None else "set", config_text(value))
        for name, value in changes.items()
    ]
