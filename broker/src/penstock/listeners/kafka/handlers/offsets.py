"""Offsets of groups: OffsetCommit, OffsetFetch (one group, or many from version 8 on), OffsetDelete."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.codec.kafka.generated.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from penstock.codec.kafka.generated.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from penstock.codec.kafka.generated.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from penstock.listeners.kafka.errors import Refusal, wire_code
from penstock.listeners.kafka.handlers.endpoint import by_topic
from penstock.listeners.kafka.services import Call
from penstock.model.errors import PenstockError
from penstock.service.group_api import CommittedOffset, OffsetToCommit

OFFSET_FETCH_KEY = 9
# The first OffsetFetch version with an error of the group, and the first that asks for several groups.
GROUP_ERROR_VERSION = 2
GROUPS_VERSION = 8


async def offset_commit(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse:
    """Commits positions. Generation -1 with no member is a client that assigns partitions itself."""
    outcomes = await call.services.groups.commit_offsets(
        call.context,
        request.group_id,
        request.generation_id_or_member_epoch,
        request.member_id,
        request.group_instance_id,
        [
            OffsetToCommit(
                topic.name,
                p.partition_index,
                p.committed_offset,
                p.committed_leader_epoch,
                p.committed_metadata,
            )
            for topic in request.topics
            for p in topic.partitions
        ],
        request.retention_time_ms,
    )
    topics: dict[str, list[OffsetCommitResponsePartition]] = {}
    for topic, partition, code in outcomes:
        answer = OffsetCommitResponsePartition(partition_index=partition, error_code=code)
        topics.setdefault(topic, []).append(answer)
    return OffsetCommitResponse(
        topics=[OffsetCommitResponseTopic(name=name, partitions=of) for name, of in topics.items()]
    )


def refuse_offset_commit(
    request: OffsetCommitRequest, version: int, refusal: Refusal
) -> OffsetCommitResponse:
    """The error for every partition."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetCommitResponsePartition(partition_index=p.partition_index, error_code=refusal.code)
                    for p in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


async def offset_fetch(call: Call, request: OffsetFetchRequest) -> OffsetFetchResponse:
    """Committed positions; null topics mean all of a group's. A group's error does not spoil the others'."""
    if call.version >= GROUPS_VERSION:
        groups = [await _group(call, group, request.require_stable) for group in request.groups]
        return OffsetFetchResponse(groups=groups)
    partitions = None
    if request.topics is not None:
        partitions = [(topic.name, index) for topic in request.topics for index in topic.partition_indexes]
    code, offsets = await call.services.groups.fetch_offsets(
        call.context, request.group_id, partitions, require_stable=request.require_stable
    )
    if code:
        return refuse_offset_fetch(request, call.version, Refusal(code, None))
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(
                name=name, partitions=[_partition(offset, call.version) for offset in of]
            )
            for name, of in by_topic(offsets).items()
        ]
    )


def _partition(offset: CommittedOffset, version: int) -> OffsetFetchResponsePartition:
    return OffsetFetchResponsePartition(
        partition_index=offset.partition,
        committed_offset=offset.offset,
        committed_leader_epoch=offset.leader_epoch,
        metadata=offset.metadata,
        error_code=wire_code(OFFSET_FETCH_KEY, version, offset.error),
    )


async def _group(
    call: Call, group: OffsetFetchRequestGroup, require_stable: bool
) -> OffsetFetchResponseGroup:
    partitions = None
    if group.topics is not None:
        partitions = [(topic.name, index) for topic in group.topics for index in topic.partition_indexes]
    offsets: Sequence[CommittedOffset]
    try:
        code, offsets = await call.services.groups.fetch_offsets(
            call.context,
            group.group_id,
            partitions,
            require_stable=require_stable,
            member_id=group.member_id,
            member_epoch=group.member_epoch,
        )
    except PenstockError as error:
        code, offsets = error.code, ()
    if code:
        return OffsetFetchResponseGroup(group_id=group.group_id, error_code=code)
    return OffsetFetchResponseGroup(
        group_id=group.group_id,
        topics=[
            OffsetFetchResponseTopics(
                name=name,
                partitions=[
                    OffsetFetchResponsePartitions(
                        partition_index=offset.partition,
                        committed_offset=offset.offset,
                        committed_leader_epoch=offset.leader_epoch,
                        metadata=offset.metadata,
                        error_code=offset.error,
                    )
                    for offset in of
                ],
            )
            for name, of in by_topic(offsets).items()
        ],
    )


def refuse_offset_fetch(request: OffsetFetchRequest, version: int, refusal: Refusal) -> OffsetFetchResponse:
    """The group's error; in version 1, which has none, the error of every partition."""
    code = wire_code(OFFSET_FETCH_KEY, version, refusal.code)
    if version >= GROUPS_VERSION:
        return OffsetFetchResponse(
            groups=[
                OffsetFetchResponseGroup(group_id=group.group_id, error_code=code) for group in request.groups
            ]
        )
    if version >= GROUP_ERROR_VERSION:
        return OffsetFetchResponse(error_code=code)
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(partition_index=index, committed_offset=-1, error_code=code)
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.topics or ()
        ]
    )


async def offset_delete(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
    """Forgets committed positions (KIP-496)."""
    code, outcomes = await call.services.groups.delete_offsets(
        call.context,
        request.group_id,
        [(topic.name, p.partition_index) for topic in request.topics for p in topic.partitions],
    )
    if code:
        return OffsetDeleteResponse(error_code=code)
    topics: dict[str, list[OffsetDeleteResponsePartition]] = {}
    for topic, partition, error in outcomes:
        answer = OffsetDeleteResponsePartition(partition_index=partition, error_code=error)
        topics.setdefault(topic, []).append(answer)
    return OffsetDeleteResponse(
        topics=[OffsetDeleteResponseTopic(name=name, partitions=of) for name, of in topics.items()]
    )


def refuse_offset_delete(
    request: OffsetDeleteRequest, version: int, refusal: Refusal
) -> OffsetDeleteResponse:
    """An error as a whole."""
    return OffsetDeleteResponse(error_code=refusal.code)
