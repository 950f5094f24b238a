"""The spans of one produce request: receive, append and replicate, for each of its batches that is followed.

`receive` lasts until the producer is answered, `append` until this broker's own log holds the batch as `flush` asks, and
`replicate` until it is committed. What goes wrong ends them with an error and an event that says what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import HEADER_SIZE, MAGIC, BatchHeader, parse_header
from penstock.partition.partition import Partition
from penstock.runtime.waiters import Callback
from penstock.service.api import AppendResult, ProduceBatches
from penstock.service.context import RequestContext
from penstock.service.followed import FollowedBatch
from penstock.tracing import attributes as names
from penstock.tracing.span import Attribute, Event, Kind, Span

if TYPE_CHECKING:
    import asyncio

    from penstock.service.tracing import BrokerTracing

# An answer with one of these means that the shard may have another leader now.
_FAILOVER = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.LEADER_NOT_AVAILABLE)


class ProduceTrace:
    """Told of one request's batches in order, but for those that `batches.passes`, and then of its answer."""

    __slots__ = ("_acks", "_context", "_started_ns", "_tracing", "batches", "following")

    def __init__(self, tracing: BrokerTracing, context: RequestContext, acks: int) -> None:
        self.batches = tracing.batches
        self._tracing = tracing
        self._context = context
        self._acks = acks
        self._started_ns = tracing.now_ns()
        # The `receive` spans that end with the answer.
        self.following: list[tuple[str, int, Span]] = []

    # --- what becomes of a batch -----------------------------------------------------------------

    def appended(
        self, partition: Partition, header: BatchHeader, batch: memoryview, index: int, base_offset: int
    ) -> None:
        """The batch is in the log, at `index`."""
        tracing = self._tracing
        epoch = partition.epoch_base + tracing.shard.epoch
        followed = tracing.batches.decide(partition, header, batch[HEADER_SIZE:], base_offset, epoch)
        if followed is None or not tracing.begin_batch():
            return
        receive = self._receive(followed, followed.ids.receive)
        receive.attributes[names.PENSTOCK_LOG_INDEX] = index
        self.following.append((followed.topic, followed.partition, receive))
        _Progress(tracing, followed).watch(index)

    def repeated(
        self, partition: Partition, header: BatchHeader, batch: memoryview, base_offset: int
    ) -> None:
        """The batch was in the log already: an idempotent producer sent it again."""
        tracing = self._tracing
        epoch = partition.epoch_base + tracing.shard.epoch
        followed = tracing.batches.decide(partition, header, batch[HEADER_SIZE:], base_offset, epoch)
        if followed is None:
            return
        # The span of the first time has the id that the batch's place gives.
        receive = self._receive(followed, tracing.new_id())
        receive.events = [Event(names.EVENT_REPEATED, tracing.now_ns(), {})]
        self.following.append((followed.topic, followed.partition, receive))

    def refused(self, item: ProduceBatches, error: PenstockError) -> None:
        """Nothing was appended, or not all. Only a context that came along says which trace that belongs to."""
        tracing, records = self._tracing, item.records
        if tracing.shard.table.get(item.topic, item.partition) is None:
            return  # A name that a client invented is not remembered.
        if not tracing.batches.traced(item.topic):
            return
        if records is None or len(records) < HEADER_SIZE or any(of[:2] == item[:2] for of in self.following):
            return
        header = parse_header(records)
        if header.magic != MAGIC or not HEADER_SIZE <= header.size_bytes <= len(records):
            return
        found = tracing.batches.sent_along(item.topic, header, records[HEADER_SIZE : header.size_bytes])
        if found is None:
            return
        context, seen = found
        span = Span(
            f"{names.RECEIVE} {item.topic}",
            Kind.SERVER,
            context.trace_id,
            tracing.new_id(),
            context.span_id,
            self._started_ns,
            {**tracing.batches.common(item.topic, item.partition, header, seen), **self._asked()},
            parent_remote=True,
            state=context.state,
        )
        throttled = error.code is ErrorCode.REQUEST_TIMED_OUT
        self._failed(
            span, error.code, error.sentence, names.EVENT_THROTTLED if throttled else names.EVENT_REFUSED
        )
        tracing.end(span)

    def answer(self, future: asyncio.Future[list[AppendResult]]) -> None:
        """The request, of which something is followed, is answered when `future` is done."""
        future.add_done_callback(self._answered)

    def _answered(self, future: asyncio.Future[list[AppendResult]]) -> None:
        if future.cancelled():
            for _, _, span in self.following:
                span.events = [*span.events, Event(names.EVENT_ABANDONED, self._tracing.now_ns(), {})]
                self._tracing.end(span)
            return
        results = {(result.topic, result.partition): result for result in future.result()}
        for topic, partition, span in self.following:
            result = results[topic, partition]
            if result.error is not ErrorCode.NONE:
                event = names.EVENT_FAILOVER if result.error in _FAILOVER else names.EVENT_REFUSED
                self._failed(span, result.error, result.message or result.error.name, event)
            self._tracing.end(span)

    def _receive(self, followed: FollowedBatch, span_id: int) -> Span:
        return Span(
            f"{names.RECEIVE} {followed.topic}",
            Kind.SERVER,
            followed.trace.trace_id,
            span_id,
            followed.trace.parent_id,
            self._started_ns,
            followed.attributes | self._asked(),
            parent_remote=True,
            state=followed.trace.state,
        )

    def _asked(self) -> dict[str, Attribute]:
        return {
            names.MESSAGING_OPERATION_NAME: names.RECEIVE,
            names.MESSAGING_OPERATION_TYPE: names.OPERATION_TYPES[names.RECEIVE],
            names.MESSAGING_CLIENT_ID: self._context.client_id,
            names.PENSTOCK_PROTOCOL: self._context.protocol,
            names.PENSTOCK_ACKS: self._acks,
        }

    def _failed(self, span: Span, code: ErrorCode, sentence: str, event: str) -> None:
        fail(span, code, sentence, event, self._tracing.now_ns())


class _Progress:
    """A followed batch on its way from the log's end to the commit."""

    __slots__ = ("_append", "_followed", "_replicate", "_tracing", "_waits_for")

    def __init__(self, tracing: BrokerTracing, followed: FollowedBatch) -> None:
        self._tracing = tracing
        self._followed = followed
        now_ns = tracing.now_ns()
        self._append = self._span(names.APPEND, followed.ids.append, now_ns)
        self._replicate = self._span(names.REPLICATE, followed.ids.replicate, now_ns)
        self._waits_for = 2

    def watch(self, index: int) -> None:
        """Ends the spans with the log's news of the entry."""
        shard = self._tracing.shard
        shard.when_stored(index, self._ending(self._append))
        shard.when_committed(index, self._ending(self._replicate, self._committed))

    def _span(self, operation: str, span_id: int, now_ns: int) -> Span:
        followed = self._followed
        return Span(
            f"{operation} {followed.topic}",
            Kind.INTERNAL,
            followed.trace.trace_id,
            span_id,
            followed.ids.receive,
            now_ns,
            followed.attributes | {names.MESSAGING_OPERATION_NAME: operation},
            state=followed.trace.state,
        )

    def _committed(self, now_ns: int) -> None:
        self._followed.readable_ns = now_ns
        self._replicate.attributes[names.PENSTOCK_IN_SYNC] = self._tracing.shard.in_sync_count

    def _ending(self, span: Span, reached: Callable[[int], None] = lambda _: None) -> Callback:
        def end(error: PenstockError | None) -> None:
            now_ns = self._tracing.now_ns()
            if error is None:
                reached(now_ns)
            else:
                event = names.EVENT_FAILOVER if error.code in _FAILOVER else names.EVENT_REFUSED
                fail(span, error.code, error.sentence, event, now_ns)
            self._tracing.end(span)
            self._waits_for -= 1
            if not self._waits_for:
                self._tracing.end_batch()

        return end


def fail(span: Span, code: ErrorCode, sentence: str, event: str, now_ns: int) -> None:
    """Gives a span its error, with an event that says what happened."""
    span.error = sentence
    span.attributes[names.ERROR_TYPE] = code.name
    span.events = [
        *span.events,
        Event(event, now_ns, {names.ERROR_TYPE: code.name, names.PENSTOCK_MESSAGE: sentence}),
    ]
