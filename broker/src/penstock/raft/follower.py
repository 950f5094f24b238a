"""What a member does at the word of a leader: append, learn what is committed, take a snapshot, take over."""

from __future__ import annotations

from penstock.raft import election, forks
from penstock.raft.messages import (
    NOBODY,
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    MessageError,
    Snapshot,
    Span,
    TimeoutNow,
)
from penstock.raft.ready import Role
from penstock.raft.state import State


def check_leader(state: State, sender: int) -> None:
    """An epoch has one leader: raises `MessageError` where another one is known."""
    if state.leader not in (NOBODY, sender):
        raise MessageError(
            f"member {sender} claims to lead epoch {state.epoch}, but member {state.leader} does"
        )


def follow(state: State, sender: int) -> None:
    """A message of the leader of this epoch has come: whoever campaigns gives up, the timeout starts again."""
    check_leader(state, sender)
    if state.role is Role.FOLLOWER:
        state.election_elapsed = 0
        state.leader = sender
    else:
        state.become_follower(state.epoch, sender)


def handle_append(state: State, message: Append) -> None:
    """Appends what the leader sent if it joins, and says how far the logs match; or where they may (section 3.5)."""
    log = state.log
    previous = message.previous_index
    if previous < state.committed:
        if state.mode.may_fork:
            _compare(state, message)
        else:
            _respond(state, message.sender, state.committed)
        return
    if log.epoch_of(previous) != message.previous_epoch:
        _reject(state, message)
        return
    span = message.span
    if span is not None:
        first_new = log.first_difference(span)
        if first_new:
            _take(state, span, first_new)
    _taken(state, message)


def _reject(state: State, message: Append) -> None:
    log, previous = state.log, message.previous_index
    # Whatever here has a higher epoch than the leader's entry there cannot be in the leader's log below it.
    index, epoch = log.could_match(min(previous, log.last), message.previous_epoch)
    state.messages_after.append(
        AppendResponse(message.sender, state.member, state.epoch, previous, True, index, epoch)
    )


def _taken(state: State, message: Append) -> None:
    last = message.previous_index if message.span is None else message.span.last
    if state.led:
        forks.agrees(state, last, message.epoch)
    if message.commit > state.committed:
        state.commit_to(min(message.commit, last))
    _respond(state, message.sender, last)


def _compare(state: State, message: Append) -> None:
    """What is committed here may be missing there: takes nothing for granted, and answers for nothing that it was not told."""
    if state.log.epoch_of(message.previous_index) not in (None, message.previous_epoch):
        _reject(state, message)
        return
    span = message.span
    newest = (
        (message.previous_index, message.previous_epoch) if span is None else (span.last, span.epochs[-1][0])
    )
    if forks.lies_apart(state.log, *newest):
        forks.note(state, newest[0])
        return
    if span is not None:
        first_new = forks.difference(state.log, span)
        if 0 < first_new <= state.committed:
            forks.note(state, first_new)
            return
        if first_new:
            _take(state, span, first_new)
    _taken(state, message)


def _take(state: State, span: Span, first: int) -> None:
    log = state.log
    changes = log.changes
    if (changes and changes[-1] >= first) or (span.changes and span.changes[-1] >= first):
        state.recount += 1
    if first <= log.last:
        assert first > state.committed, "a committed entry is never replaced"
        forks.note_cut(state, first)
        log.truncate(first)
        if state.unwritten.truncate(first):
            state.stored = min(state.stored, first - 1)
    log.extend(span, first)
    state.unwritten.add(span, first)


def _respond(state: State, to: int, index: int) -> None:
    response = AppendResponse(to, state.member, state.epoch, index)
    waiting = state.messages_after
    if waiting and state.options.combine:
        # All of these leave together, and the last of them says what those before it say.
        last = waiting[-1]
        if type(last) is AppendResponse and not last.rejected and (last.to, last.epoch) == (to, state.epoch):
            waiting[-1] = response if index >= last.index else last
            return
    waiting.append(response)


def handle_heartbeat(state: State, message: Heartbeat) -> None:
    """Learns what is committed of what it is known to hold."""
    state.commit_to(message.commit)
    state.messages.append(HeartbeatResponse(message.sender, state.member, state.epoch, message.read))


def handle_snapshot(state: State, message: InstallSnapshot) -> None:
    """Takes the snapshot, unless the log has all of it already, and says how far it is then (section 5).

    Its configuration may lack this very member: the entry that adds it then comes behind the snapshot.
    """
    snapshot = message.snapshot
    if snapshot.index > state.committed:
        if state.log.epoch_of(snapshot.index) == snapshot.epoch:
            state.commit_to(snapshot.index)
        else:
            _restart_from(state, snapshot)
    elif state.mode.may_fork:
        if not forks.note_under_snapshot(state, snapshot):
            _respond(state, message.sender, snapshot.index)
        return
    _respond(state, message.sender, state.committed)


def _restart_from(state: State, snapshot: Snapshot) -> None:
    forks.note_replaced(state)
    state.log.restart(snapshot.index, snapshot.epoch)
    state.unwritten.replace(snapshot)
    state.installing = snapshot.index
    state.stored = 0
    state.committed = snapshot.index
    state.configuration = snapshot.configuration


def handle_timeout_now(state: State, message: TimeoutNow) -> None:
    """The leader hands over: campaigns without a pre-vote, for there is no doubt that the leader agrees. Where nobody
    campaigns, the driver looks whether the Lease can be taken."""
    check_leader(state, message.sender)
    if state.mode.elects and state.role is Role.FOLLOWER:
        election.campaign(state, pre=False, transfer=True)
