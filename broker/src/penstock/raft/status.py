"""A member's state as a value for people: admin pages, metrics, tests."""

from __future__ import annotations

import msgspec

from penstock.raft.configuration import Configuration
from penstock.raft.progress import Progress, ProgressState
from penstock.raft.ready import Role
from penstock.raft.state import State


class FollowerStatus(msgspec.Struct, frozen=True):
    """How far one member is, as its leader sees it; see `Progress`. The leader itself is among them."""

    member: int
    state: ProgressState
    match: int
    next: int
    learner: bool
    paused: bool
    pending_snapshot: int
    active: bool
    inflight_appends: int
    inflight_bytes: int
    inflight_full: bool


class Status(msgspec.Struct, frozen=True):
    """`followers` are the members in ascending order on a leader, and empty elsewhere. See `State` for the indexes."""

    member: int
    role: Role
    leader: int
    epoch: int
    vote: int
    first_index: int
    last_index: int
    stored: int
    committed: int
    applied: int
    configuration: Configuration
    transferee: int
    followers: tuple[FollowerStatus, ...]


def follower_status(progress: Progress) -> FollowerStatus:
    """One follower's progress now."""
    return FollowerStatus(
        member=progress.member,
        state=progress.state,
        match=progress.match,
        next=progress.next,
        learner=progress.learner,
        paused=progress.is_paused,
        pending_snapshot=progress.pending_snapshot,
        active=progress.active,
        inflight_appends=len(progress.inflights),
        inflight_bytes=progress.inflights.size_bytes,
        inflight_full=progress.inflights.full,
    )


def status_of(state: State) -> Status:
    """The state now."""
    leading = state.leading
    return Status(
        member=state.member,
        role=state.role,
        leader=state.leader,
        epoch=state.epoch,
        vote=state.vote,
        first_index=state.log.first,
        last_index=state.log.last,
        stored=state.stored,
        committed=state.committed,
        applied=state.applied,
        configuration=state.configuration,
        transferee=leading.transferee if leading else 0,
        followers=tuple(
            follower_status(progress) for progress in (leading.progress.values() if leading else ())
        ),
    )
