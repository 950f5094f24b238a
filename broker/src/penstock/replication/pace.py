"""How fast members that are behind are fed: slowly enough that those who keep up hardly notice.

Reading old entries, sending them and taking them costs the brokers' processors, disks and network, which the live stream
needs first. So they leave at a bounded rate. It grows with the live stream, for whoever is behind has to come closer
while the log grows, however fast that is.
"""

from __future__ import annotations

MIB = 1024 * 1024
# At least so much is sent, over all members that are behind.
BYTES_PER_SECOND_MIN = 64 * MIB
# And at least so many times what the leader appends meanwhile.
LIVE_FACTOR = 2.0
# Over how long the live stream is measured.
LIVE_SECONDS = 1.0
# What is sent to a member waits behind what is paced, heartbeats too, so nothing waits for long.
WAIT_SECONDS_MAX = 0.1


class Pace:
    """Of one leader. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._free_at = 0.0
        self._live_since = (0.0, 0)
        self._live_bytes_per_second = 0.0

    def book(self, now: float, size_bytes: int, appended_bytes: int) -> float:
        """Books so many bytes for a member that is behind; gives how many seconds they have to wait. `appended_bytes` is
        what the leader has appended so far."""
        since, appended = self._live_since
        if now - since >= LIVE_SECONDS:
            self._live_bytes_per_second = (appended_bytes - appended) / (now - since)
            self._live_since = (now, appended_bytes)
        rate = max(self._live_bytes_per_second * LIVE_FACTOR, BYTES_PER_SECOND_MIN)
        begin = min(max(self._free_at, now), now + WAIT_SECONDS_MAX)
        self._free_at = begin + size_bytes / rate
        return begin - now
