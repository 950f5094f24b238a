"""The consumer-group use-cases: membership and positions, as `group_api.GroupService` states them.

Translates between the service's values and the pure coordinator (`penstock.groups`), and writes positions to the log.
Lists and views are `groups_admin`'s, declaring and resetting `groups_declared`'s, expiry `groups_expiry`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.delivery.machine import QueuesMachine
from penstock.groups.commands import OffsetEntry
from penstock.groups.machine import GroupsMachine, offsets_committed
from penstock.groups.requests import Join, Leaving, Sync
from penstock.groups.settings import GroupSettings
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings
from penstock.replication.features import FEATURE_LEVEL
from penstock.service.context import RequestContext
from penstock.service.deliver_trace import DeliverTracing
from penstock.service.group_api import (
    CommittedOffset,
    GroupDescription,
    GroupDetail,
    GroupOverview,
    GroupPosition,
    JoinRequest,
    JoinResult,
    LeaveResult,
    LeavingMember,
    OffsetReset,
    OffsetToCommit,
    StartPosition,
    SyncRequest,
    SyncResult,
)
from penstock.service.groups_admin import GroupAdministration
from penstock.service.groups_declared import GroupDeclarations
from penstock.service.groups_driver import coordinator_error
from penstock.service.groups_expiry import OffsetExpiry
from penstock.service.groups_registry import GroupRegistry
from penstock.service.ports import Clock, CommandLog, Positions

GROUP_KEY = 0
TRANSACTION_KEY = 1
OLDEST_LOOKED_MAX = 100
"""Partitions of a queue group that are looked at for its oldest message."""


class ConsumerGroups:
    """Implements `GroupService` for the groups of one shard. `new_suffix` gives a unique string for each new member.

    The runtime calls `start` when this broker leads its shard and the machine is up to date, `stop` when it no longer
    does, and `topic_deleted` after a topic is gone."""

    def __init__(
        self,
        machine: GroupsMachine,
        log: CommandLog,
        clock: Clock,
        positions: Positions,
        new_suffix: Callable[[], str],
        settings: GroupSettings | None = None,
        queues: QueuesMachine | None = None,
        level: Callable[[], int] = lambda: FEATURE_LEVEL,
    ) -> None:
        self._registry = GroupRegistry(
            machine, log, clock, positions, settings or GroupSettings(), queues or QueuesMachine(), level
        )
        self._machine = machine
        self._clock = clock
        self._positions = positions
        self._new_suffix = new_suffix
        self._administration = GroupAdministration(self._registry)
        self._declarations = GroupDeclarations(self._registry)
        self._expiry = OffsetExpiry(self._registry)
        # None where nothing is traced.
        self.tracing: DeliverTracing | None = None

    @property
    def registry(self) -> GroupRegistry:
        """The groups that this broker coordinates, for what is measured of them."""
        return self._registry

    # --- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """This broker coordinates from now on: groups come back with fresh sessions."""
        self._registry.start()
        self._expiry.start()

    def stop(self, error: ErrorCode = ErrorCode.NOT_COORDINATOR) -> None:
        """Answers everything parked with `error`, and everything that comes later."""
        self._expiry.stop()
        self._registry.stop(error)

    def configure(self, settings: GroupSettings) -> None:
        """Takes over changed settings."""
        self._registry.configure(settings)

    async def topic_deleted(self, topic: str) -> None:
        """Drops every group's positions of a topic that is gone. Raises what the log raises."""
        commands = self._machine.topic_deleted(topic, self._clock.now_ms())
        if commands:
            await self._registry.propose(commands)

    # --- membership ------------------------------------------------------------------------------------

    async def find_coordinator(
        self, context: RequestContext, key_type: int, key: str
    ) -> tuple[ErrorCode, int, str, int]:
        """See `GroupService.find_coordinator`."""
        if key_type == TRANSACTION_KEY:
            return ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, -1, "", -1
        if key_type != GROUP_KEY:
            return ErrorCode.INVALID_REQUEST, -1, "", -1
        address = self._positions.coordinator(context.listener, key)
        if address is None:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE, -1, "", -1
        return ErrorCode.NONE, *address

    async def join(self, context: RequestContext, request: JoinRequest) -> JoinResult:
        """See `GroupService.join`."""
        error = self._join_refusal(request)
        if error is not ErrorCode.NONE:
            return JoinResult(error, member_id=request.member_id)
        timeout_ms = request.rebalance_timeout_ms
        joined = await self._registry.open(request.group).join(
            Join(
                member_id=request.member_id,
                instance_id=request.instance_id,
                client_id=context.client_id,
                client_host=context.client_host,
                session_timeout_ms=request.session_timeout_ms,
                rebalance_timeout_ms=timeout_ms if timeout_ms > 0 else request.session_timeout_ms,
                protocol_type=request.protocol_type,
                protocols=tuple((name, bytes(metadata)) for name, metadata in request.protocols),
                suffix=self._new_suffix(),
                requires_known_member=request.requires_known_member,
                supports_skipping_assignment=request.supports_skipping_assignment,
            )
        )
        return JoinResult(
            error=joined.error,
            generation=joined.generation,
            protocol_type=joined.protocol_type,
            protocol=joined.protocol,
            leader=joined.leader,
            member_id=joined.member_id,
            members=joined.members,
            skip_assignment=joined.skip_assignment,
        )

    async def sync(self, context: RequestContext, request: SyncRequest) -> SyncResult:
        """See `GroupService.sync`."""
        error = self._membership_refusal(request.group)
        if error is not ErrorCode.NONE:
            return SyncResult(error)
        synced = await self._registry.live[request.group].sync(
            Sync(
                member_id=request.member_id,
                instance_id=request.instance_id,
                generation=request.generation,
                assignments={name: bytes(data) for name, data in request.assignments.items()},
                protocol_type=request.protocol_type,
                protocol=request.protocol,
            )
        )
        return SyncResult(synced.error, synced.protocol_type, synced.protocol, synced.assignment)

    async def heartbeat(
        self, context: RequestContext, group: str, generation: int, member_id: str, instance_id: str | None
    ) -> ErrorCode:
        """See `GroupService.heartbeat`."""
        error = self._membership_refusal(group)
        if error is not ErrorCode.NONE:
            return error
        return self._registry.live[group].heartbeat(member_id, instance_id, generation)

    async def leave(
        self, context: RequestContext, group: str, members: Sequence[LeavingMember]
    ) -> LeaveResult:
        """See `GroupService.leave`."""
        error = self._membership_refusal(group)
        if error is ErrorCode.UNKNOWN_MEMBER_ID:
            return LeaveResult(members=[(m.member_id, m.instance_id, error) for m in members])
        if error is not ErrorCode.NONE:
            return LeaveResult(error)
        errors = self._registry.live[group].leave([Leaving(m.member_id, m.instance_id) for m in members])
        return LeaveResult(
            members=[(m.member_id, m.instance_id, e) for m, e in zip(members, errors, strict=True)]
        )

    def _join_refusal(self, request: JoinRequest) -> ErrorCode:
        group = request.group
        error = ErrorCode.INVALID_GROUP_ID if not group else self._registry.refusal(group)
        if error is not ErrorCode.NONE:
            return error
        if self._registry.is_queue(group):
            # Its messages are leased: nobody is assigned partitions.
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if group in self._registry.resetting:
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        if group not in self._registry.live and request.member_id:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.NONE if self._registry.has_room_for(group) else ErrorCode.POLICY_VIOLATION

    def _membership_refusal(self, group: str) -> ErrorCode:
        error = ErrorCode.INVALID_GROUP_ID if not group else self._registry.refusal(group)
        if error is ErrorCode.NONE and group not in self._registry.live:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return error

    # --- positions -------------------------------------------------------------------------------------

    async def commit_offsets(
        self,
        context: RequestContext,
        group: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        offsets: Sequence[OffsetToCommit],
        retention_ms: int = -1,
    ) -> list[tuple[str, int, ErrorCode]]:
        """See `GroupService.commit_offsets`."""
        refusal = self._commit_refusal(group, generation, member_id, instance_id)
        if refusal is not ErrorCode.NONE:
            return [(asked.topic, asked.partition, refusal) for asked in offsets]
        errors = [self._offset_refusal(asked) for asked in offsets]
        accepted = [
            OffsetEntry(asked.topic, asked.partition, asked.offset, asked.leader_epoch, asked.metadata or "")
            for asked, error in zip(offsets, errors, strict=True)
            if error is ErrorCode.NONE
        ]
        if accepted:
            now_ms = self._clock.now_ms()
            expire_ms = now_ms + retention_ms if retention_ms >= 0 else -1
            tracing = self.tracing
            settled = None if tracing is None else tracing.settling(context, group, member_id, accepted)
            failed = ErrorCode.NONE
            try:
                await self._registry.propose(offsets_committed(group, now_ms, accepted, expire_ms))
            except PenstockError as error:
                failed = coordinator_error(error)
                if failed is ErrorCode.MESSAGE_TOO_LARGE:
                    failed = ErrorCode.INVALID_COMMIT_OFFSET_SIZE
                errors = [failed if error is ErrorCode.NONE else error for error in errors]
            if settled is not None:
                settled(None if failed is ErrorCode.NONE else failed.name)
        return [(asked.topic, asked.partition, error) for asked, error in zip(offsets, errors, strict=True)]

    def _commit_refusal(
        self, group: str, generation: int, member_id: str, instance_id: str | None
    ) -> ErrorCode:
        error = self._registry.refusal(group)
        if error is ErrorCode.NONE and self._registry.is_queue(group):
            error = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if error is not ErrorCode.NONE:
            return error
        if group in self._registry.live:
            return self._registry.live[group].check_commit(member_id, instance_id, generation)
        if generation >= 0 or member_id or instance_id is not None:
            # Its members are gone, or the group is: either way the client has to join anew.
            known = self._machine.exists(group)
            return ErrorCode.UNKNOWN_MEMBER_ID if known else ErrorCode.ILLEGAL_GENERATION
        return ErrorCode.NONE if self._registry.has_room_for(group) else ErrorCode.POLICY_VIOLATION

    def _offset_refusal(self, asked: OffsetToCommit) -> ErrorCode:
        count = self._positions.partition_count(asked.topic)
        if count is None or not 0 <= asked.partition < count:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        metadata = asked.metadata
        if metadata and len(metadata.encode()) > self._registry.settings.offset_metadata_bytes_max:
            return ErrorCode.OFFSET_METADATA_TOO_LARGE
        return ErrorCode.NONE

    async def fetch_offsets(
        self,
        context: RequestContext,
        group: str,
        partitions: Sequence[tuple[str, int]] | None,
        *,
        require_stable: bool = False,
        member_id: str | None = None,
        member_epoch: int = -1,
    ) -> tuple[ErrorCode, list[CommittedOffset]]:
        """See `GroupService.fetch_offsets`. No transaction leaves a position unstable yet, and the classic protocol
        does not check who asks."""
        error = self._registry.refusal(group)
        if error is not ErrorCode.NONE:
            return error, []
        if partitions is None:
            partitions = sorted(partition for partition, _ in self._machine.offsets(group))
        return ErrorCode.NONE, [self._committed(group, topic, partition) for topic, partition in partitions]

    def _committed(self, group: str, topic: str, partition: int) -> CommittedOffset:
        stored = self._machine.offset(group, topic, partition)
        if stored is None:
            return CommittedOffset(topic, partition)
        return CommittedOffset(topic, partition, stored.offset, stored.leader_epoch, stored.metadata)

    # --- administration --------------------------------------------------------------------------------

    async def describe(self, context: RequestContext, groups: Sequence[str]) -> list[GroupDescription]:
        """See `GroupService.describe`."""
        return [self._administration.describe(group) for group in groups]

    async def list_groups(
        self, context: RequestContext, states: Sequence[str] = (), types: Sequence[str] = ()
    ) -> list[GroupOverview]:
        """See `GroupService.list_groups`."""
        return await self._administration.list_groups(states, types)

    async def delete_groups(
        self, context: RequestContext, groups: Sequence[str]
    ) -> list[tuple[str, ErrorCode]]:
        """See `GroupService.delete_groups`."""
        return [(group, await self._administration.delete_group(group)) for group in groups]

    async def delete_offsets(
        self, context: RequestContext, group: str, partitions: Sequence[tuple[str, int]]
    ) -> tuple[ErrorCode, list[tuple[str, int, ErrorCode]]]:
        """See `GroupService.delete_offsets`."""
        return await self._administration.delete_offsets(group, partitions)

    async def detail(self, context: RequestContext, group: str) -> GroupDetail:
        """See `GroupService.detail`."""
        detail = self._administration.detail(context.listener, group)
        if detail.queue is not None:
            detail.queue.oldest_ms = await self._oldest_ms(detail)
        return detail

    async def _oldest_ms(self, detail: GroupDetail) -> int | None:
        """The timestamp of the oldest message that is not settled, where that can be told."""
        oldest: int | None = None
        behind = [position for position in detail.positions if position.lag]
        for position in behind[:OLDEST_LOOKED_MAX]:
            offset = max(position.offset, self._positions.log_start(position.topic, position.partition))
            if offset < position.high_watermark:
                found = await self._positions.timestamp_at(position.topic, position.partition, offset)
                oldest = found if oldest is None else min(oldest, found)
        return oldest if oldest is None or oldest >= 0 else None

    async def positions_at(
        self, context: RequestContext, topic: str, partition: int, groups_max: int
    ) -> tuple[list[GroupPosition], int]:
        """See `GroupService.positions_at`."""
        return await self._administration.positions_at(topic, partition, groups_max)

    async def declare(
        self,
        context: RequestContext,
        group: str,
        mode: str,
        topics: Sequence[str],
        start: StartPosition,
        queue: QueueSettings | None = None,
    ) -> bool:
        """See `GroupService.declare`."""
        return await self._declarations.declare(group, mode, topics, start, queue)

    async def reset(
        self,
        context: RequestContext,
        group: str,
        to: StartPosition,
        *,
        topics: Sequence[str] = (),
        force: bool = False,
        dry_run: bool = False,
    ) -> list[OffsetReset]:
        """See `GroupService.reset`."""
        return await self._declarations.reset(group, to, topics, force=force, dry_run=dry_run)
