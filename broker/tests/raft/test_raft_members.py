"""Snapshots, reads and members, one rule of the thesis to a test."""

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
    VoteRequest,
)
from penstock.raft.options import RaftOptions
from penstock.raft.progress import ProgressState
from penstock.raft.ready import Generation, HardState, ReadState, Role
from raft_cores import (
    ENTRY_BYTES,
    Port,
    append,
    follower_append,
    make_core,
    make_leader,
    of_kind,
    sent,
    settle,
    turn,
)

# As etcd counts membership changes.
APPLIED = RaftOptions(
    pre_vote=False, check_quorum=False, begin_epoch_bytes=ENTRY_BYTES, count_when_appended=False
)

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


def test_a_snapshot_takes_the_place_of_what_was_to_be_written() -> None:
    """In one turn: entries that replace others, then a snapshot instead; and a late report about what was before."""
    core = make_core(2, epochs=[1, 1, 1])
    core.step(follower_append((0, 0), [2, 2], epoch=2))
    core.step(InstallSnapshot(2, 1, 2, Snapshot(9, 2, Configuration((1, 2, 3)))))
    ready = core.ready()
    assert ready is not None
    assert ready.snapshot is not None
    assert (ready.truncate_from, list(ready.appends), ready.last_index) == (None, [], 9)
    core.snapshot_installed(9)
    core.step(follower_append((9, 2), [2], epoch=2))
    later = core.ready()
    assert later is not None
    core.stored(10, Generation(ready.generation - 1))
    assert core.status().stored == 9
    core.stored(10, later.generation)
    assert core.status().stored == 10


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
    assert leader.configuration == Configuration((1, 2, 3), (4,)), "it counts at once"
    (message, _, new) = of_kind(Append, sent(turn(leader)))
    assert message.span is not None
    assert message.span.changes == (2,)
    assert new.to == 4
    leader.step(AppendResponse(1, 2, 1, 2))
    turn(leader)
    assert leader.propose_change(again, ENTRY_BYTES) == 3


def test_only_who_is_alone_drops_everybody_else() -> None:
    leader = make_leader(make_core(2), make_core(3))
    alone = Change(ChangeKind.ALONE, 1)
    assert leader.propose_change(alone, ENTRY_BYTES) == Refusal(
        "only a member that is alone may drop the others"
    )
    single = make_leader(voters=(1,))
    assert single.propose_change(alone, ENTRY_BYTES) == 2
    assert single.configuration == Configuration((1,))
    # Who is sent that entry goes by it, whatever the members were.
    assert Configuration((1, 2, 3)).changed((alone,)) == Configuration((1,))


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


def appended_change(index: int, epoch: int, previous: tuple[int, int] = (0, 0), commit: int = 0) -> Append:
    """One entry from member 1 to member 2, a membership change."""
    return Append(2, 1, epoch, *previous, commit, Span(index, index, ((epoch, index),), changes=(index,)))


def test_no_election_by_the_members_of_before_a_change_in_the_log() -> None:
    core = make_core(2)
    core.step(appended_change(1, 1))
    assert core.campaign() == Refusal("a membership change does not count here yet")
    (ready,) = turn(core)
    assert ready.recount == 1
    assert core.campaign() == Refusal("a membership change does not count here yet")
    core.configure(Configuration((1, 2, 3, 4)), ready.recount)
    assert core.campaign() is None
    assert {message.to for message in of_kind(VoteRequest, sent(turn(core)))} == {1, 3, 4}


def test_no_election_by_a_change_that_was_cut_off_the_log() -> None:
    core = make_core(2)
    core.step(appended_change(1, 1))
    (first,) = turn(core)
    core.step(Append(2, 3, 2, 0, 0, 0, Span(1, 1, ((2, 1),))))
    assert first.recount is not None
    core.configure(Configuration((1, 2, 3, 4)), first.recount)
    assert core.campaign() == Refusal("a membership change does not count here yet")
    (second,) = turn(core)
    assert second.recount is not None
    core.configure(Configuration((1, 2, 3)), second.recount)
    assert core.campaign() is None


def test_who_was_promoted_last_elects_though_only_it_knows() -> None:
    """The leader and its volume are lost right after it committed the promotion: who holds it wins with the other's vote."""
    stays, promoted = make_core(2, voters=(1, 2), learners=(3,)), make_core(3, voters=(1, 2), learners=(3,))
    leader = make_leader(stays, promoted, voters=(1, 2), learners=(3,))
    assert leader.propose_change(Change(ChangeKind.VOTER, 3), ENTRY_BYTES) == 2
    (append,) = (message for message in of_kind(Append, sent(turn(leader))) if message.to == 3)
    promoted.step(append)
    leader.step(of_kind(AppendResponse, sent(turn(promoted)))[0])
    assert leader.committed_index == 2
    promoted.configure(Configuration((1, 2, 3)), 1)
    assert promoted.campaign() is None
    settle(promoted, stays)
    assert promoted.role is Role.LEADER


def test_no_election_while_a_committed_change_is_not_applied() -> None:
    core = make_core(2, options=APPLIED)
    core.step(Append(2, 1, 1, 0, 0, 1, Span(1, 1, ((1, 1),), changes=(1,))))
    ready = core.ready()
    assert ready is not None
    assert core.campaign() == Refusal("a membership change does not count here yet")
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


def test_a_read_is_not_waited_for_with_those_who_are_gone() -> None:
    leader = make_leader(make_core(2), voters=(1, 2))
    assert leader.read_index("a") is None
    assert not [read for ready in turn(leader) for read in ready.reads]
    assert leader.propose_change(Change(ChangeKind.REMOVE, 2), ENTRY_BYTES) == 2
    assert [read for ready in turn(leader) for read in ready.reads] == [ReadState(1, "a")]


def test_a_leader_that_is_to_go_hands_over_first() -> None:
    leader = make_leader(make_core(2), make_core(3))
    for kind in (ChangeKind.REMOVE, ChangeKind.LEARNER):
        refusal = leader.propose_change(Change(kind, 1), ENTRY_BYTES)
        assert refusal == Refusal("a leader that is to go hands over first")


def test_who_goes_is_not_sent_that_it_goes() -> None:
    """It would hold the longer log, not campaign, and not vote for those who may need its vote yet."""
    leader = make_leader(make_core(2), make_core(3))
    demotion = leader.propose_change(Change(ChangeKind.LEARNER, 3), ENTRY_BYTES)
    assert demotion == Refusal("a voter is removed first, and comes back as a learner")
    assert leader.propose_change(Change(ChangeKind.REMOVE, 3), ENTRY_BYTES) == 2
    assert {message.to for message in of_kind(Append, sent(turn(leader)))} == {2}


def test_a_removed_leader_steps_down_when_it_applies_that() -> None:
    leader = make_leader(make_core(2), make_core(3), options=APPLIED)
    removal = Change(ChangeKind.REMOVE, 1)
    assert leader.propose_change(removal, ENTRY_BYTES) == 2
    turn(leader)
    leader.step(AppendResponse(1, 2, 1, 2))
    leader.apply_change(removal)
    assert leader.role is Role.FOLLOWER
    assert leader.append(1, ENTRY_BYTES) == Refusal("this member does not lead")


def test_a_group_of_two_appends_nothing_behind_a_change() -> None:
    """Who stays alone may need the vote of who goes, and gets it only for a log that is no shorter."""
    leader = make_leader(make_core(2), voters=(1, 2), options=APPLIED)
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
