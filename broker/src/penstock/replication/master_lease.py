"""What the Lease of a shard in mode MasterSlave says, and what reading and writing it can come to.

One object per shard names the master. Every write replaces it as a whole, and only if it still is at the version that the
writer has read (compare-and-swap), so its history is one line of records that everybody reads in the same order. The
rules are elsewhere: who may take over in `takeover`, what the master may change in `in_sync_set`, and who does what when
in `master_election`. Not to be confused with `lease`, by which a Raft leader answers reads.
"""

from __future__ import annotations

import msgspec

# Any member may take what was released to it.
ANYBODY = 0


class HolderIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which process holds the Lease, for those who have to find out whether it still runs. What is not known is empty;
    `container_id` is the container runtime's, or what stands for a process elsewhere."""

    member: int
    ordinal: int
    pod_name: str = ""
    pod_uid: str = ""
    container_id: str = ""


class Release(msgspec.Struct, frozen=True):
    """The holder acknowledges nothing any more: it said so itself, or its container was seen terminated. `successor` is
    the member that may take over at once, ANYBODY for any that may take over at all. The reason is a sentence."""

    reason: str
    successor: int = ANYBODY


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One state of the Lease.

    `holder` is a UUID made at the start of the process that holds it, empty for nobody; `epoch` numbers the acquisitions
    together with what the logs know, `transitions` counts them. The in-sync set holds what the master has acknowledged;
    `pending` is the set that is to take its place, while that is under way. `log_end` is the index of the last entry in
    the master's log when it wrote this. `renewals` counts the writes since the acquisition, which is 0; `attempt` numbers
    every try of this holder to write, so that a record tells which of them it comes from. `loss` is the sentence on what the
    claim of epoch `loss_epoch` may have lost: it is the newest one that did, and stays until another one does.

    The two times (microseconds of the wall clock) are for people and stamped by the store: nobody decides anything by
    them. `version` is the store's, empty in a record that is yet to be written.
    """

    shard_uid: str
    holder: str
    identity: HolderIdentity | None
    epoch: int
    in_sync: frozenset[int]
    pending: frozenset[int] | None = None
    duration_ms: int
    log_end: int = 0
    renewals: int = 0
    attempt: int = 0
    transitions: int = 0
    released: Release | None = None
    loss: str = ""
    loss_epoch: int = 0
    acquired_at_us: int = 0
    renewed_at_us: int = 0
    version: str = ""

    @property
    def holder_name(self) -> str:
        """Whom people know by it."""
        if not self.holder or self.identity is None:
            return "nobody"
        return self.identity.pod_name or f"broker {self.identity.ordinal}"


def content(record: LeaseRecord) -> LeaseRecord:
    """What its writer decided, without what the store adds."""
    return msgspec.structs.replace(record, acquired_at_us=0, renewed_at_us=0, version="")


def stamped(record: LeaseRecord, acquired_at_us: int, wall_us: int) -> LeaseRecord:
    """The record as a store keeps it: written at `wall_us`, acquired when the record before it says, unless this one is
    an acquisition."""
    acquired = acquired_at_us if record.renewals else wall_us
    return msgspec.structs.replace(record, acquired_at_us=acquired, renewed_at_us=wall_us)


class Missing(msgspec.Struct, frozen=True):
    """There is no such object."""


class Unreadable(msgspec.Struct, frozen=True):
    """There is one, and it cannot be understood: a sentence says what is wrong with it."""

    why: str


class Unavailable(msgspec.Struct, frozen=True):
    """The store gave no answer: nothing is known."""

    why: str


Observation = LeaseRecord | Missing | Unreadable | Unavailable


class Stored(msgspec.Struct, frozen=True):
    """The write took effect, and the object has this version."""

    version: str


class Conflict(msgspec.Struct, frozen=True):
    """The write did not take effect: the object is at another version, exists already, or is gone."""


class Unknown(msgspec.Struct, frozen=True):
    """The write may have taken effect, or may still do so."""

    why: str


WriteOutcome = Stored | Conflict | Unknown
