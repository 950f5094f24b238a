"""One member's part in the election, by example: how it keeps leading, and how it stops."""

from __future__ import annotations

from lease_scene import ENDED, ME, OTHER, STOPS_MS, THIRD, TIMING, Member, master, record
from penstock.replication.master_attempts import IN_DOUBT_MAX
from penstock.replication.master_election import Phase
from penstock.replication.master_lease import (
    Release,
    Unavailable,
)
from penstock.replication.master_outputs import (
    BecomeMaster,
    Create,
    Exit,
    PersistEpoch,
    ProbeLog,
    Read,
    StopAcknowledging,
    Write,
)

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
