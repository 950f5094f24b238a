"""A log that goes on otherwise than the leader's: told before it is cut; and where a master commits alone, never answered for
more than the leader said."""

from __future__ import annotations

import pytest

from penstock.raft.configuration import Configuration
from penstock.raft.core import RaftCore
from penstock.raft.messages import Append, AppendResponse, InstallSnapshot, Snapshot, Span
from penstock.raft.modes import RAFT, MasterSlaveAsync, MasterSlaveSync
from penstock.raft.ready import HardState, Ready, Tail
from penstock.raft.state import Mode
from raft_cores import append, follower_append, make_core, of_kind, sent, settle, turn

SYNC, ASYNC = MasterSlaveSync(), MasterSlaveAsync()
MODES = pytest.mark.parametrize("mode", [RAFT, SYNC, ASYNC], ids=["raft", "sync", "async"])


def follower(
    epochs: tuple[int, ...], mode: Mode = ASYNC, *, applied: int = 0, hard_state: HardState | None = None
) -> RaftCore:
    """Member 2, whose log holds these and has applied some."""
    return make_core(2, epochs=epochs, mode=mode, applied=applied, hard_state=hard_state)


def only(readys: list[Ready]) -> Ready:
    (ready,) = readys
    return ready


@MODES
def test_a_tail_is_told_before_it_is_cut(mode: Mode) -> None:
    core = follower((1, 1, 2, 2, 3), mode)
    core.step(follower_append((2, 1), [4, 4], epoch=4))
    ready = only(turn(core))
    assert ready.tail == Tail(3, 5, ((2, 3), (3, 5)))
    assert ready.tail.count == 3
    assert ready.truncate_from == 3
    assert core.last_index == 4


@MODES
def test_a_tail_that_is_cut_twice_at_once_is_one_tail(mode: Mode) -> None:
    core = follower((1, 1, 2, 2, 3), mode)
    core.step(follower_append((3, 2), [4, 4], epoch=4))
    core.step(follower_append((2, 1), [5], epoch=5))
    ready = only(turn(core))
    assert ready.tail == Tail(3, 5, ((2, 3), (2, 4), (3, 5)))
    assert ready.truncate_from == 3


@MODES
def test_what_the_driver_never_had_is_no_tail(mode: Mode) -> None:
    core = follower((1, 1), mode)
    core.step(follower_append((2, 1), [2, 2], epoch=2))
    core.step(follower_append((2, 1), [3], epoch=3))
    ready = only(turn(core))
    assert ready.tail is None
    assert [(piece.first, piece.last) for piece in ready.appends] == [(3, 3)]


def test_a_committed_entry_that_the_new_master_lacks_ends_the_following() -> None:
    core = follower((1, 1, 2, 2, 2), applied=4)
    core.step(follower_append((2, 1), [3, 3, 3], epoch=3))
    ready = only(turn(core))
    assert ready.forked == Tail(3, 5, ((2, 3),))
    assert ready.truncate_from is None
    assert core.last_index == 5
    # Nothing was answered, and nothing is any more.
    assert sent([ready]) == []
    core.step(follower_append((5, 3), [3], epoch=3))
    assert turn(core) == []


@pytest.mark.parametrize("mode", [RAFT, SYNC], ids=["raft", "sync"])
def test_where_committed_entries_are_everybodys_nothing_is_compared(mode: Mode) -> None:
    core = follower((1, 1, 2, 2, 2), mode, applied=4)
    core.step(follower_append((2, 1), [2, 2], epoch=3))
    (answer,) = of_kind(AppendResponse, sent(turn(core)))
    assert (answer.index, answer.rejected) == (4, False)


def test_a_follower_that_is_ahead_answers_for_no_more_than_it_was_told() -> None:
    core = follower((1, 1, 2, 2, 2), applied=5)
    core.step(follower_append((2, 1), [2], epoch=3))
    (answer,) = of_kind(AppendResponse, sent(turn(core)))
    assert (answer.index, answer.rejected) == (3, False)


def test_where_the_logs_agree_a_follower_goes_on() -> None:
    core = follower((1, 1, 2, 2), applied=4)
    core.step(follower_append((2, 1), [2, 2, 3], epoch=3, commit=5))
    readys = turn(core)
    (answer,) = of_kind(AppendResponse, sent(readys))
    assert answer.index == core.last_index == core.committed_index == 5
    assert all(ready.forked is None and ready.tail is None for ready in readys)


def test_an_entry_that_does_not_join_below_what_is_committed_is_rejected() -> None:
    """The leader looks for where they part, and then it is found."""
    core = follower((1, 1, 2, 2, 2), applied=5)
    core.step(follower_append((4, 3), [3], epoch=3))
    (answer,) = of_kind(AppendResponse, sent(turn(core)))
    assert answer.rejected
    assert answer.hint_index <= 4


def test_only_the_end_of_a_tail_is_cut_where_the_rest_is_committed() -> None:
    core = follower((1, 1, 2, 2, 2), applied=3)
    core.step(follower_append((2, 1), [2, 3], epoch=3))
    ready = only(turn(core))
    assert ready.forked is None
    assert ready.tail == Tail(4, 5, ((2, 4),))
    assert core.last_index == 4


def compacted(applied: int, first: int, epochs: tuple[int, ...]) -> RaftCore:
    core = follower(epochs, applied=applied)
    core.compacted(first)
    return core


def test_a_fork_below_the_log_is_found_at_its_first_entry() -> None:
    core = compacted(5, 5, (1, 1, 2, 2, 2, 2))
    core.step(follower_append((1, 1), [1, 3, 3, 3], epoch=3))
    ready = only(turn(core))
    assert ready.forked == Tail(5, 6, ((2, 5),), exact=False)


def test_a_log_that_begins_behind_what_is_sent_lets_the_leader_go_on() -> None:
    core = compacted(5, 5, (1, 1, 2, 2, 2, 2))
    core.step(follower_append((1, 1), [1], epoch=3))
    core.step(follower_append((2, 1), [2, 2, 2], epoch=3))
    answers = of_kind(AppendResponse, sent(turn(core)))
    assert answers[-1].index == 5
    core.step(follower_append((0, 0), [], epoch=3))
    assert of_kind(AppendResponse, sent(turn(core)))[-1].index == 0


def test_a_fork_shows_itself_before_the_log_begins_by_an_epoch_that_is_too_new() -> None:
    """A leader's log that ends there: what this one holds cannot be compared, and is none of it."""
    core = compacted(5, 5, (1, 1, 2, 2, 2, 2))
    core.step(follower_append((1, 1), [1, 3], epoch=3))
    ready = only(turn(core))
    assert ready.forked == Tail(5, 6, ((2, 5),), exact=False)
    assert not of_kind(AppendResponse, sent([ready]))
    told = compacted(5, 5, (1, 1, 2, 2, 2, 2))
    told.step(follower_append((3, 3), [], epoch=3))
    assert only(turn(told)).forked == Tail(5, 6, ((2, 5),), exact=False)


def snapshot(index: int, epoch: int, at: int = 9) -> InstallSnapshot:
    return InstallSnapshot(2, 1, at, Snapshot(index, epoch, Configuration((1, 2, 3))))


def test_a_snapshot_of_another_log_below_what_is_committed_ends_the_following() -> None:
    core = follower((1, 1, 2, 2, 2), applied=5)
    core.step(snapshot(4, 3))
    ready = only(turn(core))
    assert ready.forked == Tail(1, 5, ((1, 1), (2, 3)), exact=False)
    assert ready.snapshot is None


def test_a_snapshot_of_this_log_is_answered_for_itself_alone() -> None:
    core = follower((1, 1, 2, 2, 2), applied=5)
    core.step(snapshot(4, 2))
    (answer,) = of_kind(AppendResponse, sent(turn(core)))
    assert answer.index == 4


@pytest.mark.parametrize(("led", "told"), [(2, True), (0, False)], ids=["led", "followed"])
def test_what_a_former_master_loses_under_a_snapshot_is_told(led: int, told: bool) -> None:
    """Also when it has heard of newer epochs since, and was restarted."""
    core = follower((1, 1, 2, 2, 3), applied=2, hard_state=HardState(5, led=led))
    core.step(snapshot(8, 6))
    (ready,) = [ready for ready in turn(core) if ready.snapshot is not None]
    assert ready.tail == (Tail(1, 5, ((1, 1), (2, 3), (3, 5)), exact=False) if told else None)


def test_a_former_master_whose_log_is_known_to_be_the_new_one_s_loses_nothing_under_a_snapshot() -> None:
    core = follower((1, 1, 2, 2, 2), applied=2, hard_state=HardState(2, led=2))
    core.step(follower_append((3, 2), [2, 2, 3], epoch=3))
    turn(core)
    core.step(snapshot(9, 4))
    (ready,) = [ready for ready in turn(core) if ready.snapshot is not None]
    assert ready.tail is None


def test_a_former_master_finds_its_fork_by_talking_to_the_new_one() -> None:
    """From one core to the other, without a hand-made message: the new master probes, and the old one stops."""
    old, new = make_core(1, mode=ASYNC), make_core(2, mode=ASYNC)
    assert old.take_epoch(1) is None
    turn(old)
    assert old.lead(1, ((1,),)) is None
    append(old, 4)
    settle(old, new)
    append(old, 6)
    turn(old)
    assert old.committed_index == old.last_index == 11
    assert new.last_index == 5
    assert new.take_epoch(2) is None
    turn(new)
    assert new.lead(2, ((2,),)) is None
    found: list[Tail] = []
    for _ in range(10):
        for message in sent(turn(new)):
            if message.to == 1:
                old.step(message)
        readys = turn(old)
        found += [ready.forked for ready in readys if ready.forked]
        for message in sent(readys):
            if message.to == 2:
                new.step(message)
        new.tick()
    assert found == [Tail(6, 11, ((1, 6),))]
    assert new.committed_index == 6


def test_a_former_master_that_has_forgotten_it_committed_follows_again() -> None:
    """After a restart only what its snapshots cover is known to be committed: the fork is cut, and told."""
    new = make_core(1, epochs=(1,) * 5, mode=ASYNC)
    old = make_core(2, epochs=(1,) * 9, mode=ASYNC, applied=3)
    assert new.take_epoch(2) is None
    turn(new)
    assert new.lead(2, ((1,),)) is None
    tails = []
    for _ in range(10):
        readys = turn(old)
        tails += [ready.tail for ready in readys if ready.tail]
        for message in sent(readys):
            new.step(message)
        for message in sent(turn(new)):
            if message.to == 2:
                old.step(message)
    assert tails == [Tail(6, 9, ((1, 6),))]
    assert old.last_index == new.last_index == 6


def test_the_span_of_a_message_may_hold_several_epochs_below_the_log() -> None:
    core = compacted(6, 6, (1, 1, 2, 2, 3, 3, 3))
    span = Span(1, 7, ((1, 1), (2, 3), (3, 5)))
    core.step(Append(2, 1, 4, 0, 0, 0, span))
    (answer,) = of_kind(AppendResponse, sent(turn(core)))
    assert answer.index == 7
    other = compacted(6, 6, (1, 1, 2, 2, 3, 3, 3))
    other.step(Append(2, 1, 4, 0, 0, 0, Span(1, 7, ((1, 1), (2, 3), (4, 5)))))
    assert only(turn(other)).forked == Tail(6, 7, ((3, 6),), exact=False)
