"""Who may claim a Lease, by example: each rule, and the sentence that goes with it."""

from __future__ import annotations

import msgspec
import pytest

from lease_scene import ME, OTHER, SHARD, SYNC, THIRD, record
from penstock.replication.master_lease import ANYBODY, LeaseRecord, Release
from penstock.replication.takeover import (
    Claim,
    FailoverPolicy,
    Replication,
    Standing,
    Wait,
    WaitingFor,
    decide_takeover,
    inherited_set,
)

ASYNC = FailoverPolicy(replication=Replication.ASYNC)
LOSSY = FailoverPolicy(replication=Replication.ASYNC, allow_data_loss=True, max_lag=10)
ENDED = Release("its container ended")


def decide(
    lease: LeaseRecord,
    *,
    policy: FailoverPolicy = SYNC,
    epoch: int = 4,
    log_end: int = 100,
    unchanged_ms: int = 0,
    jitter_ms: int = 0,
) -> Claim | Wait:
    own = Standing(member=ME, shard_uid=SHARD, epoch=epoch, log_end=log_end)
    return decide_takeover(lease, own, policy, unchanged_ms, jitter_ms)


def waits(decision: Claim | Wait) -> WaitingFor:
    assert isinstance(decision, Wait)
    return decision.reason


def test_a_lease_is_free_after_its_own_duration_and_the_jitter() -> None:
    assert decide(record(), unchanged_ms=5999) == Wait(
        WaitingFor.HOLDER, "orders-0-1 holds the Lease of epoch 4", 1
    )
    assert decide(record(), unchanged_ms=6000) == Claim()
    assert waits(decide(record(), unchanged_ms=6000, jitter_ms=1)) is WaitingFor.HOLDER
    longer = msgspec.structs.replace(record(), duration_ms=10_000)
    assert waits(decide(longer, unchanged_ms=9999)) is WaitingFor.HOLDER


def test_only_members_of_the_in_sync_set_take_over() -> None:
    assert waits(decide(record(in_sync=(OTHER, THIRD)), unchanged_ms=6000)) is WaitingFor.NOT_IN_SYNC


def test_while_a_change_is_pending_the_old_set_takes_over() -> None:
    leaving = record(in_sync=(ME, OTHER), pending=(OTHER,))
    assert decide(leaving, unchanged_ms=6000) == Claim()
    joining = record(in_sync=(OTHER,), pending=(ME, OTHER))
    assert waits(decide(joining, unchanged_ms=6000)) is WaitingFor.NOT_IN_SYNC


def test_an_older_lease_is_never_free() -> None:
    decision = decide(record(epoch=4, released=ENDED), epoch=5, unchanged_ms=60_000)
    assert decision == Wait(
        WaitingFor.OLDER,
        "the Lease is of epoch 4, older than epoch 5, which this broker knows: it was restored from a backup or changed"
        " by hand, and nobody takes over by it",
    )


def test_the_lease_of_another_shard_is_never_free() -> None:
    other = msgspec.structs.replace(record(released=ENDED), shard_uid="another")
    assert waits(decide(other, unchanged_ms=60_000)) is WaitingFor.OTHER_SHARD


def test_a_released_lease_is_free_at_once_for_whoever_it_was_released_to() -> None:
    assert decide(record(released=Release("it ended", ANYBODY))) == Claim()
    assert decide(record(released=Release("handed over", ME))) == Claim()
    to_another = record(released=Release("handed over", THIRD))
    assert waits(decide(to_another, unchanged_ms=5999)) is WaitingFor.SUCCESSOR
    assert decide(to_another, unchanged_ms=6000) == Claim()


def test_a_released_lease_is_not_free_for_who_is_not_in_sync() -> None:
    lease = record(in_sync=(OTHER,), released=Release("handed over", ME))
    assert waits(decide(lease)) is WaitingFor.NOT_IN_SYNC


def test_async_the_last_master_holds_everything() -> None:
    assert decide(record(ME), policy=ASYNC, unchanged_ms=6000) == Claim()


def test_async_whom_the_master_named_holds_everything() -> None:
    assert decide(record(released=Release("handed over", ME)), policy=ASYNC) == Claim()


def test_async_nobody_else_takes_over_unless_loss_is_allowed() -> None:
    decision = decide(record(released=ENDED), policy=ASYNC)
    assert decision == Wait(
        WaitingFor.DATA_LOSS,
        "only orders-0-1 is sure to hold all that was acknowledged: bring it back, or set failover.allowDataLoss",
    )


@pytest.mark.parametrize(
    ("log_end", "lacking"),
    [
        (90, "so 10 entries are lost, and with them"),
        (100, "all of which is here, but not"),
        (120, "all of which is here, but not"),
    ],
)
def test_async_a_member_within_max_lag_takes_over_and_says_what_is_lost(log_end: int, lacking: str) -> None:
    decision = decide(record(released=ENDED), policy=LOSSY, log_end=log_end)
    assert decision == Claim(
        f"this broker goes on from entry {log_end}; orders-0-1 had written 100 when it last renewed, {lacking} whatever"
        " it acknowledged after that"
    )


def test_async_a_member_beyond_max_lag_does_not_take_over() -> None:
    decision = decide(record(released=ENDED), policy=LOSSY, log_end=89)
    assert decision == Wait(
        WaitingFor.LAG,
        "this broker lacks 11 entries of orders-0-1's log, more than failover.maxLag (10): bring back that broker",
    )


def test_async_who_is_not_recorded_as_within_max_lag_does_not_take_over() -> None:
    decision = decide(record(in_sync=(OTHER,), released=ENDED), policy=LOSSY)
    assert waits(decision) is WaitingFor.NOT_IN_SYNC


def test_sync_nothing_is_lost_however_far_behind_the_log_is() -> None:
    """What the member lacks was not acknowledged."""
    lossy = msgspec.structs.replace(LOSSY, replication=Replication.SYNC, allow_data_loss=False)
    assert decide(record(released=ENDED), policy=lossy, log_end=1) == Claim()


def test_async_the_others_count_again_only_once_they_follow() -> None:
    own = Standing(member=ME, shard_uid=SHARD, epoch=4, log_end=100)
    assert inherited_set(record(in_sync=(ME, OTHER)), own, SYNC) == {ME, OTHER}
    assert inherited_set(record(in_sync=(ME, OTHER)), own, LOSSY) == {ME}
