"""The plan and the status of one ConsumerGroup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from penstock_operator.api.group import DEAD_LETTER_SUFFIX, DeliveryLease, Retry
from penstock_operator.api.units import duration_ms
from penstock_operator.plan.words import coarse_duration, counted
from penstock_operator.snapshot.dependents import QueueSeen

if TYPE_CHECKING:
    from penstock_operator.api.common import Position
    from penstock_operator.api.group import ConsumerGroup
    from penstock_operator.snapshot.dependents import GroupSeen


class DeclareGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Make the group, or bring its topics and settings to the spec. `declaration` is what the admin API is told."""

    why: str
    declaration: dict[str, Any]


class ResetGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Move the group's offsets, once for a token."""

    why: str
    to: dict[str, Any]
    force: bool
    token: str


def plan_group(
    group: ConsumerGroup, seen: GroupSeen | None, told: bool = False
) -> DeclareGroup | ResetGroup | None:
    """The one thing to do, or None. `told`: the broker was told the declaration in this pass already."""
    spec = group.spec
    why = _why_declare(group, seen, told)
    if why is not None:
        return DeclareGroup(why=why, declaration=declaration(group))
    reset = spec.reset
    if reset is not None and (group.status.reset is None or group.status.reset.token != reset.token):
        why = f"group {group.wire_name} is reset because the token is now {reset.token}"
        return ResetGroup(why=why, to=position(reset), force=reset.force, token=reset.token)
    return None


def _why_declare(group: ConsumerGroup, seen: GroupSeen | None, told: bool) -> str | None:
    """Why the broker is told what the group should be; None when it has that already."""
    name, wanted = f"group {group.wire_name}", sorted(group.spec.topics)
    if seen is None:
        return f"{name} does not exist"
    if not seen.declared:
        return f"{name} was made by a client and is adopted"
    if seen.mode != group.spec.mode:
        # The broker says why it cannot be: a mode is for good.
        return f"{name} has mode {seen.mode} instead of {group.spec.mode}"
    if sorted(seen.topics) != wanted:
        return f"{name} has topics {', '.join(sorted(seen.topics)) or 'none'} instead of {', '.join(wanted)}"
    if group.spec.mode != "queue":
        return None
    if not told and not was_ready(group):
        # The broker does not show all settings, and telling it what it knows changes nothing there.
        return f"{name} was not yet declared as generation {group.metadata.generation} of its spec says"
    return _settings_differ(group, seen)


def was_ready(group: ConsumerGroup) -> bool:
    """Whether a pass has found the broker's group to be as this generation of the spec says."""
    return any(
        condition.type == "Ready"
        and condition.status == "True"
        and condition.observed_generation == group.metadata.generation
        for condition in group.status.conditions
    )


def _settings_differ(group: ConsumerGroup, seen: GroupSeen) -> str | None:
    wanted = queue_settings(group)
    if seen.queue is None:
        return f"group {group.wire_name} has no settings of a queue group"
    for what, is_now, should in (
        ("lease.duration in ms", seen.queue.lease_ms, wanted["lease"]["durationMs"]),
        ("lease.maxInFlight", seen.queue.max_in_flight, wanted["lease"]["maxInFlight"]),
        ("retry.maxDeliveries", seen.queue.max_deliveries, wanted["retry"]["maxDeliveries"]),
        ("deadLetter.topicName", seen.queue.dead_letter_topic, wanted["deadLetter"]["topicName"]),
    ):
        if is_now != should:
            return f"group {group.wire_name} has {what} {is_now} instead of {should}"
    return None


def declaration(group: ConsumerGroup) -> dict[str, Any]:
    """The group as the admin API is told it."""
    spec = group.spec
    declared = {"mode": spec.mode, "topics": sorted(spec.topics), "start": position(spec.start)}
    return declared | queue_settings(group) if spec.mode == "queue" else declared


def queue_settings(group: ConsumerGroup) -> dict[str, Any]:
    """How a queue group delivers, every setting written out: what is left out falls back to the default, not to the
    broker's last one. Durations become whole milliseconds."""
    retry, lease = group.spec.retry or Retry(), group.spec.lease or DeliveryLease()
    dead_letter = group.spec.dead_letter
    return {
        "retry": {
            "maxDeliveries": retry.max_deliveries,
            "backoff": {
                "initialMs": duration_ms(retry.backoff.initial),
                "factor": retry.backoff.factor,
                "maxMs": duration_ms(retry.backoff.max),
                "jitter": retry.backoff.jitter,
            },
        },
        "deadLetter": {
            "topicName": dead_letter.topic_name if dead_letter else f"{group.wire_name}{DEAD_LETTER_SUFFIX}"
        },
        "lease": {"durationMs": duration_ms(lease.duration), "maxInFlight": lease.max_in_flight},
    }


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
    queue = seen.queue or QueueSeen()
    age_ms = queue.oldest_message_age_ms
    facts = {
        "groupName": group.wire_name,
        "state": seen.state,
        "members": len(seen.members),
        "lag": seen.lag,
        "inFlight": queue.in_flight,
        "deadLetters": queue.dead_letters,
        "oldestMessageAge": None if age_ms is None else coarse_duration(age_ms),
    }
    message = f"group {group.wire_name} exists with {counted(len(group.spec.topics), 'topic')}"
    if queue.window_full:
        message += (
            f"; nothing new is delivered: {queue.max_in_flight} messages are in flight, the most that"
            " lease.maxInFlight allows"
        )
    return facts, message
