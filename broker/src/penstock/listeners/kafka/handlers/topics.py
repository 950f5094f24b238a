"""CreateTopics, DeleteTopics, CreatePartitions. Each topic has its own outcome; one bad topic spoils no other."""

from __future__ import annotations

from penstock.codec.kafka.generated.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)
from penstock.codec.kafka.generated.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from penstock.codec.kafka.generated.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
)
from penstock.listeners.kafka.errors import Refusal, wire_code
from penstock.listeners.kafka.handlers.configs import source_code
from penstock.listeners.kafka.handlers.endpoint import repeated
from penstock.listeners.kafka.services import Call
from penstock.model.errors import ErrorCode
from penstock.service.api import NewTopic, TopicOutcome

DELETE_TOPICS_KEY = 20
DELETE_BY_ID_VERSION = 6


async def create_topics(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """Creates topics, or only checks them; from version 5 on the answer says what was made (KIP-525)."""
    outcomes: list[TopicOutcome] = []
    wanted: list[NewTopic] = []
    twice = repeated(topic.name for topic in request.topics)
    for topic in request.topics:
        if topic.name in twice:
            continue
        fault = _placement_fault(topic)
        if fault is not None:
            outcomes.append(fault)
            continue
        wanted.append(
            NewTopic(
                topic.name,
                topic.num_partitions,
                topic.replication_factor,
                {config.name: config.value for config in topic.configs},
                {each.partition_index: each.broker_ids for each in topic.assignments},
            )
        )
    outcomes += [_said_twice(name) for name in sorted(twice)]
    if wanted:
        outcomes += await call.services.topics.create_topics(
            call.context, wanted, validate_only=request.validate_only
        )
    return CreateTopicsResponse(topics=[_created(outcome) for outcome in outcomes])


def _placement_fault(topic: CreatableTopic) -> TopicOutcome | None:
    """What cannot be said in a NewTopic: two placements of one partition."""
    if repeated(each.partition_index for each in topic.assignments):
        return TopicOutcome(
            topic.name,
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"topic {topic.name!r} places a partition twice; name each partition once",
        )
    return None


def _said_twice(name: str) -> TopicOutcome:
    return TopicOutcome(
        name, ErrorCode.INVALID_REQUEST, f"topic {name!r} is named more than once in this request"
    )


def _created(outcome: TopicOutcome) -> CreatableTopicResult:
    return CreatableTopicResult(
        name=outcome.name or "",
        topic_id=outcome.topic_id,
        error_code=outcome.error,
        error_message=outcome.message,
        num_partitions=outcome.partitions,
        replication_factor=outcome.replication_factor,
        configs=None
        if outcome.error
        else [
            CreatableTopicConfigs(
                name=entry.name,
                value=None if entry.sensitive else entry.value,
                read_only=entry.read_only,
                config_source=source_code(entry.source),
                is_sensitive=entry.sensitive,
            )
            for entry in outcome.config
        ],
    )


def refuse_create_topics(
    request: CreateTopicsRequest, version: int, refusal: Refusal
) -> CreateTopicsResponse:
    """The error for every topic."""
    return CreateTopicsResponse(
        topics=[
            CreatableTopicResult(
                name=topic.name, error_code=refusal.code, error_message=refusal.sentence, configs=None
            )
            for topic in request.topics
        ]
    )


async def delete_topics(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    """Deletes topics by name, or from version 6 on by id."""
    names = list(request.topic_names)
    ids: list[bytes] = []
    if call.version >= DELETE_BY_ID_VERSION:
        names = [topic.name for topic in request.topics if topic.name is not None]
        ids = [topic.topic_id for topic in request.topics if topic.name is None]
    twice = repeated(names)
    once = [name for name in names if name not in twice]
    outcomes = [_said_twice(name) for name in sorted(twice)]
    if once or ids:
        outcomes += await call.services.topics.delete_topics(call.context, once, ids)
    return DeleteTopicsResponse(
        responses=[
            DeletableTopicResult(
                name=outcome.name if call.version >= DELETE_BY_ID_VERSION else outcome.name or "",
                topic_id=outcome.topic_id,
                error_code=wire_code(DELETE_TOPICS_KEY, call.version, outcome.error),
                error_message=outcome.message,
            )
            for outcome in outcomes
        ]
    )


def refuse_delete_topics(
    request: DeleteTopicsRequest, version: int, refusal: Refusal
) -> DeleteTopicsResponse:
    """The error for every topic."""
    code = wire_code(DELETE_TOPICS_KEY, version, refusal.code)
    responses = [
        DeletableTopicResult(name=name, error_code=code, error_message=refusal.sentence)
        for name in request.topic_names
    ]
    responses += [
        DeletableTopicResult(
            name=topic.name, topic_id=topic.topic_id, error_code=code, error_message=refusal.sentence
        )
        for topic in request.topics
    ]
    return DeleteTopicsResponse(responses=responses)


async def create_partitions(call: Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
    """Grows topics. Where the new partitions are to live is the broker's choice, whatever the request says."""
    twice = repeated(topic.name for topic in request.topics)
    counts = [(topic.name, topic.count) for topic in request.topics if topic.name not in twice]
    outcomes = [_said_twice(name) for name in sorted(twice)]
    if counts:
        outcomes += await call.services.topics.create_partitions(
            call.context, counts, validate_only=request.validate_only
        )
    return CreatePartitionsResponse(
        results=[
            CreatePartitionsTopicResult(
                name=outcome.name or "", error_code=outcome.error, error_message=outcome.message
            )
            for outcome in outcomes
        ]
    )


def refuse_create_partitions(
    request: CreatePartitionsRequest, version: int, refusal: Refusal
) -> CreatePartitionsResponse:
    """The error for every topic."""
    return CreatePartitionsResponse(
        results=[
            CreatePartitionsTopicResult(
                name=topic.name, error_code=refusal.code, error_message=refusal.sentence
            )
            for topic in request.topics
        ]
    )
