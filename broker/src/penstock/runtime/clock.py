"""Time, as the drivers read it; pure code gets it as an argument."""

from __future__ import annotations

import time

# Goes on while the machine is suspended, as the others' clocks do; only Linux has it.
_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Wall time for what people and records see, monotonic time for deadlines. Milliseconds."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds of a clock that never goes back and does not stand still."""
        return time.clock_gettime_ns(_MONOTONIC) // 1_000_000
