"""The operator's own health and metrics, over HTTP.

kopf's probe only shows that an HTTP server answers; this one fails when objects are due and nobody works on them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.registry import Collector

    from penstock_operator.reconcile.queue import WorkQueue

OVERDUE_SECONDS_MAX: Final = 300.0  # more than the longest pass: then workers hang


class Health:
    """Serves /healthz, /readyz and /metrics."""

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self.leading = False
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics, read from plain numbers when somebody scrapes."""
        name = "penstock_operator"
        yield GaugeMetricFamily(
            f"{name}_leading", "1 while this operator holds the Lease", value=float(self.leading)
        )
        yield CounterMetricFamily(f"{name}_passes", "Reconcile passes", value=self._queue.passes)
        yield CounterMetricFamily(
            f"{name}_failed_passes", "Reconcile passes that failed", value=self._queue.failures
        )
        yield GaugeMetricFamily(
            f"{name}_overdue_seconds", "Wait of the oldest due object", value=self._overdue()
        )

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
