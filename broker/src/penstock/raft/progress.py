"""How far one follower is, in the eyes of the leader.

    probe      it is not known where the logs match: one message at a time, until an answer or a heartbeat's
    replicate  they match: messages follow each other without waiting, within a window
    snapshot   what it misses is gone from the leader's log: nothing is sent until the snapshot is in

An acknowledgement leads from probe to replicate, a rejection or a lost message from replicate to probe, a rejection
at entries that are gone to snapshot, and a report or an acknowledgement from there back.
"""

from __future__ import annotations

from enum import StrEnum

from penstock.raft.inflights import Inflights


class ProgressState(StrEnum):
    """See the module."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """Fields:

    `match`: up to here its log is known to be the leader's. `next`: what to send next, always more than `match`.
    `sent_commit`: the commit index that was last sent to it and may have arrived.
    `pending_snapshot`: in state snapshot, the index of the snapshot on its way; else 0.
    `active`: it was heard of since the last check of the quorum.
    `paused`: in probe and replicate, the next message has to wait for an answer or a heartbeat's.
    `due`: see `Due`; a message to it is to be made with the next Ready.
    """

    __slots__ = (
        "active",
        "due",
        "inflights",
        "learner",
        "match",
        "member",
        "next",
        "paused",
        "pending_snapshot",
        "sent_commit",
        "state",
    )

    def __init__(
        self, member: int, *, next_index: int, learner: bool, active: bool, inflights: Inflights
    ) -> None:
        self.member = member
        self.match = 0
        self.next = next_index
        self.sent_commit = 0
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0
        self.active = active
        self.paused = False
        self.learner = learner
        self.inflights = inflights
        self.due = NOT_DUE

    # --- transitions ---------------------------------------------------------------------------------

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.paused = False
        self.pending_snapshot = 0
        self.inflights.clear()

    def become_probe(self) -> None:
        """Starts again behind what is known to match, or behind the snapshot that was on its way."""
        behind_snapshot = self.pending_snapshot + 1 if self.state is ProgressState.SNAPSHOT else 0
        self._enter(ProgressState.PROBE)
        self.next = max(self.match + 1, behind_snapshot)
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """The logs match up to `match`; everything behind it is sent (again)."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """A snapshot at `index` is on its way."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def snapshot_failed(self) -> None:
        """The snapshot did not arrive: probes from what is known to match."""
        self.pending_snapshot = 0
        self.become_probe()

    # --- what happens --------------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """Whether no entries may be sent now."""
        return self.paused or self.state is ProgressState.SNAPSHOT

    def sent(self, last: int, size_bytes: int) -> None:
        """A message left with entries from `next` to `last`; with none where `last` is smaller."""
        any_entries = last >= self.next
        if self.state is ProgressState.REPLICATE:
            if any_entries:
                self.next = last + 1
                self.inflights.add(last, size_bytes)
            # With a full window this message was a probe as well: the follower has to answer before the next.
            self.paused = self.inflights.full
        elif any_entries:
            self.paused = True

    def is_behind(self, bytes_max: int) -> None:
        """It lacks more than what is on its way to it, of which `bytes_max` are enough."""
        if self.state is ProgressState.REPLICATE and self.inflights.size_bytes >= bytes_max:
            self.paused = True

    def acknowledged(self, index: int) -> bool:
        """It holds everything up to `index`. False where that is nothing new."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused = False
        return True

    def rejected(self, index: int, hint: int) -> bool:
        """It does not match at `index`, but may up to `hint`. False where this is an old answer."""
        if self.state is ProgressState.REPLICATE:
            if index <= self.match:
                return False
            self.next = self.match + 1
        else:
            # A probe is answered before the next is sent, so any other rejection is late.
            if index != self.next - 1:
                return False
            self.next = max(min(index, hint + 1), self.match + 1)
            self.paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def can_learn_commit(self, commit: int) -> bool:
        """Whether telling `commit` would move the follower's commit index, as far as its log goes."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1


# What the next Ready sends to a follower: nothing; entries, if there are any; in any case a message.
NOT_DUE, ENTRIES_DUE, MESSAGE_DUE = range(3)
