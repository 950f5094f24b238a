"""What runs beside serving: named duties, each never under way twice, some at intervals, some when something happens.

A duty that fails says so in the log and is tried again at its next occasion; it never ends the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

Duty = Callable[[], Coroutine[Any, Any, None]]


class Duties:
    """Owns the tasks of its duties."""

    def __init__(self) -> None:
        self._again: dict[str, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._intervals: list[asyncio.Task[None]] = []
        self._held: dict[str, Duty] | None = None

    def hold(self) -> Callable[[], None]:
        """Nothing begins until the returned function is called; what was asked for meanwhile begins then."""
        self._held = {}
        return self._resume

    def _resume(self) -> None:
        held, self._held = self._held or {}, None
        for name, duty in held.items():
            self.begin(name, duty)

    def every(self, seconds: float, name: str, duty: Duty) -> None:
        """Runs a duty now and then at intervals; an occasion that finds it still under way is left out."""
        self._intervals.append(asyncio.create_task(self._repeat(seconds, name, duty)))

    async def _repeat(self, seconds: float, name: str, duty: Duty) -> None:
        while True:
            if name not in self._again:
                self.begin(name, duty)
            await asyncio.sleep(seconds)

    def begin(self, name: str, duty: Duty) -> None:
        """Runs a duty now, or once more after the run that is under way."""
        if self._held is not None:
            self._held[name] = duty
            return
        if name in self._again:
            self._again[name] = True
            return
        self._again[name] = True
        task = asyncio.create_task(self._run(name, duty))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, name: str, duty: Duty) -> None:
        try:
            while self._again[name]:
                self._again[name] = False
                try:
                    await duty()
                except Exception:
                    logger.exception("%s failed and will be tried again", name)
        finally:
            del self._again[name]

    async def settle(self) -> None:
        """Returns when nothing is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Ends the intervals and waits for what is under way."""
        for task in self._intervals:
            task.cancel()
        await asyncio.gather(*self._intervals, return_exceptions=True)
        await self.settle()
