"""Metadata and DescribeCluster: who the brokers are, which topics there are and who leads their partitions."""

from __future__ import annotations

from penstock.codec.kafka.generated.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from penstock.codec.kafka.generated.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from penstock.codec.primitives import ZERO_UUID
from penstock.listeners.kafka.errors import MISMATCHED_ENDPOINT_TYPE, PeerFaultError, Refusal
from penstock.listeners.kafka.handlers.endpoint import (
    CLUSTER_OPERATIONS,
    OPERATIONS_NOT_ASKED,
    TOPIC_OPERATIONS,
)
from penstock.listeners.kafka.services import Call
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.api import TopicMetadata

# The first Metadata version that finds topics by id (KAFKA-10774); 10 and 11 have the field and no meaning for it.
BY_ID_VERSION = 12
# The version from which the client says whether a missing topic may be created; before, it may.
ASKS_CREATION_VERSION = 4
ENDPOINT_BROKERS = 1
_LEADER_AWAY = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.REQUEST_TIMED_OUT)


async def metadata(call: Call, request: MetadataRequest) -> MetadataResponse:
    """Null topics mean all; an empty list means none, but all in version 0."""
    everything = request.topics is None or (call.version == 0 and not request.topics)
    names: list[str] = []
    ids: list[bytes] = []
    for topic in request.topics or ():
        if topic.name is None or (topic.topic_id != ZERO_UUID and call.version >= BY_ID_VERSION):
            if call.version < BY_ID_VERSION:
                raise PenstockError(
                    ErrorCode.INVALID_REQUEST,
                    f"Metadata version {call.version} cannot ask for topics by id; use version {BY_ID_VERSION}",
                )
            ids.append(topic.topic_id)
        else:
            names.append(topic.name)
    found = await call.services.topics.metadata(
        call.context,
        None if everything else names,
        topic_ids=ids,
        allow_auto_create=request.allow_auto_topic_creation or call.version < ASKS_CREATION_VERSION,
    )
    topic_operations = OPERATIONS_NOT_ASKED
    if request.include_topic_authorized_operations:
        topic_operations = TOPIC_OPERATIONS
    cluster_operations = OPERATIONS_NOT_ASKED
    if request.include_cluster_authorized_operations:
        cluster_operations = CLUSTER_OPERATIONS
    asked_ids = set(ids)
    return MetadataResponse(
        brokers=[
            MetadataResponseBroker(
                node_id=broker.node_id, host=broker.host, port=broker.port, rack=broker.rack
            )
            for broker in found.brokers
        ],
        cluster_id=found.cluster_id,
        controller_id=found.controller_id,
        topics=[_topic(topic, call.version, topic_operations, asked_ids) for topic in found.topics],
        cluster_authorized_operations=cluster_operations,
    )


def _topic(
    topic: TopicMetadata, version: int, operations: int, asked_ids: set[bytes]
) -> MetadataResponseTopic:
    name: str | None = topic.name
    if not name and topic.error and topic.topic_id in asked_ids:
        name = None  # asked by an id that nobody has
    return MetadataResponseTopic(
        error_code=topic.error,
        name=name,
        topic_id=topic.topic_id,
        is_internal=topic.internal,
        partitions=[
            MetadataResponsePartition(
                error_code=partition.error,
                partition_index=partition.index,
                leader_id=partition.leader,
                leader_epoch=partition.leader_epoch,
                replica_nodes=partition.replicas,
                isr_nodes=partition.in_sync,
                offline_replicas=partition.offline,
            )
            for partition in topic.partitions
        ],
        topic_authorized_operations=OPERATIONS_NOT_ASKED if topic.error else operations,
    )


def refuse_metadata(request: MetadataRequest, version: int, refusal: Refusal) -> MetadataResponse:
    """The error for each topic that was named; there is no other place for it. Raises PeerFaultError where the leader was to
    answer and cannot be asked: clients take an error without partitions for the end of the topic (librdkafka revokes all
    of them), but go to another broker when the connection ends."""
    if refusal.code in _LEADER_AWAY:
        raise PeerFaultError(f"this broker has no metadata to give now: {refusal.sentence}")
    return MetadataResponse(
        topics=[
            MetadataResponseTopic(
                error_code=refusal.code,
                name=topic.name if topic.name is not None or version >= BY_ID_VERSION else "",
                topic_id=topic.topic_id,
            )
            for topic in request.topics or ()
        ]
    )


async def describe_cluster(call: Call, request: DescribeClusterRequest) -> DescribeClusterResponse:
    """The brokers (KIP-700). Controllers have no listener of their own to ask (KIP-919)."""
    if request.endpoint_type != ENDPOINT_BROKERS:
        return DescribeClusterResponse(
            error_code=MISMATCHED_ENDPOINT_TYPE,
            error_message="this listener knows brokers only; ask with bootstrap.servers, not bootstrap.controllers",
            endpoint_type=ENDPOINT_BROKERS,
        )
    found = await call.services.topics.metadata(call.context, [])
    operations = OPERATIONS_NOT_ASKED
    if request.include_cluster_authorized_operations:
        operations = CLUSTER_OPERATIONS
    return DescribeClusterResponse(
        endpoint_type=ENDPOINT_BROKERS,
        cluster_id=found.cluster_id,
        controller_id=found.controller_id,
        brokers=[
            DescribeClusterBroker(
                broker_id=broker.node_id, host=broker.host, port=broker.port, rack=broker.rack
            )
            for broker in found.brokers
        ],
        cluster_authorized_operations=operations,
    )


def refuse_describe_cluster(
    request: DescribeClusterRequest, version: int, refusal: Refusal
) -> DescribeClusterResponse:
    """An error as a whole."""
    return DescribeClusterResponse(error_code=refusal.code, error_message=refusal.sentence)
