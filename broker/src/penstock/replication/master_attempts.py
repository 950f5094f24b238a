"""A member's writes to the Lease of which it does not know yet what became of them.

A write whose answer is lost may have taken effect, and one that timed out may still be under way and do so later. It cannot
once the Lease is at another version than the one the write was meant for. So a write stays in doubt until another version
is known, which either is what it wrote or shuts it out for good.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from penstock.replication.master_lease import LeaseRecord, content

# More than a master can send before its time is up (`master_timing.RETRY_PARTS`); of a contender's only the newest count.
IN_DOUBT_MAX = 64
# The version of nothing, for which a creation is meant.
NOTHING = ""


class Attempt(msgspec.Struct, frozen=True):
    """A write as it was sent at `sent_ms`, meant for the Lease at `if_version`."""

    record: LeaseRecord
    if_version: str
    sent_ms: int


class MasterAttempts:
    """Of one process."""

    def __init__(self) -> None:
        self._in_doubt: deque[Attempt] = deque(maxlen=IN_DOUBT_MAX)

    @property
    def records(self) -> Sequence[LeaseRecord]:
        """What the Lease may say without this member knowing."""
        return [attempt.record for attempt in self._in_doubt]

    def sent(self, record: LeaseRecord, if_version: str, now: int) -> None:
        """A write leaves now."""
        self._in_doubt.append(Attempt(content(record), if_version, now))

    def numbered(self, number: int) -> Attempt | None:
        """The attempt of that number, if its outcome is not known."""
        return next((attempt for attempt in self._in_doubt if attempt.record.attempt == number), None)

    def written_as(self, record: LeaseRecord) -> Attempt | None:
        """The attempt that wrote just this record, or None."""
        attempt = self.numbered(record.attempt)
        return attempt if attempt is not None and attempt.record == content(record) else None

    def resolved(self, version: str) -> None:
        """The Lease was seen at this version: what was meant for another one has failed or succeeded."""
        left = [attempt for attempt in self._in_doubt if attempt.if_version == version]
        self._in_doubt = deque(left, maxlen=IN_DOUBT_MAX)
