"""Which batches are followed: looking into them, deciding, and remembering what was decided.

A batch's context stands in its first record and nowhere else, so whoever needs it (the leader that appends the batch, and
any leader that delivers it, perhaps another one) looks into the batch. What was decided is kept for the newest batches, so
that consumers at the tail, of which there may be many groups, cost no second look. Compressed batches are opened at most at
a named rate; one that is not opened counts as one without a context.
"""

from __future__ import annotations

import msgspec

from penstock.codec.errors import CodecError
from penstock.codec.first_record import FirstRecord, first_record
from penstock.model.record_batch import BatchHeader
from penstock.partition.partition import Partition
from penstock.runtime.clock import Clock
from penstock.service.settings import Settings
from penstock.telemetry.trace_counters import TraceCounters
from penstock.tracing import attributes as names
from penstock.tracing.budget import Budget
from penstock.tracing.context import TRACEPARENT, TraceContext, context_in
from penstock.tracing.derived import Place, SpanIds, derived_span_ids
from penstock.tracing.rules import Rule
from penstock.tracing.sampling import Sampled, decide
from penstock.tracing.span import Attribute

OPENED_PER_SECOND_MAX = 100
"""Compressed batches that are opened for their first record, over all topics."""

REMEMBERED_BATCHES_MAX = 10_000
"""Batches of which it is remembered whether they are followed."""

KEY_ATTRIBUTE_BYTES_MAX = 256
"""A longer key, or one that is not UTF-8, is no attribute."""

# Where the id of a message stands: as protocols with an own field for it name that, and as CloudEvents does.
MESSAGE_ID_HEADERS = ("message-id", "ce_id")
MESSAGE_ID_BYTES_MAX = 256

_TRACEPARENT = TRACEPARENT.encode()
_NO_HEADERS = b"\x00"


class FollowedBatch(msgspec.Struct):
    """A batch, the trace that it belongs to, and what all of its spans say. `readable_ns` is when it was committed, where that
    happened in this broker's sight, else 0."""

    topic: str
    partition: int
    base_offset: int
    last_offset: int
    trace: Sampled
    ids: SpanIds
    attributes: dict[str, Attribute]
    readable_ns: int = 0


class Seen(msgspec.Struct, gc=False):
    """What a batch's first record says."""

    context: TraceContext | None = None
    message_id: str | None = None
    key: bytes | None = None


_NOTHING = Seen()


class FollowedBatches:
    """See the module's text."""

    def __init__(
        self, settings: Settings, clock: Clock, counters: TraceCounters, cluster_id: str, shard_id: int
    ) -> None:
        self.counters = counters
        self._settings = settings
        self._clock = clock
        self._cluster_id = cluster_id
        self._shard_id = shard_id
        self._budget = Budget(OPENED_PER_SECOND_MAX)
        self._known: dict[tuple[int, int, int], FollowedBatch | None] = {}
        self._known_by: tuple[Rule, ...] = ()

    def traced(self, topic: str) -> bool:
        """Whether batches of the topic are looked into at all."""
        return self._settings.topic(topic).traced

    def decide(
        self, partition: Partition, header: BatchHeader, body: memoryview, base_offset: int, epoch: int
    ) -> FollowedBatch | None:
        """Whether a batch that stands at `base_offset`, of this leader epoch, is followed. `body` is what follows its header."""
        key = (partition.key, base_offset, epoch)
        if self.remembered(partition, base_offset, epoch):
            return self._known[key]
        followed = self._decided(partition, header, body, Place(
            self._cluster_id, partition.topic_id, partition.number, base_offset, epoch
        ))  # fmt: skip
        if len(self._known) >= REMEMBERED_BATCHES_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = followed
        return followed

    def remembered(self, partition: Partition, base_offset: int, epoch: int) -> bool:
        """Whether `decide` knows without looking."""
        rules = self._settings.trace_rules()
        if rules is not self._known_by:
            # What was decided under other rules says nothing about these.
            self._known_by = rules
            self._known.clear()
        return (partition.key, base_offset, epoch) in self._known

    def sent_along(
        self, topic: str, header: BatchHeader, body: memoryview
    ) -> tuple[TraceContext | None, Seen]:
        """(the context of a batch that stands nowhere, where it is to be followed, what its first record says)."""
        seen = self._look(header, body, always=True)
        context = seen.context
        if context is None or not (context.sampled or self._named_by_rule(topic, seen)):
            return None, seen
        return context, seen

    def common(self, topic: str, partition: int, header: BatchHeader, seen: Seen) -> dict[str, Attribute]:
        """What every span of a batch says, wherever the batch stands."""
        found: dict[str, Attribute] = {
            names.MESSAGING_SYSTEM: names.SYSTEM_KAFKA,
            names.MESSAGING_DESTINATION_NAME: topic,
            names.MESSAGING_DESTINATION_PARTITION_ID: str(partition),
            names.MESSAGING_BATCH_MESSAGE_COUNT: header.record_count,
            names.MESSAGING_MESSAGE_ENVELOPE_SIZE: header.size_bytes,
            names.PENSTOCK_SHARD: self._shard_id,
        }
        if seen.message_id is not None:
            found[names.MESSAGING_MESSAGE_ID] = seen.message_id
        key = _text(seen.key, KEY_ATTRIBUTE_BYTES_MAX)
        if key is not None:
            found[names.MESSAGING_KAFKA_MESSAGE_KEY] = key
        return found

    def _decided(
        self, partition: Partition, header: BatchHeader, body: memoryview, place: Place
    ) -> FollowedBatch | None:
        settings = self._settings.topic(partition.topic)
        first = self._first(header, body)
        seen = self._seen(first, always=False)
        rules = self._settings.trace_rules()
        trace = decide(
            seen.context,
            place,
            settings.trace_bound,
            always=bool(rules) and self._named_by_rule(partition.topic, seen),
        )
        if trace is None:
            return None
        last_offset = place.base_offset + header.last_offset_delta
        attributes = self.common(partition.topic, partition.number, header, self._seen(first, always=True))
        attributes |= {
            names.MESSAGING_KAFKA_OFFSET: place.base_offset,
            names.PENSTOCK_LAST_OFFSET: last_offset,
            names.PENSTOCK_EPOCH: place.epoch,
        }
        return FollowedBatch(
            partition.topic,
            partition.number,
            place.base_offset,
            last_offset,
            trace,
            derived_span_ids(place),
            attributes,
        )

    def _named_by_rule(self, topic: str, seen: Seen) -> bool:
        now_ms = self._clock.now_ms()
        return any(
            rule.expires_at_ms > now_ms and rule.fits(topic, seen.message_id, seen.key)
            for rule in self._settings.trace_rules()
        )

    def _look(self, header: BatchHeader, body: memoryview, *, always: bool) -> Seen:
        return self._seen(self._first(header, body), always=always)

    def _first(self, header: BatchHeader, body: memoryview) -> FirstRecord | None:
        if header.compression and not self._budget.take(self._clock.monotonic_ms()):
            self.counters.not_opened += 1
            return None
        try:
            found = first_record(header, body)
        except CodecError:
            # The broker takes what its checksum vouches for, and never promised that records can be read.
            self.counters.unreadable += 1
            return None
        self.counters.looked += 1
        return found

    def _seen(self, first: FirstRecord | None, *, always: bool) -> Seen:
        """What the record says. Headers are taken apart where a context may be among them, a rule asks, or `always`."""
        if first is None:
            return _NOTHING
        packed = first.packed_headers
        if _TRACEPARENT not in packed and not (
            packed != _NO_HEADERS and (always or self._settings.trace_rules())
        ):
            return Seen(key=first.key)
        try:
            headers = first.headers()
        except CodecError:
            self.counters.unreadable += 1
            return _NOTHING
        message_id = next((value for name, value in headers if name in MESSAGE_ID_HEADERS), None)
        return Seen(context_in(headers), _text(message_id, MESSAGE_ID_BYTES_MAX), first.key)


def _text(value: bytes | None, bytes_max: int) -> str | None:
    if value is None or len(value) > bytes_max:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
