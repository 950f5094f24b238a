"""Elections: campaigning, asking for votes, giving them (thesis, sections 3.4, 3.6.1, 9.6 and 4.2.3).

A pre-vote asks whether an election could be won before anyone's epoch is raised, so a member that was cut off does not
disturb the others when it comes back. A vote counts, the own one too, only when it is durable; and votes are asked for
only when the epoch is. Else a candidate that restarts could campaign in the same epoch again, with a shorter log, on
votes that were given to the longer one.
"""

from __future__ import annotations

from penstock.raft import leader
from penstock.raft.messages import NOBODY, Refusal, VoteRequest, VoteResponse
from penstock.raft.quorum import VoteResult, vote_result
from penstock.raft.ready import HardState, Role
from penstock.raft.state import State


def tick(state: State) -> None:
    """A tick of a member that does not lead."""
    if not state.mode.elects:
        return
    state.election_elapsed += 1
    if state.election_elapsed >= state.election_timeout and state.promotable:
        state.election_elapsed = 0
        campaign(state, pre=state.options.pre_vote)


def campaign(state: State, *, pre: bool, transfer: bool = False) -> Refusal | None:
    """Starts an election, or says why not."""
    if not state.mode.elects:
        return Refusal("nobody is elected by votes in this mode")
    if state.role is Role.LEADER:
        return Refusal("this member leads already")
    if state.member not in state.configuration.voters:
        return Refusal("this member is no voter")
    if state.installing:
        return Refusal("this member is installing a snapshot")
    if state.has_uncounted_change():
        return Refusal("a membership change does not count here yet")
    _ask_for_votes(state, pre=pre, transfer=transfer)
    return None


def _ask_for_votes(state: State, *, pre: bool, transfer: bool) -> None:
    if pre:
        # Only the role changes: neither epoch nor vote, and the timeout goes on.
        state.votes = {state.member: True}
        state.leader = NOBODY
        state.role = Role.PRE_CANDIDATE
        epoch = state.epoch + 1
    else:
        state.reset(state.epoch + 1)
        state.vote = state.member
        state.role = Role.CANDIDATE
        epoch = state.epoch
    requests = state.messages if pre else state.messages_after
    for voter in state.configuration.voters:
        if voter != state.member:
            requests.append(
                VoteRequest(voter, state.member, epoch, state.log.last, state.log.last_epoch, pre, transfer)
            )
    if pre:
        _count(state)


def own_vote_stored(state: State, hard_state: HardState) -> None:
    """The hard state is durable: if it holds the vote for this very campaign, it counts now."""
    if state.role is Role.CANDIDATE and (hard_state.epoch, hard_state.vote) == (state.epoch, state.member):
        _record(state, state.member, granted=True)


def handle_response(state: State, message: VoteResponse) -> None:
    """A vote, if it is for the campaign that is going on."""
    awaited = Role.PRE_CANDIDATE if message.pre else Role.CANDIDATE
    if state.role is awaited:
        _record(state, message.sender, granted=not message.rejected)


def _record(state: State, member: int, *, granted: bool) -> None:
    state.votes.setdefault(member, granted)
    _count(state)


def _count(state: State) -> None:
    match vote_result(state.configuration.voters, state.votes):
        case VoteResult.WON if state.role is Role.PRE_CANDIDATE:
            _ask_for_votes(state, pre=False, transfer=False)
        case VoteResult.WON:
            leader.begin(state)
        case VoteResult.LOST:
            state.become_follower(state.epoch, NOBODY)
        case VoteResult.PENDING:
            pass


def is_held_off(state: State, message: VoteRequest) -> bool:
    """Whether a leader was heard of so lately that a vote for another would only disturb (thesis, section 4.2.3)."""
    return (
        state.options.check_quorum
        and not message.transfer
        and state.leader != NOBODY
        and state.election_elapsed < state.options.election_ticks
    )


def handle_request(state: State, message: VoteRequest) -> None:
    """Gives the vote or refuses it.

    Learners vote as well: a learner may be a voter already without knowing, and then the vote may be needed. A given
    pre-vote carries the epoch that was asked for, or the asker would take it for an old answer.
    """
    free = (
        state.vote == message.sender
        or (state.vote == NOBODY and state.leader == NOBODY)
        or (message.pre and message.epoch > state.epoch)
    )
    granted = free and state.log.is_covered_by(message.last_index, message.last_epoch)
    if granted and not message.pre:
        state.election_elapsed = 0
        state.vote = message.sender
    respond(state, message, granted=granted)


def respond(state: State, message: VoteRequest, *, granted: bool) -> None:
    """Answers a request for a vote, when everything this may rest on is durable."""
    epoch = message.epoch if granted else state.epoch
    state.messages_after.append(VoteResponse(message.sender, state.member, epoch, message.pre, not granted))
