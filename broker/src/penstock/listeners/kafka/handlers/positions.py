"""Positions in partitions: ListOffsets, OffsetForLeaderEpoch, DeleteRecords."""

from __future__ import annotations

from penstock.codec.kafka.generated.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from penstock.codec.kafka.generated.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from penstock.codec.kafka.generated.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
)
from penstock.listeners.kafka.errors import Refusal, wire_code
from penstock.listeners.kafka.handlers.endpoint import by_topic, repeated
from penstock.listeners.kafka.services import Call
from penstock.model.errors import ErrorCode
from penstock.service.api import MAX_TIMESTAMP, Position, PositionQuery

LIST_OFFSETS_KEY = 2
# The first ListOffsets version that asks for the largest timestamp (KIP-734).
MAX_TIMESTAMP_VERSION = 7


async def list_offsets(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse:
    """Offsets by time. A partition that is asked twice is refused, as are special times that the version lacks."""
    twice = repeated((topic.name, p.partition_index) for topic in request.topics for p in topic.partitions)
    queries: list[PositionQuery] = []
    refused: list[Position] = []
    lowest = MAX_TIMESTAMP if call.version >= MAX_TIMESTAMP_VERSION else MAX_TIMESTAMP + 1
    for topic in request.topics:
        for partition in topic.partitions:
            index = partition.partition_index
            if (topic.name, index) in twice:
                refused.append(Position(topic.name, index, ErrorCode.INVALID_REQUEST))
            elif partition.timestamp < lowest:
                refused.append(Position(topic.name, index, ErrorCode.UNSUPPORTED_VERSION))
            else:
                queries.append(
                    PositionQuery(topic.name, index, partition.timestamp, partition.current_leader_epoch)
                )
    found = await call.services.data.list_offsets(call.context, queries) if queries else []
    return ListOffsetsResponse(
        topics=[
            ListOffsetsTopicResponse(
                name=name,
                partitions=[
                    ListOffsetsPartitionResponse(
                        partition_index=position.partition,
                        error_code=wire_code(LIST_OFFSETS_KEY, call.version, position.error),
                        timestamp=position.timestamp,
                        offset=position.offset,
                        leader_epoch=position.leader_epoch,
                    )
                    for position in of
                ],
            )
            for name, of in by_topic([*found, *refused]).items()
        ]
    )


def refuse_list_offsets(request: ListOffsetsRequest, version: int, refusal: Refusal) -> ListOffsetsResponse:
    """The error for every partition."""
    code = wire_code(LIST_OFFSETS_KEY, version, refusal.code)
    return ListOffsetsResponse(
        topics=[
            ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[
                    ListOffsetsPartitionResponse(partition_index=p.partition_index, error_code=code)
                    for p in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


async def offset_for_leader_epoch(
    call: Call, request: OffsetForLeaderEpochRequest
) -> OffsetForLeaderEpochResponse:
    """Where epochs end (KIP-320): how a consumer notices that what it read was cut off."""
    ends = await call.services.data.epoch_ends(
        call.context,
        [
            (topic.topic, p.partition, p.current_leader_epoch, p.leader_epoch)
            for topic in request.topics
            for p in topic.partitions
        ],
    )
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic=name,
                partitions=[
                    EpochEndOffset(
                        error_code=end.error,
                        partition=end.partition,
                        leader_epoch=end.leader_epoch,
                        end_offset=end.end_offset,
                    )
                    for end in of
                ],
            )
            for name, of in by_topic(ends).items()
        ]
    )


def refuse_offset_for_leader_epoch(
    request: OffsetForLeaderEpochRequest, version: int, refusal: Refusal
) -> OffsetForLeaderEpochResponse:
    """The error for every partition."""
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[
                    EpochEndOffset(error_code=refusal.code, partition=p.partition) for p in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


async def delete_records(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
    """Moves the first offsets of partitions forward."""
    deleted = await call.services.data.delete_records(
        call.context,
        [(topic.name, p.partition_index, p.offset) for topic in request.topics for p in topic.partitions],
        request.timeout_ms,
    )
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=name,
                partitions=[
                    DeleteRecordsPartitionResult(
                        partition_index=result.partition,
                        low_watermark=result.low_watermark,
                        error_code=result.error,
                    )
                    for result in of
                ],
            )
            for name, of in by_topic(deleted).items()
        ]
    )


def refuse_delete_records(
    request: DeleteRecordsRequest, version: int, refusal: Refusal
) -> DeleteRecordsResponse:
    """The error for every partition."""
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name,
                partitions=[
                    DeleteRecordsPartitionResult(
                        partition_index=p.partition_index, low_watermark=-1, error_code=refusal.code
                    )
                    for p in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
