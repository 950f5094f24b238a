"""The one object by which the use-cases trace; where tracing is off there is none, and they ask nothing.

It gives a request its trace, ends spans and hands them to whoever sends them, and bounds how many batches are followed at
the same time.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.runtime.shard import Shard
from penstock.service.context import RequestContext
from penstock.service.deliver_trace import DeliverTracing
from penstock.service.followed import FollowedBatches
from penstock.service.produce_trace import ProduceTrace
from penstock.tracing.span import Span

OPEN_BATCHES_MAX = 2000
"""Followed batches that are not committed yet; more are not followed, and counted."""


class BrokerTracing:
    """`emit` takes spans that have ended, `now_ns` is the wall clock in nanoseconds, `new_id` gives 64 random bits, not 0."""

    def __init__(
        self,
        shard: Shard,
        batches: FollowedBatches,
        emit: Callable[[Span], None],
        now_ns: Callable[[], int],
        new_id: Callable[[], int],
        *,
        open_batches_max: int = OPEN_BATCHES_MAX,
    ) -> None:
        self.shard = shard
        self.batches = batches
        self.now_ns = now_ns
        self.new_id = new_id
        self.reading = DeliverTracing(self)
        self._emit = emit
        self._open_batches_max = open_batches_max
        self._open = 0

    def receiving(self, context: RequestContext, acks: int) -> ProduceTrace:
        """A produce request came."""
        return ProduceTrace(self, context, acks)

    def begin_batch(self) -> bool:
        """Whether one more batch may be followed to its commit; each that may is to be ended with `end_batch`."""
        if self._open >= self._open_batches_max:
            self.batches.counters.too_many_open += 1
            return False
        self._open += 1
        return True

    def end_batch(self) -> None:
        """A batch's fate is known."""
        self._open -= 1

    def end(self, span: Span) -> None:
        """The span ends now."""
        span.end_ns = max(self.now_ns(), span.start_ns)
        self._emit(span)
