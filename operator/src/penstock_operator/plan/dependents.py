"""What Topics and ConsumerGroups have in common: who owns a name, and the shape of their status."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock_operator.plan.conditions import Statement, merge_conditions, paused_statement


class Claimant(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that claims a name on the wire."""

    name: str
    uid: str
    created: str  # RFC 3339, as the API server writes it: text order is time order
    cluster: str
    wire_name: str


def owner_of(wire_name: str, cluster: str, claimants: list[Claimant]) -> Claimant | None:
    """The resource that has the name: the oldest one, and the alphabet decides between twins."""
    rivals = [
        claimant for claimant in claimants if claimant.cluster == cluster and claimant.wire_name == wire_name
    ]
    return min(rivals, key=lambda claimant: (claimant.created, claimant.name), default=None)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a resource stands after a pass."""

    ready: bool
    reason: str
    message: str
    progressing: bool = False  # whether it is expected to become ready without anybody's help
    facts: dict[str, Any] | None = (
        None  # what status says besides conditions; None keeps what it said, and a fact that is None goes
    )


def dependent_status(
    verdict: Verdict, generation: int, old_status: dict[str, Any], now: str
) -> dict[str, Any]:
    """The whole status of a Topic or ConsumerGroup."""
    degraded = not verdict.ready and not verdict.progressing
    statements = [
        Statement(
            type="Ready",
            status="True" if verdict.ready else "False",
            reason=verdict.reason,
            message=verdict.message,
        ),
        Statement(
            type="Progressing",
            status="True" if verdict.progressing else "False",
            reason=verdict.reason if verdict.progressing else "Settled",
            message=verdict.message if verdict.progressing else "nothing is going on",
        ),
        Statement(
            type="Degraded",
            status="True" if degraded else "False",
            reason=verdict.reason if degraded else "Healthy",
            message=verdict.message if degraded else "nothing is wrong",
        ),
        paused_statement(False),
    ]
    facts = {
        key: value for key, value in old_status.items() if key not in ("observedGeneration", "conditions")
    } | (verdict.facts or {})
    return {
        **{key: value for key, value in facts.items() if value is not None},
        "observedGeneration": generation,
        "conditions": merge_conditions(statements, old_status.get("conditions", []), generation, now),
    }
