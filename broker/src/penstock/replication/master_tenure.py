"""What the holder of the Lease keeps in mind: until when it is valid, whether its log still works, and which set it is
bringing about."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.replication.in_sync_set import (
    IN_SYNC_MAX,
    commit_sets,
    next_step,
    possible_sets,
    why_writes_are_refused,
)
from penstock.replication.master_attempts import Attempt
from penstock.replication.master_lease import LeaseRecord, Release, content
from penstock.replication.master_outputs import SetsChanged
from penstock.replication.master_timing import LeaseTiming
from penstock.replication.takeover import FailoverPolicy, Replication


class Tenure:
    """Of one acquisition, from the moment that it is known to have succeeded. Times as in `master_election`."""

    def __init__(
        self, member: int, policy: FailoverPolicy, timing: LeaseTiming, in_sync: frozenset[int], now: int
    ) -> None:
        self.epoch_durable = False
        # Set when leadership is handed over.
        self.release: Release | None = None
        self._member = member
        # May be replaced by one with another `minInSync`.
        self.policy = policy
        self._timing = timing
        self._wanted = in_sync
        self._published: SetsChanged | None = None
        self._expires_ms = now
        self._progress_ms = now
        # To persist the epoch is the first thing that the disk is asked for.
        self._probing = True

    # --- the time it has -------------------------------------------------------------------------

    @property
    def expires_ms(self) -> int:
        """From then on somebody else may hold the Lease."""
        return self._expires_ms

    @property
    def stops_ms(self) -> int:
        """From then on this one acknowledges nothing."""
        return self._expires_ms - self._timing.stop_margin_ms

    def renewed(self, attempt: Attempt, now: int) -> None:
        """This write is known, now, to have taken effect."""
        self._expires_ms = max(self._expires_ms, valid_from(attempt, now) + attempt.record.duration_ms)

    # --- its log ---------------------------------------------------------------------------------

    @property
    def probe_ms(self) -> int | None:
        """When to make the log write something, None while it was told to."""
        return None if self._probing else self._progress_ms + self._timing.renew_interval_ms

    def log_is_silent(self, now: int) -> bool:
        """Whether to make it write something."""
        return self.probe_ms is not None and now >= self.probe_ms

    def probing(self) -> None:
        """The log was told to write something."""
        self._probing = True

    def log_progress(self, now: int) -> None:
        """The log has finished a write."""
        self._progress_ms = now
        self._probing = False

    def log_stalled(self, now: int) -> bool:
        """Whether it hangs, as far as can be told."""
        return now - self._progress_ms > self._timing.log_stall_ms_max

    def why_not_renewed(self, now: int) -> str:
        """A sentence for the end."""
        if self.log_stalled(now):
            return f"the log has finished no write for {now - self._progress_ms} ms, so the Lease was not renewed"
        return "the Lease could not be renewed in time"

    # --- its set ---------------------------------------------------------------------------------

    def want(self, member: int, *, in_sync: bool) -> bool:
        """Whether that changes the set that is wanted. The master itself always belongs to it."""
        wanted = self._wanted | {member} if in_sync else self._wanted - {member}
        if wanted == self._wanted or self._member not in wanted or len(wanted) > IN_SYNC_MAX:
            return False
        self._wanted = wanted
        return True

    def why_not_successor(
        self, member: int, known: LeaseRecord, in_doubt: Sequence[LeaseRecord]
    ) -> str | None:
        """What forbids to hand over to this member, as a sentence, or None."""
        sets = possible_sets(known, in_doubt)
        if member != self._member and all(member in members for members in sets):
            return None
        return f"member {member} is not in sync"

    def next_record(self, known: LeaseRecord, log_end: int) -> LeaseRecord:
        """What to write next: a renewal, with the next step of a set's change in it, or the release."""
        in_sync, pending = known.in_sync, known.pending
        if self.release is None:
            in_sync, pending = next_step(known, self._wanted)
        return msgspec.structs.replace(
            content(known),
            in_sync=in_sync,
            pending=pending,
            log_end=log_end,
            renewals=known.renewals + 1,
            released=self.release,
        )

    def has_a_step_to_write(self, known: LeaseRecord) -> bool:
        """Whether the set's change goes on."""
        return next_step(known, self._wanted) != (known.in_sync, known.pending)

    def new_sets(self, known: LeaseRecord, in_doubt: Sequence[LeaseRecord]) -> SetsChanged | None:
        """What decides on commits from now on, if that is something else than before."""
        sets = commit_sets(known, in_doubt, self._wanted)
        refusal = why_writes_are_refused(sets, self.policy.min_in_sync)
        if self.policy.replication is Replication.ASYNC:
            sets = (frozenset({self._member}),)
        changed = SetsChanged(sets, refusal)
        if changed == self._published:
            return None
        self._published = changed
        return changed


def valid_from(attempt: Attempt, now: int) -> int:
    """When the time of a renewal begins of which the master learns now that it is stored."""
    return attempt.sent_ms
