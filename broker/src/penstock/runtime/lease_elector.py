"""Who leads a shard in mode MasterSlave, as its brokers find out: `MasterElection`, driven over the store of the Lease.

The election decides; this reads and writes the Lease for it, one exchange at a time, gives it the time, and tells the
mastership what came of it. All times are milliseconds of `Clock.monotonic_ms`, which goes on while the machine is suspended;
the loop's timers may stand still then and be late, which costs nothing: before anything is answered, `may_serve` is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from penstock.replication.election_status import ElectionStatus
from penstock.replication.master_contender import Election
from penstock.replication.master_election import HOLDING, MasterElection
from penstock.replication.master_lease import Observation, Unavailable, Unknown, WriteOutcome
from penstock.replication.master_outputs import (
    BecomeMaster,
    Create,
    Exit,
    MayHaveLost,
    Output,
    PersistEpoch,
    ProbeLog,
    Read,
    SetsChanged,
    StopAcknowledging,
    Waiting,
    Write,
)
from penstock.runtime.clock import Clock
from penstock.runtime.lease_store import LeaseStore
from penstock.runtime.mastership import Mastership

logger = logging.getLogger(__name__)

# What the Lease may take of an orderly stop: what is under way, a look at it, and the release.
CLOSING_REQUESTS_MAX = 3

Exchange = Read | Create | Write


class LeaseElector:
    """Implements `runtime.mastership.Elector`. `election` names this start of the process; `jitter` gives milliseconds to wait
    beyond the Lease's duration, anew for each record. It closes the store that it is given."""

    def __init__(
        self, election: Election, store: LeaseStore, clock: Clock, jitter: Callable[[], int]
    ) -> None:
        self._options = election
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._seconds_max = election.timing.request_timeout_ms / 1000
        self._mastership: Mastership
        self._election: MasterElection
        self._exchange: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._carrying = False
        self._closing = False
        # Why this life is over, once it is.
        self._why = ""
        self._over = asyncio.Event()

    # --- life ------------------------------------------------------------------------------------

    def attach(self, mastership: Mastership) -> None:
        """Who is told what the election decides. Comes before anything else, as soon as there is a member."""
        self._mastership = mastership
        epoch, log_end = mastership.standing
        self._election = MasterElection(
            self._options, epoch, log_end, self._jitter, self._clock.monotonic_ms()
        )

    def start(self) -> None:
        """Begins to look at the Lease."""
        self._tick()

    async def close(self) -> None:
        """Ends taking part in order. A Lease that this broker holds is given up, so that nobody waits until it has run out,
        unless that takes longer than `CLOSING_REQUESTS_MAX` requests may."""
        self._closing = True
        self._election.resign("its broker was stopped", self._clock.monotonic_ms())
        self._carry_out()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_REQUESTS_MAX * self._seconds_max):
                await self._over.wait()
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            self._exchange.cancel()
            await asyncio.gather(self._exchange, return_exceptions=True)
        await self._store.close()

    # --- what the mastership asks and tells ------------------------------------------------------

    def may_serve(self, now_ms: int) -> bool:
        """See `Elector.may_serve`."""
        return self._election.may_acknowledge(now_ms)

    def status(self) -> ElectionStatus:
        """See `Elector.status`."""
        election, waiting = self._election, self._election.waiting
        reason, sentence = (waiting.reason.value, waiting.sentence) if waiting is not None else ("", "")
        record = election.record
        if record is None:
            return ElectionStatus(election.phase.value, reason=reason, sentence=sentence or self._why)
        return ElectionStatus(
            election.phase.value,
            record.holder_name,
            record.epoch,
            sorted(record.in_sync),
            None if record.pending is None else sorted(record.pending),
            reason,
            sentence or self._why,
            record.loss,
            record.loss_epoch,
        )

    def log_progress(self) -> None:
        """See `Elector.log_progress`."""
        self._election.log_progress(self._clock.monotonic_ms())
        self._arrange()

    def log_at(self, epoch: int, last_index: int) -> None:
        """See `Elector.log_at`."""
        self._election.log_at(epoch, last_index, self._clock.monotonic_ms())
        self._carry_out()

    def found(self) -> None:
        """See `Elector.found`."""
        self._election.found(self._clock.monotonic_ms())
        self._carry_out()

    def look(self) -> None:
        """See `Elector.look`."""
        self._election.look(self._clock.monotonic_ms())
        self._carry_out()

    def caught_up(self, member: int) -> None:
        """See `Elector.caught_up`."""
        self._election.caught_up(member, self._clock.monotonic_ms())
        self._carry_out()

    def fell_behind(self, member: int) -> None:
        """See `Elector.fell_behind`."""
        self._election.fell_behind(member, self._clock.monotonic_ms())
        self._carry_out()

    def min_in_sync(self, copies: int) -> None:
        """Without so many copies in sync writes are refused, from now on."""
        self._election.min_in_sync(copies)
        self._carry_out()

    def unfit(self, why: str | None) -> None:
        """See `Elector.unfit`."""
        self._election.unfit(why)
        if why is not None and self._election.phase in HOLDING:
            self._give_up(why)

    def hand_over(self, to: int) -> str | None:
        """See `Elector.hand_over`."""
        sentence = self._election.hand_over(to, self._clock.monotonic_ms())
        self._carry_out()
        return sentence

    def _give_up(self, why: str) -> None:
        logger.warning("the Lease is given up: %s", why)
        self._election.resign(why, self._clock.monotonic_ms())
        self._carry_out()

    # --- time ------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._timer = None
        self._election.tick(self._clock.monotonic_ms())
        self._carry_out()

    def _arrange(self) -> None:
        """One timer, which may be too early."""
        due_ms = self._election.next_tick_ms()
        if due_ms is None:
            return
        if self._timer is not None:
            if self._timer_ms <= due_ms:
                return
            self._timer.cancel()
        self._timer_ms = due_ms
        seconds = max(due_ms - self._clock.monotonic_ms(), 0) / 1000
        self._timer = asyncio.get_running_loop().call_later(seconds, self._tick)

    # --- what the election wants -----------------------------------------------------------------

    def _carry_out(self) -> None:
        """Everything, in order; what is told meanwhile may make it want more."""
        if self._carrying:
            return
        self._carrying = True
        try:
            while outputs := self._election.take():
                for output in outputs:
                    self._do(output)
        finally:
            self._carrying = False
        self._arrange()

    def _do(self, output: Output) -> None:
        mastership = self._mastership
        match output:
            case Read() | Create() | Write():
                self._exchange = asyncio.get_running_loop().create_task(self._ask(output))
                self._exchange.add_done_callback(self._asked)
            case PersistEpoch(epoch=epoch):
                self._persist(epoch)
            case MayHaveLost(epoch=epoch, sentence=sentence):
                logger.warning("acknowledged messages may be lost with epoch %d: %s", epoch, sentence)
            case BecomeMaster(epoch=epoch, sets=sets, refusal=refusal):
                logger.info("master in epoch %d", epoch)
                mastership.become_master(epoch, sets, refusal)
            case SetsChanged(sets=sets, refusal=refusal):
                mastership.sets_changed(sets, refusal)
            case ProbeLog():
                mastership.probe()
            case StopAcknowledging(why=why):
                mastership.stop_acknowledging(why)
            case Exit(why=why):
                self._end(why)
            case Waiting(reason=reason, sentence=sentence):
                logger.info("not master, %s: %s", reason, sentence)

    def _persist(self, epoch: int) -> None:
        refusal = self._mastership.persist_epoch(epoch, lambda: self._epoch_stored(epoch))
        if refusal is not None:
            self._give_up(refusal.sentence)

    def _epoch_stored(self, epoch: int) -> None:
        self._election.epoch_stored(epoch, self._clock.monotonic_ms())
        self._carry_out()

    def _end(self, why: str) -> None:
        self._why = why
        self._over.set()
        if not self._closing:
            self._mastership.exit(why)

    # --- the store -------------------------------------------------------------------------------

    async def _ask(self, asked: Exchange) -> None:
        if isinstance(asked, Read):
            observation = await self._read()
            # A claim is decided by how far the log is at this moment.
            self._election.log_at(*self._mastership.standing, self._clock.monotonic_ms())
            self._election.observed(observation, self._clock.monotonic_ms())
        else:
            outcome = await self._write(asked)
            self._election.written(asked.request_id, outcome, self._clock.monotonic_ms())
        self._carry_out()

    async def _read(self) -> Observation:
        try:
            async with asyncio.timeout(self._seconds_max):
                return await self._store.read()
        except TimeoutError:
            return Unavailable(f"no answer within {self._seconds_max:g} s")

    async def _write(self, asked: Create | Write) -> WriteOutcome:
        try:
            async with asyncio.timeout(self._seconds_max):
                if isinstance(asked, Create):
                    return await self._store.create(asked.record)
                return await self._store.compare_and_swap(asked.record, asked.if_version)
        except TimeoutError:
            return Unknown(f"no answer within {self._seconds_max:g} s")

    def _asked(self, exchange: asyncio.Task[None]) -> None:
        """A store answers with values: anything that it raises is a mistake in it, and nobody would ask it again."""
        if exchange.cancelled() or exchange.exception() is None:
            return
        if not self._closing:
            self._mastership.exit("the Lease's store failed")
        exchange.result()
