"""An API server that keeps one Lease, in virtual time, and everything that may become of a request to it.

Requests and answers are late, or lost before or after they took effect; a write may take effect after whoever sent it has
given it up; the server goes away, for all or for one; connections die slowly. Somebody removes the Lease, or puts an old one
in its place. What is never made: an answer that is older than the question, because that is promised for one object.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec

from penstock.replication.master_lease import LeaseRecord, Observation, Release, Stored, WriteOutcome
from penstock.replication.master_outputs import Create, Read, Write
from penstock.testing.memory_lease import MemoryLease

# Milliseconds that a request takes there, or back, at most; how often it is lost.
LATENCY_MS_MAX = 20
LOSS = 0.01
# While the server is slow: in request timeouts.
SLOW_TIMEOUTS_MAX = 1.5
SLOW_LOSS = 0.3
# How late the answers of a dying connection are, in request timeouts.
LATE_TIMEOUTS = (0.6, 0.95)

Exchange = Read | Create | Write
# None where there is no answer, and it is known at once.
Answer = Observation | WriteOutcome | None


class _Route(msgspec.Struct, frozen=True):
    """What becomes of one request: how long it takes there and back, and whether it or its answer is lost."""

    there: int
    back: int
    lost: bool
    answer_lost: bool


class LeaseServer:
    """`now` gives the true time and `later` calls something after a time, both in milliseconds. `history` has every record
    that a broker or an operator wrote, the newest last. Clients have numbers."""

    def __init__(
        self,
        now: Callable[[], float],
        later: Callable[[int, Callable[[], None]], None],
        chance: Random,
        request_timeout_ms: int,
    ) -> None:
        self.lease = MemoryLease()
        self.history: list[LeaseRecord] = []
        # Told of every broker's write that took effect, with the record before it.
        self.on_written: Callable[[LeaseRecord | None, LeaseRecord], None] = lambda before, after: None
        self._now = now
        self._later = later
        self._chance = chance
        self._timeout_ms = request_timeout_ms
        # Until when.
        self.away_until = 0.0
        self.slow_until = 0.0
        # Who reaches it half of the time and is never answered.
        self.cut_off: dict[int, float] = {}
        # Who does not hear its answers, to what is under way too.
        self.deaf: dict[int, float] = {}
        # Whose connection dies: how many requests still arrive, and until when nothing does then.
        self.dying: dict[int, tuple[int, float]] = {}

    def ask(self, client: int, asked: Exchange, wall_us: int, answer: Callable[[Answer], None]) -> None:
        """Goes there and back, if it does. `wall_us` is the client's, for what it writes."""
        route = self._route(client, asked)

        def arrives() -> None:
            if route.lost:
                return
            if self.away_until > self._now():
                if self._chance.random() < 0.5:
                    answer(None)
                return
            result = self._effect(asked, wall_us)
            if not route.answer_lost and self.deaf.get(client, 0) <= self._now():
                self._later(route.back, lambda: answer(result))

        self._later(route.there, arrives)

    def _route(self, client: int, asked: Exchange) -> _Route:
        chance, now = self._chance, self._now()
        left, until = self.dying.get(client, (0, 0))
        if until > now:
            # Of what still arrives, writes are not answered and reads late.
            self.dying[client] = (max(0, left - 1), until)
            first, last = (int(part * self._timeout_ms) for part in LATE_TIMEOUTS)
            back, answer_lost = chance.randrange(first, last), not isinstance(asked, Read)
            return _Route(chance.randrange(1, LATENCY_MS_MAX), back, left == 0, answer_lost)
        delay_max, loss = LATENCY_MS_MAX, LOSS
        if self.slow_until > now:
            delay_max, loss = int(SLOW_TIMEOUTS_MAX * self._timeout_ms), SLOW_LOSS
        cut_off = self.cut_off.get(client, 0) > now
        return _Route(
            chance.randrange(1, delay_max),
            chance.randrange(1, delay_max),
            chance.random() < loss or (cut_off and chance.random() < 0.5),
            # Who is cut off in one direction still writes.
            cut_off or chance.random() < loss,
        )

    def _effect(self, asked: Exchange, wall_us: int) -> Answer:
        lease, before = self.lease, self.lease.record
        lease.wall_us = wall_us
        outcome: WriteOutcome
        match asked:
            case Read():
                return lease.read_now()
            case Create(record=record):
                outcome = lease.create_now(record)
            case Write(record=record, if_version=version):
                outcome = lease.swap_now(record, version)
        if isinstance(outcome, Stored):
            assert lease.record is not None
            self.history.append(lease.record)
            self.on_written(before, lease.record)
        return outcome

    # --- what others do --------------------------------------------------------------------------

    def release(self, holder: str, reason: str) -> bool:
        """As an operator does who knows that this holder's process has ended; whether it held the Lease."""
        record = self.lease.record
        if record is None or record.holder != holder or record.released is not None:
            return False
        restored = record is not self.history[-1]
        self.lease.swap_now(msgspec.structs.replace(record, released=Release(reason)), record.version)
        assert self.lease.record is not None
        if not restored:
            self.history.append(self.lease.record)
        return True

    def remove(self) -> None:
        """Somebody deletes the Lease."""
        self.lease.record = None

    def put_back(self, record: LeaseRecord) -> None:
        """Somebody restores this one."""
        self.lease.wall_us = record.renewed_at_us
        if self.lease.record is None:
            self.lease.create_now(record)
        else:
            self.lease.swap_now(record, self.lease.record.version)

    def older(self, known: Callable[[int], int]) -> list[LeaseRecord]:
        """Records from a backup that brokers can tell from the true one, if `known` gives the newest epoch that a member has
        kept: everybody whom they name has heard of a newer one."""
        present = self.lease.record
        if present is None:
            return []
        older = [
            record
            for record in self.history
            if all(known(member) > record.epoch for member in record.in_sync)
        ]
        # Those that name somebody who is not in the set any more do the most harm where they are believed.
        return [record for record in older if record.in_sync - present.in_sync] or older

    def heal(self) -> None:
        """None of this lasts: the Lease is the one that was written last."""
        self.away_until = self.slow_until = 0
        self.cut_off.clear()
        self.dying.clear()
        self.deaf.clear()
        if self.history and self.lease.record not in self.history:
            self.put_back(self.history[-1])
