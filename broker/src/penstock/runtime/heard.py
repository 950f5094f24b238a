"""Who was heard of lately."""

from __future__ import annotations


class Heard:
    """Members, and when each sent something last, in ticks; `lately` means within `ticks_max` of them."""

    def __init__(self, ticks_max: int) -> None:
        self._ticks_max = ticks_max
        self._now = 0
        self._last: dict[int, int] = {}

    def tick(self) -> None:
        """A tick has passed."""
        self._now += 1

    def note(self, member: int) -> None:
        """It sent something."""
        self._last[member] = self._now

    def lately(self, member: int) -> bool:
        """Whether it sent something not too long ago."""
        last = self._last.get(member)
        return last is not None and self._now - last < self._ticks_max
