"""What administrators see of consumer groups, and what they may delete.

Assignments and subscriptions are shown where the members speak the consumer protocol; bytes that cannot be read are
shown as nothing, because what clients tell each other is theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from penstock.delivery.commands import QueueGroupDropped
from penstock.groups.classic import ClassicGroup
from penstock.groups.commands import GroupDeleted
from penstock.groups.consumer_protocol import CONSUMER, decode_assignment
from penstock.groups.expiry import subscriptions
from penstock.groups.machine import offsets_deleted
from penstock.groups.states import GroupState
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings
from penstock.service.group_api import (
    GroupDescription,
    GroupDetail,
    GroupOverview,
    GroupPosition,
    MemberDescription,
    PartitionPosition,
    QueueDetail,
)
from penstock.service.groups_driver import coordinator_error
from penstock.service.groups_registry import GroupRegistry

DEFAULT_MODE = "stream"
CLASSIC_TYPE = "classic"
GROUPS_PER_TURN = 100
"""How many groups a list looks at before other work of the loop gets its turn."""


class GroupAdministration:
    """Views of the registry's groups."""

    def __init__(self, registry: GroupRegistry) -> None:
        self._registry = registry
        self._machine = registry.machine
        self._positions = registry.positions

    def describe(self, group: str) -> GroupDescription:
        """DescribeGroups; subscriptions and assignments are shown in Stable only, as in Kafka."""
        error = self._registry.refusal(group)
        if error is not ErrorCode.NONE:
            return GroupDescription(group, error, state="")
        live = self._live(group)
        if live is None:
            state = self._registry.state(group)
            message = f"Group {group} not found." if state is GroupState.DEAD else None
            return GroupDescription(
                group, state=state.value, protocol_type=self._protocol_type(group), message=message
            )
        stable = live.state is GroupState.STABLE
        return GroupDescription(
            group,
            state=live.state.value,
            protocol_type=live.protocol_type,
            protocol=(live.protocol or "") if stable else "",
            members=_members(live, with_bytes=stable),
        )

    async def list_groups(self, states: Sequence[str], types: Sequence[str]) -> list[GroupOverview]:
        """Groups in any of the states (any case; none means all) and types."""
        error = self._registry.refusal("")
        if error is not ErrorCode.NONE:
            raise PenstockError(error, "This broker does not coordinate groups now: ask again.")
        if types and CLASSIC_TYPE not in {name.lower() for name in types}:
            return []
        wanted = {name.lower() for name in states}
        overviews = []
        for position, group in enumerate(sorted(self._registry.names())):
            if position % GROUPS_PER_TURN == GROUPS_PER_TURN - 1:
                await asyncio.sleep(0)
            state = self._registry.state(group)
            if state is not GroupState.DEAD and (not wanted or state.value.lower() in wanted):
                overviews.append(self._overview(group))
        return overviews

    def detail(self, listener: str, group: str) -> GroupDetail:
        """Everything about one group. Raises PenstockError(GROUP_ID_NOT_FOUND)."""
        self._registry.check(group)
        if self._registry.state(group) is GroupState.DEAD:
            raise PenstockError(ErrorCode.GROUP_ID_NOT_FOUND, f"There is no consumer group {group!r}.")
        live = self._live(group)
        declared = self._machine.declared(group)
        address = self._positions.coordinator(listener, group)
        return GroupDetail(
            overview=self._overview(group),
            protocol=(live.protocol or "") if live is not None else "",
            coordinator=address[0] if address is not None else -1,
            topics=list(declared.topics) if declared is not None else [],
            members=_members(live, with_bytes=True) if live is not None else [],
            assignments=_assignments(live) if live is not None else {},
            positions=self._partition_positions(group),
            queue=self._queue(group) if self._registry.is_queue(group) else None,
        )

    def _queue(self, group: str) -> QueueDetail:
        declared = self._machine.declared(group)
        settings = (declared.queue if declared is not None else None) or QueueSettings()
        queues, detail = self._registry.queues, QueueDetail(settings)
        topics = declared.topics if declared is not None else ()
        in_flight = 0
        for queue in queues.queues(group):
            counts = queue.counts()
            detail.in_flight += counts.held
            detail.waiting += counts.waiting
            in_flight += queue.in_flight if queue.topic in topics else 0
        detail.window_full = in_flight >= settings.in_flight_max
        detail.dead_letters = queues.next_sequence(group, settings.dead_topic(group))
        return detail

    async def positions_at(
        self, topic: str, partition: int, groups_max: int
    ) -> tuple[list[GroupPosition], int]:
        """The positions in one partition, by group: the first `groups_max`, and how many groups have one. Raises PenstockError."""
        self._registry.check("")
        found: list[GroupPosition] = []
        count = 0
        for place, group in enumerate(self._machine.groups_of(topic)):
            if place % GROUPS_PER_TURN == GROUPS_PER_TURN - 1:
                await asyncio.sleep(0)
            stored = self._machine.offset(group, topic, partition)
            if stored is None:
                continue
            count += 1
            if len(found) < groups_max:
                state = self._registry.state(group).value
                found.append(GroupPosition(group, state, stored.offset, stored.commit_ms))
        return found, count

    async def delete_group(self, group: str) -> ErrorCode:
        """DeleteGroups: only a group without members can be deleted."""
        error = self._registry.refusal(group)
        if error is not ErrorCode.NONE:
            return error
        state = self._registry.state(group)
        if state is GroupState.DEAD:
            return ErrorCode.GROUP_ID_NOT_FOUND
        if state is not GroupState.EMPTY:
            return ErrorCode.NON_EMPTY_GROUP
        self._registry.forget(group, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        now_ms = self._registry.clock.now_ms()
        commands: list[Command] = [GroupDeleted(group, now_ms)]
        if self._registry.is_queue(group):
            commands.append(QueueGroupDropped(group, now_ms))
        try:
            await self._registry.propose(commands)
        except PenstockError as failure:
            return coordinator_error(failure)
        self._registry.on_queue_changed(group)
        return ErrorCode.NONE

    async def delete_offsets(
        self, group: str, partitions: Sequence[tuple[str, int]]
    ) -> tuple[ErrorCode, list[tuple[str, int, ErrorCode]]]:
        """OffsetDelete (KIP-496)."""
        error = self._registry.refusal(group)
        if error is not ErrorCode.NONE:
            return error, []
        state = self._registry.state(group)
        live = self._live(group)
        if state is GroupState.DEAD:
            return ErrorCode.GROUP_ID_NOT_FOUND, []
        if state is not GroupState.EMPTY and live is not None and live.protocol_type != CONSUMER:
            return ErrorCode.NON_EMPTY_GROUP, []
        results = [
            (topic, partition, self._delete_refusal(group, state, topic, partition))
            for topic, partition in partitions
        ]
        allowed = [(topic, partition) for topic, partition, error in results if error is ErrorCode.NONE]
        if allowed:
            commands = offsets_deleted(group, allowed, self._registry.clock.now_ms())
            try:
                await self._registry.propose(commands)
            except PenstockError as failure:
                return coordinator_error(failure), []
        return ErrorCode.NONE, results

    def _delete_refusal(self, group: str, state: GroupState, topic: str, partition: int) -> ErrorCode:
        count = self._positions.partition_count(topic)
        known = count is not None and 0 <= partition < count
        if not known and self._machine.offset(group, topic, partition) is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if state is GroupState.EMPTY:
            return ErrorCode.NONE
        # While the first generation forms, or where a subscription cannot be read, any topic may be subscribed.
        generation = self._machine.generation(group)
        subscribed = None if generation is None or not generation.members else subscriptions(generation)
        if subscribed is None or topic in subscribed:
            return ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        return ErrorCode.NONE

    def _live(self, group: str) -> ClassicGroup | None:
        driver = self._registry.live.get(group)
        return None if driver is None else driver.group

    def _protocol_type(self, group: str) -> str:
        live = self._live(group)
        if live is not None:
            return live.protocol_type
        generation = self._machine.generation(group)
        return "" if generation is None else generation.protocol_type

    def _overview(self, group: str) -> GroupOverview:
        live = self._live(group)
        declared = self._machine.declared(group)
        return GroupOverview(
            group=group,
            mode=DEFAULT_MODE if declared is None else declared.mode,
            state=self._registry.state(group).value,
            protocol_type=self._protocol_type(group),
            members=0 if live is None else len(live.roster),
            lag=sum(position.lag for position in self._partition_positions(group)),
            declared=declared is not None,
        )

    def _partition_positions(self, group: str) -> list[PartitionPosition]:
        """Committed positions of partitions that exist. A position that was never valid lags by the whole partition."""
        if self._registry.is_queue(group):
            return self._queue_positions(group)
        found = []
        for (topic, partition), stored in sorted(self._machine.offsets(group), key=lambda item: item[0]):
            count = self._positions.partition_count(topic)
            if count is None or partition >= count:
                continue
            high_watermark = self._positions.high_watermark(topic, partition)
            start = max(stored.offset, self._positions.log_start(topic, partition))
            found.append(
                PartitionPosition(
                    topic,
                    partition,
                    stored.offset,
                    stored.metadata,
                    high_watermark,
                    max(high_watermark - start, 0),
                )
            )
        return found

    def _queue_positions(self, group: str) -> list[PartitionPosition]:
        """Up to where everything is settled, and how many messages are not."""
        found = []
        for queue in sorted(
            self._registry.queues.queues(group), key=lambda each: (each.topic, each.partition)
        ):
            count = self._positions.partition_count(queue.topic)
            if count is None or queue.partition >= count:
                continue
            high_watermark = self._positions.high_watermark(queue.topic, queue.partition)
            lag = queue.unsettled(high_watermark)
            found.append(
                PartitionPosition(queue.topic, queue.partition, queue.floor, "", high_watermark, lag)
            )
        return found


def _members(live: ClassicGroup, *, with_bytes: bool) -> list[MemberDescription]:
    return [
        MemberDescription(
            member.member_id,
            member.instance_id,
            member.client_id,
            member.client_host,
            member.metadata(live.protocol) if with_bytes else b"",
            member.assignment if with_bytes else b"",
        )
        for member in live.roster.by_id.values()
    ]


def _assignments(live: ClassicGroup) -> dict[str, dict[str, list[int]]]:
    if live.protocol_type != CONSUMER:
        return {}
    decoded = {}
    for member in live.roster.by_id.values():
        try:
            decoded[member.member_id] = decode_assignment(member.assignment)
        except ValueError:
            decoded[member.member_id] = {}
    return decoded
