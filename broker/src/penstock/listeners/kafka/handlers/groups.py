"""Membership of classic groups: FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup."""

from __future__ import annotations

from penstock.codec.kafka.generated.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from penstock.codec.kafka.generated.heartbeat import HeartbeatRequest, HeartbeatResponse
from penstock.codec.kafka.generated.join_group import (
    JoinGroupRequest,
    JoinGroupResponse,
    JoinGroupResponseMember,
)
from penstock.codec.kafka.generated.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberResponse
from penstock.codec.kafka.generated.sync_group import SyncGroupRequest, SyncGroupResponse
from penstock.listeners.kafka.errors import Refusal, wire_code
from penstock.listeners.kafka.services import Call
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.group_api import JoinRequest, LeavingMember, SyncRequest

JOIN_GROUP_KEY = 11
LEAVE_GROUP_KEY = 13

COORDINATES_GROUP = 0
COORDINATES_TRANSACTION = 1
BATCHED_KEYS_VERSION = 4
# Kafka's "no node" in a response that carries an error.
NO_NODE = -1

KNOWN_MEMBER_VERSION = 4  # KIP-394
NULLABLE_PROTOCOL_VERSION = 7  # KIP-559
SKIP_ASSIGNMENT_VERSION = 9  # KIP-814
MEMBERS_VERSION = 3  # LeaveGroup of several members, KIP-345


async def find_coordinator(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse:
    """Who coordinates a group; several groups from version 4 on (KIP-699)."""
    if call.version >= BATCHED_KEYS_VERSION:
        return FindCoordinatorResponse(
            coordinators=[await _coordinator(call, request.key_type, key) for key in request.coordinator_keys]
        )
    found = await _coordinator(call, request.key_type, request.key)
    return FindCoordinatorResponse(
        error_code=found.error_code,
        error_message=found.error_message,
        node_id=found.node_id,
        host=found.host,
        port=found.port,
    )


async def _coordinator(call: Call, key_type: int, key: str) -> Coordinator:
    if key_type == COORDINATES_TRANSACTION:
        # Not COORDINATOR_NOT_AVAILABLE, which clients retry for ever.
        return _no_coordinator(
            key,
            ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "transactions are not served; configure the producer without a transactional.id",
        )
    if key_type != COORDINATES_GROUP:
        return _no_coordinator(
            key, ErrorCode.INVALID_REQUEST, f"coordinator type {key_type} is not served, only 0 (group) is"
        )
    try:
        code, node_id, host, port = await call.services.groups.find_coordinator(call.context, key_type, key)
    except PenstockError as error:
        return _no_coordinator(key, error.code, error.sentence)
    if code:
        return _no_coordinator(key, code, None)
    return Coordinator(key=key, node_id=node_id, host=host, port=port, error_message=None)


def _no_coordinator(key: str, code: int, sentence: str | None) -> Coordinator:
    return Coordinator(key=key, node_id=NO_NODE, host="", port=-1, error_code=code, error_message=sentence)


def refuse_find_coordinator(
    request: FindCoordinatorRequest, version: int, refusal: Refusal
) -> FindCoordinatorResponse:
    """The error for every key."""
    return FindCoordinatorResponse(
        error_code=refusal.code,
        error_message=refusal.sentence,
        node_id=NO_NODE,
        port=-1,
        coordinators=[
            _no_coordinator(key, refusal.code, refusal.sentence) for key in request.coordinator_keys
        ],
    )


async def join_group(call: Call, request: JoinGroupRequest) -> JoinGroupResponse:
    """Joins, or joins again; answered when the rebalance has gathered everybody."""
    rebalance_timeout_ms = request.rebalance_timeout_ms
    if call.version == 0:
        rebalance_timeout_ms = request.session_timeout_ms
    result = await call.services.groups.join(
        call.context,
        JoinRequest(
            group=request.group_id,
            session_timeout_ms=request.session_timeout_ms,
            rebalance_timeout_ms=rebalance_timeout_ms,
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            protocol_type=request.protocol_type,
            protocols=[(protocol.name, protocol.metadata) for protocol in request.protocols],
            requires_known_member=call.version >= KNOWN_MEMBER_VERSION,
            reason=request.reason,
            supports_skipping_assignment=call.version >= SKIP_ASSIGNMENT_VERSION,
        ),
    )
    return JoinGroupResponse(
        error_code=wire_code(JOIN_GROUP_KEY, call.version, result.error),
        generation_id=result.generation,
        protocol_type=result.protocol_type,
        protocol_name=_protocol_name(result.protocol, call.version),
        leader=result.leader,
        skip_assignment=result.skip_assignment,
        member_id=result.member_id,
        members=[
            JoinGroupResponseMember(member_id=member_id, group_instance_id=instance_id, metadata=metadata)
            for member_id, instance_id, metadata in result.members
        ],
    )


def _protocol_name(protocol: str | None, version: int) -> str | None:
    return "" if protocol is None and version < NULLABLE_PROTOCOL_VERSION else protocol


def refuse_join_group(request: JoinGroupRequest, version: int, refusal: Refusal) -> JoinGroupResponse:
    """An error as a whole."""
    return JoinGroupResponse(
        error_code=wire_code(JOIN_GROUP_KEY, version, refusal.code),
        protocol_name=_protocol_name(None, version),
        member_id=request.member_id,
    )


async def sync_group(call: Call, request: SyncGroupRequest) -> SyncGroupResponse:
    """Brings the leader's assignment, and fetches one's own."""
    result = await call.services.groups.sync(
        call.context,
        SyncRequest(
            group=request.group_id,
            generation=request.generation_id,
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            assignments={each.member_id: each.assignment for each in request.assignments},
            protocol_type=request.protocol_type,
            protocol=request.protocol_name,
        ),
    )
    return SyncGroupResponse(
        error_code=result.error,
        protocol_type=result.protocol_type,
        protocol_name=result.protocol,
        assignment=result.assignment,
    )


def refuse_sync_group(request: SyncGroupRequest, version: int, refusal: Refusal) -> SyncGroupResponse:
    """An error as a whole."""
    return SyncGroupResponse(error_code=refusal.code)


async def heartbeat(call: Call, request: HeartbeatRequest) -> HeartbeatResponse:
    """Says that a member lives."""
    code = await call.services.groups.heartbeat(
        call.context, request.group_id, request.generation_id, request.member_id, request.group_instance_id
    )
    return HeartbeatResponse(error_code=code)


def refuse_heartbeat(request: HeartbeatRequest, version: int, refusal: Refusal) -> HeartbeatResponse:
    """An error as a whole."""
    return HeartbeatResponse(error_code=refusal.code)


async def leave_group(call: Call, request: LeaveGroupRequest) -> LeaveGroupResponse:
    """Leaves; from version 3 on several members, by member id or instance id."""
    if call.version >= MEMBERS_VERSION:
        members = [
            LeavingMember(member.member_id, member.group_instance_id, member.reason)
            for member in request.members
        ]
    else:
        members = [LeavingMember(request.member_id, None)]
    result = await call.services.groups.leave(call.context, request.group_id, members)
    code = result.error
    if call.version < MEMBERS_VERSION and not code and result.members:
        code = result.members[0][2]
    return LeaveGroupResponse(
        error_code=wire_code(LEAVE_GROUP_KEY, call.version, code),
        members=[
            MemberResponse(member_id=member_id, group_instance_id=instance_id, error_code=error)
            for member_id, instance_id, error in result.members
        ],
    )


def refuse_leave_group(request: LeaveGroupRequest, version: int, refusal: Refusal) -> LeaveGroupResponse:
    """An error as a whole."""
    return LeaveGroupResponse(error_code=wire_code(LEAVE_GROUP_KEY, version, refusal.code))
