"""One member's part in the election, by example: how it comes to lead. The names are the sentences of the design's
paragraph about the Lease."""

from __future__ import annotations

import msgspec

from lease_scene import (
    ALONE,
    BEGAN,
    BOTH,
    ENDED,
    ME,
    OTHER,
    SHARD,
    STOPS_MS,
    THIRD,
    TIMING,
    Member,
    identity,
    master,
    record,
)
from penstock.replication.master_election import Phase
from penstock.replication.master_lease import (
    Missing,
    Stored,
    Unavailable,
    Unreadable,
    stamped,
)
from penstock.replication.master_outputs import (
    BecomeMaster,
    Create,
    PersistEpoch,
    Read,
    Waiting,
    Write,
)
from penstock.replication.master_timing import CLOSELY_MS
from penstock.replication.takeover import WaitingFor

# --- acquiring -------------------------------------------------------------------------------------


def test_the_holder_is_the_uuid_of_this_start() -> None:
    """An earlier start of the same member is somebody else, whose time has to run out."""
    member = Member(record(ME))
    member.pass_time(5900)
    assert member.last(Waiting).sentence == "orders-0-0 holds the Lease of epoch 4"
    member.pass_time(200)
    member.election.epoch_stored(5, member.now)
    assert member.store.record is not None
    assert (member.store.record.holder, member.store.record.identity) == ("start-of-me", identity(ME))


def test_every_acquisition_takes_an_epoch_above_the_lease_and_the_logs() -> None:
    member = Member(record(epoch=4, released=ENDED), epoch=4)
    member.tick()
    member.answer()
    assert isinstance(member.asked, Write)
    assert (member.asked.record.epoch, member.asked.if_version) == (5, "7")
    assert member.asked.record.transitions == 3


def test_an_epoch_that_was_met_elsewhere_counts() -> None:
    """In the log, or from a peer."""
    member = Member(None, epoch=0)
    member.election.found(member.now)
    member.drain()
    member.election.log_at(3, 17, member.now)
    member.answer()  # begun before
    assert isinstance(member.asked, Create)
    assert (member.asked.record.epoch, member.asked.record.log_end) == (4, 17)


def test_the_epoch_is_persisted_before_anything_else() -> None:
    member = Member(record(released=ENDED))
    member.tick()
    member.answer()
    member.answer()
    assert member.outputs[-1] == PersistEpoch(5)
    assert member.election.phase is Phase.CLAIMED
    assert not member.election.may_acknowledge(member.now)
    member.election.epoch_stored(4, member.now)
    assert member.election.phase is Phase.CLAIMED
    member.election.epoch_stored(5, member.now)
    member.drain()
    assert member.outputs[-1] == BecomeMaster(5, (BOTH,), None)
    assert member.election.may_acknowledge(member.now)
    assert member.election.epoch == 5


def test_an_epoch_that_took_long_to_persist_waits_for_a_renewal() -> None:
    member = Member(record(released=ENDED))
    member.tick()
    member.answer()
    member.answer()
    member.now += STOPS_MS
    member.election.epoch_stored(5, member.now)
    member.drain()
    assert not member.said(BecomeMaster)
    member.tick()
    member.answer()
    assert member.said(BecomeMaster)


def test_a_contender_sees_no_change_for_the_duration_on_its_own_clock() -> None:
    member = Member(record())
    member.pass_time(5999)
    assert not member.said(Write)
    member.other_writes(renewals=4)
    member.pass_time(5999)
    assert not member.said(Write)
    member.pass_time(501)
    assert member.said(Write)


def test_the_renew_time_in_the_lease_is_never_believed() -> None:
    for renewed_at_us in (0, 2**52):
        member = Member(record(renewed_at_us=renewed_at_us))
        member.pass_time(5999)
        assert not member.said(Write)
        member.pass_time(1)
        assert member.said(Write)


def test_a_contender_that_stood_still_looks_again_before_it_claims() -> None:
    member = Member(record())
    member.pass_time(100)
    member.now += 60_000
    member.other_writes(renewals=4)
    member.tick()
    member.answer()
    assert not member.said(Write)


def test_contenders_wait_for_different_times() -> None:
    member = Member(record(), jitter_ms=300)
    member.pass_time(6299)
    assert not member.said(Write)
    member.pass_time(1)
    assert member.said(Write)


def test_a_claim_is_a_compare_and_swap() -> None:
    member = Member(record(released=ENDED))
    member.tick()
    member.answer()
    member.taken_by(THIRD)
    member.answer()
    assert isinstance(member.asked, Read)
    member.answer()
    assert member.last(Waiting).sentence == "orders-0-2 holds the Lease of epoch 5"
    assert not member.said(PersistEpoch)


def test_only_members_of_the_set_take_over() -> None:
    member = Member(record(in_sync=(OTHER,), released=ENDED))
    member.pass_time(20_000)
    assert not member.said(Write)
    assert member.last(Waiting).reason is WaitingFor.NOT_IN_SYNC


def test_a_takeover_drops_a_pending_set() -> None:
    member = Member(record(in_sync=(ME, OTHER), pending=(ME,), released=ENDED))
    member.tick()
    member.answer()
    assert isinstance(member.asked, Write)
    assert (member.asked.record.in_sync, member.asked.record.pending) == (BOTH, None)
    assert member.asked.record.released is None


def test_a_missing_lease_is_never_free() -> None:
    for lease in (None, record()):
        member = Member(lease)
        member.pass_time(100)
        member.store.record = None
        member.pass_time(60_000)
        assert not member.said(Create)
        assert not member.said(Write)
        assert member.last(Waiting).reason is WaitingFor.MISSING


def test_an_older_lease_is_never_free() -> None:
    member = Member(record(epoch=4, released=ENDED), epoch=5)
    member.pass_time(60_000)
    assert not member.said(Write)
    assert member.last(Waiting).reason is WaitingFor.OLDER


def test_a_lease_that_went_back_is_never_free() -> None:
    member = Member(record(epoch=4))
    member.pass_time(1000)
    member.other_writes(epoch=3, released=ENDED)
    member.pass_time(60_000)
    assert not member.said(Write)
    assert member.last(Waiting).reason is WaitingFor.OLDER


def test_a_lease_that_cannot_be_read_is_never_free() -> None:
    member = Member(record())
    for answer, reason in (
        (Unreadable("epoch of the Lease is 'x'"), WaitingFor.UNREADABLE),
        (Unavailable("timed out"), WaitingFor.UNAVAILABLE),
    ):
        for _ in range(100):
            member.now += 500
            member.tick()
            member.tell(member.take_asked(), answer)
        assert member.last(Waiting).reason is reason
    assert not member.said(Write)
    assert len(member.said(Waiting)) == 2, "told when it changes, not each time"


def test_a_member_that_cannot_lead_does_not_claim() -> None:
    member = Member(record(released=ENDED))
    member.election.unfit("this broker is being sent the log")
    member.pass_time(10_000)
    assert not member.said(Write)
    assert member.last(Waiting) == Waiting(WaitingFor.UNFIT, "this broker is being sent the log")
    member.election.unfit(None)
    member.pass_time(1000)
    assert member.said(Write)


def test_a_member_hears_of_a_newer_epoch_while_it_reads() -> None:
    """What it reads may be older than what it was told, and nothing is wrong with that."""
    member = Member(record(epoch=4))
    member.tick()
    asked = member.take_asked()
    answer = member.happens(asked)
    member.election.learned_epoch(5, member.now)
    member.tell(asked, answer)
    assert not member.said(Waiting)
    assert isinstance(member.asked, Read)
    member.taken_by(THIRD)
    member.answer()
    assert member.last(Waiting).reason is WaitingFor.HOLDER


def test_a_member_that_is_told_looks_at_once() -> None:
    member = Member(record())
    member.pass_time(600)
    reads = len(member.said(Read))
    member.other_writes(released=ENDED)
    member.election.look(member.now)
    member.drain()
    assert len(member.said(Read)) == reads + 1
    member.answer()
    assert isinstance(member.asked, Write)


def test_a_member_that_is_told_looks_closely_for_a_while() -> None:
    """Whoever sees the master's process end says so in the Lease a moment later."""
    member = Member(record())
    member.pass_time(600)
    member.election.look(member.now)
    member.drain()
    member.answer()
    assert member.election.next_tick_ms() == member.now + TIMING.close_poll_ms
    member.pass_time(CLOSELY_MS)
    assert member.election.next_tick_ms() == member.now + TIMING.poll_interval_ms


# --- founding --------------------------------------------------------------------------------------


def test_founding_creates_the_lease_once() -> None:
    member = Member(None, epoch=0, log_end=0)
    member.tick()
    member.answer()
    assert member.last(Waiting).reason is WaitingFor.MISSING
    member.election.found(member.now)
    member.drain()
    member.answer()
    created = member.last(Create).record
    assert (created.epoch, created.in_sync, created.shard_uid) == (1, ALONE, SHARD)
    member.answer()
    member.election.epoch_stored(1, member.now)
    member.drain()
    assert member.last(BecomeMaster) == BecomeMaster(1, (ALONE,), None)
    member.store.record = None
    member.pass_time(10_000)
    assert len(member.said(Create)) == 1
    assert member.election.phase is Phase.OVER


def test_who_founds_takes_a_lease_that_is_there_for_what_it_is() -> None:
    member = Member(None, epoch=0)
    member.election.found(member.now)
    member.drain()
    member.answer()
    member.store.record = record(in_sync=(OTHER,))
    member.answer()
    member.pass_time(10_000)
    assert len(member.said(Create)) == 1
    assert member.last(Waiting).reason is WaitingFor.NOT_IN_SYNC


def test_founding_whose_answer_was_lost_is_found_by_reading() -> None:
    for effective in (True, False):
        member = Member(None, epoch=0)
        member.election.found(member.now)
        member.drain()
        member.answer()
        member.lose(effective=effective)
        member.pass_time(1000)
        assert member.said(PersistEpoch) == [PersistEpoch(1)]


def test_who_knows_an_epoch_does_not_found() -> None:
    member = Member(None, epoch=1)
    member.election.found(member.now)
    member.pass_time(10_000)
    assert not member.said(Create)


# --- the driver ------------------------------------------------------------------------------------


def test_answers_that_nobody_waits_for_change_nothing() -> None:
    member = master()
    member.election.written(99, Stored("99"), member.now)
    member.election.observed(Missing(), member.now)
    member.election.epoch_stored(5, member.now)
    assert member.election.take() == []


def test_the_next_tick_is_known() -> None:
    member = Member(record())
    assert member.election.next_tick_ms() == BEGAN
    member.tick()
    assert member.election.next_tick_ms() is None  # the store answers in time
    member.answer()
    assert member.election.next_tick_ms() == BEGAN + TIMING.poll_interval_ms
    leader = master()
    leader.tick(1000)
    leader.election.log_progress(leader.now)
    assert leader.election.next_tick_ms() == BEGAN + TIMING.renew_interval_ms
    leader.tick(1000)
    assert leader.election.next_tick_ms() == BEGAN + 3000  # the log is silent
    leader.tick(1000)
    assert leader.election.next_tick_ms() == BEGAN + STOPS_MS
    assert leader.election.record == leader.store.record
    releasing = master()
    releasing.election.hand_over(OTHER, releasing.now)
    assert releasing.election.next_tick_ms() == BEGAN + TIMING.duration_ms


def test_a_store_stamps_times_for_people() -> None:
    acquired = stamped(msgspec.structs.replace(record(), renewals=0), 5, 17)
    assert (acquired.acquired_at_us, acquired.renewed_at_us) == (17, 17)
    renewed = stamped(record(), 5, 17)
    assert (renewed.acquired_at_us, renewed.renewed_at_us) == (5, 17)
