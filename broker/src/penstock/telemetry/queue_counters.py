"""What queue groups count, over all groups; see `counters` for how it is read."""

from __future__ import annotations


class QueueCounters:
    """Messages, each time it happens: `lost` fell out of their partition before they were settled."""

    __slots__ = ("acknowledged", "dead_lettered", "expired", "leased", "lost", "rejected", "released")

    def __init__(self) -> None:
        self.leased = 0
        self.acknowledged = 0
        self.rejected = 0
        self.released = 0
        self.expired = 0
        self.dead_lettered = 0
        self.lost = 0
