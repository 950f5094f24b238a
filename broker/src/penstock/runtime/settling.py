"""Waiting until it is known who serves the shard, while its leader changes.

A client that asks in the middle of an election would be told that nobody leads, and come again only after a pause of its
own that grows with each try. So its answer waits, as long as an election may take and no longer: a shard that has had no
leader for that long says so at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

# A leader that falls silent is replaced within twice the default election timeout; one that ends, much sooner.
SETTLING_SECONDS_MAX = 3.0


class Settling:
    """`settled` says whether it is known now; whoever changes that, or what is waited for, calls `moved`."""

    def __init__(self, settled: Callable[[], bool]) -> None:
        self._settled = settled
        # Since when it has not been known, as far as anybody asked.
        self._since: float | None = None
        self._waiting = 0
        self._event = asyncio.Event()

    def moved(self) -> None:
        """Something happened that may have settled it. Costs nothing where nobody asked."""
        if self._since is not None and self._settled():
            self._since = None
        if self._waiting:
            event, self._event = self._event, asyncio.Event()
            event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when the condition holds, which is looked at whenever something moved."""
        self._waiting += 1
        try:
            while not condition():
                await self._event.wait()
        finally:
            self._waiting -= 1

    async def wait(self) -> None:
        """Returns when it is known who serves, or has not been for `SETTLING_SECONDS_MAX`."""
        if self._settled():
            return
        if self._since is None:
            self._since = asyncio.get_running_loop().time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._since + SETTLING_SECONDS_MAX):
                await self.until(self._settled)
