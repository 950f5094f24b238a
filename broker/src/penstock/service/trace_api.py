"""Asking for the way of one message, as the admin API does: whose trace it belongs to, and what was written of that trace."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import msgspec

from penstock.service.context import RequestContext
from penstock.service.message_api import StoredMessage
from penstock.tracing.record import TraceRecord


class Verdict(Enum):
    """Whether a message's batch is followed by the settings of now, and what decided."""

    OFF = "off"
    """Nothing is traced."""
    TOPIC_OFF = "topicOff"
    """The topic is not traced."""
    RULE = "rule"
    """Followed: a rule names it."""
    CONTEXT = "context"
    """Followed: its producer's context is sampled."""
    CONTEXT_NOT_SAMPLED = "contextNotSampled"
    RATIO = "ratio"
    """Followed: the ratio picks it."""
    NOT_PICKED = "notPicked"

    @property
    def followed(self) -> bool:
        """Whether it is."""
        return self in (Verdict.RULE, Verdict.CONTEXT, Verdict.RATIO)


class TraceOf(msgspec.Struct, frozen=True):
    """The trace of a message's batch: its producer's where `from_context`, else derived from where the batch stands."""

    trace_id: int
    from_context: bool
    verdict: Verdict


class FoundRecords(msgspec.Struct):
    """Of one trace, oldest first. Older ones may be found below offset `before` of the topic, where that is given: one request
    was not enough to search it all. `unreadable` records of the trace are not ours, or of a later release."""

    records: list[TraceRecord] = []
    before: int | None = None
    scanned_messages: int = 0
    unreadable: int = 0


class TraceService(Protocol):
    """Traces of the shard that this broker leads."""

    @property
    def collector(self) -> str:
        """Where spans are sent; empty: nowhere."""
        ...

    @property
    def kept(self) -> bool:
        """Whether events are written to the topic `__trace`."""
        ...

    def whose(self, stored: StoredMessage) -> TraceOf:
        """The trace of a message that `MessageService.get` gave."""
        ...

    def place(self, trace_id: int) -> tuple[str, int, int] | None:
        """(topic, partition, base offset) of the batch that would have this derived trace id; None where no partition gives it."""
        ...

    async def find(self, context: RequestContext, trace_id: int, before: int | None) -> FoundRecords:
        """What was written of a trace, as much as one request may search, below offset `before` of the topic. Raises PenstockError
        as `MessageService.find`."""
        ...
