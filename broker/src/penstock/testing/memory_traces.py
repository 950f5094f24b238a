"""`TraceService` over records in memory, for tests of the HTTP listeners and the command line."""

from __future__ import annotations

from penstock.service.context import RequestContext
from penstock.service.looking import seen_in
from penstock.service.message_api import StoredMessage
from penstock.service.trace_api import FoundRecords, TraceOf, Verdict
from penstock.tracing.derived import derived_offset, derived_trace_id, partition_seed
from penstock.tracing.record import TraceRecord


class MemoryTraces:
    """`found` are the records of a trace; `verdict` is that of every message, of topics with an id of zeros."""

    def __init__(self) -> None:
        self.collector = ""
        self.kept = False
        self.verdict = Verdict.OFF
        self.records: dict[int, list[TraceRecord]] = {}
        self.before: int | None = None
        self.unreadable = 0
        # (topic, partition) that trace ids may be derived from.
        self.place_in: tuple[str, int] | None = None

    @staticmethod
    def seed(partition: int) -> int:
        """What the ids of a partition's traces are derived from."""
        return partition_seed("memory", bytes(16), partition)

    def whose(self, stored: StoredMessage) -> TraceOf:
        """See `TraceService.whose`."""
        first = stored.first or stored.record
        context = seen_in(first.key, first.headers).context
        if context is not None:
            return TraceOf(context.trace_id, True, self.verdict)
        derived = derived_trace_id(self.seed(stored.partition), stored.header.base_offset)
        return TraceOf(derived, False, self.verdict)

    def place(self, trace_id: int) -> tuple[str, int, int] | None:
        """See `TraceService.place`."""
        if self.place_in is None:
            return None
        offset = derived_offset(self.seed(self.place_in[1]), trace_id)
        return None if offset is None else (*self.place_in, offset)

    async def find(self, context: RequestContext, trace_id: int, before: int | None) -> FoundRecords:
        """See `TraceService.find`. The second request of a search finds nothing more."""
        if before is not None:
            return FoundRecords()
        return FoundRecords(list(self.records.get(trace_id, ())), self.before, 0, self.unreadable)
