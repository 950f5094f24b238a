"""Which batches are followed: looking into them, deciding, and remembering what was decided.

A batch's context stands in its first record and nowhere else, so whoever needs it (the leader that appends the batch, and
any leader that delivers it, perhaps another one) looks into the batch. What was decided is kept for the newest batches, so
that consumers at the tail, of which there may be many groups, cost no second look.
"""

from __future__ import annotations

import msgspec

from penstock.codec.errors import CodecError
from penstock.codec.first_record import headers_region, lone_header, packed_headers
from penstock.model.record_batch import COMPRESSION_MASK, BatchHeader
from penstock.partition.partition import Partition
from penstock.runtime.clock import Clock
from penstock.service.looking import NOTHING, Looking, Opened, Seen, text_of
from penstock.service.settings import Settings, TopicSettings
from penstock.telemetry.trace_counters import TraceCounters
from penstock.tracing import attributes as names
from penstock.tracing.context import TRACEPARENT, TraceContext, may_be_sampled, parse_traceparent
from penstock.tracing.derived import SpanIds, derived_span_ids, partition_seed, picks
from penstock.tracing.sampling import Sampled, decide
from penstock.tracing.span import Attribute

REMEMBERED_BATCHES_MAX = 10_000
"""Batches of which it is remembered that they are followed; and compressed ones, that they are not."""

SEEDS_MAX = 10_000
"""Partitions whose part in all derived ids is kept."""

KEY_ATTRIBUTE_BYTES_MAX = 256
"""A longer key, or one that is not UTF-8, is no attribute."""


_TRACEPARENT = TRACEPARENT.encode()


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


class FollowedBatches:
    """See the module's text."""

    def __init__(
        self, settings: Settings, clock: Clock, counters: TraceCounters, cluster_id: str, shard_id: int
    ) -> None:
        self.counters = counters
        self.looking = Looking(clock, counters)
        self._settings = settings
        self._clock = clock
        self._cluster_id = cluster_id
        self._shard_id = shard_id
        self._known: dict[tuple[int, int, int], FollowedBatch | None] = {}
        self._seeds: dict[int, int] = {}
        self._known_by = 0

    def traced(self, topic: str) -> bool:
        """Whether batches of the topic are looked into at all."""
        return self._settings.topic(topic).traced

    def passes(
        self,
        settings: TopicSettings,
        partition: Partition,
        header: BatchHeader,
        batch: memoryview,
        base_offset: int,
    ) -> bool:
        """Whether a batch is surely not followed. Every batch that is appended comes here, so this finds out with as little as can
        be; where it cannot tell, `decide` does. `settings` are the topic's."""
        if not settings.traced:
            return True
        if header.attributes & COMPRESSION_MASK or (settings.trace_rules and self._any_lives(settings)):
            return False
        bound = settings.trace_bound
        if bound:
            seed = self._seeds.get(partition.key) or self._make_seed(partition)
            if picks(seed, base_offset, bound):
                return False
        try:
            begin, end = headers_region(batch)
        except (CodecError, IndexError):
            return False
        if may_be_sampled(batch, begin, end):
            return False
        self.counters.looked += 1
        return True

    def decide(
        self, partition: Partition, header: BatchHeader, body: memoryview, base_offset: int, epoch: int
    ) -> FollowedBatch | None:
        """Whether a batch that stands at `base_offset`, of this leader epoch, is followed. `body` is what follows its header."""
        settings = self._settings.topic(partition.topic)
        if not settings.traced:
            return None
        if settings.trace_rules_change != self._known_by:
            self._forget(settings)
        key = (partition.key, base_offset, epoch)
        if key in self._known:
            return self._known[key]
        opened = self.looking.open(header, body)
        context, seen, named = None, None, False
        if opened is not None:
            if settings.trace_rules:
                seen = self.looking.read(opened)
                named = self._named_by_rule(settings, seen)
                context = seen.context
            else:
                context, seen = self._context(opened)
        seed = self._seeds.get(partition.key) or self._make_seed(partition)
        trace = decide(context, seed, base_offset, settings.trace_bound, named)
        if trace is None:
            if header.compression:
                # It is not to be opened again for each group that reads it.
                self._remember(key, None)
            return None
        if opened is not None and seen is None:
            seen = self.looking.read(opened)
        ids = derived_span_ids(seed, base_offset, epoch)
        attributes = self.common(partition.topic, partition.number, header, seen or NOTHING)
        last_offset = base_offset + header.last_offset_delta
        attributes |= {
            names.MESSAGING_KAFKA_OFFSET: base_offset,
            names.PENSTOCK_LAST_OFFSET: last_offset,
            names.PENSTOCK_EPOCH: epoch,
        }
        followed = FollowedBatch(
            partition.topic, partition.number, base_offset, last_offset, trace, ids, attributes
        )
        self._remember(key, followed)
        return followed

    def _context(self, opened: Opened) -> tuple[TraceContext | None, Seen | None]:
        """(the producer's context, which is all that most batches are asked for; what else had to be read for it)."""
        packed = packed_headers(opened)
        if packed is not None:
            if _TRACEPARENT not in packed:
                return None, None
            value = lone_header(packed, _TRACEPARENT)
            if value is not None:
                return parse_traceparent(value), None
        seen = self.looking.read(opened)
        return seen.context, seen

    def remembered(self, partition: Partition, base_offset: int, epoch: int) -> bool:
        """Whether `decide` knows without looking."""
        return (partition.key, base_offset, epoch) in self._known

    def _remember(self, key: tuple[int, int, int], followed: FollowedBatch | None) -> None:
        if len(self._known) >= REMEMBERED_BATCHES_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = followed

    def _forget(self, settings: TopicSettings) -> None:
        """What was decided under other rules says nothing about these."""
        self._known_by = settings.trace_rules_change
        self._known.clear()

    def _make_seed(self, partition: Partition) -> int:
        if len(self._seeds) >= SEEDS_MAX:
            self._seeds.clear()
        seed = partition_seed(self._cluster_id, partition.topic_id, partition.number)
        self._seeds[partition.key] = seed
        return seed

    def sent_along(
        self, topic: str, header: BatchHeader, body: memoryview
    ) -> tuple[TraceContext, Seen] | None:
        """(the context of a batch that stands nowhere, what its first record says); None where it is not to be followed."""
        opened = self.looking.open(header, body)
        if opened is None:
            return None
        context, read = self._context(opened)
        if context is None:
            return None
        seen = read or self.looking.read(opened)
        if not (context.sampled or self._named_by_rule(self._settings.topic(topic), seen)):
            return None
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
        key = text_of(seen.key, KEY_ATTRIBUTE_BYTES_MAX)
        if key is not None:
            found[names.MESSAGING_KAFKA_MESSAGE_KEY] = key
        return found

    def _any_lives(self, settings: TopicSettings) -> bool:
        """Rules that are over stay where they are until somebody changes one."""
        now_ms = self._clock.now_ms()
        return any(rule.expires_at_ms > now_ms for rule in settings.trace_rules)

    def _named_by_rule(self, settings: TopicSettings, seen: Seen) -> bool:
        return bool(settings.trace_rules) and named_by_rule(settings, seen, self._clock.now_ms())


def named_by_rule(settings: TopicSettings, seen: Seen, now_ms: int) -> bool:
    """Whether a rule of the topic names a batch whose first record says this."""
    return any(
        rule.expires_at_ms > now_ms and rule.fits(seen.message_id, seen.key) for rule in settings.trace_rules
    )
