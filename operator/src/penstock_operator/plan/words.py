"""Words for sentences in status and Events."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 topic`, `2 topics`, `2 copies`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def coarse_duration(milliseconds: int) -> str:
    """`0s`, `42s`, `3m`, `5h`, `2d`: one unit, rounded down, so that what grows does not change with every look."""
    seconds = max(milliseconds, 0) // 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
