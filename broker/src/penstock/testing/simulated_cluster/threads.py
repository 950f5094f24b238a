"""A broker's threads in virtual time: each function takes as long as its disk takes.

It does what `penstock.runtime.threads.Threads` does. The writer, the background and the flusher keep their order, the
readers overlap. A slow disk stretches times, a hung one lets nothing begin.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from penstock.testing.simulated_cluster.virtual_loop import VirtualLoop
from penstock.testing.simulated_disk import PowerLossError

T = TypeVar("T")
Done = Callable[[Any, BaseException | None], None]

# What one function takes on a healthy disk, at most.
WORK_SECONDS_MAX = 0.004


class Pace:
    """How fast a disk is: `slowness` stretches, from `hung_since` until `hung_until` nothing begins."""

    def __init__(self) -> None:
        self.slowness = 1.0
        self.hung_since = self.hung_until = 0.0

    def hang(self, now: float, seconds: float) -> None:
        """Nothing begins for so long, from now or from when it began to hang."""
        if self.hung_until <= now:
            self.hung_since = now
        self.hung_until = max(self.hung_until, now + seconds)

    def hung_for(self, now: float) -> float:
        """For how long nothing has begun, in seconds; 0 while it works."""
        return now - self.hung_since if self.hung_until > now else 0.0


class _Lane:
    """One thread: one function after the other."""

    def __init__(self, threads: SimulatedThreads) -> None:
        self._threads = threads
        self._queued: deque[tuple[Callable[[], Any], Done]] = deque()
        self._busy = False

    def submit(self, function: Callable[[], Any], done: Done) -> None:
        """See `Worker.submit`."""
        self._queued.append((function, done))
        self._begin()

    def _begin(self) -> None:
        if self._queued and not self._busy:
            self._busy = True
            self._threads.plan(self._run)

    def _run(self) -> None:
        if self._threads.loop.dead:
            return
        if self._threads.put_off(self._run):
            return
        function, done = self._queued.popleft()
        error: BaseException | None = None
        result = None
        try:
            result = function()
        except PowerLossError:
            self._threads.on_power_loss()
            return
        except BaseException as raised:  # the loop decides what an error means, as with the real thread
            error = raised
        self._busy = False
        self._threads.loop.call_soon_threadsafe(done, result, error)
        self._begin()


class SimulatedThreads:
    """Stands in for `Threads`. `on_power_loss` is called when the power went during a function."""

    def __init__(
        self, loop: VirtualLoop, chance: random.Random, pace: Pace, on_power_loss: Callable[[], None]
    ) -> None:
        self.loop = loop
        self.on_power_loss = on_power_loss
        self._chance = chance
        self._pace = pace
        self.writer = _Lane(self)
        self._background = _Lane(self)
        self._flusher = _Lane(self)
        self._readers = (_Lane(self), _Lane(self))

    def plan(self, run: Callable[[], None]) -> None:
        """Runs it when the disk has done its work."""
        seconds = self._chance.random() * WORK_SECONDS_MAX * self._pace.slowness
        self.loop.agenda.after(seconds, run)

    def put_off(self, run: Callable[[], None]) -> bool:
        """Whether the disk hangs, or the process stands still; then it is tried again when they go on."""
        until = max(self._pace.hung_until, self.loop.paused_until)
        if until <= self.loop.time():
            return False
        self.loop.agenda.at(until, run)
        return True

    def write(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """See `Threads.write`."""
        return self._submit(self.writer, function)

    def background(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """See `Threads.background`."""
        return self._submit(self._background, function)

    def flush(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """See `Threads.flush`."""
        return self._submit(self._flusher, function)

    def read(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """See `Threads.read`."""
        return self._submit(self._chance.choice(self._readers), function)

    async def close(self) -> None:
        """Nothing is left running."""

    def _submit(self, lane: _Lane, function: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        lane.submit(function, done)
        return future
