"""What goes into a group and what comes out of it, as data.

A group never waits: a request that cannot be answered yet is parked under the token its driver gave, and a later call
returns the `Reply` for that token. What must be in the log before a reply comes out as `Append`; the driver reports
the outcome under the append's ticket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from penstock.groups.commands import GroupGeneration, GroupMemberReplaced
from penstock.model.errors import ErrorCode


class Join(msgspec.Struct, frozen=True):
    """JoinGroup. `suffix` makes a new member id unique and is used only when one is needed."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    suffix: str
    requires_known_member: bool = True
    supports_skipping_assignment: bool = False


class Joined(msgspec.Struct, frozen=True):
    """The answer to JoinGroup. `members` is (member id, instance id, metadata) and only filled for the leader."""

    error: ErrorCode = ErrorCode.NONE
    member_id: str = ""
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: tuple[tuple[str, str | None, bytes], ...] = ()
    skip_assignment: bool = False


class Sync(msgspec.Struct, frozen=True):
    """SyncGroup. `assignments` is read from the leader only; protocol names are checked when given (KIP-559)."""

    member_id: str
    instance_id: str | None
    generation: int
    assignments: Mapping[str, bytes]
    protocol_type: str | None = None
    protocol: str | None = None


class Synced(msgspec.Struct, frozen=True):
    """The answer to SyncGroup."""

    error: ErrorCode = ErrorCode.NONE
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


class Leaving(NamedTuple):
    """One member to remove: by member id, or by instance id with an empty member id (KIP-345)."""

    member_id: str
    instance_id: str | None


class Reply(NamedTuple):
    """Answers the request that was given under `token`."""

    token: int
    result: Joined | Synced


class Append(NamedTuple):
    """Write `command` to the log (its `time_ms` is the driver's to fill) and report the outcome under `ticket`."""

    ticket: int
    command: GroupGeneration | GroupMemberReplaced


Effect = Reply | Append
