"""Rules of the election of a master, broken on purpose: lives of shards in mode MasterSlave have to notice each of them.

Those that break what is promised about time need clocks, wall clocks and a Lease that others may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from penstock.replication import in_sync_set, master_contender, master_tenure, takeover
from penstock.replication.master_attempts import Attempt
from penstock.replication.master_election import MasterElection, Phase
from penstock.replication.master_lease import LeaseRecord, Stored, Unknown, WriteOutcome
from penstock.replication.master_tenure import Tenure
from penstock.replication.master_view import MasterView
from penstock.replication.takeover import Claim, FailoverPolicy, Standing, Wait

if TYPE_CHECKING:
    import pytest

FOR_EVER_MS = 2**62

Mutation = Callable[["pytest.MonkeyPatch"], None]


# --- taking over -----------------------------------------------------------------------------------


def promotes_outside_the_in_sync_set(patch: pytest.MonkeyPatch) -> None:
    """Whoever finds the Lease free takes it."""
    patch.setattr(takeover, "why_not_entitled", lambda record, own, policy: None)


def believes_the_renew_time(patch: pytest.MonkeyPatch) -> None:
    """How old the Lease is follows from the time in it and the own wall clock."""

    def unchanged_ms(self: MasterView, now: int) -> int:
        assert self.record is not None
        return now + self.wall_skew_ms - self.record.renewed_at_us // 1000  # type: ignore[attr-defined, no-any-return]

    patch.setattr(MasterView, "unchanged_ms", unchanged_ms)


def does_not_wait_for_the_duration(patch: pytest.MonkeyPatch) -> None:
    """Any Lease is as good as released."""
    patch.setattr(takeover, "released_to", lambda record, member: True)


def waits_for_half_the_duration(patch: pytest.MonkeyPatch) -> None:
    """A contender does not leave the holder all of its time."""
    right = MasterView.unchanged_ms
    patch.setattr(MasterView, "unchanged_ms", lambda self, now: 2 * right(self, now))


def takes_an_older_lease_for_a_free_one(patch: pytest.MonkeyPatch) -> None:
    """What was restored from a backup says who was in sync, and when it runs out."""
    right = takeover.decide_takeover

    def decide_takeover(
        record: LeaseRecord, own: Standing, policy: FailoverPolicy, unchanged_ms: int, jitter_ms: int
    ) -> Claim | Wait:
        return right(record, msgspec.structs.replace(own, epoch=0), policy, unchanged_ms, jitter_ms)

    patch.setattr(master_contender, "decide_takeover", decide_takeover)


def takes_the_epoch_from_the_lease_alone(patch: pytest.MonkeyPatch) -> None:
    """The logs' epochs do not count."""

    def next_epoch(before: LeaseRecord | None, known: int) -> int:
        return (before.epoch if before is not None else 0) + 1

    right = MasterElection._holds

    def holds(self: MasterElection, record: LeaseRecord, attempt: Attempt, now: int) -> None:
        if self.phase is Phase.FOLLOWING:
            self._contender.epoch = 0
        right(self, record, attempt, now)

    takes_an_older_lease_for_a_free_one(patch)
    patch.setattr(master_contender, "next_epoch", next_epoch)
    patch.setattr(MasterElection, "_holds", holds)


def takes_a_missing_lease_for_a_free_one(patch: pytest.MonkeyPatch) -> None:
    """Whoever finds none makes one."""
    patch.setattr(master_contender, "may_create", lambda founding, known: True)


def async_takes_over_what_may_lack_something(patch: pytest.MonkeyPatch) -> None:
    """A member takes itself for complete because it is near."""
    patch.setattr(takeover, "holds_everything", lambda record, member: True)


def leads_before_the_epoch_is_on_disk(patch: pytest.MonkeyPatch) -> None:
    """The claim is enough."""
    right = MasterElection._become

    def become(self: MasterElection, now: int) -> None:
        assert self._tenure is not None
        self._tenure.epoch_durable = True
        right(self, now)

    patch.setattr(MasterElection, "_become", become)


# --- holding ---------------------------------------------------------------------------------------


def never_demotes_itself(patch: pytest.MonkeyPatch) -> None:
    """A master leads until it sees another one."""
    patch.setattr(Tenure, "stops_ms", property(lambda self: FOR_EVER_MS))


def stops_when_it_is_over(patch: pytest.MonkeyPatch) -> None:
    """Without a margin, for clocks that run alike."""
    patch.setattr(Tenure, "stops_ms", property(lambda self: self.expires_ms + 200))


def counts_its_time_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    """A renewal is as good as new when its master hears of it."""
    patch.setattr(master_tenure, "valid_from", lambda attempt, now: now)


def takes_an_unknown_outcome_for_success(patch: pytest.MonkeyPatch) -> None:
    """A write without an answer will have done what it should."""
    right = MasterElection.written

    def written(self: MasterElection, request_id: int, outcome: WriteOutcome, now: int) -> None:
        if isinstance(outcome, Unknown):
            outcome = Stored("as hoped")
        right(self, request_id, outcome, now)

    patch.setattr(MasterElection, "written", written)


def renews_with_a_log_that_hangs(patch: pytest.MonkeyPatch) -> None:
    """The process lives, and that is enough."""
    patch.setattr(Tenure, "log_stalled", lambda self, now: False)


def leads_on_under_another_holder(patch: pytest.MonkeyPatch) -> None:
    """A renewal that meets a conflict is forgotten, and its time with it."""
    right = MasterElection.observed

    def observed(self: MasterElection, what: object, now: int) -> None:
        if self.phase is Phase.MASTER and self._busy == 0:
            self._busy, self._in_doubt = None, False
            assert self._tenure is not None
            self._tenure._expires_ms = now + 6000
            return
        right(self, what, now)  # type: ignore[arg-type]

    patch.setattr(MasterElection, "observed", observed)


# --- the set ---------------------------------------------------------------------------------------


def changes_the_set_without_the_old_one(patch: pytest.MonkeyPatch) -> None:
    """The new set counts as soon as it is wanted."""

    def commit_sets(
        record: LeaseRecord, in_doubt: Iterable[LeaseRecord], wanted: frozenset[int]
    ) -> tuple[frozenset[int], ...]:
        return (wanted,)

    patch.setattr(master_tenure, "commit_sets", commit_sets)


def changes_the_set_without_the_new_one(patch: pytest.MonkeyPatch) -> None:
    """The old set counts until the Lease is known to say otherwise."""

    def commit_sets(
        record: LeaseRecord, in_doubt: Iterable[LeaseRecord], wanted: frozenset[int]
    ) -> tuple[frozenset[int], ...]:
        return (record.in_sync,)

    patch.setattr(master_tenure, "commit_sets", commit_sets)


def forgets_writes_that_are_in_doubt(patch: pytest.MonkeyPatch) -> None:
    """One write, and what is known of the Lease counts; what it may say by now does not."""
    patch.setattr(master_tenure, "next_step", lambda record, wanted: (wanted, None))
    patch.setattr(
        master_tenure, "commit_sets", lambda record, in_doubt, wanted: in_sync_set.possible_sets(record, ())
    )


MUTATIONS: Sequence[Mutation] = (
    promotes_outside_the_in_sync_set,
    believes_the_renew_time,
    does_not_wait_for_the_duration,
    waits_for_half_the_duration,
    takes_the_epoch_from_the_lease_alone,
    takes_an_older_lease_for_a_free_one,
    takes_a_missing_lease_for_a_free_one,
    async_takes_over_what_may_lack_something,
    leads_before_the_epoch_is_on_disk,
    never_demotes_itself,
    stops_when_it_is_over,
    counts_its_time_from_the_answer,
    takes_an_unknown_outcome_for_success,
    renews_with_a_log_that_hangs,
    leads_on_under_another_holder,
    changes_the_set_without_the_old_one,
    changes_the_set_without_the_new_one,
    forgets_writes_that_are_in_doubt,
)
