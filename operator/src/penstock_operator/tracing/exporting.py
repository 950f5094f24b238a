"""Spans on their way to the collector: a bounded number waits, what is too many is dropped and counted.

The SDK's thread sends them, so a collector that is slow or away costs the operator memory for `SPANS_WAITING_MAX` spans and
no time. Each number here is written by one thread and read by others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client.core import CounterMetricFamily, Metric

from penstock_operator.tracing import names

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from penstock_operator.settings import OperatorSettings, TracingSettings

logger = logging.getLogger(__name__)

SPANS_WAITING_MAX: Final = 4096  # some 10 MB
BATCH_MAX: Final = 512
DELAY_MS: Final = 2000.0  # until an incomplete batch is sent
EXPORT_S: Final = 3.0  # one attempt, with its retries
STOP_S: Final = 3.0  # after which nothing more is sent while the process ends
WORDS_MAX: Final = 2  # of the library's sentences on one batch; the first has the reason
WORD_LENGTH_MAX: Final = 300
SIGNAL_PATH: Final = "/v1/traces"


class Export(SpanProcessor):
    """Takes spans that ended and sends them by `exporter`. `clock` counts seconds."""

    def __init__(self, exporter: SpanExporter, endpoint: str, *, delay_ms: float = DELAY_MS) -> None:
        self._sender = _Sender(exporter, endpoint)
        self._batches = BatchSpanProcessor(
            self._sender,
            # Never reached: what waits is counted here, where what is dropped is counted too.
            max_queue_size=SPANS_WAITING_MAX + 1,
            schedule_delay_millis=delay_ms,
            max_export_batch_size=BATCH_MAX,
        )
        self.taken = 0
        self.dropped = 0

    @property
    def sent(self) -> int:
        """Spans that the collector took."""
        return self._sender.sent

    @property
    def refused(self) -> int:
        """Spans that it did not take, or nobody could send it."""
        return self._sender.refused

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """See SpanProcessor."""

    def on_end(self, span: ReadableSpan) -> None:
        """See SpanProcessor. Never waits."""
        if self.taken - self.sent - self.refused >= SPANS_WAITING_MAX:
            self.dropped += 1
            return
        self.taken += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        """Send what waits, for a bounded time, which this waits for: at most STOP_S and one attempt."""
        self._sender.stop_at = time.monotonic() + STOP_S
        self._batches.shutdown()  # type: ignore[no-untyped-call]
        self._sender.close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """See SpanProcessor."""
        return self._batches.force_flush(timeout_millis)

    def collect(self) -> Iterator[Metric]:
        """The numbers for /metrics."""
        yield CounterMetricFamily(
            "penstock_operator_spans_sent", "Spans that the collector took", value=self.sent
        )
        lost = CounterMetricFamily("penstock_operator_spans_lost", "Spans that it did not", labels=["reason"])
        lost.add_metric(["queue"], self.dropped)
        lost.add_metric(["export"], self.refused)
        yield lost


class _Sender(SpanExporter):
    """Counts what an exporter does, and logs when it begins and ceases to fail."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._failing = False
        self._said = LastWords()
        self.stop_at: float | None = None
        self.sent = 0
        self.refused = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See SpanExporter."""
        late = self.stop_at is not None and time.monotonic() > self.stop_at
        result = SpanExportResult.FAILURE if late else self._try(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        else:
            self.refused += len(spans)
        self._log(failing=result is not SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """See SpanExporter."""
        self._exporter.shutdown()

    def close(self) -> None:
        """Listens no more to what the library says. Its thread may say why it failed after its exporter was shut down."""
        self._said.close()

    def _try(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._said.words.clear()
        try:
            return self._exporter.export(spans)
        except Exception as error:
            # The library's thread would log it and go on; here it is counted as well.
            self._said.words.append(str(error) or type(error).__name__)
            return SpanExportResult.FAILURE

    def _log(self, *, failing: bool) -> None:
        if failing == self._failing:
            return
        self._failing = failing
        where = {"endpoint": self._endpoint}
        if failing:
            why = "; ".join(self._said.words) or "it is too late to send them"
            logger.warning("the collector does not take spans", extra={**where, "why": why})
        else:
            logger.info("the collector takes spans again", extra=where)


class LastWords(logging.Handler):
    """Keeps what the exporter's library logs of one batch: it says there, and nowhere else, why it failed, and with every one."""

    _LIBRARY: Final = "opentelemetry.exporter"

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words: list[str] = []
        library = logging.getLogger(self._LIBRARY)
        library.addHandler(self)
        library.setLevel(logging.WARNING)
        library.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        if len(self.words) < WORDS_MAX:
            self.words.append(record.getMessage()[:WORD_LENGTH_MAX])

    def close(self) -> None:
        """See logging.Handler."""
        library = logging.getLogger(self._LIBRARY)
        library.removeHandler(self)
        library.setLevel(logging.NOTSET)
        library.propagate = True
        super().close()


def otlp_export(tracing: TracingSettings) -> Export:
    """What sends to the collector of the settings, by OTLP over HTTP."""
    exporter = OTLPSpanExporter(tracing.endpoint.rstrip("/") + SIGNAL_PATH, timeout=EXPORT_S)
    return Export(exporter, shown(tracing.endpoint))


def shown(endpoint: str) -> str:
    """An endpoint as it may stand in a log: without a user's name and password."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def resource_of(settings: OperatorSettings) -> Resource:
    """Who says it; OTEL_RESOURCE_ATTRIBUTES can add to it."""
    pod = {names.POD: settings.pod_name} if settings.pod_name else {}
    return Resource.create(
        {
            names.SERVICE_NAME: names.SERVICE,
            names.SERVICE_INSTANCE: settings.identity,
            names.NAMESPACE: settings.own_namespace,
            **pod,
        }
    )
