"""Appending, committing and catching up, one rule of the thesis to a test."""

from __future__ import annotations

import pytest

from penstock.raft.configuration import Change, ChangeKind, Configuration
from penstock.raft.core import RaftCore
from penstock.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Refusal,
    Snapshot,
    Span,
    VoteResponse,
)
from penstock.raft.options import RaftOptions
from penstock.raft.progress import ProgressState
from penstock.raft.ready import Generation, HardState, ReadState, Role
from raft_cores import ENTRY_BYTES, Port, append, make_core, make_leader, of_kind, sent, settle, turn


def follower_append(
    previous: tuple[int, int], epochs: list[int], *, epoch: int, commit: int = 0, payload: object = None
) -> Append:
    """From member 1 to member 2: entries of these epochs behind `previous`, (index, epoch)."""
    first = previous[0] + 1
    runs = tuple(
        (run, index)
        for index, run in enumerate(epochs, first)
        if index == first or epochs[index - first - 1] != run
    )
    span = Span(first, previous[0] + len(epochs), runs, payload=payload) if epochs else None
    return Append(2, 1, epoch, *previous, commit, span)


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


# --- snapshots: section 5 ----------------------------------------------------------------------------


def compacted_leader(port: Port, *followers: RaftCore) -> RaftCore:
    leader = make_leader(*followers, port=port)
    append(leader, 4)
    settle(leader, *followers)
    port.newest = Snapshot(5, 1, leader.configuration, "state")
    leader.compacted(6)
    return leader


def test_what_is_gone_from_the_log_is_sent_as_a_snapshot() -> None:
    port, late = Port(), make_core(3)
    leader = compacted_leader(port, make_core(2))
    leader.tick()
    said = settle(leader, late)
    (install,) = of_kind(InstallSnapshot, said)
    assert install.snapshot is port.newest
    assert (late.last_index, late.committed_index, late.status().applied) == (5, 5, 5)
    status = leader.status().followers[2]
    assert (status.state, status.match) == (ProgressState.REPLICATE, 5)


def test_nothing_is_applied_and_no_election_started_while_a_snapshot_is_installed() -> None:
    core = make_core(2)
    snapshot = Snapshot(5, 1, Configuration((1, 2, 3)))
    core.step(InstallSnapshot(2, 1, 1, snapshot))
    core.step(follower_append((5, 1), [1, 1], epoch=1, commit=7))
    ready = core.ready()
    assert ready is not None
    assert ready.snapshot is snapshot
    assert ready.committed is None
    assert [(piece.first, piece.last) for piece in ready.appends] == [(6, 7)]
    assert core.campaign() == Refusal("this member is installing a snapshot")
    core.snapshot_installed(5)
    core.stored(7, ready.generation)
    ready = core.ready()
    assert ready is not None
    assert ready.committed == (6, 7)


def test_a_snapshot_of_what_the_log_holds_is_not_installed() -> None:
    core = make_core(2, epochs=[1, 1, 1])
    core.step(InstallSnapshot(2, 1, 1, Snapshot(2, 1, Configuration((1, 2, 3)))))
    ready = core.ready()
    assert ready is not None
    assert ready.snapshot is None
    assert core.committed_index == 2
    assert core.last_index == 3


def test_a_snapshot_from_before_the_member_was_added_is_taken() -> None:
    """The entry that adds it follows."""
    core = make_core(4, voters=())
    core.step(InstallSnapshot(4, 1, 1, Snapshot(5, 1, Configuration((1, 2, 3)))))
    turn(core)
    assert core.last_index == 5
    assert core.campaign() == Refusal("this member is no voter")


def test_a_leader_without_a_snapshot_to_send_asks_again_later() -> None:
    port, late = Port(), make_core(3)
    leader = compacted_leader(port, make_core(2))
    snapshot, port.newest = port.newest, None
    leader.tick()
    assert not of_kind(InstallSnapshot, settle(leader, late))
    port.newest = snapshot
    leader.tick()
    assert len(of_kind(InstallSnapshot, settle(leader, late))) == 1


def test_a_failed_snapshot_is_sent_again_after_a_heartbeat() -> None:
    port, late = Port(), make_core(3)
    leader = compacted_leader(port, make_core(2))
    leader.tick()
    settle(leader, late, lost=lambda message: isinstance(message, InstallSnapshot))
    assert leader.status().followers[2].state is ProgressState.SNAPSHOT
    leader.report_snapshot(3, ok=False)
    assert leader.status().followers[2].state is ProgressState.PROBE
    leader.tick()
    settle(leader, late)
    assert late.last_index == 5


# --- reads: section 6.4 ------------------------------------------------------------------------------


def test_a_read_waits_until_a_majority_has_confirmed_the_leader() -> None:
    leader = make_leader(make_core(2), make_core(3))
    assert leader.read_index("a") is None
    assert leader.read_index("b") is None
    beats = of_kind(Heartbeat, sent(turn(leader)))
    assert {(beat.to, beat.read) for beat in beats} == {(2, 2), (3, 2)}
    leader.step(HeartbeatResponse(1, 2, 1, read=1))
    assert [list(ready.reads) for ready in turn(leader)] == [[ReadState(1, "a")]]
    leader.step(HeartbeatResponse(1, 3, 1, read=2))
    assert [list(ready.reads) for ready in turn(leader)] == [[ReadState(1, "b")]]


def test_a_new_leader_first_commits_something_of_its_own() -> None:
    """It does not know before how far its predecessor had committed."""
    core = make_core(1, voters=(1,), epochs=[1, 1])
    core.campaign()
    ready = core.ready()
    assert ready is not None
    core.advance(ready)
    assert core.role is Role.LEADER
    core.read_index("early")
    ready = core.ready()
    assert ready is not None
    assert not ready.reads
    core.advance(ready)
    (ready,) = turn(core)
    assert ready.reads == [ReadState(3, "early")]


def test_reads_are_refused_elsewhere_and_beyond_their_bound() -> None:
    assert make_core(2).read_index("a") == Refusal("this member does not lead")
    leader = make_leader(
        make_core(2), make_core(3), options=RaftOptions(pre_vote=False, check_quorum=False, reads_max=1)
    )
    assert leader.read_index("a") is None
    assert leader.read_index("b") == Refusal("too many reads wait for their confirmation")


# --- members: section 4 ------------------------------------------------------------------------------


def test_membership_changes_come_one_at_a_time() -> None:
    two, three = make_core(2), make_core(3)
    leader = make_leader(two, three)
    index = leader.propose_change(Change(ChangeKind.LEARNER, 4), ENTRY_BYTES)
    assert index == 2
    again = Change(ChangeKind.LEARNER, 5)
    assert leader.propose_change(again, ENTRY_BYTES) == Refusal(
        "the membership change at index 2 is not applied yet"
    )
    (message, _) = of_kind(Append, sent(turn(leader)))
    assert message.span is not None
    assert message.span.changes == (2,)
    leader.step(AppendResponse(1, 2, 1, 2))
    leader.apply_change(Change(ChangeKind.LEARNER, 4))
    turn(leader)
    assert leader.configuration == Configuration((1, 2, 3), (4,))
    assert leader.propose_change(again, ENTRY_BYTES) == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (Change(ChangeKind.REMOVE, 1), "this would leave no voter"),
        (Change(ChangeKind.LEARNER, 1), "this would leave no voter"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused_before_it_is_in_the_log(
    change: Change, sentence: str
) -> None:
    core = make_leader(voters=(1,))
    assert core.propose_change(change, ENTRY_BYTES) == Refusal(sentence)
    assert core.last_index == 1


def test_no_election_while_a_committed_change_is_not_applied() -> None:
    core = make_core(2)
    core.step(Append(2, 1, 1, 0, 0, 1, Span(1, 1, ((1, 1),), changes=(1,))))
    ready = core.ready()
    assert ready is not None
    assert core.campaign() == Refusal("a membership change is committed but not applied here")
    assert ready.sync_hard_state
    core.stored(1, ready.generation)
    assert core.ready() is None, "a change is applied only when it cannot be forgotten again"
    assert ready.hard_state is not None
    core.hard_state_stored(ready.hard_state)
    ready = core.ready()
    assert ready is not None
    assert ready.committed == (1, 1)
    core.apply_change(Change(ChangeKind.LEARNER, 4))
    core.applied(1)
    assert core.campaign() is None


def test_a_restarted_member_knows_its_configuration_but_for_one_change() -> None:
    """Else a majority of what it knows might share no member with a majority of what is."""
    log = make_core(2, epochs=[1, 1, 1, 1])._state.log
    log.changes = [2, 4]
    core = make_core(2)
    restarted = type(core)(
        2,
        RaftOptions(),
        log=log,
        hard_state=HardState(1),
        configuration=Configuration((1, 2, 3)),
        applied=0,
        port=Port(),
        jitter=lambda n: 0,
    )
    assert restarted.committed_index == 2


def test_a_commit_index_counts_after_a_restart_only_for_the_entry_it_was_of() -> None:
    """A crash may leave it durable before the entries that it speaks of, with others still in their place."""
    assert make_core(2, epochs=[1, 1, 1], hard_state=HardState(2, 0, 3, 2)).committed_index == 0
    assert make_core(2, epochs=[1, 1, 1], hard_state=HardState(2, 0, 5, 2)).committed_index == 0
    assert make_core(2, epochs=[1, 1, 2], hard_state=HardState(2, 0, 3, 2)).committed_index == 3


def test_a_removed_leader_steps_down_when_it_applies_that() -> None:
    leader = make_leader(make_core(2), make_core(3))
    removal = Change(ChangeKind.REMOVE, 1)
    assert leader.propose_change(removal, ENTRY_BYTES) == 2
    turn(leader)
    leader.step(AppendResponse(1, 2, 1, 2))
    leader.apply_change(removal)
    assert leader.role is Role.FOLLOWER
    assert leader.append(1, ENTRY_BYTES) == Refusal("this member does not lead")


def test_a_group_of_two_appends_nothing_behind_a_change() -> None:
    """Who stays alone may need the vote of who goes, and gets it only for a log that is no shorter."""
    leader = make_leader(make_core(2), voters=(1, 2))
    assert leader.propose_change(Change(ChangeKind.REMOVE, 1), ENTRY_BYTES) == 2
    refusal = Refusal("a membership change of a group of two is under way")
    assert leader.append(1, ENTRY_BYTES) == refusal
    turn(leader)
    leader.step(AppendResponse(1, 2, 1, 2))
    leader.apply_change(Change(ChangeKind.REMOVE, 1))
    stays = make_core(2, voters=(1, 2), epochs=[1, 1])
    stays.campaign()
    settle(stays, leader)
    assert stays.role is Role.LEADER
