"""Plain integers about tracing."""

from __future__ import annotations


class TraceCounters:
    """What tracing did and what it left out. `exported` and `failed` belong to the exporter's thread, the rest to the loop."""

    __slots__ = (
        "exported",
        "failed",
        "looked",
        "not_opened",
        "queue_full",
        "too_many_open",
        "topic_failed",
        "topic_queue_full",
        "topic_written",
        "unreadable",
    )

    def __init__(self) -> None:
        # Spans.
        self.exported = 0
        self.failed = 0
        self.queue_full = 0
        # The same of the internal topic.
        self.topic_written = 0
        self.topic_failed = 0
        self.topic_queue_full = 0
        # Batches that were not followed because too many are already.
        self.too_many_open = 0
        # Batches that were looked into, those among them that cannot be read, and compressed ones that were not opened.
        self.looked = 0
        self.unreadable = 0
        self.not_opened = 0
