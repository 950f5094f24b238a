"""Whether a JoinGroup may proceed at all: sizes, timeouts and protocols, before any state changes."""

from __future__ import annotations

from penstock.groups.members import Member, Roster, protocols_bytes
from penstock.groups.protocols import is_compatible
from penstock.groups.requests import Join
from penstock.groups.settings import GroupSettings
from penstock.groups.states import GroupState
from penstock.model.errors import ErrorCode


def join_refusal(
    request: Join, roster: Roster, state: GroupState, protocol_type: str, settings: GroupSettings
) -> ErrorCode:
    """Why a join is refused, or NONE."""
    member_id = request.member_id
    known = roster.by_id.get(member_id) if member_id else roster.static(request.instance_id)
    if state is GroupState.DEAD:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if not settings.session_timeout_ms_min <= request.session_timeout_ms <= settings.session_timeout_ms_max:
        return ErrorCode.INVALID_SESSION_TIMEOUT
    if member_id and known is None and member_id not in roster.pending:
        return roster.refusal(member_id, request.instance_id)
    held_bytes = known.metadata_bytes if known is not None else 0
    wanted_bytes = roster.metadata_bytes - held_bytes + protocols_bytes(request.protocols)
    if not _has_room(known, roster, state, settings) or wanted_bytes > settings.group_bytes_max:
        return ErrorCode.GROUP_MAX_SIZE_REACHED
    if not _has_common_protocol(request, known, roster, protocol_type, settings):
        return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    return ErrorCode.NONE


def _has_room(known: Member | None, roster: Roster, state: GroupState, settings: GroupSettings) -> bool:
    """group.max.size. While a rebalance gathers members, the first to come are in, old or new."""
    if state is GroupState.PREPARING_REBALANCE:
        has_joined = known is not None and known.join_token is not None
        return has_joined or roster.awaiting_join < settings.members_max
    return known is not None or len(roster) < settings.members_max


def _has_common_protocol(
    request: Join, known: Member | None, roster: Roster, protocol_type: str, settings: GroupSettings
) -> bool:
    if not request.protocol_type or not 0 < len(request.protocols) <= settings.protocols_per_member_max:
        return False
    if not roster.by_id:
        return True
    others = [member for member in roster.by_id.values() if member is not known]
    return request.protocol_type == protocol_type and is_compatible(request.protocols, others)
