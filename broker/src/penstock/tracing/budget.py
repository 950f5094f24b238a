"""How often something costly may be done: so many times a second, over a window that starts with the first."""

from __future__ import annotations

_WINDOW_MS = 1000


class Budget:
    """At most `per_second` in each second. `refused` counts what was not allowed."""

    __slots__ = ("_left", "_until_ms", "per_second", "refused")

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self.refused = 0
        self._left = 0
        self._until_ms = 0

    def take(self, now_ms: int) -> bool:
        """Whether it may be done once more. `now_ms` is of a clock that does not go back."""
        if now_ms >= self._until_ms:
            self._until_ms = now_ms + _WINDOW_MS
            self._left = self.per_second
        if self._left:
            self._left -= 1
            return True
        self.refused += 1
        return False
