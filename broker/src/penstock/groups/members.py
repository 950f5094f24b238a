"""The members of one group: who they are, what they offer, what they wait for.

`Roster` keeps members by id, static members by instance id (KIP-345), member ids that were handed out and not used yet
(KIP-394), and the leader. It knows nothing of states and generations; `classic` does.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock.groups.commands import MemberRecord
from penstock.groups.requests import Join
from penstock.model.errors import ErrorCode


class Member(msgspec.Struct):
    """One member. `session_end_ms` is when its session ends unless it is heard of; while one of its requests is parked
    it is known to be alive, but for a new member, whose first join may have been given up by its client."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    session_end_ms: int
    assignment: bytes = b""
    join_token: int | None = None
    sync_token: int | None = None
    is_new: bool = False

    @property
    def expires_ms(self) -> int | None:
        """When the member counts as gone, None while a parked request proves it alive."""
        if self.sync_token is not None or (self.join_token is not None and not self.is_new):
            return None
        return self.session_end_ms

    @property
    def metadata_bytes(self) -> int:
        """Size of all its protocols' metadata."""
        return protocols_bytes(self.protocols)

    def heard(self, now_ms: int) -> None:
        """Its session starts again. A new member has no session before its first generation."""
        if not self.is_new:
            self.session_end_ms = now_ms + self.session_timeout_ms

    def metadata(self, protocol: str | None) -> bytes:
        """What it said for the selected protocol."""
        return next((data for name, data in self.protocols if name == protocol), b"")

    def record(self) -> MemberRecord:
        """The member as the log keeps it."""
        return MemberRecord(
            self.member_id,
            self.instance_id,
            self.client_id,
            self.client_host,
            self.session_timeout_ms,
            self.rebalance_timeout_ms,
            self.protocols,
            self.assignment,
        )


def member_of(record: MemberRecord, now_ms: int) -> Member:
    """A member that comes back from the log, with a fresh session."""
    return Member(
        record.member_id,
        record.instance_id,
        record.client_id,
        record.client_host,
        record.session_timeout_ms,
        record.rebalance_timeout_ms,
        record.protocols,
        now_ms + record.session_timeout_ms,
        record.assignment,
    )


def joining_member(member_id: str, request: Join, token: int, now_ms: int, join_timeout_ms: int) -> Member:
    """A new member whose first JoinGroup is parked under `token`."""
    return Member(
        member_id,
        request.instance_id,
        request.client_id,
        request.client_host,
        request.session_timeout_ms,
        request.rebalance_timeout_ms,
        request.protocols,
        now_ms + join_timeout_ms,
        join_token=token,
        is_new=True,
    )


def protocols_bytes(protocols: Iterable[tuple[str, bytes]]) -> int:
    """Size of the metadata of `protocols`."""
    return sum(len(data) for _, data in protocols)


class Roster:
    """All members of a group, in the order in which they joined."""

    __slots__ = ("by_id", "by_instance", "leader", "metadata_bytes", "pending")

    def __init__(self) -> None:
        self.by_id: dict[str, Member] = {}
        self.by_instance: dict[str, str] = {}
        self.pending: dict[str, int] = {}
        """Member ids handed out by MEMBER_ID_REQUIRED, and when they lapse."""
        self.leader: str | None = None
        self.metadata_bytes = 0

    def __len__(self) -> int:
        return len(self.by_id)

    @property
    def awaiting_join(self) -> int:
        """Members whose JoinGroup is parked."""
        return sum(member.join_token is not None for member in self.by_id.values())

    @property
    def all_joined(self) -> bool:
        """Whether every member's JoinGroup is parked."""
        return all(member.join_token is not None for member in self.by_id.values())

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest that a member asked for: how long a rebalance waits for all of them."""
        return max((member.rebalance_timeout_ms for member in self.by_id.values()), default=0)

    def static(self, instance_id: str | None) -> Member | None:
        """The member that holds the instance id now."""
        return None if instance_id is None else self.by_id.get(self.by_instance.get(instance_id, ""))

    def add(self, member: Member) -> None:
        """Adds a member; the first one leads."""
        self.by_id[member.member_id] = member
        self.metadata_bytes += member.metadata_bytes
        if member.instance_id is not None:
            self.by_instance[member.instance_id] = member.member_id
        self.pending.pop(member.member_id, None)
        if self.leader is None:
            self.leader = member.member_id

    def remove(self, member: Member) -> None:
        """Removes a member; when it led, the longest member leads."""
        del self.by_id[member.member_id]
        self.metadata_bytes -= member.metadata_bytes
        if member.instance_id is not None and self.by_instance.get(member.instance_id) == member.member_id:
            del self.by_instance[member.instance_id]
        if self.leader == member.member_id:
            self.leader = next(iter(self.by_id), None)

    def replace(self, old: Member, member_id: str) -> None:
        """Gives a static member a new id, in its old place; leadership goes with it."""
        previous = old.member_id
        renamed = {(member_id if name == previous else name): member for name, member in self.by_id.items()}
        old.member_id = member_id
        self.by_id = renamed
        assert old.instance_id is not None
        self.by_instance[old.instance_id] = member_id
        if self.leader == previous:
            self.leader = member_id

    def update(self, member: Member, request: Join) -> None:
        """Takes over what a member says of itself when it joins again."""
        self.metadata_bytes += protocols_bytes(request.protocols) - member.metadata_bytes
        member.protocols = request.protocols
        member.client_id = request.client_id
        member.client_host = request.client_host
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = request.rebalance_timeout_ms

    def refusal(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """Why a request in the name of this member is refused: FENCED_INSTANCE_ID when another process took over the
        instance id (KIP-345), UNKNOWN_MEMBER_ID, or NONE."""
        if instance_id is not None:
            holder = self.by_instance.get(instance_id)
            if holder is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if holder != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self.by_id else ErrorCode.UNKNOWN_MEMBER_ID

    def elect_joined_leader(self) -> bool:
        """Makes sure that a member that has rejoined leads (a static member may be away); False when none has."""
        leader = self.by_id.get(self.leader or "")
        if leader is not None and leader.join_token is not None:
            return True
        for member in self.by_id.values():
            if member.join_token is not None:
                self.leader = member.member_id
                return True
        return False
