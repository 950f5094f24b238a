"""Looks through all groups from time to time and expires positions that nobody needs (KIP-211).

One pass at a time, a slice of groups at a turn of the loop, each slice's entries committed before the next is looked
at. A pass that the log refuses ends; the next one comes anyway.
"""

from __future__ import annotations

import asyncio
import logging

from penstock.groups.expiry import decide_expired
from penstock.model.commands import Command
from penstock.model.errors import PenstockError
from penstock.service.groups_registry import GroupRegistry
from penstock.service.ports import TimerHandle

_log = logging.getLogger(__name__)

GROUPS_PER_SLICE = 100


class OffsetExpiry:
    """The timer and the pass. `start` and `stop` follow the coordinator's."""

    def __init__(self, registry: GroupRegistry) -> None:
        self._registry = registry
        self._timer: TimerHandle | None = None
        self._pass: asyncio.Task[None] | None = None

    def start(self) -> None:
        """The first pass is one interval away."""
        self.stop()
        self._arm()

    def stop(self) -> None:
        """Ends a pass under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pass is not None:
            self._pass.cancel()
            self._pass = None

    async def run_once(self) -> None:
        """One pass over all groups. Raises what the log raises."""
        names = self._registry.names()
        for first in range(0, len(names), GROUPS_PER_SLICE):
            commands: list[Command] = []
            for name in names[first : first + GROUPS_PER_SLICE]:
                commands.extend(self._decide(name))
            if commands:
                await self._registry.propose(commands)
            await asyncio.sleep(0)

    def _decide(self, group: str) -> list[Command]:
        settings = self._registry.settings
        return decide_expired(
            self._registry.machine,
            group,
            self._registry.clock.now_ms(),
            settings.offsets_retention_ms,
            self._registry.state(group),
        )

    def _arm(self) -> None:
        interval_ms = self._registry.settings.offsets_retention_check_interval_ms
        self._timer = self._registry.clock.call_later(interval_ms / 1000, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._pass = asyncio.ensure_future(self._run())
        self._pass.add_done_callback(self._ended)

    async def _run(self) -> None:
        try:
            await self.run_once()
        except PenstockError as error:
            _log.warning("offset expiry ended early reason=%s", error.sentence)

    def _ended(self, ended: asyncio.Task[None]) -> None:
        if ended.cancelled():
            return
        self._pass = None
        self._arm()
        # A fault of ours goes to the loop's exception handler, and the next pass comes all the same.
        ended.result()
