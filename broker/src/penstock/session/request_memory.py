"""The memory that requests of all connections of a listener hold, against one bound.

Problem: each connection is bounded, but ten thousand of them are not. Idea: count every received byte until its
request is answered; when the sum reaches `bytes_max` nobody may read, when it has fallen to half of that everybody
may again (the gap keeps ten thousand connections from being stopped and started for each request).

Unfinished requests cannot become answers while nobody reads: when nothing else is left in a full memory, one
connection at a time, the favoured one, reads on until its request is complete, and the next only after that one is
answered. What is held is thus at most `bytes_max`, one read of each connection that was under way, and one request.
Leaves to the driver: stopping and starting the reading, choosing the favoured one, closing peers that do not go on.
"""

from __future__ import annotations


class RequestMemory:
    """Counts of bytes. `held` is everything received and unanswered; `answering` the part that handlers work on."""

    __slots__ = ("answering", "bytes_max", "full", "full_since_ms", "held")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held = 0
        self.answering = 0
        self.full = False
        self.full_since_ms = 0

    def receive(self, count: int) -> bool:
        """Counts received bytes. True when the bound was reached by these, so reading must stop."""
        self.held += count
        return self.held >= self.bytes_max and not self.full

    def stop(self, now_ms: int) -> None:
        """Records that reading was stopped."""
        self.full = True
        self.full_since_ms = now_ms

    def release(self, count: int) -> bool:
        """Forgets bytes. True when reading may start again."""
        self.held -= count
        return self.full and self.held <= self.bytes_max // 2

    def start(self) -> None:
        """Records that reading was started again."""
        self.full = False

    @property
    def needs_favour(self) -> bool:
        """Whether no answer is to be expected that gives memory back, so that someone must read on."""
        return self.full and self.answering == 0

    def stalled_ms(self, now_ms: int) -> int:
        """For how long nobody could read; 0 when reading goes on."""
        return now_ms - self.full_since_ms if self.full else 0
