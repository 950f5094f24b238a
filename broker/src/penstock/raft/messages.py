"""What members say to each other.

One immutable struct per kind. `epoch` is the sender's, but for a pre-vote, where it is the epoch that the sender would
campaign in. A span carries entries as one opaque payload: the driver of the sender fills it in, the driver of the
receiver stores it.
"""

from __future__ import annotations

import msgspec

from penstock.raft.configuration import Configuration

# Nobody: no leader, no vote, no transfer.
NOBODY = 0


class Span(msgspec.Struct, frozen=True, gc=False):
    """Entries `first` to `last`, both included, without gaps.

    `epochs` are runs: (epoch, first index with it), ascending in both, the first run starting at `first`.
    `size_bytes` is what the sender measured; `changes` are the indexes among them that hold a membership change.
    `payload` is the driver's: None in what a core makes, and handed on as it came in what a core received.
    """

    first: int
    last: int
    epochs: tuple[tuple[int, int], ...]
    size_bytes: int = 0
    changes: tuple[int, ...] = ()
    payload: object = None


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """State up to and including `index`, whose entry had `epoch`, with the members as of then."""

    index: int
    epoch: int
    configuration: Configuration
    payload: object = None


class Message(msgspec.Struct, frozen=True, gc=False, tag_field="k"):
    """From one member to another."""

    to: int
    sender: int
    epoch: int


class Append(Message, frozen=True, gc=False, tag="append"):
    """Leader: store `span` behind the entry (`previous_index`, `previous_epoch`), and know what is committed.

    Without a span it only probes whether the previous entry matches and tells the commit index.
    """

    previous_index: int
    previous_epoch: int
    commit: int
    span: Span | None = None


class AppendResponse(Message, frozen=True, gc=False, tag="append_response"):
    """Follower: my log matches up to `index`; or, `rejected`: it does not match at `index`.

    A rejection hints at the largest (index, epoch) that could match; `hint_epoch` 0 means unknown.
    """

    index: int
    rejected: bool = False
    hint_index: int = 0
    hint_epoch: int = 0


class Heartbeat(Message, frozen=True, gc=False, tag="heartbeat"):
    """Leader: I am here, and of what you have this much is committed. `read` numbers reads to confirm; 0 none."""

    commit: int
    read: int = 0


class HeartbeatResponse(Message, frozen=True, gc=False, tag="heartbeat_response"):
    """Follower: I heard you, and with it the reads up to `read`."""

    read: int = 0


class VoteRequest(Message, frozen=True, gc=False, tag="vote_request"):
    """Candidate: vote for me; my log ends with (`last_index`, `last_epoch`).

    `pre` asks whether a vote would be given, and binds nobody. `transfer` says that the leader itself asked for this
    election, so that a lease on the leader is no reason to refuse.
    """

    last_index: int
    last_epoch: int
    pre: bool = False
    transfer: bool = False


class VoteResponse(Message, frozen=True, gc=False, tag="vote_response"):
    """A vote, given or `rejected`. A given pre-vote carries the epoch that was asked for."""

    pre: bool = False
    rejected: bool = False


class InstallSnapshot(Message, frozen=True, gc=False, tag="install_snapshot"):
    """Leader: my log no longer holds what you miss; take this state instead."""

    snapshot: Snapshot


class TimeoutNow(Message, frozen=True, gc=False, tag="timeout_now"):
    """Leader: I hand over to you (thesis, section 3.10). Campaign at once; where a Lease elects, look at it now."""


PeerMessage = (
    Append
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | VoteRequest
    | VoteResponse
    | InstallSnapshot
    | TimeoutNow
)


class MessageError(Exception):
    """A peer sent what cannot be; `sentence` says what was wrong, for the log. See `RaftCore.step`."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why a wish of our own side was not granted, as one sentence."""

    sentence: str
