"""A Lease in memory, which several members of a test share."""

from __future__ import annotations

import msgspec

from penstock.replication.master_lease import (
    Conflict,
    LeaseRecord,
    Missing,
    Observation,
    Stored,
    WriteOutcome,
    stamped,
)


class MemoryLease:
    """A `LeaseStore`, and its contents. `wall_us` is the time that it stamps."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self.wall_us = 0
        self._version = 0

    async def read(self) -> Observation:
        """See `LeaseStore.read`."""
        return self.read_now()

    async def create(self, record: LeaseRecord) -> WriteOutcome:
        """See `LeaseStore.create`."""
        return self.create_now(record)

    async def compare_and_swap(self, record: LeaseRecord, if_version: str) -> WriteOutcome:
        """See `LeaseStore.compare_and_swap`."""
        return self.swap_now(record, if_version)

    async def close(self) -> None:
        """See `LeaseStore.close`."""

    # --- the same without a loop -----------------------------------------------------------------

    def read_now(self) -> LeaseRecord | Missing:
        """What `read` answers."""
        return self.record if self.record is not None else Missing()

    def create_now(self, record: LeaseRecord) -> Stored | Conflict:
        """What `create` does."""
        return self._store(record, 0) if self.record is None else Conflict()

    def swap_now(self, record: LeaseRecord, if_version: str) -> Stored | Conflict:
        """What `compare_and_swap` does."""
        if self.record is None or self.record.version != if_version:
            return Conflict()
        return self._store(record, self.record.acquired_at_us)

    def _store(self, record: LeaseRecord, acquired_at_us: int) -> Stored:
        self._version += 1
        version = str(self._version)
        self.record = msgspec.structs.replace(stamped(record, acquired_at_us, self.wall_us), version=version)
        return Stored(version)
