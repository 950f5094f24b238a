"""Declaring a group with its start position, and moving the positions of a group.

Both turn "earliest", "latest", a time or an offset into one position for each partition. Times need a look into the
partitions and are waited for; what is written is decided afterwards, in one step, on the state of that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from msgspec import UNSET

from penstock.catalog.topics import check_topic_name
from penstock.config.topic_options import OWN_TOPICS
from penstock.delivery.commands import QUEUE_LEVEL, QueuePositionSet
from penstock.groups.commands import GroupDeclared, OffsetEntry
from penstock.groups.machine import TopicPartition, offsets_committed
from penstock.groups.states import GroupState
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings, why_refused
from penstock.service.group_api import OffsetReset, StartPosition
from penstock.service.groups_registry import GroupRegistry
from penstock.service.queue_ports import QUEUE_MODE

MODES = ("stream", QUEUE_MODE)
"""What a group can be declared as in this release."""

LEVEL_LOOKS_MAX = 40
LEVEL_LOOK_SECONDS = 0.05
"""How often, and at what distance, a feature level is looked for that may just be being reached."""


class GroupDeclarations:
    """Declares and resets the registry's groups. Refusals are raised as PenstockError."""

    def __init__(self, registry: GroupRegistry) -> None:
        self._registry = registry
        self._machine = registry.machine
        self._positions = registry.positions

    async def declare(
        self,
        group: str,
        mode: str,
        topics: Sequence[str],
        start: StartPosition,
        queue: QueueSettings | None = None,
    ) -> bool:
        """See `GroupService.declare`."""
        self._check_declaration(group, mode, topics, start)
        if mode == QUEUE_MODE:
            await self._level_reached()
        settings = self._queue_settings(group, mode, topics, queue)
        wanted = tuple(dict.fromkeys(topics))
        missing = [
            (topic, partition)
            for topic, partition in self._partitions(wanted)
            if not self._has_position(group, mode, topic, partition)
        ]
        positions = await self._resolve(missing, start)
        self._registry.check(group)
        now_ms = self._registry.clock.now_ms()
        before = self._machine.declared(group)
        declared = GroupDeclared(
            group,
            before.time_ms if before is not None else now_ms,
            mode,
            wanted,
            start.at,
            start.timestamp_ms,
            start.offset,
            UNSET if settings is None else settings,
        )
        commands: list[Command] = [declared] if declared != before else []
        # Somebody may have committed while times were looked up; then that holds.
        missed = {
            (topic, partition): offset
            for (topic, partition), offset in positions.items()
            if not self._has_position(group, mode, topic, partition)
        }
        commands.extend(_moved(group, mode, now_ms, missed))
        if commands:
            await self._registry.propose(commands)
            self._registry.on_queue_changed(group)
        return before is None

    async def _level_reached(self) -> None:
        """A shard that was just founded reaches its level in a moment."""
        for _ in range(LEVEL_LOOKS_MAX):
            if self._registry.level() >= QUEUE_LEVEL:
                return
            await asyncio.sleep(LEVEL_LOOK_SECONDS)

    def _has_position(self, group: str, mode: str, topic: str, partition: int) -> bool:
        if mode != QUEUE_MODE:
            return self._machine.offset(group, topic, partition) is not None
        queues = self._registry.queues
        return queues.queue(group, topic, partition) is not None or queues.is_moving(group, topic, partition)

    def _queue_settings(
        self, group: str, mode: str, topics: Sequence[str], given: QueueSettings | None
    ) -> QueueSettings | None:
        """How a queue group is declared; None for another mode. Raises PenstockError."""
        if mode != QUEUE_MODE:
            if given is not None:
                raise PenstockError(
                    ErrorCode.INVALID_REQUEST,
                    f"retry, deadLetter and lease are for mode {QUEUE_MODE!r}, not {mode!r}: leave them out.",
                )
            return None
        level = self._registry.level()
        if level < QUEUE_LEVEL:
            raise PenstockError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"The shard uses feature level {level}; queue groups need {QUEUE_LEVEL}, which it reaches when every broker"
                " was upgraded: try again then.",
            )
        settings = given or QueueSettings()
        reason = why_refused(settings)
        if reason is not None:
            raise PenstockError(ErrorCode.INVALID_REQUEST, f"{reason}.")
        self._check_dead_topic(settings.dead_topic(group), topics, settings)
        if self._machine.declared(group) is None and self._registry.state(group) is not GroupState.DEAD:
            raise PenstockError(
                ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
                f"Group {group!r} has members or positions of mode 'stream': use another name, or delete it first.",
            )
        return settings

    def _check_dead_topic(self, name: str, topics: Sequence[str], settings: QueueSettings) -> None:
        try:
            check_topic_name(name)
        except PenstockError as error:
            hint = "" if settings.dead_letter_topic else " Give another name with deadLetter.topicName."
            raise PenstockError(
                ErrorCode.INVALID_REQUEST,
                f"Dead letters cannot go to the topic {name[:100]!r}: {error.sentence}.{hint}",
            ) from error
        if name in OWN_TOPICS:
            raise PenstockError(
                ErrorCode.INVALID_REQUEST,
                f"Dead letters cannot go to {name!r}, which the broker alone writes: choose another topic.",
            )
        if name in topics:
            raise PenstockError(
                ErrorCode.INVALID_REQUEST,
                f"Dead letters of the group cannot go to {name!r}, which it works through itself: choose another topic.",
            )

    def _check_declaration(self, group: str, mode: str, topics: Sequence[str], start: StartPosition) -> None:
        self._registry.check(group)
        if not group:
            raise PenstockError(ErrorCode.INVALID_GROUP_ID, "A group needs a name: give one.")
        before = self._machine.declared(group)
        if before is not None and before.mode != mode:
            raise PenstockError(
                ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
                f"Group {group!r} was declared with mode {before.mode!r}, which cannot be changed to {mode!r}: "
                f"use another group name.",
            )
        if mode not in MODES:
            raise PenstockError(
                ErrorCode.INVALID_REQUEST,
                f"Mode {mode!r} is not available in this release: use one of {', '.join(MODES)}.",
            )
        _check_start(start)
        self._check_topics(topics)
        if not self._registry.has_room_for(group):
            raise PenstockError(
                ErrorCode.POLICY_VIOLATION,
                f"There are {self._registry.settings.groups_max} consumer groups already: delete some first.",
            )

    async def reset(
        self, group: str, to: StartPosition, topics: Sequence[str], *, force: bool, dry_run: bool
    ) -> list[OffsetReset]:
        """See `GroupService.reset`. With `force` all members are removed before positions move, and kept out until they
        have moved, so that nobody commits or reads an old one."""
        self._check_reset(group, to, topics, force=force)
        partitions = self._partitions(topics or self._topics_of(group))
        if dry_run:
            return self._resets(group, await self._resolve(partitions, to))
        self._registry.resetting.add(group)
        try:
            driver = self._registry.live.get(group)
            if driver is not None:
                driver.evict_all()
            positions = await self._resolve(partitions, to)
            self._registry.check(group)
            resets = self._resets(group, positions)
            mode = QUEUE_MODE if self._registry.is_queue(group) else "stream"
            commands = _moved(group, mode, self._registry.clock.now_ms(), positions)
            if commands:
                await self._registry.propose(commands)
                self._registry.on_queue_changed(group)
            return resets
        finally:
            self._registry.resetting.discard(group)

    def _check_reset(self, group: str, to: StartPosition, topics: Sequence[str], *, force: bool) -> None:
        self._registry.check(group)
        _check_start(to)
        state = self._registry.state(group)
        if state is GroupState.DEAD:
            raise PenstockError(ErrorCode.GROUP_ID_NOT_FOUND, f"There is no consumer group {group!r}.")
        if state is not GroupState.EMPTY and not force:
            raise PenstockError(
                ErrorCode.NON_EMPTY_GROUP,
                f"Group {group!r} has active members: stop them first, or force the reset, which makes them rejoin.",
            )
        if group in self._registry.resetting:
            raise PenstockError(
                ErrorCode.REBALANCE_IN_PROGRESS, f"Group {group!r} is being reset already: try again later."
            )
        self._check_topics(topics)

    def _check_topics(self, topics: Sequence[str]) -> None:
        unknown = [topic for topic in topics if self._positions.partition_count(topic) is None]
        if unknown:
            raise PenstockError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"There is no topic {', '.join(map(repr, unknown))}: create it first, or correct its name.",
            )

    def _topics_of(self, group: str) -> list[str]:
        """What the group was declared for and what it has positions of, as far as it still exists."""
        declared = self._machine.declared(group)
        names = dict.fromkeys(declared.topics if declared is not None else ())
        names.update(dict.fromkeys(sorted({topic for (topic, _), _ in self._machine.offsets(group)})))
        return [name for name in names if self._positions.partition_count(name) is not None]

    def _partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        return [
            (topic, partition)
            for topic in dict.fromkeys(topics)
            for partition in range(self._positions.partition_count(topic) or 0)
        ]

    def _resets(self, group: str, positions: dict[TopicPartition, int]) -> list[OffsetReset]:
        resets = []
        for (topic, partition), offset in positions.items():
            resets.append(OffsetReset(topic, partition, self._position(group, topic, partition), offset))
        return resets

    def _position(self, group: str, topic: str, partition: int) -> int:
        """Where the group stands, -1 where nowhere."""
        if self._registry.is_queue(group):
            queue = self._registry.queues.queue(group, topic, partition)
            return -1 if queue is None else queue.floor
        stored = self._machine.offset(group, topic, partition)
        return -1 if stored is None else stored.offset

    async def _resolve(
        self, partitions: Sequence[TopicPartition], start: StartPosition
    ) -> dict[TopicPartition, int]:
        """A position for each partition: within it, at its end when the time is later than all messages."""
        resolved = {}
        for topic, partition in partitions:
            offset = start.offset
            if start.timestamp_ms is not None:
                offset = await self._positions.offset_at(topic, partition, start.timestamp_ms)
                offset = None if offset < 0 else offset
            if self._positions.partition_count(topic) is None:
                continue
            first = self._positions.log_start(topic, partition)
            end = self._positions.high_watermark(topic, partition)
            if start.at == "earliest":
                offset = first
            resolved[topic, partition] = end if offset is None else min(max(offset, first), end)
        return resolved


def _moved(group: str, mode: str, now_ms: int, positions: Mapping[TopicPartition, int]) -> list[Command]:
    """The commands that put a group to these positions."""
    if mode == QUEUE_MODE:
        return [
            QueuePositionSet(group, topic, partition, now_ms, offset)
            for (topic, partition), offset in positions.items()
        ]
    entries = [OffsetEntry(topic, partition, offset) for (topic, partition), offset in positions.items()]
    return offsets_committed(group, now_ms, entries)


def _check_start(start: StartPosition) -> None:
    given = sum(value is not None for value in (start.at, start.timestamp_ms, start.offset))
    if given != 1 or start.at not in (None, "earliest", "latest"):
        raise PenstockError(
            ErrorCode.INVALID_REQUEST,
            "A position is exactly one of: at (earliest or latest), a timestamp, an offset.",
        )
    if start.offset is not None and start.offset < 0:
        raise PenstockError(ErrorCode.INVALID_REQUEST, f"Offset {start.offset} is negative: use 0 or more.")
