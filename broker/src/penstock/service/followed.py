"""Which batches are followed: looking into them, deciding, and remembering what was decided.

A batch's context stands in its first record and nowhere else, so whoever needs it (the leader that appends the batch, and
any leader that delivers it, perhaps another one) looks into the batch. What was decided is kept for the newest batches, so
that consumers at the tail, of which there may be many groups, cost no second look.
"""

from __future__ import annotations

import msgspec

from penstock.codec.first_record import may_hold
from penstock.model.record_batch import BatchHeader
from penstock.partition.partition import Partition
from penstock.runtime.clock import Clock
from penstock.service.looking import NOTHING, Looking, Seen, text_of
from penstock.service.settings import Settings
from penstock.telemetry.trace_counters import TraceCounters
from penstock.tracing import attributes as names
from penstock.tracing.context import TRACEPARENT, TraceContext
from penstock.tracing.derived import Place, SpanIds, derived_span_ids, partition_seed
from penstock.tracing.rules import Rule
from penstock.tracing.sampling import Sampled, decide
from penstock.tracing.span import Attribute

REMEMBERED_BATCHES_MAX = 10_000
"""Batches of which it is remembered whether they are followed."""

SEEDS_MAX = 10_000
"""Partitions whose part in all derived ids is kept."""

KEY_ATTRIBUTE_BYTES_MAX = 256
"""A longer key, or one that is not UTF-8, is no attribute."""


TRACEPARENT_BYTES = TRACEPARENT.encode()


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
        self._seeds: dict[int, bytes] = {}
        self._known_by: tuple[Rule, ...] = ()

    def traced(self, topic: str) -> bool:
        """Whether batches of the topic are looked into at all."""
        return self._settings.topic(topic).traced

    def decide(
        self, partition: Partition, header: BatchHeader, body: memoryview, base_offset: int, epoch: int
    ) -> FollowedBatch | None:
        """Whether a batch that stands at `base_offset`, of this leader epoch, is followed. `body` is what follows its header."""
        settings = self._settings.topic(partition.topic)
        if not settings.traced:
            return None
        # Every batch of a traced topic comes here: what is asked twice is kept, and what nobody asks is not worked out.
        rules = self._rules()
        known, key = self._known, (partition.key, base_offset, epoch)
        if key in known:
            return known[key]
        opened = self.looking.open(header, body)
        seen = None
        if opened is not None and (rules or may_hold(opened, TRACEPARENT_BYTES)):
            seen = self.looking.read(opened)
        place = Place(self._seed(partition), base_offset, epoch)
        named = seen is not None and bool(rules) and self._named_by_rule(partition.topic, seen)
        context = seen.context if seen is not None else None
        trace = decide(context, place, settings.trace_bound, always=named)
        followed = None
        if trace is not None:
            if opened is not None and seen is None:
                seen = self.looking.read(opened)
            followed = self._followed(partition, header, place, trace, seen or NOTHING)
        if len(known) >= REMEMBERED_BATCHES_MAX:
            del known[next(iter(known))]
        known[key] = followed
        return followed

    def _seed(self, partition: Partition) -> bytes:
        seed = self._seeds.get(partition.key)
        if seed is None:
            if len(self._seeds) >= SEEDS_MAX:
                self._seeds.clear()
            seed = partition_seed(self._cluster_id, partition.topic_id, partition.number)
            self._seeds[partition.key] = seed
        return seed

    def remembered(self, partition: Partition, base_offset: int, epoch: int) -> bool:
        """Whether `decide` knows without looking."""
        self._rules()
        return (partition.key, base_offset, epoch) in self._known

    def _rules(self) -> tuple[Rule, ...]:
        rules = self._settings.trace_rules()
        if rules is not self._known_by:
            # What was decided under other rules says nothing about these.
            self._known_by = rules
            self._known.clear()
        return rules

    def sent_along(
        self, topic: str, header: BatchHeader, body: memoryview
    ) -> tuple[TraceContext | None, Seen]:
        """(the context of a batch that stands nowhere, where it is to be followed, what its first record says)."""
        opened = self.looking.open(header, body)
        if opened is None or not may_hold(opened, TRACEPARENT_BYTES):
            return None, NOTHING
        seen = self.looking.read(opened)
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
        key = text_of(seen.key, KEY_ATTRIBUTE_BYTES_MAX)
        if key is not None:
            found[names.MESSAGING_KAFKA_MESSAGE_KEY] = key
        return found

    def _followed(
        self, partition: Partition, header: BatchHeader, place: Place, trace: Sampled, seen: Seen
    ) -> FollowedBatch:
        last_offset = place.base_offset + header.last_offset_delta
        attributes = self.common(partition.topic, partition.number, header, seen)
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
