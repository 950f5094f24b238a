"""Whether replicas that hold the same log came to the same state: an entry at which all of them hash it, and a verdict.

The leader appends `StateHashed` now and then. Whoever applies it hashes its state machines as of that entry, and tells the
leader. What most voters found is the verdict, and travels in the next such entry: a replica that found something else is
wrong, also where that is the leader. So a verdict never stops a majority, and where there is none nobody is stopped.

A machine's hash is named by the version in which it writes its state: releases that write it differently do not compare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import msgspec

from penstock.model.commands import Command
from penstock.replication.features import STATE_HASHED_LEVEL

# By MACHINE/VERSION, in hexadecimal.
Hashes = Mapping[str, str]
# Bytes of a hash.
HASH_BYTES = 16
IDLE_INTERVALS = 60


class ComparingOptions(msgspec.Struct, frozen=True):
    """The state is hashed anew when `entries` came since and `interval_ms` passed, or IDLE_INTERVALS of it and any came."""

    entries: int = 100_000
    interval_ms: int = 10_000


class StateHashed(Command, frozen=True, tag="members.hashed"):
    """Most voters found `hashes` as of entry `index` (none are known: 0 and nothing). The state as of this very entry is
    the next to be compared."""

    feature_level = STATE_HASHED_LEVEL

    index: int
    hashes: dict[str, str]


NO_VERDICT = StateHashed(0, {})


class StateReport(msgspec.Struct, frozen=True, array_like=True):
    """A replica's hashes as of entry `index`, for the leader."""

    index: int
    hashes: dict[str, str]


class Difference(msgspec.Struct, frozen=True):
    """This replica's state is not what most voters have."""

    machine: str
    index: int
    own: str
    agreed: str

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"the state of {self.machine} as of entry {self.index} is {self.own} here and {self.agreed} on most of the shard's"
            " voters: this replica has gone wrong"
        )


def agreed_hashes(reports: Mapping[int, Hashes], voters: Collection[int]) -> dict[str, str]:
    """What a majority of the voters found, machine by machine."""
    counts = Counter(
        pair for member, hashes in reports.items() if member in voters for pair in hashes.items()
    )
    return {name: found for (name, found), count in counts.items() if count > len(voters) // 2}


def in_dispute(reports: Mapping[int, Hashes], voters: Collection[int]) -> list[str]:
    """The machines that all voters hashed without a majority for anything."""
    agreed = agreed_hashes(reports, voters)
    known = [reports[voter] for voter in voters if voter in reports]
    if len(known) < len(voters) or not known:
        return []
    return [name for name in known[0] if name not in agreed and all(name in hashes for hashes in known)]


def difference(index: int, own: Hashes, agreed: Hashes) -> Difference | None:
    """The first machine whose state differs."""
    for name in sorted(own.keys() & agreed.keys()):
        if own[name] != agreed[name]:
            return Difference(name, index, own[name], agreed[name])
    return None


class Comparing:
    """One replica's part. A state is hashed by somebody else, one at a time: `begin` says whether to, `hashed` takes it."""

    def __init__(self, options: ComparingOptions) -> None:
        self._options = options
        # The entry as of which states are compared now.
        self.index = 0
        self._began_ms: int | None = None
        self._hashing = 0
        self._own: Hashes = {}
        self._own_index = 0
        self._verdict = NO_VERDICT
        # The leader's, of `index` alone.
        self.reports: dict[int, Hashes] = {}

    def is_due(self, now_ms: int, commit_index: int) -> bool:
        """Whether the leader should append the next one."""
        if self._began_ms is None:
            return True
        entries, passed = commit_index - self.index, now_ms - self._began_ms
        options = self._options
        return (entries >= options.entries and passed >= options.interval_ms) or (
            entries > 0 and passed >= options.interval_ms * IDLE_INTERVALS
        )

    def begin(self, index: int, now_ms: int) -> bool:
        """The entry was applied: whether to hash the state as of now. Not while an older one is still being hashed."""
        self.index, self._began_ms = index, now_ms
        self.reports.clear()
        if self._hashing:
            return False
        self._hashing = index
        return True

    def hashed(self, hashes: Hashes) -> StateReport:
        """The state is hashed; what the leader is to be told."""
        self._own_index, self._hashing = self._hashing, 0
        self._own = hashes
        return StateReport(self._own_index, dict(hashes))

    def judged(self, verdict: StateHashed) -> None:
        """What most voters found."""
        if verdict.hashes:
            self._verdict = verdict

    @property
    def difference(self) -> Difference | None:
        """What is wrong with this replica by the last verdict, as soon as it has hashed the state itself."""
        if self._verdict.index != self._own_index:
            return None
        return difference(self._own_index, self._own, self._verdict.hashes)

    def reported(self, member: int, report: StateReport) -> None:
        """Leader: what a member found. Reports of other entries come too late."""
        if report.index == self.index:
            self.reports[member] = report.hashes

    def next_entry(self, voters: Collection[int]) -> StateHashed:
        """What the leader appends when the next comparison is due."""
        agreed = agreed_hashes(self.reports, voters)
        return StateHashed(self.index, agreed) if agreed else NO_VERDICT

    def begin_anew(self) -> None:
        """The state was replaced by a leader's: what was found before is of no use."""
        self._own, self._own_index, self._hashing = {}, 0, 0
