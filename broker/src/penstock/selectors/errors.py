"""What is said of an expression that cannot be used."""

from __future__ import annotations


class SelectorError(ValueError):
    """An expression is wrong. `position` is the character at which that shows, counted from 1 (one more than there are,
    where something is missing at the end); `reason` is a sentence that says what to write instead; `field` says which
    expression of a group's filter it is, where that is known."""

    def __init__(self, position: int, reason: str, field: str = "") -> None:
        super().__init__(f"{field + ', ' if field else ''}at character {position}: {reason}")
        self.position = position
        self.reason = reason
        self.field = field
