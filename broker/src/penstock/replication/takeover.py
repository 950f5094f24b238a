"""Whether a member may claim the Lease that it has just read.

Four questions, in this order. Is the record younger than what the member knows? A Lease of an older epoch was restored
or tampered with, and says nothing. Is it free? It is when the member has seen no change of it for the duration that it
names, on the member's own clock; or at once, when it was released to this member or to anybody. Does the member hold
what was acknowledged? Then it is in the recorded in-sync set; being in a pending one does not count (`in_sync_set` says
why the recorded one is right while a change is under way). And under `replication: async`, is it allowed to lose what it
may not hold?

Whether the claim then succeeds is for the compare-and-swap to tell: any change since makes it fail.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from penstock.replication.master_lease import ANYBODY, LeaseRecord


class Replication(StrEnum):
    """What an acknowledgement promises: every in-sync member holds it, or the master does."""

    SYNC = "sync"
    ASYNC = "async"


class FailoverPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster's `replication`, `minInSync` and `failover` fields. `max_lag` counts entries of the log."""

    replication: Replication = Replication.SYNC
    min_in_sync: int = 1
    max_lag: int = 0
    allow_data_loss: bool = False


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a member knows of itself: the highest epoch that it has met anywhere, and its log's last entry."""

    member: int
    shard_uid: str
    epoch: int
    log_end: int


class WaitingFor(StrEnum):
    """Why a member does not take over. Only the first two are a shard in good health."""

    HOLDER = "Holder"
    SUCCESSOR = "Successor"
    UNAVAILABLE = "LeaseUnavailable"
    MISSING = "LeaseMissing"
    UNREADABLE = "LeaseUnreadable"
    OTHER_SHARD = "LeaseOfAnotherShard"
    OLDER = "LeaseOlder"
    NOT_IN_SYNC = "NotInSync"
    DATA_LOSS = "DataLossNotAllowed"
    LAG = "LagTooLarge"
    UNFIT = "Unfit"


class Claim(msgspec.Struct, frozen=True):
    """The member may take over. `loss` says what may be lost by it, empty for nothing."""

    loss: str = ""


class Wait(msgspec.Struct, frozen=True):
    """It may not, for this reason, as a sentence; `free_in_ms` from now it may be different without any change, None for
    never."""

    reason: WaitingFor
    sentence: str
    free_in_ms: int | None = None


def decide_takeover(
    record: LeaseRecord, own: Standing, policy: FailoverPolicy, unchanged_ms: int, jitter_ms: int
) -> Claim | Wait:
    """For a record that this member does not hold, and that it has seen unchanged for so long. The jitter keeps several
    members from claiming at once."""
    if record.shard_uid != own.shard_uid:
        return Wait(
            WaitingFor.OTHER_SHARD, f"the Lease belongs to shard {record.shard_uid}, not {own.shard_uid}"
        )
    if record.epoch < own.epoch:
        return Wait(WaitingFor.OLDER, _older(record, own))
    if not released_to(record, own.member):
        left_ms = record.duration_ms + jitter_ms - unchanged_ms
        if left_ms > 0:
            return _not_free(record, left_ms)
    return why_not_entitled(record, own, policy) or Claim(_loss(record, own, policy))


def released_to(record: LeaseRecord, member: int) -> bool:
    """Whether the member need not wait."""
    return record.released is not None and record.released.successor in (ANYBODY, member)


def why_not_entitled(record: LeaseRecord, own: Standing, policy: FailoverPolicy) -> Wait | None:
    """What forbids this member to take over a Lease that is free, or None."""
    if own.member not in record.in_sync:
        return Wait(WaitingFor.NOT_IN_SYNC, _not_in_sync(record))
    if policy.replication is Replication.SYNC or holds_everything(record, own.member):
        return None
    if not policy.allow_data_loss:
        return Wait(
            WaitingFor.DATA_LOSS,
            f"only {record.holder_name} is sure to hold all that was acknowledged: bring it back, or set"
            " failover.allowDataLoss",
        )
    lag = record.log_end - own.log_end
    if lag > policy.max_lag:
        return Wait(
            WaitingFor.LAG,
            f"this broker lacks {lag} entries of {record.holder_name}'s log, more than failover.maxLag"
            f" ({policy.max_lag}): bring back that broker",
        )
    return None


def holds_everything(record: LeaseRecord, member: int) -> bool:
    """Under `replication: async`: the last master does, and whom it named after waiting for it to have caught up."""
    was_master = record.identity is not None and record.identity.member == member
    return was_master or (record.released is not None and record.released.successor == member)


def inherited_set(record: LeaseRecord, own: Standing, policy: FailoverPolicy) -> frozenset[int]:
    """The in-sync set with which this member begins. Under `replication: async` the others may hold what this one never
    had, and count again only once they are known to follow its log."""
    return record.in_sync if policy.replication is Replication.SYNC else frozenset({own.member})


def _not_in_sync(record: LeaseRecord) -> str:
    if record.identity is not None and record.in_sync == {record.identity.member}:
        return (
            f"{record.holder_name} alone held all that was acknowledged, on the volume that it had as member"
            f" {record.identity.member}: nobody takes over before that volume is back"
        )
    return (
        f"{record.holder_name} was the last master, and this broker may not hold all that was acknowledged: bring back"
        " a broker that was in sync"
    )


def _older(record: LeaseRecord, own: Standing) -> str:
    return (
        f"the Lease is of epoch {record.epoch}, older than epoch {own.epoch}, which this broker knows: it was restored"
        " from a backup or changed by hand, and nobody takes over by it"
    )


def _not_free(record: LeaseRecord, left_ms: int) -> Wait:
    if record.released is not None:
        return Wait(
            WaitingFor.SUCCESSOR, f"member {record.released.successor} is to take over first", left_ms
        )
    return Wait(WaitingFor.HOLDER, f"{record.holder_name} holds the Lease of epoch {record.epoch}", left_ms)


def _loss(record: LeaseRecord, own: Standing, policy: FailoverPolicy) -> str:
    if policy.replication is Replication.SYNC or holds_everything(record, own.member):
        return ""
    lacking = record.log_end - own.log_end
    known = (
        f"so {lacking} entries are lost, and with them" if lacking > 0 else "all of which is here, but not"
    )
    return (
        f"this broker goes on from entry {own.log_end}; {record.holder_name} had written {record.log_end} when it last"
        f" renewed, {known} whatever it acknowledged after that"
    )
