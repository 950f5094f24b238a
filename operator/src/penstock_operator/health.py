"""The operator's own health, and its metrics, over HTTP.

kopf's probe only shows that an HTTP server answers; this one fails when objects are due and nobody works on them.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from penstock_operator.metrics import OperatorCollector

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.registry import Collector

    from penstock_operator.reconcile.queue import WorkQueue

OVERDUE_SECONDS_MAX: Final = 300.0  # more than the longest pass: then workers hang


class Health:
    """Serves /healthz, /readyz and /metrics."""

    def __init__(self, queue: WorkQueue, wall_s: Callable[[], float] = time.time) -> None:
        self._queue = queue
        self.leading = False
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(OperatorCollector(queue, lambda: self.leading, wall_s))

    def _overdue(self) -> float:
        return self._queue.overdue_s(asyncio.get_running_loop().time())

    def problem(self) -> str | None:
        """Why the process should be restarted, or None."""
        overdue = self._overdue() if self.leading else 0.0
        if overdue > OVERDUE_SECONDS_MAX:
            return f"an object has been due for {overdue:.0f} s and no worker takes it"
        return None

    def add(self, collector: Collector) -> None:
        """Show these numbers as well."""
        self._registry.register(collector)

    async def serve(self, host: str, port: int) -> web.AppRunner:
        """Start serving; the caller cleans the runner up."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        return runner

    async def _healthz(self, _: web.Request) -> web.Response:
        problem = self.problem()
        return web.json_response(
            {"healthy": problem is None, "problem": problem}, status=503 if problem else 200
        )

    async def _readyz(self, _: web.Request) -> web.Response:
        return web.json_response({"ready": True, "leading": self.leading})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": "text/plain; version=0.0.4"}
        )
