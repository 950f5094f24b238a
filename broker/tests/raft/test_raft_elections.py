"""Elections, one rule of the thesis to a test."""

from __future__ import annotations

import pytest

from penstock.raft.core import RaftCore
from penstock.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    Refusal,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from penstock.raft.options import RaftOptions
from penstock.raft.ready import HardState, Role
from raft_cores import append, make_core, make_leader, of_kind, sent, settle, turn

CAREFUL = RaftOptions(election_ticks=10, pre_vote=True, check_quorum=True)


def tick(core: RaftCore, count: int) -> None:
    for _ in range(count):
        core.tick()


def test_a_follower_campaigns_after_its_own_random_timeout() -> None:
    """Section 3.4: timeouts lie between one and two election timeouts, by chance that comes from outside."""
    core = make_core(options=RaftOptions(pre_vote=False), jitter=lambda n: n - 1)
    tick(core, 18)
    assert core.role is Role.FOLLOWER
    tick(core, 1)
    assert core.role is Role.CANDIDATE
    assert core.epoch == 1


def test_the_timeout_starts_again_when_the_leader_is_heard() -> None:
    core = make_core(options=RaftOptions(pre_vote=False))
    tick(core, 9)
    core.step(Heartbeat(1, 2, 1, 0))
    tick(core, 9)
    assert core.role is Role.FOLLOWER
    assert core.leader == 2


def test_the_own_vote_counts_only_when_it_is_durable() -> None:
    """Section 3.8: a vote that could be forgotten could be given twice."""
    core = make_core(voters=(1,))
    core.campaign()
    ready = core.ready()
    assert ready is not None
    assert ready.hard_state == HardState(1, 1, 0)
    assert ready.sync_hard_state
    assert core.role is Role.CANDIDATE
    core.hard_state_stored(HardState(1, 1, 0))
    assert core.role is Role.LEADER


def test_votes_are_asked_for_only_when_the_epoch_is_durable() -> None:
    """Else a restarted candidate could lead the same epoch twice."""
    core = make_core(1)
    core.campaign()
    ready = core.ready()
    assert ready is not None
    assert not ready.messages
    assert {request.to for request in of_kind(VoteRequest, ready.messages_after)} == {2, 3}


def test_a_vote_stored_for_an_older_campaign_does_not_count() -> None:
    core = make_core(voters=(1,))
    core.campaign()
    first = core.ready()
    core.campaign()
    assert first is not None
    assert first.hard_state is not None
    core.hard_state_stored(first.hard_state)
    assert core.role is Role.CANDIDATE


def test_one_vote_for_each_epoch_and_the_answer_waits_for_the_disk() -> None:
    """Section 3.4: first come, first served; a repeated request is answered again."""
    core = make_core(3)
    core.step(VoteRequest(3, 1, 1, 0, 0))
    core.step(VoteRequest(3, 2, 1, 0, 0))
    core.step(VoteRequest(3, 1, 1, 0, 0))
    ready = core.ready()
    assert ready is not None
    assert not ready.messages
    assert [(vote.to, vote.rejected) for vote in of_kind(VoteResponse, ready.messages_after)] == [
        (1, False),
        (2, True),
        (1, False),
    ]
    assert ready.hard_state == HardState(1, 1, 0)


@pytest.mark.parametrize(
    ("own", "last_index", "last_epoch", "granted"),
    [
        ([1, 1, 2], 3, 2, True),
        ([1, 1, 2], 2, 2, False),
        ([1, 1, 2], 9, 1, False),
        ([1, 1, 2], 1, 3, True),
        ([], 0, 0, True),
    ],
)
def test_no_vote_for_a_log_that_lacks_something(
    own: list[int], last_index: int, last_epoch: int, granted: bool
) -> None:
    """Section 3.6.1: the later epoch of the last entry wins, then the longer log."""
    core = make_core(3, epochs=own)
    core.step(VoteRequest(3, 1, 5, last_index, last_epoch))
    (vote,) = of_kind(VoteResponse, sent(turn(core)))
    assert vote.rejected is not granted


def test_votes_survive_a_restart() -> None:
    core = make_core(3, hard_state=HardState(4, 2, 0))
    core.step(VoteRequest(3, 1, 4, 0, 0))
    (vote,) = of_kind(VoteResponse, sent(turn(core)))
    assert vote.rejected


def test_a_split_vote_elects_nobody_and_the_next_epoch_decides() -> None:
    one, two, three, four = (make_core(number, voters=(1, 2, 3, 4)) for number in (1, 2, 3, 4))
    one.campaign()
    two.campaign()
    settle(one, three, lost=lambda message: message.to in (2, 4))
    settle(two, four, lost=lambda message: message.to in (1, 3))
    assert (one.role, two.role) == (Role.CANDIDATE, Role.CANDIDATE)
    one.campaign()
    settle(one, two, three, four)
    assert (one.role, two.role, two.leader) == (Role.LEADER, Role.FOLLOWER, 1)


def test_a_majority_of_refusals_ends_the_campaign() -> None:
    candidate = make_core(1, hard_state=HardState(1))
    others = [make_core(number, epochs=[1]) for number in (2, 3)]
    candidate.campaign()
    settle(candidate, *others)
    assert (candidate.role, candidate.leader, candidate.epoch) == (Role.FOLLOWER, 0, 2)


def test_a_candidate_gives_up_for_the_leader_of_its_epoch() -> None:
    """Section 3.4."""
    core = make_core(1)
    core.campaign()
    core.step(Append(1, 2, 1, 0, 0, 0))
    assert (core.role, core.leader, core.epoch) == (Role.FOLLOWER, 2, 1)


def test_a_newer_epoch_deposes_a_leader() -> None:
    """Section 3.3."""
    leader = make_leader(make_core(2))
    leader.step(VoteRequest(1, 3, 9, 0, 0))
    assert (leader.role, leader.epoch, leader.leader) == (Role.FOLLOWER, 9, 0)


def test_a_prevote_changes_nobodys_epoch() -> None:
    """Section 9.6: who was cut off finds out that it cannot win before it disturbs."""
    members = [make_core(number, options=CAREFUL) for number in (1, 2, 3)]
    one, two, three = members
    one.campaign()
    settle(*members)
    append(one)
    settle(one, two)  # Member 3 misses this.
    tick(three, 30)
    assert three.role is Role.PRE_CANDIDATE
    tick(one, 10)
    settle(*members)
    assert [core.epoch for core in members] == [1, 1, 1]
    assert one.role is Role.LEADER
    assert three.leader == 1


def test_a_granted_prevote_binds_nobody() -> None:
    core = make_core(3, options=CAREFUL)
    core.step(VoteRequest(3, 1, 1, 0, 0, pre=True))
    ready = core.ready()
    assert ready is not None
    (vote,) = of_kind(VoteResponse, ready.messages_after)
    assert (vote.pre, vote.rejected, vote.epoch) == (True, False, 1)
    assert ready.hard_state is None
    core.step(VoteRequest(3, 2, 1, 0, 0))
    (vote,) = of_kind(VoteResponse, sent(turn(core)))
    assert not vote.rejected


def test_a_vote_is_held_back_while_the_leader_is_fresh_unless_it_hands_over() -> None:
    """Section 4.2.3: removed or late members cannot depose a leader that others hear."""
    core = make_core(3, options=CAREFUL)
    core.step(Heartbeat(3, 1, 1, 0))
    core.step(VoteRequest(3, 2, 2, 9, 1))
    assert core.epoch == 1
    assert not of_kind(VoteResponse, sent(turn(core)))
    core.step(VoteRequest(3, 2, 2, 9, 1, transfer=True))
    (vote,) = of_kind(VoteResponse, sent(turn(core)))
    assert not vote.rejected


def test_a_vote_is_not_held_back_when_the_leader_is_forgotten_or_silent() -> None:
    for forget in (True, False):
        core = make_core(3, options=CAREFUL, jitter=lambda n: n - 1)
        core.step(Heartbeat(3, 1, 1, 0))
        if forget:
            core.forget_leader()
        else:
            tick(core, 10)
        core.step(VoteRequest(3, 2, 2, 9, 1))
        (vote,) = of_kind(VoteResponse, sent(turn(core)))
        assert not vote.rejected


def test_a_leader_that_hears_from_no_majority_steps_down() -> None:
    """Section 6.2."""
    followers = [make_core(number, options=CAREFUL) for number in (2, 3)]
    leader = make_leader(*followers, options=CAREFUL)
    tick(leader, 10)  # Both have answered since the last check.
    assert leader.role is Role.LEADER
    settle(leader, followers[0])
    tick(leader, 10)
    assert leader.role is Role.LEADER
    tick(leader, 10)
    assert leader.role is Role.FOLLOWER
    assert leader.leader == 0


def test_an_old_leader_learns_from_the_answer_to_its_heartbeat() -> None:
    """Where votes are held back, nobody's vote request would tell it."""
    follower = make_core(2, options=CAREFUL, hard_state=HardState(5))
    follower.step(Heartbeat(2, 1, 3, 0))
    (answer,) = of_kind(AppendResponse, sent(turn(follower)))
    assert answer.epoch == 5
    assert follower.epoch == 5


def test_who_may_not_campaign_says_why() -> None:
    learner = make_core(1, voters=(2, 3), learners=(1,))
    assert learner.campaign() == Refusal("this member is no voter")
    tick(learner, 50)
    assert learner.role is Role.FOLLOWER
    leader = make_leader(make_core(2))
    assert leader.campaign() == Refusal("this member leads already")


def test_a_learner_votes() -> None:
    """It may be a voter already without knowing."""
    learner = make_core(3, voters=(1, 2), learners=(3,))
    learner.step(VoteRequest(3, 1, 1, 0, 0))
    (vote,) = of_kind(VoteResponse, sent(turn(learner)))
    assert not vote.rejected


def test_a_leader_says_which_entry_begins_its_epoch() -> None:
    core = make_core(1, voters=(1,), epochs=[1, 1, 2])
    core.campaign()
    first, second = core.ready(), None
    assert first is not None
    core.advance(first)
    second = core.ready()
    assert second is not None
    assert second.begin_epoch is not None
    assert (second.begin_epoch.index, second.begin_epoch.epoch) == (4, 3)
    assert second.leadership is not None
    assert (second.leadership.role, second.leadership.leader, second.leadership.epoch) == (Role.LEADER, 1, 3)
    core.advance(second)
    third = core.ready()
    assert third is not None
    assert third.begin_epoch is None
    assert third.committed == (1, 4)


# --- handing over: section 3.10 ---------------------------------------------------------------------


def test_leadership_is_handed_over_in_one_round() -> None:
    two, three = make_core(2), make_core(3)
    leader = make_leader(two, three)
    assert leader.transfer_leadership(2) is None
    assert leader.append_refusal() == Refusal("leadership is being handed over")
    said = settle(leader, two, three)
    assert len(of_kind(TimeoutNow, said)) == 1
    assert (leader.role, two.role, leader.leader, three.leader) == (Role.FOLLOWER, Role.LEADER, 2, 2)


def test_the_new_leader_first_gets_what_it_lacks() -> None:
    two, three = make_core(2), make_core(3)
    leader = make_leader(two, three)
    last = append(leader, 5)
    turn(leader)  # Lost on its way to both.
    leader.report_unreachable(2)
    leader.transfer_leadership(2)
    said = settle(leader, two, three)
    assert two.role is Role.LEADER
    kinds = [type(message) for message in said if message.to == 2 and message.sender == 1]
    assert kinds.index(Append) < kinds.index(TimeoutNow)
    assert two.last_index == last + 1


def test_handing_over_is_given_up_after_an_election_timeout() -> None:
    leader = make_leader(make_core(2), make_core(3))
    leader.transfer_leadership(3)
    turn(leader)
    tick(leader, 10)
    assert leader.append_refusal() is None


def test_leadership_is_not_handed_to_whoever_cannot_lead() -> None:
    learner = make_core(4, learners=(4,))
    leader = make_leader(make_core(2), make_core(3), learner, learners=(4,))
    assert leader.transfer_leadership(4) == Refusal("member 4 is no voter")
    assert leader.transfer_leadership(9) == Refusal("member 9 is no voter")
    assert leader.transfer_leadership(1) == Refusal("this member leads already")
    assert make_core(2).transfer_leadership(1) == Refusal("this member does not lead")
    assert leader.append_refusal() is None
