"""Which object is due when: the state of the work queue, without clock, tasks or locks.

Every object has at most one entry, however often it is woken, and is worked on by at most one worker at a time; a wake
while it is worked on makes it due again afterwards. Failures back off exponentially per object.
"""

from __future__ import annotations

import heapq
from typing import Final

from penstock_operator.reconcile.ports import Key

KEYS_MAX: Final = 50_000
HEAP_SLACK: Final = 4  # outdated entries are cleared away beyond this many times the objects
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0


class Schedule:
    """Due times by object. Times are seconds of any one clock, given by the caller."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}  # objects that nobody works on
        self._heap: list[
            tuple[float, Key]
        ] = []  # the same by time; outdated entries are skipped, `_due` decides
        self._again: dict[Key, float] = {}  # objects that were woken while somebody works on them
        self._running: set[Key] = set()
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._due) + len(self._running)

    def wake(self, key: Key, now: float, after_s: float = 0.0) -> bool:
        """Make the object due at the latest then. False when there are too many objects already."""
        when = now + after_s
        if key in self._running:
            self._again[key] = min(when, self._again.get(key, when))
            return True
        current = self._due.get(key)
        if current is None and len(self) >= KEYS_MAX:
            return False
        if current is None or when < current:
            self._put(key, when)
        return True

    def take(self, now: float) -> Key | None:
        """The object that has been due longest; it counts as running from now on."""
        when = self.next_due()
        if when is None or when > now:
            return None
        _, key = heapq.heappop(self._heap)
        del self._due[key]
        self._running.add(key)
        return key

    def next_due(self) -> float | None:
        """When the next object that nobody works on is due."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> int:
        """How many objects are due and nobody works on them. Takes as long as there are objects: not for every pass."""
        return sum(when <= now for when in self._due.values())

    def failing(self) -> dict[str, int]:
        """How many objects' last pass failed, by kind. One that was forgotten is not among them."""
        counts: dict[str, int] = {}
        for key in self._failures:
            counts[key.kind] = counts.get(key.kind, 0) + 1
        return counts

    def finished(self, key: Key, now: float, again_after_s: float | None) -> None:
        """The pass is over; look again after that time, or when it was woken meanwhile, or at the next wake."""
        self._running.discard(key)
        self._failures.pop(key, None)
        times = [now + again_after_s] if again_after_s is not None else []
        if key in self._again:
            times.append(self._again.pop(key))
        if times:
            self._put(key, min(times))

    def failed(self, key: Key, now: float) -> float:
        """The pass failed; returns after how many seconds it is tried again."""
        self._running.discard(key)
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * (1 << min(count, 16)))
        # What woke it meanwhile waits as well: a failing object must not spin.
        self._again.pop(key, None)
        self._put(key, now + delay)
        return delay

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._due.pop(key, None)
        self._again.pop(key, None)
        self._failures.pop(key, None)

    def _put(self, key: Key, when: float) -> None:
        self._due[key] = when
        heapq.heappush(self._heap, (when, key))
        if len(self._heap) > HEAP_SLACK * KEYS_MAX:
            self._heap = [(time, waiting) for waiting, time in self._due.items()]
            heapq.heapify(self._heap)
