"""One member's part in the election, by example. The names are the sentences of the design's paragraph about the Lease."""

from __future__ import annotations

import msgspec
import pytest

from lease_scene import BEGAN, ME, OTHER, SHARD, THIRD, TIMING, Member, identity, master, record
from penstock.replication.master_attempts import IN_DOUBT_MAX
from penstock.replication.master_election import Phase
from penstock.replication.master_lease import (
    ANYBODY,
    Missing,
    Release,
    Stored,
    Unavailable,
    Unreadable,
    stamped,
)
from penstock.replication.master_outputs import (
    BecomeMaster,
    Create,
    Exit,
    MayHaveLost,
    PersistEpoch,
    ProbeLog,
    Read,
    SetsChanged,
    StopAcknowledging,
    Waiting,
    Write,
)
from penstock.replication.takeover import FailoverPolicy, Replication, WaitingFor

ENDED = Release("its container ended")
BOTH, ALONE = frozenset({ME, OTHER}), frozenset({ME})
STOPS_MS = TIMING.duration_ms - TIMING.stop_margin_ms


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


# --- holding ---------------------------------------------------------------------------------------


def test_a_master_renews_every_interval() -> None:
    member = master()
    assert member.store.record is not None
    for number in (1, 2, 3):
        member.pass_time(TIMING.renew_interval_ms)
        assert member.store.record.renewals == number
    assert not member.said(Exit)


def test_a_master_counts_from_when_it_sent_its_last_successful_renewal() -> None:
    member = master()
    member.tick(2000)
    sent_ms = member.now
    asked = member.take_asked()
    answer = member.happens(asked)
    member.now += 900
    member.tell(asked, answer)
    assert member.election.may_acknowledge(sent_ms + STOPS_MS - 1)
    assert not member.election.may_acknowledge(sent_ms + STOPS_MS)


def test_a_master_stops_acknowledging_and_exits_before_its_time_runs_out() -> None:
    member = master()
    acquired_ms = member.now
    while not member.said(Exit):
        member.tick(10)
        if isinstance(member.asked, Read):
            member.tell(member.take_asked(), Unavailable("refused"))
        elif member.asked is not None:
            member.lose(effective=False)
        member.election.log_progress(member.now)
    assert member.now - acquired_ms == STOPS_MS
    assert STOPS_MS + TIMING.stop_margin_ms == TIMING.duration_ms
    why = "the Lease could not be renewed in time"
    assert member.outputs[-2:] == [StopAcknowledging(why), Exit(why)]
    assert member.election.next_tick_ms() is None
    member.pass_time(10_000)
    assert member.outputs[-1] == Exit(why)


def test_a_master_that_stood_still_may_not_acknowledge() -> None:
    """Asked before any tick, and whatever the first call is afterwards."""
    member = master()
    member.now += 60_000
    assert not member.election.may_acknowledge(member.now)
    member.election.fell_behind(OTHER, member.now)
    member.drain()
    assert member.said(Exit)
    assert not member.said(Write)[1:]


def test_renewal_needs_the_log_to_have_finished_a_write() -> None:
    member = master()
    member.pass_time(1000)
    hangs_since = member.now
    member.pass_time(TIMING.log_stall_ms_max, log_works=False)
    renewed = len(member.said(Write))
    while not member.said(Exit):
        member.pass_time(100, log_works=False)
    assert len(member.said(Write)) == renewed
    assert member.last(Exit).why.startswith("the log has finished no write for ")
    assert member.now - hangs_since <= TIMING.log_stall_ms_max + STOPS_MS


def test_a_log_that_works_again_is_renewed_for() -> None:
    member = master()
    member.pass_time(TIMING.log_stall_ms_max + 1000, log_works=False)
    member.pass_time(20_000)
    assert not member.said(Exit)


def test_a_silent_log_is_made_to_write() -> None:
    member = master()
    member.pass_time(TIMING.renew_interval_ms - 100, log_works=False)
    assert not member.said(ProbeLog)
    member.pass_time(600, log_works=False)
    assert len(member.said(ProbeLog)) == 1, "once until it answers"
    member.pass_time(TIMING.renew_interval_ms)
    assert len(member.said(ProbeLog)) == 1


def test_a_hung_disk_keeps_a_claim_from_being_renewed() -> None:
    member = Member(record(released=ENDED))
    member.pass_time(60_000, log_works=False)
    assert member.election.phase is Phase.CLAIMED
    assert member.store.record is not None
    assert member.store.record.renewals == 1  # one fell into the time that a log may take
    member.taken_by(THIRD)
    member.election.epoch_stored(5, member.now)
    member.pass_time(1000)
    assert not member.said(BecomeMaster)
    assert member.last(Exit).why == "orders-0-2 holds the Lease now, in epoch 6"


def test_a_claim_goes_on_when_its_disk_works_again() -> None:
    """It has been silent for longer than a log may be, and nothing but a probe would write to it."""
    member = Member(record(released=ENDED))
    member.pass_time(60_000, log_works=False)
    assert not member.said(ProbeLog), "to persist the epoch is one"
    member.store.record = None
    member.election.epoch_stored(5, member.now)
    member.pass_time(10_000, log_works=False)
    member.store.record = member.election.record
    assert len(member.said(ProbeLog)) == 1
    member.election.log_progress(member.now)
    member.pass_time(1000)
    assert member.said(BecomeMaster)


def test_a_write_without_an_answer_is_no_success() -> None:
    for effective in (True, False):
        member = master()
        acquired_ms = member.now
        member.tick(2000)
        member.lose(effective=effective)
        assert not member.election.may_acknowledge(acquired_ms + STOPS_MS)
        assert isinstance(member.asked, Read)
        sent_ms = member.now
        member.now += 500
        member.answer()
        assert member.election.may_acknowledge(sent_ms + STOPS_MS - 1) is effective
        assert not member.election.may_acknowledge(sent_ms + STOPS_MS)


def test_a_write_that_takes_effect_later_is_known_by_its_number() -> None:
    """It was given up, and another one is under way, when it arrives: valid from when that very one was sent."""
    member = master()
    member.tick(2000)
    sent_ms = member.now
    late = member.take_asked()
    member.tell(late, Unavailable("timed out"))  # type: ignore[arg-type]
    member.now += 900
    member.answer()  # reads: nothing changed
    member.tick(TIMING.retry_pause_ms)
    member.happens(late)
    member.answer()  # the second try meets another version
    member.answer()
    assert member.election.may_acknowledge(sent_ms + STOPS_MS - 1)
    assert not member.election.may_acknowledge(sent_ms + STOPS_MS)
    member.pass_time(20_000)
    assert not member.said(Exit)


def test_a_claim_without_an_answer_is_found_by_reading() -> None:
    for effective in (True, False):
        member = Member(record(released=ENDED))
        member.tick()
        member.answer()
        member.lose(effective=effective)
        assert member.election.phase is Phase.FOLLOWING
        member.pass_time(1000)
        assert member.said(PersistEpoch) == [PersistEpoch(5)]


def test_a_claim_that_takes_effect_late_is_not_valid_by_then() -> None:
    member = Member(record(released=ENDED))
    member.tick()
    member.answer()
    late = member.take_asked()
    member.tell(late, Unavailable("timed out"))  # type: ignore[arg-type]
    member.tell(member.take_asked(), Unavailable("timed out"))
    member.happens(late)
    member.now += 7000
    member.tick()
    member.answer()
    member.election.epoch_stored(5, member.now)
    member.drain()
    assert not member.said(BecomeMaster)
    member.answer()  # a renewal
    assert member.said(BecomeMaster)


def test_a_claim_of_an_epoch_that_is_known_to_be_too_low_is_given_up() -> None:
    member = Member(record(released=ENDED))
    member.tick()
    member.answer()
    claim = member.take_asked()
    member.election.learned_epoch(9, member.now)
    member.tell(claim, member.happens(claim))
    assert member.last(Exit).why == "epoch 5 was claimed before epoch 9 was known of"
    assert not member.said(PersistEpoch)


def test_a_contender_keeps_to_its_bound_of_writes_in_doubt() -> None:
    member = Member(record(released=ENDED))
    for _ in range(3 * IN_DOUBT_MAX):
        member.tick(500)
        if isinstance(member.asked, Read):
            member.answer()
        else:
            member.lose(effective=False)
    assert len(member.election._view.attempts.records) == IN_DOUBT_MAX


def test_writes_that_fail_at_once_are_repeated_with_a_pause() -> None:
    member = master()
    began, writes = member.now, len(member.said(Write))
    for _ in range(4000):
        member.tick(1)
        if isinstance(member.asked, Write):
            member.lose(effective=False)
        elif member.asked is not None:
            member.answer()
    tried = len(member.said(Write)) - writes
    assert tried <= (member.now - began - TIMING.renew_interval_ms) / TIMING.retry_pause_ms + 1


# --- losing ----------------------------------------------------------------------------------------


def test_a_master_that_sees_another_holder_stops_at_once() -> None:
    member = master()
    member.taken_by(THIRD)
    member.tick(2000)
    member.answer()
    member.answer()
    why = "orders-0-2 holds the Lease now, in epoch 6"
    assert member.outputs[-2:] == [StopAcknowledging(why), Exit(why)]


def test_lower_epochs_are_refused() -> None:
    """Whoever hears of a newer one leads no more."""
    member = master()
    member.election.learned_epoch(5, member.now)
    assert member.election.may_acknowledge(member.now)
    member.election.learned_epoch(6, member.now)
    member.drain()
    assert not member.election.may_acknowledge(member.now)
    assert member.outputs[-2:] == [
        StopAcknowledging("there is a newer epoch, 6"),
        Exit("there is a newer epoch, 6"),
    ]


def test_a_release_by_the_operator_lets_the_others_at_it_at_once() -> None:
    member = Member(record())
    member.pass_time(600)
    member.other_writes(released=ENDED)
    member.pass_time(TIMING.poll_interval_ms)
    assert member.said(PersistEpoch)


def test_a_master_whose_lease_was_released_stops() -> None:
    member = master()
    member.other_writes(released=Release("its container ended"))
    member.pass_time(2000)
    assert member.last(Exit).why == "the Lease was released by somebody else: its container ended"


def test_a_master_whose_lease_was_changed_stops() -> None:
    for changes in ({"epoch": 4}, {"in_sync": frozenset({ME, THIRD})}, {"log_end": 1}):
        member = master()
        member.other_writes(**changes)
        member.pass_time(2000)
        assert member.last(Exit).why == "somebody else changed what this broker had written into the Lease"


def test_a_change_that_is_none_of_the_elections_is_no_renewal_and_no_loss() -> None:
    member = master()
    acquired_ms = member.now
    member.tick(2000)
    member.other_writes()  # labels, say
    member.answer()
    member.answer()
    assert not member.election.may_acknowledge(acquired_ms + STOPS_MS)
    member.pass_time(20_000)
    assert not member.said(Exit)


def test_a_master_without_its_lease_keeps_to_its_time() -> None:
    member = master()
    acquired_ms = member.now
    member.store.record = None
    while not member.said(Exit):
        member.pass_time(100)
    assert member.now - acquired_ms == STOPS_MS
    assert not member.said(Create)


# --- the in-sync set -------------------------------------------------------------------------------


def test_the_set_is_recorded_before_it_changes() -> None:
    """A member that leaves counts until the Lease does not name it any more."""
    member = master()
    member.election.fell_behind(OTHER, member.now)
    member.drain()
    assert member.last(SetsChanged).sets == (BOTH, ALONE)
    assert isinstance(member.asked, Write)
    assert (member.asked.record.in_sync, member.asked.record.pending) == (BOTH, ALONE)
    member.answer()
    assert isinstance(member.asked, Write)
    assert (member.asked.record.in_sync, member.asked.record.pending) == (ALONE, None)
    assert member.last(SetsChanged).sets == (BOTH, ALONE)
    member.answer()
    assert member.last(SetsChanged).sets == (ALONE,)
    assert member.asked is None


def test_while_a_change_is_unresolved_commit_needs_the_old_set_and_the_new_one() -> None:
    for effective in (True, False):
        member = master()
        member.election.fell_behind(OTHER, member.now)
        member.drain()
        member.answer()
        member.lose(effective=effective)
        assert member.last(SetsChanged).sets == (BOTH, ALONE)
        member.answer()
        member.tick(TIMING.retry_pause_ms)
        if not effective:
            assert member.last(SetsChanged).sets == (BOTH, ALONE)
            member.answer()
        assert member.last(SetsChanged).sets == (ALONE,)


def test_a_member_that_joins_counts_before_the_lease_is_asked() -> None:
    member = master(in_sync=(ME,))
    member.tick(2000)  # a renewal is under way
    member.election.caught_up(OTHER, member.now)
    member.drain()
    assert member.last(SetsChanged).sets == (ALONE, BOTH)
    member.answer()
    assert isinstance(member.asked, Write)
    assert member.asked.record.pending == BOTH
    member.answer()
    member.answer()
    assert member.last(SetsChanged).sets == (BOTH,)


def test_the_sets_are_told_before_the_lease_is_written() -> None:
    member = master()
    member.election.fell_behind(OTHER, member.now)
    told, written = member.election.take()
    assert isinstance(told, SetsChanged)
    assert isinstance(written, Write)


def test_a_member_that_comes_back_in_the_middle_stays() -> None:
    member = master()
    member.election.fell_behind(OTHER, member.now)
    member.drain()
    member.election.caught_up(OTHER, member.now)
    member.pass_time(100)
    assert member.store.record is not None
    assert (member.store.record.in_sync, member.store.record.pending) == (BOTH, None)
    assert member.last(SetsChanged).sets == (BOTH,)


def test_a_removal_that_was_taken_back_counts_while_it_may_still_happen() -> None:
    """The write that ends it is lost on the way; what would keep the member is not stored yet."""
    member = master()
    member.election.fell_behind(OTHER, member.now)
    member.drain()
    member.answer()
    late = member.take_asked()
    member.tell(late, Unavailable("timed out"))  # type: ignore[arg-type]
    member.election.caught_up(OTHER, member.now)
    member.answer()
    member.tick(TIMING.retry_pause_ms)
    member.happens(late)
    assert member.last(SetsChanged).sets == (BOTH, ALONE)
    member.pass_time(500)
    assert member.store.record is not None
    assert member.store.record.in_sync == BOTH
    assert member.last(SetsChanged).sets == (BOTH,)


def test_a_set_that_does_not_change_is_not_written() -> None:
    member = master()
    writes = len(member.said(Write))
    member.election.caught_up(OTHER, member.now)
    member.election.fell_behind(THIRD, member.now)
    member.election.fell_behind(ME, member.now)
    member.drain()
    assert len(member.said(Write)) == writes
    assert not member.said(SetsChanged)


def test_a_set_keeps_to_its_bound() -> None:
    member = master()
    for stranger in range(100, 140):
        member.election.caught_up(stranger, member.now)
        member.pass_time(100)
    assert member.store.record is not None
    assert len(member.store.record.in_sync) == 16


def test_below_min_in_sync_writes_are_refused() -> None:
    member = master(FailoverPolicy(min_in_sync=2))
    member.election.fell_behind(OTHER, member.now)
    member.drain()
    assert member.last(SetsChanged).refusal is not None, "from before it is recorded"
    member.pass_time(100)
    refusal = "1 of the 2 copies that minInSync asks for are in sync: bring back a broker, or lower minInSync"
    assert member.last(SetsChanged) == SetsChanged((ALONE,), refusal)
    member.election.caught_up(OTHER, member.now)
    member.drain()
    assert member.last(SetsChanged).refusal == refusal, "until it is recorded"
    member.pass_time(100)
    assert member.last(SetsChanged) == SetsChanged((BOTH,), None)


def test_a_master_may_begin_below_min_in_sync() -> None:
    member = master(FailoverPolicy(min_in_sync=2), in_sync=(ME,))
    assert member.last(BecomeMaster).refusal is not None


# --- async -----------------------------------------------------------------------------------------

ASYNC = FailoverPolicy(replication=Replication.ASYNC, allow_data_loss=True, max_lag=5)


def test_async_the_master_alone_decides_and_the_lease_says_who_is_near() -> None:
    member = master(ASYNC)
    assert member.last(BecomeMaster).sets == (ALONE,)
    member.election.caught_up(OTHER, member.now)
    member.pass_time(100)
    assert member.store.record is not None
    assert member.store.record.in_sync == BOTH
    assert not member.said(SetsChanged)


def test_async_what_may_be_lost_is_told_before_the_member_leads() -> None:
    member = master(ASYNC, log_end=97)
    told, became = member.outputs[-2:]
    assert isinstance(became, BecomeMaster)
    assert told == MayHaveLost(
        5,
        "this broker goes on from entry 97; orders-0-1 had written 100 when it last renewed, so 3 entries are lost, and"
        " with them whatever it acknowledged after that",
    )


def test_async_the_lease_tells_how_far_the_masters_log_is() -> None:
    member = master(ASYNC)
    member.election.log_at(5, 140, member.now)
    member.pass_time(2000)
    assert member.store.record is not None
    assert member.store.record.log_end == 140


# --- handing over ----------------------------------------------------------------------------------


def test_a_hand_over_names_the_successor_and_ends_this_life() -> None:
    member = master()
    assert member.election.hand_over(OTHER, member.now) is None
    member.drain()
    assert isinstance(member.outputs[-2], StopAcknowledging), "before the Lease can be free"
    assert not member.election.may_acknowledge(member.now)
    member.answer()
    assert member.store.record is not None
    assert member.store.record.released == Release("leadership was handed over", OTHER)
    assert member.last(Exit).why == "leadership was handed over"
    assert len(member.said(StopAcknowledging)) == 1


def test_a_hand_over_waits_for_the_renewal_that_is_under_way() -> None:
    member = master()
    member.tick(2000)
    assert member.election.hand_over(OTHER, member.now) is None
    member.drain()
    member.answer()
    member.answer()
    assert member.said(Exit)
    assert member.store.record is not None
    assert member.store.record.released is not None


def test_a_hand_over_whose_answer_was_lost_is_found_by_reading() -> None:
    for effective in (True, False):
        member = master()
        member.election.hand_over(OTHER, member.now)
        member.drain()
        member.lose(effective=effective)
        member.pass_time(500)
        assert member.last(Exit).why == "leadership was handed over"
        assert member.store.record is not None
        assert member.store.record.released is not None


def test_a_hand_over_that_succeeded_unnoticed_ends_when_the_successor_is_seen() -> None:
    member = master()
    member.election.hand_over(OTHER, member.now)
    member.drain()
    member.lose(effective=True)
    member.taken_by(OTHER)
    member.answer()
    assert member.last(Exit).why == "orders-0-1 holds the Lease now, in epoch 6"


def test_a_hand_over_that_cannot_be_written_ends_with_the_leases_time() -> None:
    member = master()
    began = member.now
    member.election.hand_over(OTHER, member.now)
    member.drain()
    while not member.said(Exit):
        if isinstance(member.asked, Read):
            member.tell(member.take_asked(), Unavailable("refused"))
        elif member.asked is not None:
            member.lose(effective=False)
        member.tick(10)
    assert member.now - began == TIMING.duration_ms
    assert not member.election.may_acknowledge(member.now)


@pytest.mark.parametrize("to", [ME, THIRD])
def test_leadership_is_handed_to_members_of_the_set_alone(to: int) -> None:
    member = master()
    assert member.election.hand_over(to, member.now) == f"member {to} is not in sync"
    assert member.election.may_acknowledge(member.now)


def test_leadership_is_not_handed_to_who_is_leaving() -> None:
    member = master()
    member.election.fell_behind(OTHER, member.now)
    member.drain()
    assert member.election.hand_over(OTHER, member.now) == "member 22 is not in sync"


def test_leadership_can_be_left_to_anybody() -> None:
    member = master(in_sync=(ME,))
    assert member.election.hand_over(ANYBODY, member.now) is None
    member.drain()
    member.answer()
    assert member.store.record is not None
    assert member.store.record.released == Release("leadership was handed over", ANYBODY)


def test_who_does_not_lead_hands_nothing_over() -> None:
    member = Member(record())
    member.pass_time(600)
    assert member.election.hand_over(OTHER, member.now) == "this broker is not master"


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
