"""The chart's alert rules for a Prometheus whose time passes faster: the same expressions, with every wait divided by a factor.

What is divided is how long Prometheus waits and looks back: `for`, the ranges in brackets, and how often it scrapes and
evaluates. What is compared stays: a threshold of 300 seconds of lag is 300 seconds of lag.
"""

from __future__ import annotations

import copy
import re
from typing import Any

FACTOR = 20
"""A rule that fires after a minute fires after three seconds: longer than an election, shorter than anybody's patience."""
INTERVAL = "30s"
"""How often the chart's PodMonitors have Prometheus scrape, and how often the Prometheus operator has it evaluate rules."""
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_RANGE = re.compile(r"\[(\w+)\]")
_TEXT = re.compile(r'"[^"]*"')
_LOOSE_DURATION = re.compile(r"(?<![\w\[.])\d+(?:ms|[smhdwy])(?!\w)")


def divided(duration: str, factor: int) -> str:
    """A duration of one unit, such as `5m`, divided: `15000ms`. Raises ValueError for any other."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f"{duration!r} is not a number and a unit of {', '.join(_UNITS_MS)}")
    length_ms = int(match[1]) * _UNITS_MS[match[2]]
    if length_ms % factor:
        raise ValueError(f"{duration} divided by {factor} is no whole number of milliseconds")
    return f"{length_ms // factor}ms"


def hastened(groups: list[dict[str, Any]], factor: int) -> list[dict[str, Any]]:
    """The rule groups with every wait divided. Raises ValueError for a wait that stands where this does not look for one: it
    would be as long as before, and the rule would be another one."""
    found = copy.deepcopy(groups)
    for group in found:
        if "interval" in group:
            group["interval"] = divided(group["interval"], factor)
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = divided(rule["for"], factor)
            rule["expr"] = _with_ranges_divided(rule["expr"], factor)
    return found


def _with_ranges_divided(expression: str, factor: int) -> str:
    changed = _RANGE.sub(lambda match: f"[{divided(match[1], factor)}]", expression)
    loose = _LOOSE_DURATION.search(_RANGE.sub("", _TEXT.sub("", changed)))
    if loose is not None or ":" in _TEXT.sub("", changed):
        raise ValueError(f"a wait that is not a range in brackets: {expression}")
    return changed
