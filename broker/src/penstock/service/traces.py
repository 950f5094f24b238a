"""The way of one message as far as this broker knows: its trace by the settings of now, and the events that were written.

The events are messages of the topic `__trace`, found by their key as any other, with the same bounds on one request.
"""

from __future__ import annotations

import msgspec

from penstock.catalog.topics import Catalog
from penstock.runtime.clock import Clock
from penstock.service.context import RequestContext
from penstock.service.followed import named_by_rule
from penstock.service.looking import seen_in
from penstock.service.message_api import FindRequest, MessageService, StoredMessage
from penstock.service.settings import Settings
from penstock.service.trace_api import FoundRecords, TraceOf, Verdict
from penstock.service.trace_topic import TraceTopic
from penstock.tracing.derived import derived_offset, derived_trace_id, partition_seed
from penstock.tracing.record import TRACE_TOPIC, RecordError, read_record, trace_key
from penstock.tracing.sampling import picked

RECORDS_MAX = 500
"""Events in one answer."""

PLACES_MAX = 10_000
"""Partitions that a trace id is tried on."""


class Tracing(msgspec.Struct, frozen=True):
    """What this broker was told: where spans go, and who writes the topic; None: nobody."""

    cluster_id: str
    collector: str
    topic: TraceTopic | None


class TraceServiceImpl:
    """Implements `TraceService` on one shard."""

    def __init__(
        self, catalog: Catalog, settings: Settings, clock: Clock, messages: MessageService, tracing: Tracing
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._clock = clock
        self._messages = messages
        self._tracing = tracing

    @property
    def collector(self) -> str:
        """See `TraceService.collector`."""
        return self._tracing.collector

    @property
    def kept(self) -> bool:
        """See `TraceService.kept`."""
        return self._tracing.topic is not None

    def whose(self, stored: StoredMessage) -> TraceOf:
        """See `TraceService.whose`."""
        settings = self._settings.topic(stored.topic)
        first = stored.first or stored.record
        seen = seen_in(first.key, first.headers)
        known = self._catalog.topics.committed.get(stored.topic)
        seed = partition_seed(
            self._tracing.cluster_id, known.topic_id if known is not None else bytes(16), stored.partition
        )
        derived = derived_trace_id(seed, stored.header.base_offset)
        context = seen.context
        if not self.collector and not self.kept:
            verdict = Verdict.OFF
        elif not settings.traced:
            verdict = Verdict.TOPIC_OFF
        elif named_by_rule(settings, seen, self._clock.now_ms()):
            verdict = Verdict.RULE
        elif context is not None:
            verdict = Verdict.CONTEXT if context.sampled else Verdict.CONTEXT_NOT_SAMPLED
        else:
            verdict = Verdict.RATIO if picked(derived, settings.trace_bound) else Verdict.NOT_PICKED
        return TraceOf(derived if context is None else context.trace_id, context is not None, verdict)

    def place(self, trace_id: int) -> tuple[str, int, int] | None:
        """See `TraceService.place`."""
        tried = 0
        for topic in self._catalog.topics.committed.values():
            for number in range(min(len(topic.partitions), PLACES_MAX - tried)):
                seed = partition_seed(self._tracing.cluster_id, topic.topic_id, number)
                offset = derived_offset(seed, trace_id)
                if offset is not None:
                    return topic.name, number, offset
            tried += len(topic.partitions)
            if tried >= PLACES_MAX:
                break
        return None

    async def find(self, context: RequestContext, trace_id: int, before: int | None) -> FoundRecords:
        """See `TraceService.find`."""
        if self._tracing.topic is not None and before is None:
            await self._tracing.topic.settle()
        if TRACE_TOPIC not in self._catalog.topics.committed:
            return FoundRecords()
        request = FindRequest(TRACE_TOPIC, [0], trace_key(trace_id), RECORDS_MAX, before=before)
        found = await self._messages.find(context, request)
        answer = FoundRecords(before=found.before, scanned_messages=found.scanned_messages)
        for message in reversed(found.messages):
            try:
                answer.records.append(read_record(message.record.value))
            except RecordError:
                answer.unreadable += 1
        return answer
