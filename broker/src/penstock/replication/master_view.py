"""What a member knows of the Lease: its newest record, since when it has seen it so, and what it may say by now because of
this member's own writes.

Versions never repeat, so a version that is read again says that nothing changed in between.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.replication.master_attempts import MasterAttempts
from penstock.replication.master_lease import LeaseRecord, content


class MasterView:
    """`jitter` gives milliseconds to wait beyond the duration, another number for each record."""

    def __init__(self, jitter: Callable[[], int]) -> None:
        self.record: LeaseRecord | None = None
        self.attempts = MasterAttempts()
        self.jitter_ms = 0
        self._jitter = jitter
        self._seen_ms = 0

    def is_news(self, record: LeaseRecord) -> bool:
        """Whether the Lease has changed."""
        return self.record is None or record.version != self.record.version

    def says_the_same(self, record: LeaseRecord) -> bool:
        """Whether nothing of the election's own was changed."""
        return self.record is not None and content(record) == content(self.record)

    def adopt(self, record: LeaseRecord, now: int) -> None:
        """This is the newest record, first seen now."""
        self.record = record
        self.jitter_ms = self._jitter()
        self._seen_ms = now
        self.attempts.resolved(record.version)

    def unchanged_ms(self, now: int) -> int:
        """For how long this member has seen the record as it is. The times that stand in it are not asked."""
        return now - self._seen_ms
