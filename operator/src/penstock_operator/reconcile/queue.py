"""The workers: take the object that is due, run its pass, put it back.

The decisions are in `schedule`; here are the clock, the tasks and the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from penstock_operator.kube_errors import KubeError
from penstock_operator.reconcile.passes import Passes
from penstock_operator.reconcile.schedule import KEYS_MAX, Schedule

if TYPE_CHECKING:
    from penstock_operator.reconcile.ports import Key, Reconciler

logger = logging.getLogger(__name__)

WORKERS: Final = 8
PASS_SECONDS_MAX: Final = 120.0  # a pass is short; one that hangs is ended and tried again
JITTER: Final = 0.1  # resyncs spread by this share, so that they do not come in waves
COALESCE_S: Final = 0.1  # several events of one change make one pass
_IDLE_S: Final = 3600.0


Around = Callable[["Key"], AbstractContextManager[object]]


class WorkQueue:
    """Runs `reconcile` for every woken object, within what `around` makes for it. `random` gives numbers from 0 to 1."""

    def __init__(
        self, reconcile: Reconciler, random: Callable[[], float], around: Around = nullcontext
    ) -> None:
        self._around = around
        self._reconcile = reconcile
        self._random = random
        self._schedule = Schedule()
        self._changed = asyncio.Event()
        self.passes = Passes()  # in loop time

    def wake(self, key: Key, after_s: float = COALESCE_S) -> None:
        """Have the object looked at soon."""
        if not self._schedule.wake(key, asyncio.get_running_loop().time(), after_s):
            logger.warning(
                "too many objects: one is not reconciled", extra={"object": str(key), "limit": KEYS_MAX}
            )
        self._changed.set()

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._schedule.forget(key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(self._work())

    def overdue_s(self, now: float) -> float:
        """For how long the oldest due object has been waiting for a worker; 0 when none has."""
        due = self._schedule.next_due()
        return max(0.0, now - due) if due is not None else 0.0

    def due(self, now: float) -> int:
        """How many objects are due and wait for a worker."""
        return self._schedule.due(now)

    def failing(self) -> dict[str, int]:
        """How many objects' last pass failed, by kind; kinds without one are left out."""
        return self._schedule.failing()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            key = self._schedule.take(loop.time())
            if key is None:
                await self._wait(loop.time())
                continue
            with self._around(key):
                await self._pass(key)
            # Another worker may wait for an object that this pass made due.
            self._changed.set()

    async def _wait(self, now: float) -> None:
        due = self._schedule.next_due()
        self._changed.clear()
        timeout = _IDLE_S if due is None else max(0.0, due - now)
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass  # something is due

    async def _pass(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(PASS_SECONDS_MAX):
                again = await self._reconcile(key)
        except Exception as error:
            self._ended(key, began, ok=False)
            delay = self._schedule.failed(key, loop.time())
            _log_failure(key, error, delay)
        else:
            self._ended(key, began, ok=True)
            after = again.after_s
            if after:
                after *= 1 + JITTER * (2 * self._random() - 1)
            self._schedule.finished(key, loop.time(), after)

    def _ended(self, key: Key, began: float, *, ok: bool) -> None:
        now = asyncio.get_running_loop().time()
        self.passes.ended(key.kind, ok=ok, duration_s=now - began, now_s=now)


def _log_failure(key: Key, error: Exception, delay: float) -> None:
    """What the API server says is usual and short; anything else is a mistake of ours, with its traceback."""
    details = {"object": str(key), "retry_after_s": delay, "why": str(error) or type(error).__name__}
    if isinstance(error, KubeError) and error.status == 409:
        logger.info("the object changed meanwhile; the pass is repeated", extra=details)
    elif isinstance(error, KubeError | TimeoutError):
        logger.warning("the pass failed and is repeated", extra=details)
    else:
        logger.error("the pass failed for a reason nobody expected", extra=details, exc_info=error)
