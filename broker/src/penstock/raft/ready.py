"""What the driver has to do next: one value, in the order in which to do it.

    0. `forked`: set these entries aside, and end: this log is not the leader's, below what is committed here.
    1. `hard_state`: write it, before the entries; when `sync_hard_state`, sync it and report with `hard_state_stored`.
    2. `begin_epoch`: this member now leads; write the epoch's first, empty entry at this index, before any other.
    3. `snapshot`: install it; the log then starts behind it. Report with `snapshot_installed`.
    4. `truncate_from`, then `appends`: cut the log, then write these entries behind it. Report with `stored`. `tail` says what
       is cut, or lost under a snapshot; a driver that promises to keep such entries sets them aside before.
    5. `messages`: send at once; a leader's appends need not wait for its own disk (thesis, section 10.2.1).
    6. `messages_after`: send only when all of 1 to 4 of this Ready and of every earlier one is durable.
       `recount`: what the log says of the members is another since; report with `configure` how it is behind this Ready's
       entries.
    7. `committed`: apply, and report with `applied`.
    8. `reads`: each may be served when this member has applied its index.

Storage may answer much later, and other Readys may be taken meanwhile, as long as they are written in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NewType

import msgspec

from penstock.raft.messages import PeerMessage, Snapshot, Span

# Counts how often the log was cut or replaced by a snapshot. A report about an older generation says nothing about
# the entries that stand in their place now, so it is given back with every report and an old one is passed over.
Generation = NewType("Generation", int)


class Role(StrEnum):
    """What a member is to its group."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Leadership(msgspec.Struct, frozen=True, gc=False):
    """The own role, and who leads in `epoch` as far as is known; `leader` is 0 where nobody is known to."""

    role: Role
    leader: int
    epoch: int


class HardState(msgspec.Struct, frozen=True, gc=False):
    """What must survive a restart: the newest epoch, the vote in it (0: none), and how far the log is committed.

    `commit` may be lost, or after a crash speak of entries that are not in the log, or not yet in the place of others:
    so `commit_epoch`, the epoch of the entry at `commit`, goes with it, and it counts only where the log has both. `led` is the
    last epoch that this member led where nobody is elected by votes, 0 for none.
    """

    epoch: int = 0
    vote: int = 0
    commit: int = 0
    commit_epoch: int = 0
    led: int = 0


class BeginEpoch(msgspec.Struct, frozen=True, gc=False):
    """The empty entry that a new leader writes, at `index`, in its `epoch`."""

    index: int
    epoch: int


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Entries `first` to `last` of a received span. The span's payload may hold more, on either side."""

    span: Span
    first: int
    last: int


class Tail(msgspec.Struct, frozen=True, gc=False):
    """Entries `first` to `last` at the end of the own log that the leader's log lacks; `epochs` are runs, as a span's.
    Not `exact`: where the logs part is not known, and these are all that this log holds."""

    first: int
    last: int
    epochs: tuple[tuple[int, int], ...]
    exact: bool = True

    @property
    def count(self) -> int:
        """How many entries."""
        return self.last - self.first + 1


class ReadState(msgspec.Struct, frozen=True, gc=False):
    """The read asked for with `context` sees everything acknowledged before it, once `index` is applied."""

    index: int
    context: object


class Ready(msgspec.Struct, frozen=True):
    """See the module. `None` and empty mean: nothing of this kind to do.

    `last_index` and `generation` are what to report with `stored` when all of this Ready is written. `committed` is
    (first, last), both included.
    """

    last_index: int
    generation: Generation
    leadership: Leadership | None = None
    begin_epoch: BeginEpoch | None = None
    snapshot: Snapshot | None = None
    truncate_from: int | None = None
    tail: Tail | None = None
    forked: Tail | None = None
    appends: Sequence[Piece] = ()
    hard_state: HardState | None = None
    sync_hard_state: bool = False
    messages: Sequence[PeerMessage] = ()
    messages_after: Sequence[PeerMessage] = ()
    committed: tuple[int, int] | None = None
    recount: int | None = None
    reads: Sequence[ReadState] = ()

    @property
    def replaces(self) -> bool:
        """Whether entries of the log go, to be replaced by others or by a snapshot."""
        return self.snapshot is not None or self.truncate_from is not None
