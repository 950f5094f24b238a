"""What a leader does: begins its epoch, appends, counts who holds what, commits, and keeps an eye on its followers.

An entry is committed when enough members hold it, as the mode says, and it is of this epoch, or lies before one that is
(section 3.6.2).
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.raft import sending
from penstock.raft.configuration import Change, ChangeError, ChangeKind, Configuration
from penstock.raft.inflights import Inflights
from penstock.raft.messages import (
    NOBODY,
    AppendResponse,
    HeartbeatResponse,
    MessageError,
    Refusal,
    TimeoutNow,
)
from penstock.raft.options import RaftOptions
from penstock.raft.progress import Progress, ProgressState
from penstock.raft.quorum import VoteResult, vote_result
from penstock.raft.ready import BeginEpoch, Role
from penstock.raft.state import Leading, State

NOT_LEADING = Refusal("this member does not lead")
REMOVED = Refusal("this member was removed from its group")
CHANGING_TWO = Refusal("a membership change of a group of two is under way")
HANDING_OVER = Refusal("leadership is being handed over")


def begin(state: State) -> None:
    """This member leads: appends the entry that begins the epoch, and finds out how far everybody is."""
    state.reset(state.epoch)
    state.role = Role.LEADER
    state.leader = state.member
    first = state.log.append(1, state.epoch)
    leading = state.leading = Leading(first)
    leading.fresh_bytes = state.options.begin_epoch_bytes
    learners = state.configuration.learners
    for member in state.configuration.members:
        leading.progress[member] = Progress(
            member,
            next_index=first,
            learner=member in learners,
            active=False,
            inflights=_window(state.options),
        )
    own = leading.progress[state.member]
    own.active = True
    own.acknowledged(state.stored)
    own.become_replicate()
    state.begin_epoch = BeginEpoch(first, state.epoch)
    sending.broadcast(state, leading)


def _window(options: RaftOptions) -> Inflights:
    return Inflights(options.inflight_appends_max, options.inflight_bytes_max)


# --- wishes ----------------------------------------------------------------------------------------


def append_refusal(state: State) -> Refusal | None:
    """Why nothing may be appended now."""
    leading = state.leading
    if leading is None:
        return NOT_LEADING
    if leading.transferee:
        return HANDING_OVER
    if state.member not in leading.progress:
        return REMOVED
    if state.options.count_when_appended:
        return None
    if len(state.configuration.voters) == 2 and state.has_pending_change():
        # Should the change leave one voter, who does not know yet, that one will need the vote of the other, and gets
        # it only if the other's log is no longer than its own.
        return CHANGING_TWO
    return None


def append(state: State, count: int, size_bytes: int) -> tuple[int, int] | Refusal:
    """Appends `count` entries."""
    return append_refusal(state) or _append(state, count, size_bytes)


def _append(state: State, count: int, size_bytes: int) -> tuple[int, int]:
    assert count >= 1, count
    leading = state.leading
    assert leading is not None
    first = state.log.append(count, state.epoch)
    leading.fresh_bytes += size_bytes
    sending.broadcast(state, leading)
    return first, state.log.last


def propose_change(state: State, change: Change, size_bytes: int) -> int | Refusal:
    """Appends a membership change, if none is under way and it can be made."""
    if state.leading is not None and state.has_pending_change():
        return Refusal(f"the membership change at index {state.log.changes[-1]} is not applied yet")
    refusal = append_refusal(state)
    if refusal is not None:
        return refusal
    if change.kind is ChangeKind.ALONE and state.configuration.voters != (change.member,):
        return Refusal("only a member that is alone may drop the others")
    assert state.leading is not None
    sets = state.leading.commit_sets
    if change.kind is not ChangeKind.VOTER and any(change.member in members for members in sets):
        return Refusal(f"member {change.member} is in the in-sync set, which it leaves first")
    try:
        configuration = state.configuration.changed((change,))
    except ChangeError as error:
        return Refusal(error.sentence)
    if state.options.count_when_appended:
        refusal = _count_now(state, change, configuration)
        if refusal is not None:
            return refusal
    # Noted before it is appended, because messages are made as it is, and they say where changes are.
    state.log.changes.append(state.log.last + 1)
    return _append(state, 1, size_bytes)[0]


def _count_now(state: State, change: Change, configuration: Configuration) -> Refusal | None:
    """The leader goes by a change that it is about to append.

    Who no longer votes is not sent it, before it is committed at least: by its own log it would not campaign, and with the
    longer log not vote for those who still need its vote, should this leader be lost.
    """
    if state.member not in configuration.voters:
        return Refusal("a leader that is to go hands over first")
    if change.kind is ChangeKind.LEARNER and change.member in state.configuration.voters:
        return Refusal("a voter is removed first, and comes back as a learner")
    assert state.leading is not None
    state.configuration = configuration
    configuration_changed(state, state.leading)
    return None


def transfer(state: State, to: int) -> Refusal | None:
    """Hands leadership over, at once or when `to` has caught up (section 3.10)."""
    leading = state.leading
    if leading is None:
        return NOT_LEADING
    progress = leading.progress.get(to)
    if progress is None or progress.learner:
        return Refusal(f"member {to} is no voter")
    if to == leading.transferee:
        return None
    leading.transferee = NOBODY
    if to == state.member:
        return Refusal("this member leads already")
    # One election timeout to do it in, or the wish is given up.
    state.election_elapsed = 0
    leading.transferee = to
    if progress.match == state.log.last:
        _tell_to_campaign(state, to)
    else:
        sending.request(state, leading, progress)
    return None


def _tell_to_campaign(state: State, to: int) -> None:
    """Where nobody campaigns, the driver asks who is level (`level_transferee`)."""
    if state.mode.elects:
        state.messages.append(TimeoutNow(to, state.member, state.epoch))


def level_transferee(state: State) -> int:
    """Who leadership is being handed to, once its log is level; else 0."""
    leading = state.leading
    if leading is None or leading.transferee == NOBODY:
        return NOBODY
    return leading.transferee if leading.progress[leading.transferee].match == state.log.last else NOBODY


def read_index(state: State, context: object) -> Refusal | None:
    """Asks for an index to read at (section 6.4)."""
    leading = state.leading
    if leading is None:
        return NOT_LEADING
    if not state.mode.elects:
        return Refusal("no majority tells who leads")
    if len(leading.reads) >= state.options.reads_max:
        return Refusal("too many reads wait for their confirmation")
    if state.committed < leading.first_index:
        leading.reads.early.append(context)
    else:
        _confirm_read(state, leading, context)
    return None


def _confirm_read(state: State, leading: Leading, context: object) -> None:
    reads = leading.reads
    reads.ask(state.committed, context)
    reads.confirm(state.member, reads.newest)
    _release_reads(state, leading)
    if reads.newest:
        sending.request_heartbeats(state, leading)


def _release_reads(state: State, leading: Leading) -> None:
    state.reads.extend(leading.reads.release(state.configuration.voters))


# --- what followers answer -------------------------------------------------------------------------


def handle_append_response(state: State, message: AppendResponse) -> None:
    """Learns how far a follower's log matches."""
    leading = state.leading
    progress = leading.progress.get(message.sender) if leading else None
    if leading is None or progress is None:
        return
    if message.index > state.log.last:
        raise MessageError(
            f"member {message.sender} answers for index {message.index}, but the log ends at {state.log.last}"
        )
    progress.active = True
    if message.rejected:
        _back_off(state, leading, progress, message)
        return
    # What says nothing new still answers a probe of where the follower is known to be; but not the older answers that
    # only told an epoch.
    probed = progress.state is ProgressState.PROBE
    answers_probe = probed and message.index == progress.match == progress.next - 1
    if not progress.acknowledged(message.index) and not answers_probe:
        return
    if progress.state is ProgressState.REPLICATE:
        progress.inflights.free_up_to(message.index)
    elif probed or progress.match + 1 >= state.log.first:
        # A snapshot counts as arrived as soon as the log continues from where the follower is, whichever it was.
        progress.become_replicate()
    if not advance_commit(state, leading) and progress.can_learn_commit(state.committed):
        if state.options.combine:
            leading.commit_due = True
        else:
            sending.request(state, leading, progress)
    sending.request_entries(state, leading, progress)
    if message.sender == leading.transferee and progress.match == state.log.last:
        _tell_to_campaign(state, message.sender)


def _back_off(state: State, leading: Leading, progress: Progress, message: AppendResponse) -> None:
    hint = message.hint_index
    if message.hint_epoch:
        # Where this log has a higher epoch than the follower has there, the two cannot match.
        hint, _ = state.log.could_match(hint, message.hint_epoch)
    if progress.rejected(message.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        sending.request(state, leading, progress)


def handle_heartbeat_response(state: State, message: HeartbeatResponse) -> None:
    """A follower is there: it may be sent something again, and reads are confirmed."""
    leading = state.leading
    progress = leading.progress.get(message.sender) if leading else None
    if leading is None or progress is None:
        return
    if message.read > leading.reads.asked:
        raise MessageError(f"member {message.sender} confirms read {message.read}, which was never asked")
    progress.active = True
    progress.paused = False
    if progress.match < state.log.last or progress.state is ProgressState.PROBE:
        sending.request(state, leading, progress)
    if message.read:
        leading.reads.confirm(message.sender, message.read)
        _release_reads(state, leading)


def own_log_stored(state: State) -> None:
    """The own log holds more: the leader counts itself like any other voter, by what is stored."""
    leading = state.leading
    own = leading.progress.get(state.member) if leading else None
    if leading is not None and own is not None and own.acknowledged(state.stored):
        advance_commit(state, leading)


def advance_commit(state: State, leading: Leading) -> bool:
    """Commits what enough members hold. Gives whether that is more than before."""
    index = state.mode.agreed(state, leading)
    # Entries of earlier epochs are not committed by counting (section 3.6.2); one of this epoch takes them along.
    if index <= state.committed or index < leading.first_index:
        return False
    state.committed = index
    if leading.reads.early:
        early, leading.reads.early = leading.reads.early, []
        for context in early:
            _confirm_read(state, leading, context)
    sending.request_commit(state, leading)
    return True


# --- time and trouble ------------------------------------------------------------------------------


def tick(state: State, leading: Leading) -> None:
    """A tick of a leader."""
    leading.heartbeat_elapsed += 1
    state.election_elapsed += 1
    if state.election_elapsed >= state.options.election_ticks:
        state.election_elapsed = 0
        if state.options.check_quorum and not _quorum_is_active(state, leading) and state.mode.elects:
            state.become_follower(state.epoch, NOBODY)
            return
        leading.transferee = NOBODY
    if leading.heartbeat_elapsed >= state.options.heartbeat_ticks:
        leading.heartbeat_elapsed = 0
        sending.request_heartbeats(state, leading)


def _quorum_is_active(state: State, leading: Leading) -> bool:
    """Whether a majority was heard of since the last time this was asked (section 6.2)."""
    progress = leading.progress
    active = {voter: progress[voter].active for voter in state.configuration.voters}
    for other in progress.values():
        other.active = other.member == state.member
    return vote_result(state.configuration.voters, active) is VoteResult.WON


def report_unreachable(state: State, member: int) -> None:
    """What is on its way to `member` is probably lost."""
    progress = state.leading.progress.get(member) if state.leading else None
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def report_snapshot(state: State, member: int, *, ok: bool) -> None:
    """The snapshot on its way to `member` arrived or did not. Its own answer, or a heartbeat's, sets it going again."""
    progress = state.leading.progress.get(member) if state.leading else None
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    if ok:
        progress.become_probe()
    else:
        progress.snapshot_failed()
    progress.paused = True


# --- members ---------------------------------------------------------------------------------------


def tracked(
    progress: Mapping[int, Progress], configuration: Configuration, *, last_index: int, options: RaftOptions
) -> dict[int, Progress]:
    """Progress of the members of `configuration`: known ones go on, new ones are probed from the end of the log."""
    result = {}
    for member in configuration.members:
        learner = member in configuration.learners
        known = progress.get(member)
        if known is None:
            # Taken for active, or a check of the quorum could come before it had a chance to answer.
            known = Progress(
                member,
                next_index=max(last_index, 1),
                learner=learner,
                active=True,
                inflights=_window(options),
            )
        known.learner = learner
        result[member] = known
    return result


def configuration_changed(state: State, leading: Leading) -> None:
    """The configuration is another one: quorums and followers are."""
    configuration = state.configuration
    leading.progress = tracked(
        leading.progress, configuration, last_index=state.log.last, options=state.options
    )
    if state.member not in (configuration.voters if state.mode.elects else configuration):
        if state.options.step_down_on_removal:
            state.become_follower(state.epoch, NOBODY)
        return
    # Those who have confirmed them may be a majority now, and those who have not may answer nothing more.
    _release_reads(state, leading)
    if not advance_commit(state, leading) or state.options.combine:
        for progress in leading.progress.values():
            if progress.member != state.member:
                sending.request_entries(state, leading, progress)
    if leading.transferee not in configuration.voters:
        leading.transferee = NOBODY
