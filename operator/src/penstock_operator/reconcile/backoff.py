"""How soon to look again at a cluster that waits for something.

What Kubernetes changes wakes a pass by itself; looking again is for what it does not tell, a broker that catches up above
all. The longer something is wrong already, the less a moment matters: a share of the time that it has been so is waited, so
that a broker which cannot start for days does not cost a look every two seconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

WAIT_S: Final = 2.0  # while something is awaited
PATIENCE: Final = 10  # a trouble is looked at again after this part of its age


def waiting_s(conditions: list[dict[str, Any]], now: str, most_s: float) -> float:
    """Seconds until the next look; `most_s` is how often everything is looked at anyway. `now` is RFC 3339."""
    for condition in conditions:
        if condition["type"] == "Degraded" and condition["status"] == "True":
            since = datetime.fromisoformat(condition["lastTransitionTime"])
            age_s = (datetime.fromisoformat(now) - since).total_seconds()
            return max(WAIT_S, min(age_s / PATIENCE, most_s))
    return WAIT_S
