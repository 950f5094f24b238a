"""How soon a cluster that waits is looked at again."""

from __future__ import annotations

from typing import Any

import pytest

from penstock_operator.reconcile.backoff import waiting_s


def degraded(status: str, since: str) -> list[dict[str, Any]]:
    return [
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-01T00:00:00Z"},
        {"type": "Degraded", "status": status, "lastTransitionTime": since},
    ]


@pytest.mark.parametrize(
    ("status", "now", "seconds"),
    [
        ("True", "2026-11-21T08:00:00Z", 2.0),
        ("True", "2026-11-21T08:00:20Z", 2.0),
        ("True", "2026-11-21T08:02:00Z", 12.0),
        ("True", "2026-11-23T08:00:00Z", 30.0),
        ("True", "2026-11-21T07:00:00Z", 2.0),  # a clock that was set back
        ("False", "2026-11-23T08:00:00Z", 2.0),  # what is on its way is waited for eagerly
    ],
)
def test_the_longer_a_trouble_lasts_the_less_often_it_is_looked_at(
    status: str, now: str, seconds: float
) -> None:
    assert waiting_s(degraded(status, "2026-11-21T08:00:00Z"), now, 30.0) == seconds
    assert waiting_s([], now, 30.0) == 2.0
