"""Reads that wait until a majority has confirmed that the leader still leads (thesis, section 6.4).

Reads are counted as they are asked for; a heartbeat carries the count, its answer confirms all up to it, and what a
majority has confirmed is released, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from penstock.raft.quorum import agreed_index
from penstock.raft.ready import ReadState


class ReadQueue:
    """One leadership's reads. Those asked for before anything of its epoch is committed are `early`: the leader does
    not know yet how far its predecessors had committed.
    """

    __slots__ = ("_acknowledged", "_confirmed", "_waiting", "early")

    def __init__(self) -> None:
        self.early: list[object] = []
        self._waiting: deque[ReadState] = deque()
        self._confirmed = 0
        self._acknowledged: dict[int, int] = {}

    def __len__(self) -> int:
        """Reads that are not released."""
        return len(self.early) + len(self._waiting)

    @property
    def newest(self) -> int:
        """Number of the newest unconfirmed read, for a heartbeat to carry; 0 where none waits."""
        return self._confirmed + len(self._waiting) if self._waiting else 0

    @property
    def asked(self) -> int:
        """How many reads were ever counted: no answer can confirm more."""
        return self._confirmed + len(self._waiting)

    def ask(self, index: int, context: object) -> None:
        """A read that may be served at `index` once this leadership is confirmed."""
        self._waiting.append(ReadState(index, context))

    def confirm(self, member: int, read: int) -> None:
        """`member` knew this leader after read number `read` was asked."""
        self._acknowledged[member] = max(read, self._acknowledged.get(member, 0))

    def release(self, voters: Sequence[int]) -> list[ReadState]:
        """The reads that a majority of `voters` has confirmed by now."""
        confirmed = agreed_index([self._acknowledged.get(voter, 0) for voter in voters])
        released = []
        while self._waiting and self._confirmed < confirmed:
            released.append(self._waiting.popleft())
            self._confirmed += 1
        return released
