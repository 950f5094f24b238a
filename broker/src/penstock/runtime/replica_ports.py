"""What a replica is given: where its promises are kept, and how snapshots come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from penstock.raft.messages import Snapshot
from penstock.runtime.data_folder import Meta


class MetaStore(Protocol):
    """Where the epoch and the vote are kept. `save_meta` blocks and is durable when it returns."""

    def save_meta(self, meta: Meta) -> None: ...


class Seeding(Protocol):
    """Takes a snapshot that a leader sends, and gives those that a follower needs."""

    def snapshot(self) -> Snapshot | None:
        """See `LogPort.snapshot`."""
        ...

    def install(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Replaces log and state; calls back when that is durable."""
        ...
