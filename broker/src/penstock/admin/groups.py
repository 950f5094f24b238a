"""`/v1/groups`: list, look at, declare, reset and delete consumer groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from penstock.admin.models import (
    Assignment,
    Group,
    GroupDeclaration,
    GroupDetail,
    GroupList,
    GroupMember,
    GroupOffset,
    GroupReset,
    ResetOffset,
    ResetResult,
    StartAt,
)
from penstock.listeners.http.problems import invalid, refuse_error
from penstock.listeners.http.routes import Call, NoBody, NoQuery, Reply, Route, Routes
from penstock.service.group_api import StartPosition

if TYPE_CHECKING:
    from penstock.listeners.http.services import HttpServices
    from penstock.service.context import RequestContext

GROUPS = "/v1/groups"
GROUP = "/v1/groups/{group}"
RESET = "/v1/groups/{group}/reset"


class GroupRoutes:
    """Administration of consumer groups."""

    def __init__(self, services: HttpServices) -> None:
        self._groups = services.groups

    def routes(self) -> Routes:
        """The five routes."""
        listing: Route[NoQuery, NoBody] = Route(
            "GET", GROUPS, "listGroups", "All groups.", self.list, {200: GroupList}, NoQuery, NoBody
        )
        detail: Route[NoQuery, NoBody] = Route(
            "GET",
            GROUP,
            "getGroup",
            "One group: members, positions, lag.",
            self.get,
            {200: GroupDetail},
            NoQuery,
            NoBody,
        )
        declaration: Route[NoQuery, GroupDeclaration] = Route(
            "PUT",
            GROUP,
            "declareGroup",
            "Declares a group; positions that are not committed yet are committed at `start`. 201 when it is new.",
            self.declare,
            {200: GroupDetail, 201: GroupDetail},
            NoQuery,
            GroupDeclaration,
        )
        reset: Route[NoQuery, GroupReset] = Route(
            "POST",
            RESET,
            "resetGroup",
            "Moves a group's positions.",
            self.reset,
            {200: ResetResult},
            NoQuery,
            GroupReset,
        )
        deletion: Route[NoQuery, NoBody] = Route(
            "DELETE",
            GROUP,
            "deleteGroup",
            "Deletes a group and its positions.",
            self.delete,
            {204: None},
            NoQuery,
            NoBody,
        )
        return [listing, detail, declaration, reset, deletion]

    async def list(self, call: Call[NoQuery, NoBody]) -> Reply:
        """All groups."""
        overviews = await self._groups.list_groups(call.context)
        return Reply(GroupList([Group(o.group, o.mode, o.state, o.members, o.lag) for o in overviews]))

    async def get(self, call: Call[NoQuery, NoBody]) -> Reply:
        """One group; 404 when there is none."""
        return Reply(await self._detail(call.context, call.path["group"]))

    async def declare(self, call: Call[NoQuery, GroupDeclaration]) -> Reply:
        """Declares a group; 201 when it is new, 409 when it has another mode, 404 for an unknown topic."""
        group, asked = call.path["group"], call.body
        start = start_position("start", asked.start)
        created = await self._groups.declare(call.context, group, asked.mode, asked.topics, start)
        return Reply(await self._detail(call.context, group), status=201 if created else 200)

    async def reset(self, call: Call[NoQuery, GroupReset]) -> Reply:
        """Moves positions; 409 while members are active, unless forced."""
        asked = call.body
        moved = await self._groups.reset(
            call.context,
            call.path["group"],
            start_position("to", asked.to),
            topics=asked.topics,
            force=asked.force,
            dry_run=asked.dry_run,
        )
        return Reply(
            ResetResult([ResetOffset(m.topic, m.partition, m.from_offset, m.to_offset) for m in moved])
        )

    async def delete(self, call: Call[NoQuery, NoBody]) -> Reply:
        """Deletes a group; 409 while it has members, 404 when there is none."""
        group = call.path["group"]
        [(_, error)] = await self._groups.delete_groups(call.context, [group])
        refuse_error(
            error,
            None,
            _NOT_DELETED.get(error.name, "{code}: {group!r} was not deleted.").format(
                group=group, code=error.name
            ),
        )
        return Reply(status=204)

    async def _detail(self, context: RequestContext, name: str) -> GroupDetail:
        detail = await self._groups.detail(context, name)
        overview = detail.overview
        members = [
            GroupMember(
                member_id=member.member_id,
                instance_id=member.instance_id,
                client_id=member.client_id,
                host=member.client_host,
                assignments=[
                    Assignment(topic, partitions)
                    for topic, partitions in detail.assignments.get(member.member_id, {}).items()
                ],
            )
            for member in detail.members
        ]
        return GroupDetail(
            name=overview.group,
            mode=overview.mode,
            state=overview.state,
            protocol_type=overview.protocol_type,
            protocol=detail.protocol,
            coordinator=detail.coordinator,
            topics=detail.topics,
            members=members,
            offsets=[
                GroupOffset(p.topic, p.partition, p.offset, p.metadata, p.high_watermark, p.lag)
                for p in detail.positions
            ],
            lag=overview.lag,
            declared=overview.declared,
        )


_NOT_DELETED = {
    "NON_EMPTY_GROUP": "The group {group!r} has active members; stop its consumers first.",
    "GROUP_ID_NOT_FOUND": "There is no group {group!r}.",
}


def start_position(field: str, start: StartAt) -> StartPosition:
    """The position that a request names; refused unless it names exactly one."""
    given = [value for value in (start.at, start.timestamp, start.offset) if value is not UNSET]
    if len(given) != 1:
        raise invalid(
            f"`{field}` has exactly one of at (earliest or latest), timestamp (RFC 3339) and offset; "
            f"{len(given)} were given."
        )
    return StartPosition(
        at=start.at or None,
        timestamp_ms=int(start.timestamp.timestamp() * 1000) if start.timestamp else None,
        offset=None if start.offset is UNSET else start.offset,
    )
