"""Log entries of consumer groups: positions, completed rebalances, declared groups.

Time enters replicated state only as `time_ms` (ms since the epoch, the log's clock). Structs that are stored by the
thousand are written as arrays; fields are only ever added at their end, with defaults.
"""

from __future__ import annotations

import msgspec

from penstock.model.commands import Command
from penstock.model.queue_settings import QueueSettings


class MemberRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A member as of the last completed rebalance. `protocols` is (name, metadata) in the member's order of preference."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    assignment: bytes = b""


class OffsetEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One position of a commit. Leader epoch -1 means that the client knew none."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str = ""


class GroupOffsets(Command, frozen=True, tag="group.offsets"):
    """Positions were committed. `expire_ms` is a time since the epoch that the client asked for, -1 for the default."""

    group: str
    time_ms: int
    offsets: tuple[OffsetEntry, ...]
    expire_ms: int = -1


class GroupGeneration(Command, frozen=True, tag="group.generation"):
    """A rebalance was completed: this is the group now. No members means that the group became empty at `time_ms`."""

    group: str
    time_ms: int
    generation: int
    protocol_type: str
    protocol: str
    leader: str
    members: tuple[MemberRecord, ...] = ()


class GroupMemberReplaced(Command, frozen=True, tag="group.member.replaced"):
    """A static member came back under a new member id (KIP-345). It is found by its instance id and keeps its
    assignment, whatever `member.assignment` says."""

    group: str
    time_ms: int
    member: MemberRecord


class GroupDeclared(Command, frozen=True, tag="group.declared"):
    """A resource or the admin API declared the group. Exactly one of the three start fields is set. `queue` is set for mode
    `queue` alone; left out, it takes no place, so that releases that know it and those that do not write, and hash, the
    same state."""

    group: str
    time_ms: int
    mode: str
    topics: tuple[str, ...]
    start_at: str | None = None
    start_timestamp_ms: int | None = None
    start_offset: int | None = None
    queue: QueueSettings | msgspec.UnsetType = msgspec.UNSET


class GroupDeleted(Command, frozen=True, tag="group.deleted"):
    """The group is gone, with its positions and its declaration."""

    group: str
    time_ms: int


class GroupOffsetsDeleted(Command, frozen=True, tag="group.offsets.deleted"):
    """Positions of (topic, partition) were deleted, expired, or lost their topic."""

    group: str
    time_ms: int
    partitions: tuple[tuple[str, int], ...]
