"""Fetch: whole committed batches from where the consumer is, waited for where it is at the end.

Sessions (KIP-227) are not kept: every answer says session 0, so that clients send all their partitions each time, and
a request that continues a session is told that there is none. Records go out as the buffers the service gave.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from penstock.codec.kafka.generated.fetch import (
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from penstock.listeners.kafka.errors import Refusal, wire_code
from penstock.listeners.kafka.handlers.endpoint import Answered, by_topic
from penstock.listeners.kafka.limits import FETCH_WAIT_MS_MAX
from penstock.listeners.kafka.services import Call
from penstock.model.errors import ErrorCode
from penstock.service.api import FetchedPartition, FetchPartition

API_KEY = 1
READ_COMMITTED = 1


def start_fetch(call: Call, request: FetchRequest) -> Awaitable[list[FetchedPartition]] | Answered:
    """Asks for every partition of the request; a continued session is refused."""
    # Epoch 0 opens a session and -1 wants none: both name all their partitions.
    if request.session_epoch > 0:
        return Answered(FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND))
    partitions = [
        FetchPartition(
            topic.topic,
            partition.partition,
            partition.fetch_offset,
            partition.partition_max_bytes,
            partition.current_leader_epoch,
        )
        for topic in request.topics
        for partition in topic.partitions
    ]
    return call.services.data.fetch(
        call.context,
        partitions,
        min_bytes=max(request.min_bytes, 0),
        max_bytes=max(min(request.max_bytes, call.fetch_bytes_max), 0),
        max_wait_ms=max(min(request.max_wait_ms, FETCH_WAIT_MS_MAX), 0),
    )


def finish_fetch(request: FetchRequest, version: int, results: Sequence[FetchedPartition]) -> FetchResponse:
    """The response. Nothing is transactional yet: the last stable offset is the high watermark, nothing is aborted."""
    read_committed = request.isolation_level == READ_COMMITTED
    return FetchResponse(
        responses=[
            FetchableTopicResponse(
                topic=topic, partitions=[_partition(result, version, read_committed) for result in of]
            )
            for topic, of in by_topic(results).items()
        ]
    )


def _partition(result: FetchedPartition, version: int, read_committed: bool) -> PartitionData:
    return PartitionData(
        partition_index=result.partition,
        error_code=wire_code(API_KEY, version, result.error) if result.error else 0,
        high_watermark=result.high_watermark,
        last_stable_offset=result.high_watermark,
        log_start_offset=result.log_start_offset,
        aborted_transactions=[] if read_committed else None,
        records=result.records,
    )


def refuse_fetch(request: FetchRequest, version: int, refusal: Refusal) -> FetchResponse:
    """The error for the response where the version has a place for it, and for every partition."""
    code = wire_code(API_KEY, version, refusal.code)
    return FetchResponse(
        error_code=code,
        responses=[
            FetchableTopicResponse(
                topic=topic.topic,
                partitions=[
                    PartitionData(
                        partition_index=partition.partition,
                        error_code=code,
                        high_watermark=-1,
                        aborted_transactions=None,
                        records=b"",
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )
