"""Which object is due when: the state of the work queue, without clock, tasks or locks.

Every object has at most one entry, however often it is woken, and is worked on by at most one worker at a time; a wake
while it is worked on makes it due again afterwards. Failures back off exponentially per object.
"""

from __future__ import annotations

import heapq
from typing import Final

from penstock_operator.reconcile.ports import Key

KEYS_MAX: Final = 50_000
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0


class Schedule:
    """Due times by object. Times are seconds of any one clock, given by the caller."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []  # may hold outdated entries; `_due` decides
        self._running: set[Key] = set()
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._due.keys() | self._running)

    def wake(self, key: Key, now: float, after_s: float = 0.0) -> bool:
        """Make the object due at the latest then. False when there are too many objects already."""
        when = now + after_s
        current = self._due.get(key)
        if current is None and key not in self._running and len(self._due) >= KEYS_MAX:
            return False
        if current is None or when < current:
            self._due[key] = when
            heapq.heappush(self._heap, (when, key))
            if len(self._heap) > 4 * KEYS_MAX:
                self._compact()
        return True

    def take(self, now: float) -> Key | None:
        """The object that has been due longest and that nobody works on; it counts as running from now on."""
        postponed: list[tuple[float, Key]] = []
        found = None
        while self._heap and self._heap[0][0] <= now:
            when, key = heapq.heappop(self._heap)
            if self._due.get(key) != when:
                continue
            if key in self._running:
                postponed.append((when, key))
                continue
            del self._due[key]
            self._running.add(key)
            found = key
            break
        for entry in postponed:
            heapq.heappush(self._heap, entry)
        return found

    def next_due(self) -> float | None:
        """When the next object that nobody works on is due."""
        waiting = [when for key, when in self._due.items() if key not in self._running]
        return min(waiting, default=None)

    def finished(self, key: Key, now: float, again_after_s: float | None) -> None:
        """The pass is over; look again after that time, or at the next wake only."""
        self._running.discard(key)
        self._failures.pop(key, None)
        if again_after_s is not None:
            self.wake(key, now, again_after_s)

    def failed(self, key: Key, now: float) -> float:
        """The pass failed; returns after how many seconds it is tried again."""
        self._running.discard(key)
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * (1 << min(count, 16)))
        # What woke it meanwhile waits as well: a failing object must not spin.
        self._due.pop(key, None)
        self.wake(key, now, delay)
        return delay

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    def _compact(self) -> None:
        self._heap = [(when, key) for key, when in self._due.items()]
        heapq.heapify(self._heap)
