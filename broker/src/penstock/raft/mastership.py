"""Leading where nobody is elected by votes: whoever holds the shard's Lease is told to lead, and to stop.

The epoch is taken first, which is made durable like any other, and only then led in: so a master that is restarted never
leads an epoch twice, and nobody who is told to lead follows an older master meanwhile.
"""

from __future__ import annotations

from penstock.raft import leader
from penstock.raft.messages import NOBODY, Refusal, TimeoutNow
from penstock.raft.ready import Role
from penstock.raft.state import CommitSets, State


def take_epoch(state: State, epoch: int) -> Refusal | None:
    """Everything older is refused from now on; whoever leads stops."""
    assert not state.mode.elects, "epochs are elected in this mode"
    if epoch <= state.epoch:
        return Refusal(f"epoch {epoch} is not above {state.epoch}, which this member knows")
    state.become_follower(epoch, NOBODY)
    return None


def lead(state: State, epoch: int, sets: CommitSets) -> Refusal | None:
    """Begins to lead in an epoch that was taken and is durable."""
    assert not state.mode.elects, "leaders are elected in this mode"
    refusal = _refusal(state, epoch)
    if refusal is None:
        _check(state, sets)
        leader.begin(state)
        assert state.leading is not None
        state.leading.commit_sets = sets
        # Who led an epoch may hold what the next master lacks.
        state.vote, state.led = state.member, epoch
    return refusal


def _refusal(state: State, epoch: int) -> Refusal | None:
    if state.role is Role.LEADER:
        return Refusal("this member leads already")
    if epoch != state.epoch:
        return Refusal(f"this member is in epoch {state.epoch}, not {epoch}")
    if epoch > state.epoch_stored:
        return Refusal(f"epoch {epoch} is not on disk yet")
    if state.leader != NOBODY or state.vote != NOBODY or state.log.last_epoch >= epoch:
        return Refusal(f"epoch {epoch} has had its leader")
    if state.has_uncounted_change():
        return Refusal("a membership change does not count here yet")
    why = why_unfit(state)
    return Refusal(why) if why is not None else None


def why_unfit(state: State) -> str | None:
    """What keeps this member from leading, whatever the epoch; None for nothing that lasts."""
    if state.member not in state.configuration:
        return "this member is not in the configuration"
    if state.installing:
        return "this member is installing a snapshot"
    if state.forked is not None:
        return "this member's log is not the shard's"
    return None


def set_commit_sets(state: State, sets: CommitSets) -> None:
    """Leader: these count from now on. What is committed stays so."""
    leading = state.leading
    if leading is None:
        return
    _check(state, sets)
    leading.commit_sets = sets
    leader.advance_commit(state, leading)


def _check(state: State, sets: CommitSets) -> None:
    assert sets, "there is no in-sync set"
    assert all(state.member in members for members in sets), f"an in-sync set without its master: {sets}"


def stop_leading(state: State) -> None:
    """Leader: follows nobody from now on, in the same epoch."""
    if state.leading is not None:
        state.become_follower(state.epoch, NOBODY)


def tell_transferee(state: State) -> None:
    """Leader: the Lease is about to name whom leadership is handed to, who need not find out by itself."""
    leading = state.leading
    if leading is not None and leading.transferee != NOBODY:
        state.messages.append(TimeoutNow(leading.transferee, state.member, state.epoch))
