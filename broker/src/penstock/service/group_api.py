"""The consumer-group use-cases, as every listener sees them (the classic protocol of Kafka's group coordinator).

Kept beside `api` because groups are a world of their own. Byte strings (subscriptions, assignments) are opaque to the
broker but for the consumer protocol's subscription, which the admin view decodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from penstock.model.errors import ErrorCode
from penstock.model.queue_settings import QueueSettings
from penstock.service.context import RequestContext


class JoinRequest(msgspec.Struct):
    """JoinGroup. `protocols` is (name, metadata) in the member's order of preference. `requires_known_member` is true
    from JoinGroup v4 on (KIP-394: a new dynamic member is first given its id and told to come back)."""

    group: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    member_id: str
    instance_id: str | None
    protocol_type: str
    protocols: Sequence[tuple[str, bytes]]
    requires_known_member: bool = True
    reason: str | None = None
    supports_skipping_assignment: bool = False


class JoinResult(msgspec.Struct):
    """`members` is (member id, instance id, metadata) and only filled for the leader."""

    error: ErrorCode = ErrorCode.NONE
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    member_id: str = ""
    members: Sequence[tuple[str, str | None, bytes]] = ()
    skip_assignment: bool = False


class SyncRequest(msgspec.Struct):
    """SyncGroup; `assignments` is filled by the group's leader. Protocol names are checked when given (v5)."""

    group: str
    generation: int
    member_id: str
    instance_id: str | None
    assignments: Mapping[str, bytes]
    protocol_type: str | None = None
    protocol: str | None = None


class SyncResult(msgspec.Struct):
    error: ErrorCode = ErrorCode.NONE
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


class LeavingMember(NamedTuple):
    member_id: str
    instance_id: str | None
    reason: str | None = None


class LeaveResult(msgspec.Struct):
    """`members` is (member id, instance id, error) in the order asked."""

    error: ErrorCode = ErrorCode.NONE
    members: Sequence[tuple[str, str | None, ErrorCode]] = ()


class OffsetToCommit(NamedTuple):
    """One position. Leader epoch -1 means none; metadata is the client's own note."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str | None = ""


class CommittedOffset(msgspec.Struct):
    """One position as it was committed; offset -1 means that nothing was."""

    topic: str
    partition: int
    offset: int = -1
    leader_epoch: int = -1
    metadata: str | None = ""
    error: ErrorCode = ErrorCode.NONE


class MemberDescription(msgspec.Struct):
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


class GroupDescription(msgspec.Struct):
    """`state` is Kafka's name: Empty, PreparingRebalance, CompletingRebalance, Stable or Dead."""

    group: str
    error: ErrorCode = ErrorCode.NONE
    state: str = "Dead"
    protocol_type: str = ""
    protocol: str = ""
    members: Sequence[MemberDescription] = ()
    message: str | None = None


class StartPosition(msgspec.Struct, frozen=True):
    """Where a declared group begins or is reset to: exactly one of `at` (earliest, latest), `timestamp_ms`, `offset`."""

    at: str | None = None
    timestamp_ms: int | None = None
    offset: int | None = None


class GroupOverview(msgspec.Struct):
    """One group for lists: `declared` groups were set up by a resource or the admin API."""

    group: str
    mode: str
    state: str
    protocol_type: str
    members: int
    lag: int
    declared: bool


class PartitionPosition(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    metadata: str | None
    high_watermark: int
    lag: int


class GroupPosition(msgspec.Struct):
    """Where a group is in one partition: it read what lies below `offset`, and said so last at `commit_ms`."""

    group: str
    state: str
    offset: int
    commit_ms: int


class QueueDetail(msgspec.Struct):
    """What the admin view shows of a queue group beside its lag. `settings` are in effect; `oldest_ms` is the timestamp of the
    oldest message that is not settled (None: there is none, or it is not known), `dead_letters` how many there ever were."""

    settings: QueueSettings
    in_flight: int = 0
    waiting: int = 0
    dead_letters: int = 0
    oldest_ms: int | None = None
    window_full: bool = False


class GroupDetail(msgspec.Struct):
    """The admin view of one group. `assignments` per member id: topic to partitions."""

    overview: GroupOverview
    protocol: str
    coordinator: int
    topics: list[str]
    members: list[MemberDescription]
    assignments: dict[str, dict[str, list[int]]]
    positions: list[PartitionPosition]
    queue: QueueDetail | None = None


class OffsetReset(msgspec.Struct):
    topic: str
    partition: int
    from_offset: int
    to_offset: int


class GroupService(Protocol):
    """Membership, positions and administration of consumer groups."""

    async def find_coordinator(
        self, context: RequestContext, key_type: int, key: str
    ) -> tuple[ErrorCode, int, str, int]:
        """(error, node id, host, port) as the context's listener reaches it; key type 0 is a group, 1 a transaction."""
        ...

    async def join(self, context: RequestContext, request: JoinRequest) -> JoinResult: ...

    async def sync(self, context: RequestContext, request: SyncRequest) -> SyncResult: ...

    async def heartbeat(
        self, context: RequestContext, group: str, generation: int, member_id: str, instance_id: str | None
    ) -> ErrorCode: ...

    async def leave(
        self, context: RequestContext, group: str, members: Sequence[LeavingMember]
    ) -> LeaveResult: ...

    async def commit_offsets(
        self,
        context: RequestContext,
        group: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        offsets: Sequence[OffsetToCommit],
        retention_ms: int = -1,
    ) -> list[tuple[str, int, ErrorCode]]: ...

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
        """None means every partition with a committed offset."""
        ...

    async def describe(self, context: RequestContext, groups: Sequence[str]) -> list[GroupDescription]: ...

    async def list_groups(
        self, context: RequestContext, states: Sequence[str] = (), types: Sequence[str] = ()
    ) -> list[GroupOverview]: ...

    async def delete_groups(
        self, context: RequestContext, groups: Sequence[str]
    ) -> list[tuple[str, ErrorCode]]: ...

    async def delete_offsets(
        self, context: RequestContext, group: str, partitions: Sequence[tuple[str, int]]
    ) -> tuple[ErrorCode, list[tuple[str, int, ErrorCode]]]:
        """OffsetDelete (KIP-496): refused per partition while the group is subscribed to the topic."""
        ...

    async def detail(self, context: RequestContext, group: str) -> GroupDetail:
        """Raises PenstockError(GROUP_ID_NOT_FOUND)."""
        ...

    async def positions_at(
        self, context: RequestContext, topic: str, partition: int, groups_max: int
    ) -> tuple[list[GroupPosition], int]:
        """The positions in one partition, by group: the first `groups_max`, and how many groups have one. Raises
        PenstockError."""
        ...

    async def declare(
        self,
        context: RequestContext,
        group: str,
        mode: str,
        topics: Sequence[str],
        start: StartPosition,
        queue: QueueSettings | None = None,
    ) -> bool:
        """Declares a group; where it has no position yet, it begins at `start`. `queue` is for mode queue alone. True when the
        group is new."""
        ...

    async def reset(
        self,
        context: RequestContext,
        group: str,
        to: StartPosition,
        *,
        topics: Sequence[str] = (),
        force: bool = False,
        dry_run: bool = False,
    ) -> list[OffsetReset]: ...
