"""One member's part in the election, by example: who is in sync with it, and to whom it hands over."""

from __future__ import annotations

import msgspec
import pytest

from lease_scene import ALONE, BOTH, ENDED, ME, OTHER, THIRD, TIMING, Member, identity, master, record
from penstock.replication.master_election import Phase
from penstock.replication.master_lease import (
    ANYBODY,
    Release,
    Unavailable,
)
from penstock.replication.master_outputs import (
    BecomeMaster,
    Exit,
    MayHaveLost,
    Read,
    SetsChanged,
    StopAcknowledging,
    Write,
)
from penstock.replication.takeover import FailoverPolicy, Replication

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


def test_another_min_in_sync_counts_at_once() -> None:
    member = master(FailoverPolicy(min_in_sync=2), in_sync=(ME,))
    member.election.min_in_sync(1)
    member.drain()
    assert member.last(SetsChanged).refusal is None
    member.election.min_in_sync(3)
    member.drain()
    assert "1 of the 3 copies" in str(member.last(SetsChanged).refusal)


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


def test_async_who_is_further_than_the_lease_does_not_speak_of_lost_entries() -> None:
    (told,) = (each for each in master(ASYNC, log_end=104).outputs if isinstance(each, MayHaveLost))
    assert told.sentence == (
        "this broker goes on from entry 104; orders-0-1 had written 100 when it last renewed, all of which is here, but"
        " not whatever it acknowledged after that"
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


@pytest.mark.parametrize(("policy", "successor"), [(FailoverPolicy(), ANYBODY), (ASYNC, ME)])
def test_who_resigns_leaves_it_to_those_that_hold_everything(policy: FailoverPolicy, successor: int) -> None:
    """Under `sync` all in the set do, else the own member alone: another one would lose something for a restart."""
    member = master(policy)
    member.election.resign("its broker was stopped", member.now)
    member.drain()
    assert isinstance(member.outputs[-2], StopAcknowledging), "before the Lease can be free"
    member.answer()
    assert member.store.record is not None
    assert member.store.record.released == Release("its broker was stopped", successor)
    assert member.last(Exit).why == "its broker was stopped"


def test_a_resignation_that_cannot_be_written_ends_with_the_leases_time() -> None:
    member = master()
    member.election.resign("its broker was stopped", member.now)
    member.drain()
    member.lose(effective=False)
    member.tick(TIMING.duration_ms)
    assert member.election.phase is Phase.OVER


def test_who_resigns_while_it_claims_gives_the_claim_up() -> None:
    """Also where it was never told that it has it."""
    for effective, answered in ((True, True), (True, False), (False, False)):
        member = Member(record(released=ENDED))
        member.tick()
        member.answer()
        member.election.resign("its broker was stopped", member.now)
        member.drain()
        assert member.election.phase is Phase.FOLLOWING
        if answered:
            member.answer()
        else:
            member.lose(effective=effective)
        member.pass_time(1000)
        assert member.election.phase is Phase.OVER
        assert not member.said(BecomeMaster)
        assert member.store.record is not None
        assert member.store.record.released is not None
        assert (member.store.record.holder == "start-of-me") is effective


@pytest.mark.parametrize(("log_end", "loss_epoch"), [(97, 5), (96, 6)])
def test_what_was_lost_is_told_by_every_later_lease_until_more_is(log_end: int, loss_epoch: int) -> None:
    """The one that is released to ME holds everything, one that was not named may lack something."""
    lossy = master(ASYNC, log_end=97)
    assert lossy.store.record is not None
    assert (lossy.store.record.loss_epoch, lossy.last(MayHaveLost).epoch) == (5, 5)
    lossy.pass_time(4000)
    successor = ME if loss_epoch == 5 else ANYBODY
    left = msgspec.structs.replace(
        lossy.store.record,
        holder="start-of-other",
        identity=identity(OTHER),
        in_sync=BOTH,
        released=Release("its container ended", successor),
    )
    heir = Member(left, policy=ASYNC, epoch=5, log_end=log_end)
    heir.pass_time(100)
    heir.election.epoch_stored(6, heir.now)
    heir.drain()
    assert heir.said(BecomeMaster)
    assert heir.store.record is not None
    assert heir.store.record.loss_epoch == loss_epoch
    assert (heir.store.record.loss == lossy.store.record.loss) is (loss_epoch == 5)
    assert bool(heir.said(MayHaveLost)) is (loss_epoch == 6)


def test_who_does_not_lead_hands_nothing_over() -> None:
    member = Member(record())
    member.pass_time(600)
    assert member.election.hand_over(OTHER, member.now) == "this broker is not master"
