"""Plain integers about tracing, and how `/metrics` shows them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric


class TraceCounters:
    """What tracing did and what it left out. `exported` and `failed` belong to the exporter's thread, the rest to the loop."""

    __slots__ = ("exported", "failed", "looked", "not_opened", "queue_full", "too_many_open", "unreadable")

    def __init__(self) -> None:
        # Spans.
        self.exported = 0
        self.failed = 0
        self.queue_full = 0
        # Batches that were not followed because too many are already.
        self.too_many_open = 0
        # Batches that were looked into, those among them that cannot be read, and compressed ones that were not opened.
        self.looked = 0
        self.unreadable = 0
        self.not_opened = 0


def trace_metrics(counters: TraceCounters) -> Iterator[Metric]:
    """The families of `/metrics`."""
    yield CounterMetricFamily("penstock_spans_exported", "Spans that the collector took.", counters.exported)
    dropped = CounterMetricFamily(
        "penstock_spans_dropped",
        "Spans that nobody got: the queue was full, or the collector did not take them.",
        labels=["reason"],
    )
    dropped.add_metric(["queue_full"], counters.queue_full)
    dropped.add_metric(["export_failed"], counters.failed)
    yield dropped
    yield CounterMetricFamily(
        "penstock_trace_batches_skipped",
        "Batches that were not followed because too many were already.",
        counters.too_many_open,
    )
    looks = CounterMetricFamily(
        "penstock_trace_looks", "Batches looked into for a context, by what came of it.", labels=["result"]
    )
    looks.add_metric(["read"], counters.looked - counters.unreadable)
    looks.add_metric(["unreadable"], counters.unreadable)
    looks.add_metric(["not_opened"], counters.not_opened)
    yield looks
