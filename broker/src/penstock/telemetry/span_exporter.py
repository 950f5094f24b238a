"""Spans on their way out: a bounded queue that drops and counts, and one thread that sends.

The loop only appends; it never waits and never learns what became of a span. The thread sends what there is every few seconds,
sooner when much has come. What a collector does not take is gone and counted, for tracing is never worth memory or time
that messages need. Whether the collector takes spans is told in one line when it changes, not in one for each failure.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from typing import Protocol

from penstock.telemetry.logs import fields
from penstock.telemetry.trace_counters import TraceCounters
from penstock.tracing.span import Span

logger = logging.getLogger(__name__)

QUEUE_SPANS_MAX = 8192
"""Spans that wait to be sent; more are dropped."""

SEND_SPANS_MAX = 512
"""Spans of one request to the collector; as many waiting wake the thread at once."""

SEND_INTERVAL_SECONDS = 5.0
"""As in OpenTelemetry's own batch processor; a request costs more than the spans of many batches."""

CLOSE_SECONDS_MAX = 3.0
"""How long a stop waits until what is left has been sent."""


class SpanSender(Protocol):
    """Sends spans somewhere, from a thread of its own."""

    def send(self, spans: list[Span]) -> str | None:
        """Gives what went wrong as a sentence; None: all were taken."""
        ...

    def stop(self) -> None:
        """Ends a `send` under way as soon as it can. From any thread."""
        ...


class SpanExporter:
    """`emit` is for the loop."""

    def __init__(
        self, sender: SpanSender, counters: TraceCounters, *, queue_max: int = QUEUE_SPANS_MAX
    ) -> None:
        self._sender = sender
        self._counters = counters
        self._queue_max = queue_max
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._closing = False
        # What is still in the queue has been given up.
        self._given_up = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="span-exporter", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def emit(self, span: Span) -> None:
        """Takes a span that has ended, or drops it."""
        if len(self._queue) >= self._queue_max:
            self._counters.queue_full += 1
            return
        self._queue.append(span)
        if len(self._queue) == SEND_SPANS_MAX:
            self._wake.set()

    async def close(self, seconds: float = CLOSE_SECONDS_MAX) -> None:
        """Sends what is left, for so long at most; what is left then is dropped and counted."""
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, seconds)
        if self._thread.is_alive():
            # The thread is a daemon: it does not keep the process from ending.
            self._given_up = True
            self._sender.stop()
        left = len(self._queue)
        self._counters.failed += left
        if left:
            logger.warning("spans were not sent before the stop", extra=fields(spans=left))

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(SEND_INTERVAL_SECONDS)
            self._wake.clear()
            self._send_all()
        self._send_all()
        self._sender.stop()

    def _send_all(self) -> None:
        while self._queue and not self._given_up:
            spans = [self._queue.popleft() for _ in range(min(len(self._queue), SEND_SPANS_MAX))]
            error = self._send(spans)
            if error is None:
                self._counters.exported += len(spans)
            else:
                self._counters.failed += len(spans)
            self._tell(error)

    def _send(self, spans: list[Span]) -> str | None:
        try:
            return self._sender.send(spans)
        except Exception as error:  # a defect of ours or of the library's: it costs spans, and not the thread
            return f"{type(error).__name__}: {error}"

    def _tell(self, error: str | None) -> None:
        if error is not None and not self._failing:
            logger.warning(
                "spans cannot be sent: they are dropped until they can", extra=fields(reason=error)
            )
        elif error is None and self._failing:
            logger.info("spans are sent again", extra=fields(dropped=self._counters.failed))
        self._failing = error is not None
