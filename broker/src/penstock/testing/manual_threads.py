"""Threads that a test runs by hand, so that what overlaps with what comes from a seed.

It does what `penstock.runtime.threads.Threads` does, one step at a time: a step runs one queued function, or gives one
outcome back to the loop. The writer, the background and the flusher each keep their order; readers overlap freely.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from penstock.testing.simulated_disk import PowerLossError

T = TypeVar("T")

Done = Callable[[Any, BaseException | None], None]


class _Lane:
    """One thread: functions in order, outcomes in order."""

    def __init__(self) -> None:
        self._queued: deque[tuple[Callable[[], Any], Done]] = deque()
        self._finished: deque[tuple[Done, Any, BaseException | None]] = deque()

    def submit(self, function: Callable[[], Any], done: Done) -> None:
        """See `Worker.submit`."""
        self._queued.append((function, done))

    @property
    def idle(self) -> bool:
        return not self._queued and not self._finished

    def step(self, chance: random.Random) -> bool:
        """Whether the power went."""
        if self._finished and (not self._queued or chance.random() < 0.5):
            done, result, error = self._finished.popleft()
            done(result, error)
            return False
        function, done = self._queued.popleft()
        try:
            self._finished.append((done, function(), None))
        except BaseException as error:  # given back, as the real thread does
            self._finished.append((done, None, error))
            return isinstance(error, PowerLossError)
        return False


class ManualThreads:
    """Stands in for `Threads`. Nothing happens but in `step`."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.writer = _Lane()
        # Whoever waits for a function that the power cut off may not say so; the test has to know.
        self.power_lost = False
        self._background = _Lane()
        self._flusher = _Lane()
        self._readers = (_Lane(), _Lane())

    @property
    def _lanes(self) -> list[_Lane]:
        lanes = (self.writer, self._background, self._flusher, *self._readers)
        return [lane for lane in lanes if not lane.idle]

    @property
    def idle(self) -> bool:
        """Whether there is nothing to run and nothing to give back."""
        return not self._lanes

    def step(self) -> None:
        """Runs one function, or gives one outcome back, in a thread that the seed chooses."""
        lanes = self._lanes
        if lanes:
            self.power_lost |= self._chance.choice(lanes).step(self._chance)

    def write(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """See `Threads.write`."""
        return _submit(self.writer, function)

    def background(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """See `Threads.background`."""
        return _submit(self._background, function)

    def flush(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """See `Threads.flush`."""
        return _submit(self._flusher, function)

    def read(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """See `Threads.read`."""
        return _submit(self._chance.choice(self._readers), function)

    async def close(self) -> None:
        """Nothing is left running."""


def _submit(lane: _Lane, function: Callable[[], T]) -> asyncio.Future[T]:
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(result: T, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    lane.submit(function, done)
    return future
