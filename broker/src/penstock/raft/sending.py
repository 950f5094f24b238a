"""What a leader sends to its followers: entries, commit indexes, heartbeats, snapshots.

Rules ask for a message with `request`; with the option `combine` it is made when the next Ready is, so that one
message carries all that a turn has brought, and is made of a log that the driver has completed meanwhile.
"""

from __future__ import annotations

from penstock.raft.messages import Append, Heartbeat, InstallSnapshot, Span
from penstock.raft.progress import ENTRIES_DUE, MESSAGE_DUE, NOT_DUE, Progress, ProgressState
from penstock.raft.state import Leading, State


def request(state: State, leading: Leading, progress: Progress) -> None:
    """This follower is to be sent what it misses, or at least the commit index."""
    if state.options.combine:
        progress.due = MESSAGE_DUE
        leading.due = True
    else:
        _send_append(state, leading, progress, if_empty=True)


def request_entries(state: State, leading: Leading, progress: Progress) -> None:
    """This follower is to be sent what it misses, as far as its window lets it."""
    if not state.options.combine:
        _send_entries(state, leading, progress)
    elif progress.due == NOT_DUE and progress.next <= state.log.last:
        progress.due = ENTRIES_DUE
        leading.due = True


def broadcast(state: State, leading: Leading) -> None:
    """All followers are to be sent what they miss, or at least the commit index."""
    for progress in leading.progress.values():
        if progress.member != state.member:
            request(state, leading, progress)


def request_commit(state: State, leading: Leading) -> None:
    """Followers are to hear what is committed: with what they are sent next, or when the driver asks for it."""
    if state.options.combine:
        leading.commit_due = True
    else:
        broadcast(state, leading)


def tell_commit(state: State, leading: Leading) -> None:
    """Followers that were not told what is committed are to be sent a message for that alone."""
    leading.commit_due = False
    for progress in leading.progress.values():
        if progress.member != state.member and progress.can_learn_commit(state.committed):
            request(state, leading, progress)


def request_heartbeats(state: State, leading: Leading) -> None:
    """All followers are to hear that this leader is there."""
    if state.options.combine:
        leading.heartbeat_due = True
    else:
        _send_heartbeats(state, leading)


def flush(state: State, leading: Leading) -> None:
    """Makes the messages that were asked for."""
    if leading.heartbeat_due:
        leading.heartbeat_due = False
        _send_heartbeats(state, leading)
    if leading.due:
        leading.due = False
        for progress in leading.progress.values():
            due = progress.due
            if due == NOT_DUE:
                continue
            progress.due = NOT_DUE
            if _send_append(state, leading, progress, if_empty=due == MESSAGE_DUE):
                _send_entries(state, leading, progress)
    leading.fresh_first = state.log.last + 1
    leading.fresh_bytes = 0


def _send_entries(state: State, leading: Leading, progress: Progress) -> None:
    # Ends: each message moves `next` on, or pauses the follower.
    last = state.log.last
    while progress.next <= last and _send_append(state, leading, progress, if_empty=False):
        pass


def _send_append(state: State, leading: Leading, progress: Progress, *, if_empty: bool) -> bool:
    """Sends one message, if the follower may be sent one and there is something to say. Gives whether it did.

    With a full window only empty messages go out: should everything on its way be lost, one of them will be answered.
    """
    if progress.is_paused:
        return False
    log = state.log
    previous = progress.next - 1
    previous_epoch = log.epoch_of(previous)
    if previous_epoch is None:
        return _send_snapshot(state, progress)
    span = None
    if previous < log.last and not (progress.state is ProgressState.REPLICATE and progress.inflights.full):
        span = _span(state, leading, progress.next)
    elif not if_empty:
        return False
    state.messages.append(
        Append(progress.member, state.member, state.epoch, previous, previous_epoch, state.committed, span)
    )
    if span is None:
        progress.sent(previous, 0)
    else:
        progress.sent(span.last, span.size_bytes)
        if span.last < log.last:
            progress.is_behind(state.options.catch_up_bytes_max)
    progress.sent_commit = state.committed
    return True


def _span(state: State, leading: Leading, first: int) -> Span:
    log = state.log
    bytes_max = state.options.append_bytes_max
    if first == leading.fresh_first and leading.fresh_bytes <= bytes_max:
        last, size_bytes = log.last, leading.fresh_bytes
    else:
        count, size_bytes = state.port.fit(first, log.last, bytes_max)
        last = first + count - 1
        assert first <= last <= log.last, (first, last, log.last)
    made = leading.span
    if made is not None and made.first == first and made.last == last:
        return made  # Followers that are level share one span, so a driver may share its bytes.
    leading.span = Span(
        first, last, log.runs_between(first, last), size_bytes, log.changes_between(first, last)
    )
    return leading.span


def _send_snapshot(state: State, progress: Progress) -> bool:
    if not progress.active:
        return False  # Nobody is there to take it; when it answers a heartbeat, it is asked for again.
    snapshot = state.port.snapshot()
    if snapshot is None:
        return False
    assert snapshot.index >= state.log.first - 1, "the log starts behind the snapshot that should lead to it"
    progress.become_snapshot(snapshot.index)
    state.messages.append(InstallSnapshot(progress.member, state.member, state.epoch, snapshot))
    return True


def _send_heartbeats(state: State, leading: Leading) -> None:
    read = leading.reads.newest
    for progress in leading.progress.values():
        if progress.member == state.member:
            continue
        # Not more than it is known to hold: behind that its log may differ, and must not be taken for committed.
        commit = min(progress.match, state.committed)
        state.messages.append(Heartbeat(progress.member, state.member, state.epoch, commit, read))
        progress.sent_commit = commit
