"""A group service in memory for tests of the Kafka listener: each group has one member at most, who leads it.

Enough for a consumer that is alone to join, be assigned, commit and leave; the real rules are tested with the real core.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from penstock.model.errors import ErrorCode, PenstockError
from penstock.service import group_api
from penstock.service.context import RequestContext


class FakeGroups:
    """GroupService with one member per group, who leads it; positions are kept."""

    def __init__(self) -> None:
        self.address = ("127.0.0.1", 0)
        self.offsets: dict[str, dict[tuple[str, int], group_api.OffsetToCommit]] = {}
        self.members: dict[str, tuple[str, int]] = {}
        self.assignments: dict[str, bytes] = {}
        self.joins: list[group_api.JoinRequest] = []
        self.join_waits: asyncio.Future[None] | None = None
        self.coordinates = True

    async def find_coordinator(
        self, context: RequestContext, key_type: int, key: str
    ) -> tuple[ErrorCode, int, str, int]:
        """This broker."""
        if not key:
            raise PenstockError(ErrorCode.INVALID_GROUP_ID, "a group's name must not be empty")
        return ErrorCode.NONE, 0, *self.address

    async def join(self, context: RequestContext, request: group_api.JoinRequest) -> group_api.JoinResult:
        """The newcomer leads and is alone."""
        self.joins.append(request)
        if self.join_waits is not None:
            await self.join_waits
        member_id = request.member_id or f"{context.client_id}-{len(self.joins)}"
        if not request.member_id and request.requires_known_member:
            return group_api.JoinResult(ErrorCode.MEMBER_ID_REQUIRED, member_id=member_id)
        generation = self.members.get(request.group, ("", 0))[1] + 1
        self.members[request.group] = (member_id, generation)
        name, metadata = request.protocols[0]
        return group_api.JoinResult(
            ErrorCode.NONE,
            generation,
            request.protocol_type,
            name,
            member_id,
            member_id,
            [(member_id, request.instance_id, metadata)],
        )

    async def sync(self, context: RequestContext, request: group_api.SyncRequest) -> group_api.SyncResult:
        """Gives the leader's own assignment back."""
        if request.assignments:
            self.assignments[request.group] = request.assignments[request.member_id]
        return group_api.SyncResult(
            ErrorCode.NONE, request.protocol_type, request.protocol, self.assignments[request.group]
        )

    async def heartbeat(
        self, context: RequestContext, group: str, generation: int, member_id: str, instance_id: str | None
    ) -> ErrorCode:
        """Knows the last member."""
        known = self.members.get(group) == (member_id, generation)
        return ErrorCode.NONE if known else ErrorCode.UNKNOWN_MEMBER_ID

    async def leave(
        self, context: RequestContext, group: str, members: Sequence[group_api.LeavingMember]
    ) -> group_api.LeaveResult:
        """Forgets the member."""
        outcomes = []
        for member in members:
            known = self.members.get(group, ("", 0))[0] == member.member_id
            if known:
                del self.members[group]
            code = ErrorCode.NONE if known else ErrorCode.UNKNOWN_MEMBER_ID
            outcomes.append((member.member_id, member.instance_id, code))
        return group_api.LeaveResult(members=outcomes)

    async def commit_offsets(
        self,
        context: RequestContext,
        group: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        offsets: Sequence[group_api.OffsetToCommit],
        retention_ms: int = -1,
    ) -> list[tuple[str, int, ErrorCode]]:
        """Keeps positions."""
        kept = self.offsets.setdefault(group, {})
        for offset in offsets:
            kept[offset.topic, offset.partition] = offset
        return [(offset.topic, offset.partition, ErrorCode.NONE) for offset in offsets]

    async def fetch_offsets(
        self,
        context: RequestContext,
        group: str,
        partitions: Sequence[tuple[str, int]] | None,
        *,
        require_stable: bool = False,
        member_id: str | None = None,
        member_epoch: int = -1,
    ) -> tuple[ErrorCode, list[group_api.CommittedOffset]]:
        """Gives positions back."""
        if not group:
            return ErrorCode.INVALID_GROUP_ID, []
        kept = self.offsets.get(group, {})
        found = []
        for topic, partition in list(kept) if partitions is None else partitions:
            offset = kept.get((topic, partition))
            if offset is None:
                found.append(group_api.CommittedOffset(topic, partition))
            else:
                found.append(
                    group_api.CommittedOffset(
                        topic, partition, offset.offset, offset.leader_epoch, offset.metadata
                    )
                )
        return ErrorCode.NONE, found

    async def describe(
        self, context: RequestContext, groups: Sequence[str]
    ) -> list[group_api.GroupDescription]:
        """State and the one member."""
        described = []
        for group in groups:
            if group not in self.members:
                described.append(group_api.GroupDescription(group))
                continue
            member = group_api.MemberDescription(
                self.members[group][0], None, context.client_id, context.client_host, b"m", b"a"
            )
            described.append(
                group_api.GroupDescription(group, ErrorCode.NONE, "Stable", "consumer", "range", [member])
            )
        return described

    async def list_groups(
        self, context: RequestContext, states: Sequence[str] = (), types: Sequence[str] = ()
    ) -> list[group_api.GroupOverview]:
        """Groups with a member; refused while another broker coordinates."""
        if not self.coordinates:
            raise PenstockError(ErrorCode.NOT_COORDINATOR, "another broker coordinates groups")
        return [
            group_api.GroupOverview(group, "stream", "Stable", "consumer", 1, 0, False)
            for group in self.members
            if not states or "Stable" in states
        ]

    async def delete_groups(
        self, context: RequestContext, groups: Sequence[str]
    ) -> list[tuple[str, ErrorCode]]:
        """Only groups without a member."""
        return [
            (group, ErrorCode.NON_EMPTY_GROUP if group in self.members else ErrorCode.NONE)
            for group in groups
        ]

    async def delete_offsets(
        self, context: RequestContext, group: str, partitions: Sequence[tuple[str, int]]
    ) -> tuple[ErrorCode, list[tuple[str, int, ErrorCode]]]:
        """Forgets positions."""
        kept = self.offsets.get(group)
        if kept is None:
            return ErrorCode.GROUP_ID_NOT_FOUND, []
        for key in partitions:
            kept.pop(key, None)
        return ErrorCode.NONE, [(topic, partition, ErrorCode.NONE) for topic, partition in partitions]
