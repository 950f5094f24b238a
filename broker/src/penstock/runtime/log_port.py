"""What the consensus core asks of the log (`raft.state.LogPort`)."""

from __future__ import annotations

from typing import Protocol

from penstock.log.commit_log import CommitLog
from penstock.raft.messages import Snapshot


class Snapshots(Protocol):
    """Where the core's snapshots come from."""

    def snapshot(self) -> Snapshot | None: ...


class MemberLogPort:
    """Of a member's log, and of its seeding."""

    def __init__(self, log: CommitLog, seeding: Snapshots) -> None:
        self._log = log
        self._seeding = seeding

    def fit(self, first: int, last: int, bytes_max: int) -> tuple[int, int]:
        """See `LogPort.fit`."""
        fitting = min(self._log.fitting(first, bytes_max), last)
        return fitting - first + 1, self._log.span_bytes(first, fitting)

    def snapshot(self) -> Snapshot | None:
        """See `LogPort.snapshot`."""
        return self._seeding.snapshot()
