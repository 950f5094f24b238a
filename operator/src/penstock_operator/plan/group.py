"""The plan and the status of one ConsumerGroup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from penstock_operator.plan.words import counted

if TYPE_CHECKING:
    from penstock_operator.api.common import Position
    from penstock_operator.api.group import ConsumerGroup
    from penstock_operator.snapshot.dependents import GroupSeen


class DeclareGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Make the group, or bring its topics to the spec."""

    why: str
    mode: str
    topics: list[str]
    start: dict[str, Any]


class ResetGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Move the group's offsets, once for a token."""

    why: str
    to: dict[str, Any]
    force: bool
    token: str


def plan_group(group: ConsumerGroup, seen: GroupSeen | None) -> DeclareGroup | ResetGroup | None:
    """The one thing to do, or None."""
    spec = group.spec
    declare = DeclareGroup(
        why=f"group {group.wire_name} does not exist",
        mode=spec.mode,
        topics=sorted(spec.topics),
        start=position(spec.start),
    )
    if seen is None:
        return declare
    if not seen.declared:
        return msgspec.structs.replace(
            declare, why=f"group {group.wire_name} was made by a client and is adopted"
        )
    if sorted(seen.topics) != declare.topics:
        why = f"group {group.wire_name} has topics {', '.join(sorted(seen.topics)) or 'none'} instead of {', '.join(declare.topics)}"
        return msgspec.structs.replace(declare, why=why)
    reset = spec.reset
    if reset is not None and (group.status.reset is None or group.status.reset.token != reset.token):
        why = f"group {group.wire_name} is reset because the token is now {reset.token}"
        return ResetGroup(why=why, to=position(reset), force=reset.force, token=reset.token)
    return None


def position(where: Position) -> dict[str, Any]:
    """A place as the admin API writes it; the first field that is set counts."""
    if where.at is not None:
        return {"at": where.at}
    if where.timestamp is not None:
        return {"timestamp": where.timestamp}
    if where.offset is not None:
        return {"offset": where.offset}
    return {"at": "latest"}


def reset_message(answer: dict[str, Any]) -> str:
    """What a reset did, in a sentence for status."""
    offsets = answer.get("offsets", [])
    moved = [row for row in offsets if row.get("from") != row.get("to")]
    return f"moved {len(moved)} of {len(offsets)} partitions"


def group_facts(group: ConsumerGroup, seen: GroupSeen) -> tuple[dict[str, Any], str]:
    """What status says about a group that is as its spec says, and the sentence of its Ready condition."""
    facts = {
        "groupName": group.wire_name,
        "state": seen.state,
        "members": len(seen.members),
        "lag": seen.lag,
        "inFlight": 0,
        "deadLetters": 0,
    }
    return facts, f"group {group.wire_name} exists with {counted(len(group.spec.topics), 'topic')}"
