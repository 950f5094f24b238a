"""Conditions, as Kubernetes' own resources have them: a status, a reason for machines, a sentence for people."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

MESSAGE_LENGTH_MAX = 1024  # a condition is a sentence, not a log

Truth = Literal["True", "False", "Unknown"]


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A condition before it is known when it changed."""

    type: str
    status: Truth
    reason: str
    message: str


def merge_conditions(
    statements: list[Statement], old: list[dict[str, Any]], generation: int, now: str
) -> list[dict[str, Any]]:
    """The conditions to publish; `lastTransitionTime` moves only when a status does. `now` is RFC 3339."""
    before = {condition.get("type"): condition for condition in old}
    merged = []
    for statement in statements:
        previous = before.get(statement.type)
        unchanged = previous is not None and previous.get("status") == statement.status
        merged.append(
            {
                "type": statement.type,
                "status": statement.status,
                "reason": statement.reason,
                "message": statement.message[:MESSAGE_LENGTH_MAX],
                "lastTransitionTime": previous["lastTransitionTime"] if previous and unchanged else now,
                "observedGeneration": generation,
            }
        )
    return merged


def transitions(new: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Conditions whose status or reason differs from before: what is worth an Event."""
    before = {condition.get("type"): (condition.get("status"), condition.get("reason")) for condition in old}
    return [
        condition
        for condition in new
        if before.get(condition["type"]) != (condition["status"], condition["reason"])
    ]


def paused_statement(paused: bool) -> Statement:
    """The Paused condition."""
    if paused:
        return Statement(
            type="Paused",
            status="True",
            reason="PausedByAnnotation",
            message="nothing is reconciled while the annotation penstock.io/paused is there: remove it to go on",
        )
    return Statement(type="Paused", status="False", reason="NotPaused", message="reconciled as usual")
