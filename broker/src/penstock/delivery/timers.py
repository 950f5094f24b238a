"""When the leases of one queue run out and its waits are over, by the clock of this leadership.

Kept by the leader alone and made anew by each: a lease then lasts its whole duration once more, because nobody can tell
how much of it passed, and a wait ends at the time that was written, or after its whole duration by the new clock if that is
sooner. Messages that went the same way share one `Open` and so one timer, which covers those of them that still have that
very `Open`. Deciding looks at timers and leaves them; they go when what they stood for is seen to have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from penstock.delivery.messages import Open
from penstock.delivery.ranges import Ranges, count_in, offsets_in, ranges_of

# Timers beyond twice the open messages, and this many, are searched for those that stand for nothing any more.
STALE_TIMERS_MIN = 64

Messages = Mapping[int, Open]


class _Timer(NamedTuple):
    at_ms: int
    number: int
    """Breaks ties: older first."""
    message: Open
    ranges: Ranges


class Timers:
    """Timers of one kind, the next first. `messages` of the methods are the queue's open ones."""

    __slots__ = ("_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[_Timer] = []
        self._number = 0

    def add(self, at_ms: int, message: Open, ranges: Ranges, messages: Messages) -> None:
        """All of `ranges` that have this `message` are due at `at_ms`."""
        if len(self._heap) > STALE_TIMERS_MIN + 2 * len(messages):
            self._drop_stale(messages)
        self._number += 1
        heappush(self._heap, _Timer(at_ms, self._number, message, ranges))

    def next_ms(self, messages: Messages) -> int | None:
        """When the next timer is due."""
        heap = self._heap
        while heap:
            at_ms, _, message, ranges = heap[0]
            if any(messages.get(offset) is message for offset in offsets_in(ranges)):
                return at_ms
            heappop(heap)
        return None

    def due(self, now_ms: int, limit: int, messages: Messages, is_busy: Callable[[int], bool]) -> list[int]:
        """At most `limit` offsets that are due and not busy, the longest due first."""
        found: list[int] = []
        kept: list[_Timer] = []
        heap = self._heap
        while heap and heap[0].at_ms <= now_ms and len(found) < limit:
            timer = heappop(heap)
            live = [offset for offset in offsets_in(timer.ranges) if messages.get(offset) is timer.message]
            if not live:
                continue
            kept.append(
                timer if len(live) == count_in(timer.ranges) else timer._replace(ranges=ranges_of(live))
            )
            free = [offset for offset in live if not is_busy(offset)]
            found += free[: limit - len(found)]
        for timer in kept:
            heappush(heap, timer)
        return found

    def _drop_stale(self, messages: Messages) -> None:
        alive = {id(message) for message in messages.values()}
        self._heap = [timer for timer in self._heap if id(timer.message) in alive]
        heapify(self._heap)


class QueueTimers:
    """All timers of one queue: `leases` of held messages, `waits` of the others."""

    __slots__ = ("leases", "waits")

    def __init__(self) -> None:
        self.leases = Timers()
        self.waits = Timers()

    @staticmethod
    def begun(messages: Messages, now_ms: int) -> QueueTimers:
        """As a new leader starts them."""
        timers = QueueTimers()
        alike: dict[int, tuple[Open, list[int]]] = {}
        for offset, message in messages.items():
            alike.setdefault(id(message), (message, []))[1].append(offset)
        for message, offsets in alike.values():
            at_ms = now_ms + message.duration_ms
            if not message.held:
                at_ms = min(at_ms, message.at_ms)
            timers._of(message).add(at_ms, message, ranges_of(sorted(offsets)), messages)
        return timers

    def add(self, message: Open, ranges: Ranges, messages: Messages) -> None:
        """These messages were granted, extended or given back by this leader."""
        self._of(message).add(message.at_ms, message, ranges, messages)

    def _of(self, message: Open) -> Timers:
        return self.leases if message.held else self.waits
