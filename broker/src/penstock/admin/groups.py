"""`/v1/groups`: list, look at, declare, reset and delete consumer groups."""

from __future__ import annotations

import time
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
    Lease,
    QueueGroup,
    ResetOffset,
    ResetResult,
    Retry,
    StartAt,
)
from penstock.listeners.http.problems import invalid, refuse_error
from penstock.listeners.http.routes import Call, NoBody, NoQuery, Reply, Route, Routes
from penstock.model import queue_settings as queue_backoff
from penstock.model.queue_settings import QueueSettings
from penstock.service.group_api import StartPosition

if TYPE_CHECKING:
    from penstock.listeners.http.services import HttpServices
    from penstock.service.context import RequestContext
    from penstock.service.group_api import QueueDetail

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
            "Declares a group; where it has no position yet, it begins at `start`. 201 when it is new.",
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
        settings = queue_settings(asked)
        created = await self._groups.declare(call.context, group, asked.mode, asked.topics, start, settings)
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
            queue=None if detail.queue is None else _queue(name, detail.queue),
        )


def _queue(name: str, detail: QueueDetail) -> QueueGroup:
    settings, oldest_ms = detail.settings, detail.oldest_ms
    return QueueGroup(
        in_flight=detail.in_flight,
        waiting=detail.waiting,
        dead_letters=detail.dead_letters,
        oldest_message_age_ms=None if oldest_ms is None else max(int(time.time() * 1000) - oldest_ms, 0),
        window_full=detail.window_full,
        dead_letter_topic=settings.dead_topic(name),
        lease_ms=settings.lease_ms,
        max_in_flight=settings.in_flight_max,
        max_deliveries=settings.deliveries_max,
    )


def queue_settings(asked: GroupDeclaration) -> QueueSettings | None:
    """How a queue group is declared; None where nothing of it was said. Refuses what this release does not have."""
    if asked.ordering != "none":
        raise invalid(f"`ordering: {asked.ordering}` is not available in this release; leave it out.")
    if asked.filter is not None:
        raise invalid("`filter` is not available in this release; leave it out.")
    if asked.retry is None and asked.dead_letter is None and asked.lease is None:
        return None
    retry, lease = asked.retry or Retry(), asked.lease or Lease()
    backoff = retry.backoff
    return QueueSettings(
        lease_ms=lease.duration_ms,
        in_flight_max=lease.max_in_flight,
        deliveries_max=retry.max_deliveries,
        backoff=queue_backoff.Backoff(backoff.initial_ms, backoff.factor, backoff.max_ms, backoff.jitter),
        dead_letter_topic=None if asked.dead_letter is None else asked.dead_letter.topic_name,
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
