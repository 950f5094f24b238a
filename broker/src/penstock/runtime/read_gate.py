"""Lets reads through while this broker certainly leads, and keeps the others until a majority has said that it does.

A leader that was paused or cut off does not know that another one leads. What it holds is true, but it may lack what the
other one has acknowledged. So it asks its followers with the heartbeat of every tick, and reads are answered at once
while the lease that they gave holds (`replication.lease`); others wait for the next answer of a majority, or until this
broker knows that it does not lead. That takes two election timeouts at most, because a leader without a majority steps
down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from penstock.replication.lease import Lease
from penstock.runtime.clock import Clock
from penstock.runtime.shard import Shard


class Gate(Protocol):
    """What a replica tells its gate; see `ReadGate` for each."""

    def when_sure(self, then: Callable[[], None]) -> None: ...

    def renew(self) -> None: ...

    def answered(self, question: object) -> None: ...

    def doubt(self) -> None: ...

    def hand_over(self) -> None: ...

    def leadership_changed(self) -> None: ...

    @property
    def waiting(self) -> int: ...


class _Question(msgspec.Struct, eq=False):
    """Who leads? Asked at `asked_ms` for those who wait; `lasts`: the answer may be a lease."""

    asked_ms: int
    waiting: list[Callable[[], None]]
    lasts: bool = True


class ReadGate:
    """One question is under way at a time; reads that come meanwhile share the next one, so as many may wait as
    listeners let in. `ask` hands a question to the consensus core, False when it takes none now; `turn` sends it."""

    def __init__(
        self,
        shard: Shard,
        clock: Clock,
        lease: Lease,
        *,
        ask: Callable[[object], bool],
        turn: Callable[[], None],
    ) -> None:
        self._shard = shard
        self._clock = clock
        self._lease = lease
        self._ask = ask
        self._turn = turn
        self._question: _Question | None = None
        self._waiting: list[Callable[[], None]] = []

    def when_sure(self, then: Callable[[], None]) -> None:
        """Calls back once this broker is sure to lead, or knows that it does not serve: `check_leading` tells which.

        Nothing that was acknowledged before this call is missing then.
        """
        if not self._shard.leading or self._lease.holds(self._clock.monotonic_ms()):
            then()
            return
        self._waiting.append(then)
        if self._question is None and self._put():
            self._turn()

    @property
    def waiting(self) -> int:
        """How many reads wait for an answer."""
        asked = 0 if self._question is None else len(self._question.waiting)
        return len(self._waiting) + asked

    def renew(self) -> None:
        """A tick of the leader: its heartbeats carry the question."""
        if self._question is None and self._shard.leading:
            self._put()

    def _put(self) -> bool:
        question = _Question(self._clock.monotonic_ms(), self._waiting)
        if not self._ask(question):
            return False  # The next tick tries again.
        self._question, self._waiting = question, []
        return True

    def answered(self, question: object) -> None:
        """A majority has confirmed it.

        What it acknowledged is applied here, and what others did too, since it serves only with all of that applied;
        so there is no index to wait for.
        """
        if question is not self._question:
            return  # Of an earlier leadership.
        asked, self._question = self._question, None
        assert asked is not None
        if asked.lasts:
            self._lease.confirmed(asked.asked_ms)
        for then in asked.waiting:
            then()
        if self._waiting and self._question is None and self._put():
            self._turn()

    def doubt(self) -> None:
        """A member cannot be reached any more, and may take this leader for gone."""
        self._lease.doubt()
        if self._question is not None:
            self._question.lasts = False

    def hand_over(self) -> None:
        """Another member is about to be told to stand for election."""
        self._lease.give_up()

    def leadership_changed(self) -> None:
        """Begins anew; who waits looks again."""
        self._lease.begin()
        question, self._question = self._question, None
        waiting, self._waiting = self._waiting, []
        for then in [*(question.waiting if question is not None else ()), *waiting]:
            then()


class LeaseGate:
    """Reads pass while the Lease is surely this broker's: `may_serve` tells, for the moment given in milliseconds of the
    monotonic clock. Others wait until it is renewed, or this broker leads no more, which is soon: it cannot lead without."""

    def __init__(self, shard: Shard, clock: Clock, may_serve: Callable[[int], bool]) -> None:
        self._shard = shard
        self._clock = clock
        self._may_serve = may_serve
        self._waiting: list[Callable[[], None]] = []

    def when_sure(self, then: Callable[[], None]) -> None:
        """See `ReadGate.when_sure`."""
        if not self._shard.leading or self._may_serve(self._clock.monotonic_ms()):
            then()
        else:
            self._waiting.append(then)

    @property
    def waiting(self) -> int:
        """How many reads wait for the Lease's renewal."""
        return len(self._waiting)

    def renew(self) -> None:
        """A tick of the leader."""
        if self._waiting and self._may_serve(self._clock.monotonic_ms()):
            self.leadership_changed()

    def answered(self, question: object) -> None:
        """Nobody is ever asked."""
        raise AssertionError("a question that was never put")

    def doubt(self) -> None:
        """A member that cannot be reached does not lead without the Lease."""

    def hand_over(self) -> None:
        """The Lease is not given away before this broker has stopped to lead."""

    def leadership_changed(self) -> None:
        """Who waits looks again."""
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()
