"""The operator's metrics: read from plain numbers when somebody scrapes, never counted twice.

Every series is of a kind of object or of the whole operator, none of one object, so their number does not depend on what
users make, and what is deleted leaves none behind. Which object it is that fails stands in the log and in its status.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from penstock_operator.api.names import KINDS
from penstock_operator.snapshot.lease import LEASE_KIND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock_operator.reconcile.queue import WorkQueue

PREFIX: Final = "penstock_operator"
WORKED_ON: Final = (*KINDS, LEASE_KIND)
"""All kinds that passes are about; each has its series from the start, so that a rate sees the first failure."""


class OperatorCollector:
    """Shows a queue, and whether this operator works at it. Collects on the loop that owns the queue.

    `wall_s` gives seconds since 1970, for times that others compare with their own.
    """

    def __init__(self, queue: WorkQueue, leading: Callable[[], bool], wall_s: Callable[[], float]) -> None:
        self._queue = queue
        self._leading = leading
        self._wall_s = wall_s

    def collect(self) -> Iterator[Metric]:
        """All families."""
        now = asyncio.get_running_loop().time()
        yield GaugeMetricFamily(
            f"{PREFIX}_leading", "1 while this operator holds the Lease.", value=float(self._leading())
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_overdue_seconds", "Wait of the oldest due object.", value=self._queue.overdue_s(now)
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_queue_length",
            "Objects that are due and wait for a worker.",
            value=self._queue.due(now),
        )
        yield self._failing()
        yield from self._passes(now)

    def _failing(self) -> Metric:
        family = GaugeMetricFamily(f"{PREFIX}_failing", "Objects whose last pass failed.", labels=["kind"])
        failing = self._queue.failing()
        for kind in WORKED_ON:
            family.add_metric([kind], failing.get(kind, 0))
        return family

    def _passes(self, now: float) -> Iterator[Metric]:
        passes = CounterMetricFamily(f"{PREFIX}_passes", "Reconcile passes.", labels=["kind", "result"])
        durations = HistogramMetricFamily(
            f"{PREFIX}_pass_duration_seconds", "How long passes took.", labels=["kind"]
        )
        success = GaugeMetricFamily(
            f"{PREFIX}_last_success_timestamp_seconds", "When a pass last succeeded.", labels=["kind"]
        )
        since_1970 = self._wall_s() - now
        for kind in WORKED_ON:
            of_kind = self._queue.passes.of(kind)
            passes.add_metric([kind, "ok"], of_kind.ok)
            passes.add_metric([kind, "failed"], of_kind.failed)
            durations.add_metric([kind], buckets=of_kind.cumulative(), sum_value=of_kind.duration_s)
            if of_kind.last_success_s is not None:
                success.add_metric([kind], since_1970 + of_kind.last_success_s)
        yield from (passes, durations, success)
