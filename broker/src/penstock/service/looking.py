"""Looking into the first record of a batch: how often compressed ones are opened, and what is made of what it says.

A batch that is not opened, or cannot be read, is like one that says nothing. The broker takes whatever the checksum vouches
for and never promised that records can be read, so neither is an error; both are counted.
"""

from __future__ import annotations

import msgspec

from penstock.codec.errors import CodecError
from penstock.codec.first_record import first_record, open_batch
from penstock.model.record_batch import COMPRESSION_MASK, BatchHeader
from penstock.runtime.clock import Clock
from penstock.telemetry.trace_counters import TraceCounters
from penstock.tracing.budget import Budget
from penstock.tracing.context import TraceContext, context_in

OPENED_PER_SECOND_MAX = 100
"""Compressed batches that are opened for their first record, over all topics."""

# Where the id of a message stands: as protocols with an own field for it name that, and as CloudEvents does.
MESSAGE_ID_HEADERS = ("message-id", "ce_id")
MESSAGE_ID_BYTES_MAX = 256

Opened = bytes | memoryview


class Seen(msgspec.Struct, gc=False):
    """What a batch's first record says, as far as it was read."""

    context: TraceContext | None = None
    message_id: str | None = None
    key: bytes | None = None


NOTHING = Seen()


class Looking:
    """See the module's text."""

    def __init__(self, clock: Clock, counters: TraceCounters) -> None:
        self._clock = clock
        self._counters = counters
        self.budget = Budget(OPENED_PER_SECOND_MAX)

    def open(self, header: BatchHeader, body: memoryview) -> Opened | None:
        """The beginning of a batch's records; None where it is compressed and not opened. `body` is what follows its header."""
        if not header.attributes & COMPRESSION_MASK:
            self._counters.looked += 1
            return body
        if not self.budget.take(self._clock.monotonic_ms()):
            self._counters.not_opened += 1
            return None
        self._counters.looked += 1
        try:
            return open_batch(header, body)
        except CodecError:
            self._counters.unreadable += 1
            return None

    def read(self, opened: Opened) -> Seen:
        """Everything that the first record says."""
        try:
            first = first_record(opened)
            headers = first.headers()
        except CodecError:
            self._counters.unreadable += 1
            return NOTHING
        return seen_in(first.key, headers)


def seen_in(key: bytes | None, headers: tuple[tuple[str, bytes | None], ...]) -> Seen:
    """What a first record says."""
    message_id = next((value for name, value in headers if name in MESSAGE_ID_HEADERS), None)
    return Seen(context_in(headers), text_of(message_id, MESSAGE_ID_BYTES_MAX), key)


def text_of(value: bytes | None, bytes_max: int) -> str | None:
    """The text of these bytes, None where they are none, or too many."""
    if value is None or len(value) > bytes_max:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
