"""Words for sentences in status and Events."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 topic`, `2 topics`, `2 copies`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
