"""Life-cycle events on their way into the topic `__trace`: a bounded queue that drops and counts, written by the leader.

A request only appends to the queue. A timer takes a bounded number of events from it and appends them to the shard's log as
one batch, as acks=1 would: nobody waits for copies. The topic is made when the first event is there. Whatever goes wrong
costs events and never a request; whether events can be written is told in one line when it changes. A broker that leads no
more keeps what is queued until it leads again: how its leadership ended is among it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from penstock.codec.records import Record, build_batch
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import parse_header
from penstock.partition.batches import KEPT_FROM
from penstock.partition.partition import Partition
from penstock.runtime.shard import Shard
from penstock.telemetry.logs import fields
from penstock.tracing.record import TRACE_TOPIC, write_record
from penstock.tracing.span import Span

logger = logging.getLogger(__name__)

QUEUE_EVENTS_MAX = 5000
"""Events that wait to be written; more are dropped."""

WRITE_INTERVAL_SECONDS = 0.1
EVENTS_PER_WRITE_MAX = 500
"""Events of one batch. With the interval they bound what tracing may cost the loop and the log: 5,000 events a second."""

MAKE_RETRY_SECONDS = 5.0
"""How long after a failure the topic is not asked for again."""

SETTLE_SECONDS_MAX = 1.0
"""How long somebody who asks for a trace waits until what is queued can be read."""


class TraceTopic:
    """`make` begins to make the topic; `broker` is the name of who writes. Owned by the loop."""

    def __init__(
        self,
        shard: Shard,
        make: Callable[[], asyncio.Future[None]],
        broker: str,
        *,
        queue_max: int = QUEUE_EVENTS_MAX,
    ) -> None:
        self._shard = shard
        self._make = make
        self._broker = broker
        self._queue_max = queue_max
        self._counters = shard.counters.tracing
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Span] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._making: asyncio.Future[None] | None = None
        self._make_not_before = 0.0
        self._last_index = 0
        self._failing = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._queue)

    def emit(self, span: Span) -> None:
        """Takes a span that has ended, or drops it."""
        if self._closed:
            self._counters.topic_failed += 1
            return
        if len(self._queue) >= self._queue_max:
            self._counters.topic_queue_full += 1
            return
        self._queue.append(span)
        if self._timer is None:
            self._wait(WRITE_INTERVAL_SECONDS)

    def led(self) -> None:
        """This broker leads from now on."""
        self._make_not_before = 0.0
        # What was written under an earlier leadership may have been cut off: nobody may wait for it.
        self._last_index = 0
        if self._queue and self._timer is None:
            self._wait(WRITE_INTERVAL_SECONDS)

    def close(self) -> None:
        """Writes what is left where that is possible at once; from now on events are dropped."""
        while self._write():
            pass
        self._closed = True
        self._counters.topic_failed += len(self._queue)
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def settle(self) -> None:
        """Returns when everything that was queued can be read, or after SETTLE_SECONDS_MAX."""
        deadline = self._loop.time() + SETTLE_SECONDS_MAX
        while self._queue and self._shard.leading and self._loop.time() < deadline:
            if self._write():
                # One batch is some milliseconds of the loop; others get their turn before the next.
                await asyncio.sleep(0)
            elif self._making is not None:
                await asyncio.wait([self._making], timeout=deadline - self._loop.time())
            else:
                return
        if not self._shard.leading:
            return
        committed = asyncio.Event()
        self._shard.when_committed(self._last_index, lambda _: committed.set())
        try:
            async with asyncio.timeout_at(deadline):
                await committed.wait()
        except TimeoutError:
            logger.debug("events were written and are not committed yet")

    # --- writing ---------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        self._write()
        # While another broker leads there is nothing to be done: `led` begins again.
        if self._queue and self._shard.leading:
            self._wait(WRITE_INTERVAL_SECONDS)

    def _write(self) -> bool:
        """Appends one batch of what is queued; False where there is nothing, or it has to wait."""
        if not self._queue or not self._shard.leading:
            return False
        partition = self._shard.table.get(TRACE_TOPIC, 0)
        if partition is None:
            self._begin_making()
            return False
        spans = [self._queue.popleft() for _ in range(min(len(self._queue), EVENTS_PER_WRITE_MAX))]
        try:
            self._append(partition, spans)
        except PenstockError as error:
            self._counters.topic_failed += len(spans)
            self._tell(error)
        else:
            self._counters.topic_written += len(spans)
            self._tell(None)
        return True

    def _append(self, partition: Partition, spans: list[Span]) -> None:
        written = [write_record(span, self._broker) for span in spans]
        batch = memoryview(build_batch([Record(each.key, each.value, each.timestamp_ms) for each in written]))
        self._last_index, _ = self._shard.append(partition, parse_header(batch), (batch[KEPT_FROM:],))

    # --- making the topic ------------------------------------------------------------------------

    def _begin_making(self) -> None:
        if self._making is not None or self._loop.time() < self._make_not_before:
            return
        try:
            self._making = self._make()
        except PenstockError as error:
            self._not_made(error)
        else:
            self._making.add_done_callback(self._made)

    def _made(self, future: asyncio.Future[None]) -> None:
        self._making = None
        error = None if future.cancelled() else future.exception()
        if isinstance(error, PenstockError):
            self._not_made(error)
        elif error is not None:
            raise error

    def _not_made(self, error: PenstockError) -> None:
        # It is there, and only not committed yet, where an election came between.
        if error.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
            self._tell(error)
        self._make_not_before = self._loop.time() + MAKE_RETRY_SECONDS

    def _tell(self, error: PenstockError | None) -> None:
        if error is not None and not self._failing:
            logger.warning(
                "events cannot be written to %s: they are dropped until they can",
                TRACE_TOPIC,
                extra=fields(reason=error.sentence),
            )
        elif error is None and self._failing:
            logger.info(
                "events are written to %s again",
                TRACE_TOPIC,
                extra=fields(dropped=self._counters.topic_failed),
            )
        self._failing = error is not None
