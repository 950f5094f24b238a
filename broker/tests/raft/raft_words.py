"""Our values in etcd's words: how its tests print messages, Readys, entries and progress (its `util.go`, `tracker`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.raft.configuration import Change, Configuration
from penstock.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    PeerMessage,
    Snapshot,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from penstock.raft.progress import ProgressState
from penstock.raft.ready import HardState, Role
from penstock.raft.status import FollowerStatus

ROLES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}
PROGRESS_STATES = {
    ProgressState.PROBE: "StateProbe",
    ProgressState.REPLICATE: "StateReplicate",
    ProgressState.SNAPSHOT: "StateSnapshot",
}


@dataclass(frozen=True)
class Entry:
    """What the harness keeps of an entry, since the core keeps nothing: its kind in etcd's words, text, change."""

    index: int
    epoch: int
    kind: str = "EntryNormal"
    text: str = ""
    change: Change | None = None

    def __str__(self) -> str:
        text = self.text if self.change else json.dumps(self.text)
        return f"{self.epoch}/{self.index} {self.kind} {text}"


def entry_lines(entries: Sequence[Entry]) -> str:
    """One line for each."""
    return "".join(f"{entry}\n" for entry in entries)


def _entries(entries: Sequence[Entry]) -> str:
    if not entries:
        return ""
    if len(entries) == 1:
        return f" Entries:[{entries[0]}]"
    return " Entries:[" + "".join(f"\n  {entry}" for entry in entries) + "\n]"


def _numbers(members: Sequence[int]) -> str:
    return "[" + " ".join(map(str, members)) + "]"


def configuration_line(configuration: Configuration) -> str:
    """A configuration as a line of a Ready; ours are never joint."""
    voters, learners = _numbers(configuration.voters), _numbers(configuration.learners)
    return f"Voters:{voters} VotersOutgoing:[] Learners:{learners} LearnersNext:[] AutoLeave:false"


def snapshot_line(snapshot: Snapshot) -> str:
    """A snapshot as a line of a Ready."""
    return (
        f"Index:{snapshot.index} Term:{snapshot.epoch} ConfState:{configuration_line(snapshot.configuration)}"
    )


def hard_state_words(hard_state: HardState) -> str:
    """A hard state as in a Ready."""
    vote = f" Vote:{hard_state.vote}" if hard_state.vote else ""
    return f"Term:{hard_state.epoch}{vote} Commit:{hard_state.commit}"


def _commit(commit: int) -> str:
    return f" Commit:{commit}" if commit else ""


def message_type(message: PeerMessage) -> str:
    """The message's name."""
    match message:
        case VoteRequest(pre=pre):
            return "MsgPreVote" if pre else "MsgVote"
        case VoteResponse(pre=pre):
            return "MsgPreVoteResp" if pre else "MsgVoteResp"
    return {
        Append: "MsgApp",
        AppendResponse: "MsgAppResp",
        Heartbeat: "MsgHeartbeat",
        HeartbeatResponse: "MsgHeartbeatResp",
        InstallSnapshot: "MsgSnap",
        TimeoutNow: "MsgTimeoutNow",
    }[type(message)]


def message_words(message: PeerMessage) -> str:
    """The message, of one line or several. An `Append` carries a tuple of `Entry` as payload."""
    head = f"{message.sender:x}->{message.to:x} {message_type(message)} Term:{message.epoch} Log:"
    match message:
        case Append(previous_index=index, previous_epoch=epoch, commit=commit, span=span):
            payload = span.payload if span else ()
            assert isinstance(payload, tuple)
            return f"{head}{epoch}/{index}{_commit(commit)}{_entries(payload)}"
        case AppendResponse(index=index, rejected=True, hint_index=hint, hint_epoch=epoch):
            return f"{head}{epoch}/{index} Rejected (Hint: {hint})"
        case AppendResponse(index=index):
            return f"{head}0/{index}"
        case Heartbeat(commit=commit):
            return f"{head}0/0{_commit(commit)}"
        case VoteRequest(last_index=index, last_epoch=epoch):
            return f"{head}{epoch}/{index}"
        case VoteResponse(rejected=True):
            return f"{head}0/0 Rejected (Hint: 0)"
        case InstallSnapshot(snapshot=snapshot):
            return f"{head}0/0\n  Snapshot: {snapshot_line(snapshot)}"
    return f"{head}0/0"


def storage_words(
    member: int,
    hard_state: HardState | None,
    entries: Sequence[Entry],
    snapshot: Snapshot | None,
) -> str:
    """The order to the storage thread that etcd makes of a Ready."""
    epoch = hard_state.epoch if hard_state else 0
    words = f"{member:x}->AppendThread MsgStorageAppend Term:{epoch} Log:0/0"
    if hard_state:
        words += _commit(hard_state.commit) + (f" Vote:{hard_state.vote}" if hard_state.vote else "")
    words += _entries(entries)
    return words + (f"\n  Snapshot: {snapshot_line(snapshot)}" if snapshot else "")


def apply_words(sender: str, to: str, name: str, entries: Sequence[Entry]) -> str:
    """The order to apply, and its answer."""
    return f"{sender}->{to} {name} Term:0 Log:0/0{_entries(entries)}"


def progress_line(status: FollowerStatus) -> str:
    """One follower's progress."""
    words = f"{status.member}: {PROGRESS_STATES[status.state]} match={status.match} next={status.next}"
    words += " learner" if status.learner else ""
    words += " paused" if status.paused else ""
    words += f" pendingSnap={status.pending_snapshot}" if status.pending_snapshot else ""
    words += "" if status.active else " inactive"
    if status.inflight_appends:
        words += f" inflight={status.inflight_appends}" + ("[full]" if status.inflight_full else "")
    return words
