"""For how long a leader may take for granted that nobody else leads (thesis, section 6.4.1).

A member that confirms to a leader that it follows gives nobody else its vote for a while. So once a majority has
confirmed, nobody else is elected for that long after the leader asked: until then it answers reads without asking again.
The leader counts from before it asked, the others from when they answer, each by its own clock, which need not tell the
same time but must run about equally fast.

Three things make members vote earlier, and each ends the lease first: a leader that hands over stops reading under its
lease for the rest of its epoch; one that loses the connection to a member begins anew; and a member takes a leader
whose process closed its connection for gone.
"""

from __future__ import annotations

# Parts of the election timeout. The promise outlasts the lease even if one clock runs almost a third faster than the
# other, and ends before anybody campaigns.
LEASE_PART = 0.5
PROMISE_PART = 0.7


class Lease:
    """A leader's. Times are milliseconds of a clock that never goes back and does not stand still."""

    def __init__(self, election_timeout_ms: int) -> None:
        self._length_ms = int(election_timeout_ms * LEASE_PART)
        self._until_ms = 0
        self._possible = True

    def begin(self) -> None:
        """Another leadership: nothing is confirmed yet."""
        self._until_ms = 0
        self._possible = True

    def confirmed(self, asked_ms: int) -> None:
        """A majority has confirmed what was asked then."""
        if self._possible:
            self._until_ms = max(self._until_ms, asked_ms + self._length_ms)

    def doubt(self) -> None:
        """What was confirmed may not hold any more."""
        self._until_ms = 0

    def give_up(self) -> None:
        """The others may have been told to elect somebody, and nobody can tell when they hear it."""
        self._until_ms = 0
        self._possible = False

    def holds(self, now_ms: int) -> bool:
        """Whether nobody else leads yet."""
        return now_ms < self._until_ms


class Promise:
    """A follower's: no vote for another. What it promised before it was restarted is not known, so it begins with one."""

    def __init__(self, election_timeout_ms: int, now_ms: int) -> None:
        self._length_ms = int(election_timeout_ms * PROMISE_PART)
        self._until_ms = now_ms + self._length_ms

    def given(self, now_ms: int) -> None:
        """A leader is told that this member follows it."""
        self._until_ms = now_ms + self._length_ms

    def released(self) -> None:
        """Whoever it was given to is gone."""
        self._until_ms = 0

    def binds(self, now_ms: int) -> bool:
        """Whether a vote would break it."""
        return now_ms < self._until_ms
