"""Spans of an operator under test, kept in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock_operator.kube import KubeApi
from penstock_operator.tracing.spans import Spans
from penstock_operator.tracing.traced_brokers import broker_calls
from penstock_operator.tracing.traced_kube import TracedKube
from penstock_operator.tracing.tracer import Tracer

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00"


class SpanWorld(Tracer):
    """A tracer whose spans can be looked at, and are sent nowhere."""

    def __init__(self, sampling: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        self._made = Spans(SimpleSpanProcessor(self._exporter), Resource.create({}), sampling)
        self.spans = self._made
        self.hooks = [broker_calls(self._made)]

    def seeing(self, kube: KubeApi) -> KubeApi:
        return TracedKube(kube, self._made)

    def taken(self) -> list[ReadableSpan]:
        """The spans that ended since the last look, in the order in which they did."""
        found = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return found

    def one_pass(self) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """The one pass that ended since the last look, and its calls."""
        *calls, over = self.taken()
        assert over.name.startswith("reconcile "), over.name
        return over, calls


class StubExporter(InMemorySpanExporter):
    """An exporter that answers what it is told to."""

    result: SpanExportResult | Exception = SpanExportResult.SUCCESS

    def export(self, spans: Any) -> SpanExportResult:
        super().export(spans)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def span_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def events(span: ReadableSpan) -> list[tuple[str, Any]]:
    return [(event.name, (event.attributes or {}).get("penstock.why")) for event in span.events]
