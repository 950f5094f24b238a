"""Appending, committing and catching up, one rule of the thesis to a test."""

from __future__ import annotations

import pytest

from penstock.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Span,
    VoteResponse,
)
from penstock.raft.options import RaftOptions
from penstock.raft.progress import ProgressState
from penstock.raft.ready import Generation, HardState, Role
from raft_cores import (
    ENTRY_BYTES,
    append,
    follower_append,
    make_core,
    make_leader,
    of_kind,
    sent,
    settle,
    turn,
)

# --- commit ------------------------------------------------------------------------------------------


def test_an_entry_is_committed_when_a_majority_has_stored_it() -> None:
    """Section 3.5."""
    leader = make_leader(make_core(2), make_core(3))
    last = append(leader)
    turn(leader)
    assert leader.committed_index == last - 1
    leader.step(AppendResponse(1, 2, 1, last))
    assert leader.committed_index == last


def test_the_leader_counts_itself_only_by_what_is_stored() -> None:
    """Section 10.2.1: it sends while its own disk writes, and an entry can be committed without it."""
    leader = make_leader(make_core(2), make_core(3))
    last = append(leader)
    ready = leader.ready()
    assert ready is not None
    assert {message.to for message in of_kind(Append, ready.messages)} == {2, 3}
    leader.step(AppendResponse(1, 2, 1, last))
    assert leader.committed_index == last - 1
    leader.step(AppendResponse(1, 3, 1, last))
    assert leader.committed_index == last
    # Committed, but not to be applied here before it is here.
    ready = leader.ready()
    assert ready is not None
    assert ready.committed is None
    leader.stored(last, ready.generation)
    ready = leader.ready()
    assert ready is not None
    assert ready.committed == (last, last)


def test_entries_of_earlier_epochs_are_not_committed_by_counting() -> None:
    """Section 3.6.2, figure 3.7."""
    leader = make_core(1, voters=(1, 2, 3, 4, 5), epochs=[1, 2], hard_state=HardState(3))
    leader.campaign()
    turn(leader)
    for voter in (2, 3):
        leader.step(VoteResponse(1, voter, 4))
    turn(leader)
    assert leader.role is Role.LEADER
    for voter in (2, 3):
        leader.step(AppendResponse(1, voter, 4, 2))
    assert leader.committed_index == 0
    for voter in (2, 3):
        leader.step(AppendResponse(1, voter, 4, 3))
    assert leader.committed_index == 3


def test_a_learner_holds_but_does_not_count() -> None:
    """Section 4.2.1."""
    leader = make_leader(make_core(2), make_core(3), learners=(4,))
    last = append(leader)
    turn(leader)
    leader.step(AppendResponse(1, 4, 1, last))
    assert leader.committed_index == last - 1


def test_a_followers_answer_waits_for_its_disk_and_its_commit_for_what_it_holds() -> None:
    core = make_core(2)
    core.step(follower_append((0, 0), [1, 1], epoch=1, commit=9))
    ready = core.ready()
    assert ready is not None
    assert not ready.messages
    assert of_kind(AppendResponse, ready.messages_after) == [AppendResponse(1, 2, 1, 2)]
    assert ready.hard_state == HardState(1, 0, 2, 1)
    assert ready.committed is None  # It is not stored here.
    core.stored(2, ready.generation)
    ready = core.ready()
    assert ready is not None
    assert ready.committed == (1, 2)


def test_a_heartbeat_never_commits_what_the_leader_does_not_know_to_be_there() -> None:
    """The follower's log may hold other entries behind what is known to match."""
    leader = make_leader(make_core(2))
    append(leader, 3)
    turn(leader)
    leader.step(AppendResponse(1, 2, 1, 4))
    leader.tick()
    beats = {beat.to: beat.commit for beat in of_kind(Heartbeat, sent(turn(leader)))}
    assert beats == {2: 4, 3: 0}


@pytest.mark.parametrize("epochs", [[], [1]])
def test_a_follower_commits_only_what_the_message_shows_to_match(epochs: list[int]) -> None:
    """What is behind that in its log may be the tail of an old leader, whatever the leader has committed."""
    core = make_core(2, epochs=[1, 1, 1, 1])
    core.step(follower_append((1, 1), epochs, epoch=2, commit=4))
    assert core.committed_index == 1 + len(epochs)
    assert core.last_index == 4


# --- the follower's log ------------------------------------------------------------------------------


def test_payloads_pass_through_untouched_and_repeated_entries_are_left_out() -> None:
    core = make_core(2, epochs=[1, 1])
    payload = object()
    core.step(follower_append((0, 0), [1, 1, 1, 2], epoch=2, payload=payload))
    ready = core.ready()
    assert ready is not None
    (piece,) = ready.appends
    assert (piece.first, piece.last) == (3, 4)
    assert piece.span.payload is payload
    assert (piece.span.first, piece.span.last) == (1, 4)
    assert ready.truncate_from is None


def test_a_conflict_cuts_the_log_once_and_later_pieces_follow() -> None:
    """Section 3.5."""
    core = make_core(2, epochs=[1, 1, 2, 2, 2])
    core.step(follower_append((2, 1), [3], epoch=3))
    core.step(follower_append((3, 3), [3, 3], epoch=3))
    ready = core.ready()
    assert ready is not None
    assert ready.truncate_from == 3
    assert [(piece.first, piece.last) for piece in ready.appends] == [(3, 3), (4, 5)]
    assert ready.last_index == 5


def test_a_conflict_with_what_was_not_handed_out_yet_only_changes_the_pieces() -> None:
    core = make_core(2, epochs=[1])
    core.step(follower_append((1, 1), [2, 2, 2], epoch=2))
    core.step(Append(2, 3, 3, 2, 2, 0, Span(3, 3, ((3, 3),))))
    ready = core.ready()
    assert ready is not None
    assert ready.truncate_from is None
    assert [(piece.first, piece.last) for piece in ready.appends] == [(2, 2), (3, 3)]
    assert ready.generation == Generation(0)


def test_an_old_storage_report_is_passed_over_even_where_the_same_entry_stands_again() -> None:
    """The entry of epoch 1 is written, replaced by one of epoch 2, and comes back; the first write's report says
    nothing about the third, which the second will overwrite on its way.
    """
    core = make_core(2)
    generations = []
    for sender, epoch, entry in ((1, 1, 1), (3, 2, 2), (1, 3, 1)):
        core.step(Append(2, sender, epoch, 0, 0, 0, Span(1, 1, ((entry, 1),))))
        ready = core.ready()
        assert ready is not None
        generations.append(ready.generation)
    core.stored(1, generations[0])
    core.stored(1, generations[1])
    assert core.status().stored == 0
    core.stored(1, generations[2])
    assert core.status().stored == 1


@pytest.mark.parametrize(
    ("own", "previous", "hint"),
    [
        ([1], (5, 1), (1, 1)),  # Too short.
        ([1, 1, 4, 4, 5, 5], (5, 3), (2, 1)),  # A whole run of epochs that the leader does not have.
        ([], (5, 1), (0, 0)),
    ],
)
def test_a_rejection_hints_at_where_the_logs_could_match(
    own: list[int], previous: tuple[int, int], hint: tuple[int, int]
) -> None:
    """Section 3.5: so that finding it takes a round for each epoch, not for each entry."""
    core = make_core(2, epochs=own, hard_state=HardState(5))
    core.step(follower_append(previous, [], epoch=6))
    (answer,) = of_kind(AppendResponse, sent(turn(core)))
    assert answer.rejected
    assert answer.index == previous[0]
    assert (answer.hint_index, answer.hint_epoch) == hint


def test_logs_of_figure_3_6_become_the_leaders() -> None:
    """Six followers with missing, surplus and other entries, as in the thesis."""
    leader_log = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    logs = [
        [1, 1, 1, 4, 4, 5, 5, 6, 6],
        [1, 1, 1, 4],
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        [1, 1, 1, 4, 4, 4, 4],
        [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ]
    voters = tuple(range(1, 8))
    followers = [make_core(number, voters=voters, epochs=log) for number, log in enumerate(logs, 2)]
    leader = make_core(1, voters=voters, epochs=leader_log, hard_state=HardState(7))
    leader.campaign()
    settle(leader, *followers)
    assert leader.role is Role.LEADER
    assert leader.committed_index == leader.last_index == 11
    for follower in followers:
        assert follower._state.log.runs == leader._state.log.runs
        assert follower.committed_index == 11


# --- what is sent ------------------------------------------------------------------------------------


def test_one_message_carries_all_that_a_turn_appended_and_followers_share_its_span() -> None:
    leader = make_leader(make_core(2), make_core(3))
    append(leader, 200)
    append(leader, 100)
    first, second = of_kind(Append, sent(turn(leader)))
    assert first.span is second.span
    assert first.span is not None
    assert (first.span.first, first.span.last, first.span.size_bytes) == (2, 301, 300 * ENTRY_BYTES)


def test_a_commit_is_told_with_the_next_entries_or_when_the_driver_asks_for_it() -> None:
    leader = make_leader(make_core(2), make_core(3))
    last = append(leader)
    turn(leader)
    leader.step(AppendResponse(1, 2, 1, last))
    assert leader.committed_index == last
    assert not of_kind(Append, sent(turn(leader)))
    assert leader.commit_due
    leader.tell_commit()
    told = of_kind(Append, sent(turn(leader)))
    assert [(message.to, message.commit, message.span) for message in told] == [
        (2, last, None),
        (3, last, None),
    ]
    assert not leader.commit_due
    last = append(leader)
    turn(leader)
    leader.step(AppendResponse(1, 2, 1, last))
    append(leader)
    carried = of_kind(Append, sent(turn(leader)))
    assert [(message.commit, message.span is None) for message in carried] == [(last, False)] * 2
    leader.tell_commit()
    assert not of_kind(Append, sent(turn(leader)))


def test_a_follower_that_answers_behind_the_commit_is_told_of_it_too() -> None:
    leader = make_leader(make_core(2), make_core(3))
    last = append(leader)
    turn(leader)
    leader.step(AppendResponse(1, 2, 1, last))
    leader.tell_commit()
    turn(leader)
    leader.report_unreachable(3)
    leader.step(AppendResponse(1, 3, 1, last))
    assert leader.commit_due
    leader.tell_commit()
    told = of_kind(Append, sent(turn(leader)))
    assert [(message.to, message.commit) for message in told] == [(3, last)]


def test_messages_and_windows_are_bounded() -> None:
    options = RaftOptions(
        pre_vote=False,
        check_quorum=False,
        append_bytes_max=3 * ENTRY_BYTES,
        inflight_appends_max=100,
        inflight_bytes_max=7 * ENTRY_BYTES,
    )
    leader = make_leader(make_core(2), make_core(3), options=options)
    append(leader, 20)
    messages = [message for message in of_kind(Append, sent(turn(leader))) if message.to == 2]
    spans = [(message.span.first, message.span.last) for message in messages if message.span]
    # The message that crosses the limit of bytes is still sent.
    assert spans == [(2, 4), (5, 7), (8, 10)]
    assert leader.status().followers[1].inflight_full
    leader.step(AppendResponse(1, 2, 1, 4))
    more = [message for message in of_kind(Append, sent(turn(leader))) if message.to == 2]
    assert [(message.span.first, message.span.last) for message in more if message.span] == [(11, 13)]


def test_a_follower_that_is_far_behind_has_a_window_of_its_own() -> None:
    options = RaftOptions(
        pre_vote=False,
        check_quorum=False,
        append_bytes_max=10 * ENTRY_BYTES,
        inflight_bytes_max=1000 * ENTRY_BYTES,
        catch_up_bytes_max=25 * ENTRY_BYTES,
    )
    leader = make_leader(make_core(2), make_core(3), options=options)
    append(leader, 100)

    def spans() -> list[tuple[int, int]]:
        messages = [message for message in of_kind(Append, sent(turn(leader))) if message.to == 2]
        return [(message.span.first, message.span.last) for message in messages if message.span]

    assert spans() == [(2, 11), (12, 21), (22, 31)]
    # What is appended meanwhile makes no messages to it.
    append(leader)
    assert spans() == []
    leader.step(AppendResponse(1, 2, 1, 11))
    assert spans() == [(32, 41)]
    leader.step(AppendResponse(1, 2, 1, 41))
    assert spans() == [(42, 51), (52, 61), (62, 71)]
    leader.step(AppendResponse(1, 2, 1, 71))
    assert spans() == [(72, 81), (82, 91), (92, 101)]
    # Level but for what is on its way, it is sent what comes as it comes.
    leader.step(AppendResponse(1, 2, 1, 101))
    assert spans() == [(102, 102)]
    append(leader)
    assert spans() == [(103, 103)]


def test_a_lost_message_is_found_out_by_the_next_heartbeat() -> None:
    leader = make_leader(make_core(2), make_core(3))
    append(leader)
    turn(leader)
    leader.report_unreachable(2)
    assert leader.status().followers[1].state is ProgressState.PROBE
    leader.tick()
    turn(leader)
    leader.step(HeartbeatResponse(1, 2, 1))
    (again,) = of_kind(Append, sent(turn(leader)))
    assert again.previous_index == 1
    assert again.span is not None
    assert again.span.first == 2


def test_answers_that_leave_together_are_one() -> None:
    core = make_core(2)
    core.step(follower_append((0, 0), [1, 1], epoch=1))
    core.step(follower_append((2, 1), [1], epoch=1))
    (answer,) = of_kind(AppendResponse, sent(turn(core)))
    assert answer.index == 3


def test_nothing_is_said_twice_and_nothing_when_there_is_nothing() -> None:
    core = make_leader(make_core(2), make_core(3))
    assert not core.has_ready
    assert core.ready() is None


def test_an_answer_that_only_told_an_epoch_says_nothing_about_logs() -> None:
    """A new leader may get one that was meant for itself as the leader of an older epoch."""
    leader = make_leader(make_core(2), epochs=[1, 1], hard_state=HardState(1))
    leader.step(AppendResponse(1, 3, 2, 0))
    status = leader.status().followers[2]
    assert (status.state, status.next) == (ProgressState.PROBE, 3)
