"""Which messages cannot be, whoever sent them: found before anything is done about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock.raft.messages import (
    NOBODY,
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    MessageError,
    PeerMessage,
    VoteRequest,
    VoteResponse,
)
from penstock.raft.state import State


def check(state: State, message: PeerMessage) -> None:
    """Raises `MessageError` where the message contradicts itself, or is not for this member."""
    if message.to != state.member:
        raise MessageError(f"a message for member {message.to} has come to member {state.member}")
    if message.sender == NOBODY or message.sender == state.member:
        raise MessageError(f"a message that claims to come from member {message.sender}")
    if message.epoch < 1:
        raise MessageError(f"a message of epoch {message.epoch}: epochs start with 1")
    if not state.mode.elects and isinstance(message, ELECTING):
        raise MessageError(
            f"member {message.sender} holds an election, and this shard's master is not elected by votes"
        )
    rule = RULES.get(type(message))
    if rule is not None:
        rule(message)


def _check_append_response(message: AppendResponse) -> None:
    if not 0 <= message.hint_index <= message.index or message.hint_epoch < 0:
        raise MessageError(f"an answer about index {message.index} that hints at {message.hint_index}")


def _check_heartbeat(message: Heartbeat) -> None:
    if message.commit < 0 or message.read < 0:
        raise MessageError(f"a heartbeat with commit index {message.commit}, read {message.read}")


def _check_heartbeat_response(message: HeartbeatResponse) -> None:
    if message.read < 0:
        raise MessageError(f"an answer about read {message.read}")


def _check_vote_request(message: VoteRequest) -> None:
    if message.last_index < 0 or not 0 <= message.last_epoch <= message.epoch:
        raise MessageError(
            f"a candidate of epoch {message.epoch} whose log ends at index {message.last_index}, "
            f"epoch {message.last_epoch}"
        )


def _check_snapshot(message: InstallSnapshot) -> None:
    snapshot = message.snapshot
    if snapshot.index < 1 or not 1 <= snapshot.epoch <= message.epoch:
        raise MessageError(f"a snapshot at index {snapshot.index}, epoch {snapshot.epoch}")
    if not snapshot.configuration.voters:
        raise MessageError("a snapshot of a group without voters")


def _check_append(message: Append) -> None:
    if message.previous_index < 0 or message.previous_epoch < 0 or message.commit < 0:
        raise MessageError(
            f"entries behind index {message.previous_index}, epoch {message.previous_epoch}, commit {message.commit}"
        )
    span = message.span
    if span is None:
        return
    if span.first != message.previous_index + 1:
        raise MessageError(
            f"a span that starts at index {span.first} does not join index {message.previous_index}"
        )
    if span.last < span.first:
        raise MessageError(f"a span from index {span.first} to {span.last}")
    if not span.epochs or span.epochs[0][1] != span.first:
        raise MessageError(f"the epochs of a span from index {span.first} on do not start there")
    epoch, start = max(message.previous_epoch - 1, 0), 0
    for run_epoch, run_start in span.epochs:
        if run_epoch <= epoch or run_start <= start:
            raise MessageError(f"the epochs of a span from index {span.first} on do not rise")
        epoch, start = run_epoch, run_start
    if start > span.last or epoch > message.epoch:
        raise MessageError(f"a span to index {span.last} with a run of epoch {epoch} from index {start} on")
    if span.changes and (
        span.changes[0] < span.first
        or span.changes[-1] > span.last
        or any(later <= earlier for earlier, later in zip(span.changes, span.changes[1:], strict=False))
    ):
        raise MessageError(f"a span from index {span.first} to {span.last} with changes at {span.changes}")


ELECTING = (VoteRequest, VoteResponse)

# By kind, because this is asked for every message.
RULES: dict[type, Callable[[Any], None]] = {
    Append: _check_append,
    AppendResponse: _check_append_response,
    Heartbeat: _check_heartbeat,
    HeartbeatResponse: _check_heartbeat_response,
    VoteRequest: _check_vote_request,
    InstallSnapshot: _check_snapshot,
}
