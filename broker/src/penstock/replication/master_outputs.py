"""What the election of mode MasterSlave asks its driver to do.

The driver does them in the order in which they come. Of `Read`, `Create` and `Write` there is one at a time, and each is
answered within the timing's request timeout, whatever became of it.
"""

from __future__ import annotations

import msgspec

from penstock.replication.in_sync_set import Sets
from penstock.replication.master_lease import LeaseRecord
from penstock.replication.takeover import WaitingFor


class Read(msgspec.Struct, frozen=True):
    """Read the Lease; answer with `observed`."""


class Create(msgspec.Struct, frozen=True):
    """Create the Lease if there is none; answer with `written`."""

    request_id: int
    record: LeaseRecord


class Write(msgspec.Struct, frozen=True):
    """Replace the Lease if it is at this version; answer with `written`."""

    request_id: int
    record: LeaseRecord
    if_version: str


class PersistEpoch(msgspec.Struct, frozen=True):
    """Make the epoch durable, then call `epoch_stored`: the Lease is this member's, and it is not master before."""

    epoch: int


class MayHaveLost(msgspec.Struct, frozen=True):
    """Comes before `BecomeMaster` where acknowledged messages may be lost by it: the sentence is for status and an
    Event."""

    epoch: int
    sentence: str


class BecomeMaster(msgspec.Struct, frozen=True):
    """Lead in this epoch. An entry is committed when every member of every set holds it; `refusal` says why every client's
    write is refused, None while it is not. Acknowledge only while `may_acknowledge`. A driver that cannot lead calls
    `hand_over`, or exits."""

    epoch: int
    sets: Sets
    refusal: str | None


class SetsChanged(msgspec.Struct, frozen=True):
    """From now on these decide on commits; see `BecomeMaster`."""

    sets: Sets
    refusal: str | None


class ProbeLog(msgspec.Struct, frozen=True):
    """The log has had nothing to write for a while: make it finish a write, and call `log_progress`."""


class StopAcknowledging(msgspec.Struct, frozen=True):
    """From now on acknowledge nothing, and answer no reads."""

    why: str


class Exit(msgspec.Struct, frozen=True):
    """End this life and start anew, as a follower. Nothing comes after it."""

    why: str


class Waiting(msgspec.Struct, frozen=True):
    """Why this member does not lead, whenever that changes."""

    reason: WaitingFor
    sentence: str


Output = (
    Read
    | Create
    | Write
    | PersistEpoch
    | MayHaveLost
    | BecomeMaster
    | SetsChanged
    | ProbeLog
    | StopAcknowledging
    | Exit
    | Waiting
)
