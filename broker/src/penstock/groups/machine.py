"""The replicated state of consumer groups: positions, the last completed rebalance, declarations.

A fold over the log, as `StateMachine` says. Live membership (who waits for what) is not replicated: after a failover
the new coordinator starts from the last completed rebalance, and members that go on heartbeating notice nothing.
What to write is decided elsewhere: commits by the service, expiry by `expiry`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from penstock.groups.commands import (
    GroupDeclared,
    GroupDeleted,
    GroupGeneration,
    GroupMemberReplaced,
    GroupOffsets,
    GroupOffsetsDeleted,
    MemberRecord,
    OffsetEntry,
)
from penstock.model.commands import Command
from penstock.model.snapshots import encode_list
from penstock.model.staged import StagedMap

TopicPartition = tuple[str, int]

OFFSETS_PER_COMMAND_MAX = 1_000
"""More positions go into several commands, which bounds the size of a log entry."""


class StoredOffset(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A committed position. `expire_ms` is a time that the client asked for, -1 for the broker's default."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_ms: int
    expire_ms: int = -1


class _SnapshotGroup(msgspec.Struct, array_like=True):
    name: str
    generation: GroupGeneration | None
    declared: GroupDeclared | None
    offsets: list[tuple[str, int, StoredOffset]]


class _Snapshot(msgspec.Struct):
    version: int
    groups: list[_SnapshotGroup]


class _EncodedSnapshot(msgspec.Struct):
    version: int
    groups: msgspec.Raw


class _SnapshotVersion(msgspec.Struct):
    version: int


class GroupsMachine:
    """All groups of a shard. Reading methods see the deepest view: committed state under what is appended."""

    name = "groups"
    version = 1
    commands: tuple[type[Command], ...] = (
        GroupOffsets,
        GroupGeneration,
        GroupMemberReplaced,
        GroupDeclared,
        GroupDeleted,
        GroupOffsetsDeleted,
    )

    def __init__(self) -> None:
        self._generations: StagedMap[str, GroupGeneration] = StagedMap()
        self._declared: StagedMap[str, GroupDeclared] = StagedMap()
        self._offsets: dict[str, StagedMap[TopicPartition, StoredOffset]] = {}
        # Which groups have positions of a topic, as of the deepest view.
        self._groups_by_topic: dict[str, set[str]] = {}

    # --- the view that decisions read ------------------------------------------------------------------

    def generation(self, group: str) -> GroupGeneration | None:
        """The group as of its last completed rebalance."""
        return self._generations.get(group)

    def generations(self) -> Iterator[GroupGeneration]:
        """Every group that has completed a rebalance."""
        return self._generations.values()

    def declared(self, group: str) -> GroupDeclared | None:
        """How the group was declared, if it was."""
        return self._declared.get(group)

    def offset(self, group: str, topic: str, partition: int) -> StoredOffset | None:
        """A committed position, None when there is none."""
        offsets = self._offsets.get(group)
        return None if offsets is None else offsets.get((topic, partition))

    def offsets(self, group: str) -> Iterator[tuple[TopicPartition, StoredOffset]]:
        """Every position of the group."""
        offsets = self._offsets.get(group)
        return iter(()) if offsets is None else offsets.items()

    def has_offsets(self, group: str) -> bool:
        """Whether any position is committed."""
        return next(self.offsets(group), None) is not None

    def exists(self, group: str) -> bool:
        """Whether the log knows the group."""
        return group in self._generations or group in self._declared or self.has_offsets(group)

    def names(self) -> list[str]:
        """Every group that the log knows."""
        names = dict.fromkeys(name for name, _ in self._generations.items())
        names.update(dict.fromkeys(name for name, _ in self._declared.items()))
        for name, offsets in self._offsets.items():
            # Looking into each overlay would take long where there are many groups.
            if (offsets.committed and not offsets.staged_count) or self.has_offsets(name):
                names[name] = None
        return list(names)

    @property
    def count(self) -> int:
        """Groups of the most numerous kind: with positions, with a completed rebalance, or declared. Cheap, and enough
        to bound each kind."""
        return max(
            len(self._offsets),
            len(self._generations.committed) + self._generations.staged_count,
            len(self._declared.committed) + self._declared.staged_count,
        )

    def topic_deleted(self, topic: str, time_ms: int) -> list[Command]:
        """The commands that drop every group's positions of a deleted topic."""
        commands: list[Command] = []
        for group in sorted(self._groups_by_topic.get(topic, ())):
            gone = [partition for partition, _ in self.offsets(group) if partition[0] == topic]
            commands.extend(offsets_deleted(group, gone, time_ms))
        return commands

    # --- the fold --------------------------------------------------------------------------------------

    def stage(self, index: int, command: Command) -> None:
        """See `StateMachine.stage`."""
        self._transition(index, command, staged=True)

    def apply(self, index: int, command: Command) -> None:
        """See `StateMachine.apply`."""
        self._transition(index, command, staged=False)

    def drop_staged(self) -> None:
        """See `StateMachine.drop_staged`."""
        self._generations.drop_staged()
        self._declared.drop_staged()
        self._groups_by_topic = {}
        for group, offsets in list(self._offsets.items()):
            offsets.drop_staged()
            if not offsets.committed:
                del self._offsets[group]
            self._index_topics(group, offsets.committed)

    def _transition(self, index: int, command: Command, *, staged: bool) -> None:
        match command:
            case GroupOffsets():
                self._put_offsets(index, command, staged=staged)
            case GroupGeneration():
                self._generations.writer(index, staged=staged)[command.group] = command
            case GroupMemberReplaced():
                generations = self._generations.writer(index, staged=staged)
                current = generations.get(command.group)
                if current is not None:
                    generations[command.group] = _with_replaced(current, command.member)
            case GroupDeclared():
                self._declared.writer(index, staged=staged)[command.group] = command
            case GroupDeleted():
                self._generations.writer(index, staged=staged).pop(command.group, None)
                self._declared.writer(index, staged=staged).pop(command.group, None)
                if command.group in self._offsets:
                    keys = list(self._offsets[command.group].writer(index, staged=staged))
                    self._delete_offsets(index, command.group, keys, staged=staged)
            case GroupOffsetsDeleted():
                self._delete_offsets(index, command.group, command.partitions, staged=staged)
            case _:
                raise AssertionError(f"groups cannot apply {type(command).__name__}")

    def _put_offsets(self, index: int, command: GroupOffsets, *, staged: bool) -> None:
        offsets = self._offsets.setdefault(command.group, StagedMap())
        writer = offsets.writer(index, staged=staged)
        self._index_topics(command.group, ((entry.topic, entry.partition) for entry in command.offsets))
        for entry in command.offsets:
            writer[entry.topic, entry.partition] = StoredOffset(
                entry.offset, entry.leader_epoch, entry.metadata, command.time_ms, command.expire_ms
            )

    def _delete_offsets(
        self, index: int, group: str, partitions: Iterable[TopicPartition], *, staged: bool
    ) -> None:
        offsets = self._offsets.get(group)
        if offsets is None:
            return
        writer = offsets.writer(index, staged=staged)
        topics = set()
        for partition in partitions:
            writer.pop(partition, None)
            topics.add(partition[0])
        for topic in topics.difference(topic for (topic, _), _ in offsets.items()):
            groups = self._groups_by_topic.get(topic, set())
            groups.discard(group)
            if not groups:
                self._groups_by_topic.pop(topic, None)
        if not offsets.committed and not offsets.staged_count:
            del self._offsets[group]

    def _index_topics(self, group: str, partitions: Iterable[TopicPartition]) -> None:
        for topic, _ in partitions:
            self._groups_by_topic.setdefault(topic, set()).add(group)

    # --- snapshots -------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`. Sorted, so that equal states give equal bytes."""
        return self.freeze()()

    def freeze(self) -> Callable[[], bytes]:
        """See `StateMachine.freeze`."""
        generations, declared = dict(self._generations.committed), dict(self._declared.committed)
        positions = {
            name: list(offsets.committed.items())
            for name, offsets in self._offsets.items()
            if offsets.committed
        }

        def encode() -> bytes:
            groups = (
                _SnapshotGroup(
                    name,
                    generations.get(name),
                    declared.get(name),
                    sorted(
                        (topic, partition, stored) for (topic, partition), stored in positions.get(name, ())
                    ),
                )
                for name in sorted({*generations, *declared, *positions})
            )
            return msgspec.msgpack.encode(_EncodedSnapshot(self.version, encode_list(groups)))

        return encode

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`. Raises ValueError on a snapshot of a later release."""
        version = msgspec.msgpack.decode(data, type=_SnapshotVersion).version
        if version > self.version:
            raise ValueError(
                f"The snapshot of consumer groups has version {version}, this release reads up to {self.version}: "
                f"start a release that is at least as new as the one that wrote it."
            )
        snapshot = msgspec.msgpack.decode(data, type=_Snapshot)
        self._generations, self._declared = StagedMap(), StagedMap()
        self._offsets, self._groups_by_topic = {}, {}
        for group in snapshot.groups:
            if group.generation is not None:
                self._generations.committed[group.name] = group.generation
            if group.declared is not None:
                self._declared.committed[group.name] = group.declared
            if group.offsets:
                offsets: StagedMap[TopicPartition, StoredOffset] = StagedMap()
                offsets.committed = {(topic, partition): stored for topic, partition, stored in group.offsets}
                self._offsets[group.name] = offsets
                self._index_topics(group.name, offsets.committed)


def offsets_committed(
    group: str, time_ms: int, entries: Sequence[OffsetEntry], expire_ms: int = -1
) -> list[Command]:
    """The commands that commit these positions, of bounded size each."""
    return [
        GroupOffsets(group, time_ms, tuple(entries[start : start + OFFSETS_PER_COMMAND_MAX]), expire_ms)
        for start in range(0, len(entries), OFFSETS_PER_COMMAND_MAX)
    ]


def offsets_deleted(group: str, partitions: list[TopicPartition], time_ms: int) -> list[Command]:
    """The commands that delete these positions, of bounded size each."""
    return [
        GroupOffsetsDeleted(group, time_ms, tuple(partitions[start : start + OFFSETS_PER_COMMAND_MAX]))
        for start in range(0, len(partitions), OFFSETS_PER_COMMAND_MAX)
    ]


def _with_replaced(current: GroupGeneration, replacement: MemberRecord) -> GroupGeneration:
    members = []
    leader = current.leader
    for member in current.members:
        if member.instance_id is None or member.instance_id != replacement.instance_id:
            members.append(member)
            continue
        if member.member_id == leader:
            leader = replacement.member_id
        members.append(msgspec.structs.replace(replacement, assignment=member.assignment))
    return msgspec.structs.replace(current, leader=leader, members=tuple(members))
