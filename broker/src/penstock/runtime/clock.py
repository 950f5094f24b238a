"""Time, as the drivers read it; pure code gets it as an argument."""

from __future__ import annotations

import time


class Clock:
    """Wall time for what people and records see, monotonic time for deadlines. Milliseconds."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds of a clock that never goes back."""
        return time.monotonic_ns() // 1_000_000
