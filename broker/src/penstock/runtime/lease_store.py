"""Where the Lease of a shard is kept, as a port: one object that is read, created once, and replaced by compare-and-swap.

Every call answers within its store's timeout, with a value: what can go wrong between a broker and the Lease is ordinary
here. `Conflict` means that the write certainly did not take effect; whenever that is not certain, the answer is `Unknown`.
Reads and writes of one object are linearizable, and no version is ever used twice.
"""

from __future__ import annotations

from typing import Protocol

from penstock.replication.master_lease import LeaseRecord, Observation, WriteOutcome


class LeaseStore(Protocol):
    """One Lease. One call at a time."""

    async def read(self) -> Observation:
        """The record as it is now."""
        ...

    async def create(self, record: LeaseRecord) -> WriteOutcome:
        """Makes the Lease; `Conflict` where there is one."""
        ...

    async def compare_and_swap(self, record: LeaseRecord, if_version: str) -> WriteOutcome:
        """Replaces the Lease if it is at this version; `Conflict` where it is at another one, or gone."""
        ...

    async def close(self) -> None:
        """Lets go of files and connections."""
        ...
