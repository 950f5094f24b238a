"""The spans of reading: one `deliver` for each followed batch that a fetch brings, one `settle` for a commit behind it.

A delivery belongs to the batch's trace, below its `receive` span, whose id follows from where the batch stands, and is
linked to the producer's own span. A fetch names no group and a commit no batch; so it is remembered which followed batches
were delivered last of each partition, and a commit settles the newest of them that lies before its offset, once for each
group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import TYPE_CHECKING

from penstock.codec.first_record import batch_start
from penstock.groups.commands import OffsetEntry
from penstock.model.record_batch import LENGTH_OVERHEAD
from penstock.partition.partition import Partition
from penstock.service.api import Buffer, FetchedPartition
from penstock.service.context import RequestContext
from penstock.service.followed import FollowedBatch
from penstock.tracing import attributes as names
from penstock.tracing.span import Attribute, Kind, Link, Span

if TYPE_CHECKING:
    import asyncio

    from penstock.service.tracing import BrokerTracing

BATCHES_PER_FETCH_MAX = 1000
"""Batches of one fetch that may get a span; those behind them do not."""

LOOKS_PER_FETCH_MAX = 64
"""Batches of one fetch that are looked into because nothing is remembered of them; the rest is not followed this time."""

DELIVERED_PER_PARTITION_MAX = 16
DELIVERED_PARTITIONS_MAX = 10_000
"""Followed batches, of so many partitions, that are remembered as delivered."""

SETTLED_MAX = 10_000
"""Groups' partitions of which it is remembered what was settled."""

# Base offset, length and leader epoch: the first buffer of a batch always holds them.
_start = Struct(">qii").unpack_from


class DeliverTracing:
    """Told of fetches and of commits."""

    def __init__(self, tracing: BrokerTracing) -> None:
        self._tracing = tracing
        self._delivered: dict[tuple[str, int], deque[FollowedBatch]] = {}
        self._settled: dict[tuple[str, str, int], int] = {}

    # --- deliver ---------------------------------------------------------------------------------

    def fetching(self, context: RequestContext, future: asyncio.Future[list[FetchedPartition]]) -> None:
        """A fetch came, which is answered when `future` is done."""
        asked_ns = self._tracing.now_ns()
        future.add_done_callback(lambda done: self._fetched(context, done, asked_ns))

    def _fetched(
        self, context: RequestContext, future: asyncio.Future[list[FetchedPartition]], asked_ns: int
    ) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        batches, looks = BATCHES_PER_FETCH_MAX, LOOKS_PER_FETCH_MAX
        for result in future.result():
            partition = self._partition(result)
            if partition is None:
                continue
            for buffers in split_buffers(result.records):
                if not batches:
                    return
                batches -= 1
                base_offset, _, epoch = _start(buffers[0])
                if not self._tracing.batches.remembered(partition, base_offset, epoch):
                    if not looks:
                        continue
                    looks -= 1
                followed = self._tracing.batches.decide(partition, *batch_start(buffers), base_offset, epoch)
                if followed is not None:
                    self._deliver(context, followed, asked_ns)

    def _partition(self, result: FetchedPartition) -> Partition | None:
        if not result.records or not self._tracing.batches.traced(result.topic):
            return None
        return self._tracing.shard.table.get(result.topic, result.partition)

    def _deliver(self, context: RequestContext, followed: FollowedBatch, asked_ns: int) -> None:
        # A consumer at the end asked long before there was anything to deliver.
        span = self._span(context, names.DELIVER, followed, max(asked_ns, followed.readable_ns), {})
        self._tracing.end(span)
        key = (followed.topic, followed.partition)
        delivered = self._delivered.get(key)
        if delivered is None:
            if len(self._delivered) >= DELIVERED_PARTITIONS_MAX:
                del self._delivered[next(iter(self._delivered))]
            delivered = self._delivered[key] = deque(maxlen=DELIVERED_PER_PARTITION_MAX)
        if all(item.base_offset != followed.base_offset for item in delivered):
            delivered.append(followed)

    # --- settle ----------------------------------------------------------------------------------

    def settling(
        self, context: RequestContext, group: str, member_id: str, offsets: Sequence[OffsetEntry]
    ) -> Callable[[str | None], None]:
        """A group commits offsets; what is given is to be called when that is done, with what went wrong or None."""
        begun_ns = self._tracing.now_ns()
        found = [
            (followed, entry)
            for entry in offsets
            if (followed := self._newest_before(group, entry)) is not None
        ]

        def done(error: str | None) -> None:
            for followed, entry in found:
                more: dict[str, Attribute] = {
                    names.MESSAGING_CONSUMER_GROUP_NAME: group,
                    names.PENSTOCK_COMMITTED_OFFSET: entry.offset,
                }
                if member_id:
                    more[names.PENSTOCK_MEMBER] = member_id
                span = self._span(context, names.SETTLE, followed, begun_ns, more)
                if error is None:
                    self._note_settled(group, followed)
                else:
                    span.error = span.attributes[names.ERROR_TYPE] = error
                self._tracing.end(span)

        return done

    def _newest_before(self, group: str, entry: OffsetEntry) -> FollowedBatch | None:
        delivered = self._delivered.get((entry.topic, entry.partition))
        if delivered is None:
            return None
        settled = self._settled.get((group, entry.topic, entry.partition), -1)
        below = [item for item in delivered if settled < item.base_offset and item.last_offset < entry.offset]
        return max(below, key=lambda item: item.base_offset, default=None)

    def _note_settled(self, group: str, followed: FollowedBatch) -> None:
        key = (group, followed.topic, followed.partition)
        if key not in self._settled and len(self._settled) >= SETTLED_MAX:
            del self._settled[next(iter(self._settled))]
        self._settled[key] = followed.base_offset

    def _span(
        self,
        context: RequestContext,
        operation: str,
        followed: FollowedBatch,
        start_ns: int,
        more: dict[str, Attribute],
    ) -> Span:
        trace = followed.trace
        attributes: dict[str, Attribute] = {
            names.MESSAGING_OPERATION_NAME: operation,
            names.MESSAGING_OPERATION_TYPE: names.OPERATION_TYPES[operation],
            names.MESSAGING_CLIENT_ID: context.client_id,
            names.PENSTOCK_PROTOCOL: context.protocol,
        }
        return Span(
            f"{operation} {followed.topic}",
            Kind.SERVER,
            trace.trace_id,
            self._tracing.new_id(),
            followed.ids.receive,
            start_ns,
            followed.attributes | attributes | more,
            state=trace.state,
            links=(Link(trace.trace_id, trace.parent_id, trace.state),) if trace.parent_id else (),
        )


def split_buffers(buffers: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
    """The buffers of each whole batch in turn. A batch begins with a buffer of its own."""
    first = missing = 0
    for number, buffer in enumerate(buffers):
        if not missing:
            first = number
            missing = _start(buffer)[1] + LENGTH_OVERHEAD
        missing -= len(buffer)
        if not missing:
            yield buffers[first : number + 1]
