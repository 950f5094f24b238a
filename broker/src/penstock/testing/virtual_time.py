"""Time that a test moves: `penstock.service.ports.Clock` with timers, and letting everything run that is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class FakeTimer:
    """A call that waits."""

    def __init__(self, at_ms: float, callback: Callable[[], None]) -> None:
        self.at_ms = at_ms
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """It does not come."""
        self.callback = None


class FakeClock:
    """Time moves in `advance` alone; wall and monotonic time differ by a constant."""

    WALL_MS = 1_700_000_000_000

    def __init__(self) -> None:
        self.ms = 0.0
        self.timers: list[FakeTimer] = []

    def now_ms(self) -> int:
        """The wall clock."""
        return self.WALL_MS + int(self.ms)

    def monotonic_ms(self) -> int:
        """The monotonic clock."""
        return int(self.ms)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        """Calls back once so much time has passed."""
        timer = FakeTimer(self.ms + seconds * 1000, callback)
        self.timers.append(timer)
        return timer

    @property
    def pending(self) -> list[FakeTimer]:
        """Calls to come."""
        return [timer for timer in self.timers if timer.callback is not None]

    async def advance(self, ms: float) -> None:
        """Lets so much time pass, call by call."""
        end = self.ms + ms
        while True:
            await settle()
            due = min(self.pending, key=lambda timer: timer.at_ms, default=None)
            if due is None or due.at_ms > end:
                break
            self.ms = max(self.ms, due.at_ms)
            callback, due.callback = due.callback, None
            self.timers.remove(due)
            assert callback is not None
            callback()
        self.ms = end
        await settle()


async def settle() -> None:
    """Lets everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)
