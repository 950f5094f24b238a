"""What a member that follows makes of the Lease: it waits, and says why, or it claims it.

It has to know two things besides the Lease: the highest epoch that it has met anywhere, in its log, on its disk or from
others, and where its log ends.
"""

from __future__ import annotations

import msgspec

from penstock.replication.master_lease import (
    ANYBODY,
    HolderIdentity,
    LeaseRecord,
    Missing,
    Observation,
    Release,
    Unavailable,
    Unreadable,
)
from penstock.replication.master_timing import LeaseTiming
from penstock.replication.master_view import MasterView
from penstock.replication.takeover import (
    FailoverPolicy,
    Replication,
    Standing,
    Wait,
    WaitingFor,
    decide_takeover,
    inherited_set,
)


class Election(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while the process lives. `holder` is a UUID made at its start."""

    holder: str
    identity: HolderIdentity
    shard_uid: str
    policy: FailoverPolicy
    timing: LeaseTiming


class Contender:
    """One member's, in all phases of it: `epoch` and `log_end` are a master's own too."""

    def __init__(self, election: Election, epoch: int, log_end: int) -> None:
        self.epoch = epoch
        self.log_end = log_end
        # Whether this member may found the shard, and why it cannot lead whatever the Lease says.
        self.founding = False
        self.unfit: str | None = None
        self._election = election

    def decide(self, what: Observation, view: MasterView, now: int) -> Wait | LeaseRecord:
        """For a Lease that somebody else holds, or none: the claim to write, or why not. `view` knows it already."""
        match what:
            case LeaseRecord():
                return self._decide_record(what, view, now)
            case Missing() if may_create(self.founding, view.record):
                return self._claim(None, "")
            case Missing():
                return Wait(
                    WaitingFor.MISSING,
                    "there is no Lease of this shard, which is never taken for a free one: somebody removed it",
                )
            case Unreadable(why=why):
                return Wait(WaitingFor.UNREADABLE, why)
            case Unavailable(why=why):
                return Wait(WaitingFor.UNAVAILABLE, f"the Lease cannot be read: {why}")

    def _decide_record(self, record: LeaseRecord, view: MasterView, now: int) -> Wait | LeaseRecord:
        standing, policy = self._standing(), self._election.policy
        if record.shard_uid == standing.shard_uid:
            self.epoch = max(self.epoch, record.epoch)
        decision = decide_takeover(record, standing, policy, view.unchanged_ms(now), view.jitter_ms)
        if isinstance(decision, Wait):
            return decision
        if self.unfit is not None:
            return Wait(WaitingFor.UNFIT, self.unfit)
        return self._claim(record, decision.loss)

    def _claim(self, before: LeaseRecord | None, loss: str) -> LeaseRecord:
        """This member's record in place of a free one, or of none."""
        election, standing = self._election, self._standing()
        epoch = next_epoch(before, self.epoch)
        loss_epoch = epoch
        if not loss:
            loss, loss_epoch = (before.loss, before.loss_epoch) if before is not None else ("", 0)
        if before is None:
            in_sync = frozenset({standing.member})
        else:
            in_sync = inherited_set(before, standing, election.policy)
        return LeaseRecord(
            shard_uid=election.shard_uid,
            holder=election.holder,
            identity=election.identity,
            epoch=epoch,
            in_sync=in_sync,
            duration_ms=election.timing.duration_ms,
            log_end=self.log_end,
            transitions=before.transitions + 1 if before is not None else 0,
            loss=loss,
            loss_epoch=loss_epoch,
        )

    def resignation(self, why: str) -> Release:
        """How the holder gives the Lease up where it names nobody. Under `replication: async` only its own member is sure to
        hold everything: the others have to wait for it as long as for one that crashed."""
        alone = self._election.policy.replication is Replication.ASYNC
        return Release(why, self._election.identity.member if alone else ANYBODY)

    def _standing(self) -> Standing:
        return Standing(
            member=self._election.identity.member,
            shard_uid=self._election.shard_uid,
            epoch=self.epoch,
            log_end=self.log_end,
        )


def next_epoch(before: LeaseRecord | None, known: int) -> int:
    """The epoch of a new acquisition: above the Lease's, and above every one that the member has met elsewhere."""
    return max(before.epoch if before is not None else 0, known) + 1


def may_create(founding: bool, known: LeaseRecord | None) -> bool:
    """Whether a Lease that is not there may be made: only to found a shard, and only if there never was one."""
    return founding and known is None
