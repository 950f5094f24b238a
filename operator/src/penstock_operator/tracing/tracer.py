"""What an operator has for its own traces: everything where it traces, and nothing where it does not.

OpenTelemetry is imported here, and only when there is a collector to send to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp
    from prometheus_client.registry import Collector

    from penstock_operator.kube import KubeApi
    from penstock_operator.settings import OperatorSettings
    from penstock_operator.tracing.exporting import Export
    from penstock_operator.tracing.spans import Spans

logger = logging.getLogger(__name__)


class Tracer:
    """Of an operator that does not trace. `hooks` are for the HTTP client that asks brokers, `collectors` for /metrics."""

    spans: Spans | None = None
    hooks: Sequence[aiohttp.TraceConfig] = ()
    collectors: Sequence[Collector] = ()

    def seeing(self, kube: KubeApi) -> KubeApi:
        """The same API, with its calls traced."""
        return kube

    async def close(self) -> None:
        """Send what waits, for a bounded time."""


class SpanTracer(Tracer):
    """Of an operator that does; see `tracing`."""

    def __init__(self, spans: Spans, export: Export) -> None:
        from penstock_operator.tracing.traced_brokers import broker_calls

        self._spans = spans
        self._export = export
        self.spans = spans
        self.hooks = [broker_calls(spans)]
        self.collectors = [export]

    def seeing(self, kube: KubeApi) -> KubeApi:
        """See `Tracer`."""
        from penstock_operator.tracing.traced_kube import TracedKube

        return TracedKube(kube, self._spans)

    async def close(self) -> None:
        """See `Tracer`. Waits in a thread, because the export does."""
        await asyncio.to_thread(self._export.shutdown)


def open_tracer(settings: OperatorSettings) -> Tracer:
    """The operator's tracer, by its settings. Raises ModuleNotFoundError where it should trace and the extra `otel` is missing."""
    if settings.tracing is None:
        return Tracer()
    from penstock_operator.tracing.exporting import otlp_export, resource_of, shown
    from penstock_operator.tracing.spans import Spans

    export = otlp_export(settings.tracing)
    logger.info(
        "passes are traced",
        extra={"endpoint": shown(settings.tracing.endpoint), "sampling": settings.tracing.sampling},
    )
    return SpanTracer(Spans(export, resource_of(settings), settings.tracing.sampling), export)
