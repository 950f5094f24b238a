"""Acts for one queue group on its shard's leader: gathers what is asked in a turn of the loop, decides, appends, answers.

`penstock.delivery` decides; this file carries out. Whatever arrives in one turn about one partition becomes one entry, and
nothing waits between a decision and its being appended. Everybody is answered once what they are told is committed. What
names messages that an entry in flight names too is decided about when that is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from penstock.delivery.commands import QueueCommand, QueueExtended, QueueGranted, QueueReturned
from penstock.delivery.deciding import (
    Decision,
    Failing,
    Receipt,
    expire,
    extend,
    reject,
    release,
    settle,
)
from penstock.delivery.queue import Queue
from penstock.delivery.ranges import count_in
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings
from penstock.service.ports import TimerHandle
from penstock.service.queue_asks import LOST, UNKNOWN, Ask, Asked, Asking, Verb, receipts_of
from penstock.service.queue_granting import Granting, Outcome
from penstock.service.queue_ports import QueueHouse
from penstock.service.queue_receipts import encode_receipt
from penstock.service.queue_waiting import Granted, LeaseKind, WaitingLease

RECEIPTS_WAITING_MAX: Final = 100_000
"""Receipts of one group that wait to be decided about; more are refused."""

RETRY_MS: Final = 100
"""When something that could not be done is tried again."""

UNSURE_MS: Final = 30_000
"""How long what failed is looked at, because it may be committed all the same."""

RELEASE: Final = Verb("release")

_TIMED: Final = frozenset({QueueGranted, QueueExtended, QueueReturned})


class QueueDriver:
    """One group. `on_dying` is called when messages may be on their way to the dead letters."""

    def __init__(self, group: str, house: QueueHouse, on_dying: Callable[[], None]) -> None:
        self.group = group
        self._house = house
        self._on_dying = on_dying
        self._granting = Granting(group, house, self._propose, self.wake, self.give_back)
        self._asking = Asking()
        # Receipts that an entry in flight names.
        self._parked: list[tuple[Verb, int, Asked]] = []
        self._turn_due = False
        self._stopped: PenstockError | None = None
        self._timer: TimerHandle | None = None
        # When the timer is due, and until when leases that could not be ended are left alone.
        self._timer_ms: int | None = None
        self._retry_ms = 0
        # Until when what failed may be committed all the same, and who looks again.
        self._unsure_until_ms = 0
        self._looking: TimerHandle | None = None
        # Whether leases may have run out, and whether the timer may have to be another one: looking costs.
        self._time_came = self._times_changed = True

    @property
    def waiting_count(self) -> int:
        """Requests that wait for messages."""
        return len(self._granting)

    @property
    def window_full(self) -> bool:
        """Whether there was something new and no room for it in flight, when somebody asked last."""
        return self._granting.window_full

    # --- what is asked ---------------------------------------------------------------------------

    def lease(self, kind: LeaseKind, messages_max: int, wait_ms: int) -> WaitingLease:
        """Somebody wants messages. Raises PenstockError."""
        self._check()
        # With somebody who waits, messages that are due again count.
        self._times_changed = self._times_changed or not self._granting
        waiting = self._granting.add(kind, messages_max, wait_ms)
        self.wake()
        return waiting

    def leave(self, waiting: WaitingLease) -> None:
        """See `Granting.leave`."""
        self._granting.leave(waiting)

    def ask(self, verb: Verb, ask: Ask, receipts: Iterable[tuple[str, int, Receipt]]) -> None:
        """Somebody wants something done with messages that it holds: (text, the partition's key, receipt). Raises PenstockError."""
        self._check()
        if len(self._asking) + len(self._parked) >= RECEIPTS_WAITING_MAX:
            raise PenstockError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                f"{RECEIPTS_WAITING_MAX} receipts of group {self.group!r} wait already: try again later.",
            )
        for text, key, receipt in receipts:
            self._asking.add(verb, key, Asked(ask, text, receipt))
        self.wake()

    def give_back(self, granted: Iterable[Granted]) -> None:
        """What nobody was given may be granted again at once."""
        self.settle_silently(
            RELEASE,
            [
                (part.place.key, Receipt(offset, part.lease_id))
                for part in granted
                for offset, _ in part.messages
            ],
        )

    def settle_silently(self, verb: Verb, receipts: Sequence[tuple[int, Receipt]]) -> None:
        """What is asked for on behalf of somebody who is not there: (the partition's key, receipt). Where it fails, nobody has to
        be told: the lease runs out."""
        if self._stopped is not None or not receipts:
            return
        texts = [encode_receipt(key, *receipt) for key, receipt in receipts]
        ask = Ask(texts)
        ask.future.add_done_callback(lambda done: done.cancelled() or done.exception())
        for text, (key, receipt) in zip(texts, receipts, strict=True):
            self._asking.add(verb, key, Asked(ask, text, receipt))
        self.wake()

    def wake(self) -> None:
        """Something may be possible now: looked at when the loop's turn ends."""
        if not self._turn_due and self._stopped is None:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def resume(self) -> None:
        """Somebody else changed the group or where it stands, and that is committed."""
        self._time_came = True
        self._unpark()
        self.wake()

    def stop(self, error: PenstockError) -> None:
        """Nothing more is done here; whoever waits is told `error`."""
        self._stopped = error
        for timer in (self._timer, self._looking):
            if timer is not None:
                timer.cancel()
        self._timer = self._looking = None
        self._granting.stop(error)
        self._unpark()
        for _, _, several in self._asking.take():
            for asked in several:
                asked.ask.fail(error)

    def _check(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    # --- the turn --------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._turn_due = False
        if self._stopped is not None:
            return
        settings = self._house.settings(self.group)
        if settings is None:
            return  # The group is being deleted, and then this is stopped.
        now_ms = self._house.time.now_ms()
        if self._time_came or (self._timer_ms is not None and now_ms >= self._timer_ms):
            # A turn may come before a timer that is due.
            self._expire(settings, now_ms)
        self._decide_asked(settings, now_ms)
        self._granting.turn(settings, now_ms)
        if self._times_changed:
            self._arm(now_ms)

    def _propose(self, commands: Sequence[Command], done: Outcome) -> bool:
        """Appends, and calls back with the outcome; whether anything was appended."""
        try:
            write = asyncio.ensure_future(self._house.log.propose(commands))
        except PenstockError as error:
            done(error)
            return False
        changes_times = any(type(command) in _TIMED for command in commands)

        def finished(write: asyncio.Future[None]) -> None:
            if write.cancelled():
                return  # The loop is closing.
            failure = write.exception()
            if failure is None or isinstance(failure, PenstockError):
                done(failure)
            else:
                done(PenstockError(ErrorCode.UNKNOWN_SERVER_ERROR, "The broker failed; its log says why."))
            self._times_changed = self._times_changed or changes_times
            self._unpark()
            self.wake()
            if failure is not None:
                self._unsure()
            if failure is not None and not isinstance(failure, PenstockError):
                raise failure

        write.add_done_callback(finished)
        return True

    def _unsure(self) -> None:
        """What failed may be committed all the same while this broker leads on, and nobody is told then: so it is looked at
        again and again for as long as that may take."""
        if self._stopped is None:
            self._unsure_until_ms = self._house.time.now_ms() + UNSURE_MS
            if self._looking is None:
                self._looking = self._house.clock.call_later(RETRY_MS / 1000, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        self._times_changed = True
        self.resume()
        self._on_dying()
        if self._house.time.now_ms() < self._unsure_until_ms:
            self._looking = self._house.clock.call_later(RETRY_MS / 1000, self._look_again)

    def _failing(self, settings: QueueSettings, now_ms: int) -> Failing:
        dead_topic = settings.dead_topic(self.group)
        sequence = self._house.machine.next_sequence(self.group, dead_topic)
        return Failing(settings, dead_topic, sequence, self._house.chance(), now_ms)

    # --- receipts --------------------------------------------------------------------------------

    def _unpark(self) -> None:
        parked, self._parked = self._parked, []
        for verb, key, asked in parked:
            self._asking.add(verb, key, asked)

    def _decide_asked(self, settings: QueueSettings, now_ms: int) -> None:
        for verb, key, several in self._asking.take():
            partition = self._house.partitions.with_key(key)
            queue = (
                None
                if partition is None
                else self._house.machine.queue(self.group, partition.topic, partition.number)
            )
            if queue is None:
                for asked in several:
                    asked.ask.result(asked.text, ErrorCode.INVALID_REQUEST, UNKNOWN)
            else:
                decision = self._decide(verb, queue, receipts_of(several), settings, now_ms)
                accepted = self._sort_out(verb, key, several, decision)
                if decision.commands:
                    self._propose(decision.commands, self._decided(verb, accepted, decision.commands))

    def _decide(
        self, verb: Verb, queue: Queue, receipts: Sequence[Receipt], settings: QueueSettings, now_ms: int
    ) -> Decision:
        if verb.name == "acknowledge":
            return settle(queue, receipts, now_ms)
        if verb.name == "release":
            return release(queue, receipts, now_ms)
        if verb.name == "extend":
            return extend(queue, receipts, verb.duration_ms, now_ms)
        assert verb.name == "reject", verb
        failing = self._failing(settings, now_ms)
        return reject(queue, receipts, failing, retry=verb.retry, delay_ms=verb.delay_ms)

    def _sort_out(self, verb: Verb, key: int, several: Sequence[Asked], decision: Decision) -> list[Asked]:
        """Those that the commands are about; the others are answered, or wait."""
        busy, refused = set(decision.busy), set(decision.refused)
        accepted = []
        for asked in several:
            if asked.receipt in refused:
                asked.ask.result(asked.text, ErrorCode.INVALID_RECORD_STATE, LOST)
            elif asked.receipt in busy:
                self._parked.append((verb, key, asked))
            else:
                accepted.append(asked)
        return accepted

    def _decided(self, verb: Verb, accepted: Sequence[Asked], commands: Sequence[QueueCommand]) -> Outcome:
        def done(error: PenstockError | None) -> None:
            for asked in accepted:
                if error is None:
                    asked.ask.result(asked.text)
                else:
                    asked.ask.fail(error)
            if error is None:
                self._count(verb, _named(commands))

        return done

    def _count(self, verb: Verb, messages: int) -> None:
        counters = self._house.counters
        if verb.name == "acknowledge":
            counters.acknowledged += messages
        elif verb.name == "release":
            counters.released += messages
        elif verb.name == "reject":
            counters.rejected += messages
            self._on_dying()

    # --- time ------------------------------------------------------------------------------------

    def _expire(self, settings: QueueSettings, now_ms: int) -> None:
        """Leases that ran out: their messages failed."""
        self._time_came, self._times_changed = False, True
        self._retry_ms = now_ms + RETRY_MS
        for queue in list(self._house.machine.queues(self.group)):
            next_ms = queue.next_expiry_ms(now_ms)
            if next_ms is None or next_ms > now_ms:
                continue
            commands = expire(queue, self._failing(settings, now_ms))
            if commands and not self._propose(commands, self._expired(_named(commands))):
                return

    def _expired(self, messages: int) -> Outcome:
        def done(error: PenstockError | None) -> None:
            if error is None:
                self._house.counters.expired += messages
                self._on_dying()
                # More may have run out than one decision takes.
                self._time_came = True

        return done

    def _arm(self, now_ms: int) -> None:
        """One timer, for what time makes possible next; it comes too early where what it was for is settled. What was possible
        already waits for an entry in flight, or for a log that takes entries again: it is tried a little later, and what else
        happens does not put that off."""
        self._times_changed = False
        found: list[int] = []
        topics = self._house.topics(self.group)
        for queue in self._house.machine.queues(self.group):
            expiry_ms = queue.next_expiry_ms(now_ms)
            if expiry_ms is not None:
                found.append(max(expiry_ms, self._retry_ms) if expiry_ms <= now_ms else expiry_ms)
            due_ms = queue.next_due_ms(now_ms) if self._granting and queue.topic in topics else None
            if due_ms is not None:
                found.append(due_ms if due_ms > now_ms else now_ms + RETRY_MS)
        next_ms = self._timer_ms = min(found, default=None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_ms is not None:
            self._timer = self._house.clock.call_later(max(next_ms - now_ms, 0) / 1000, self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = self._timer_ms = None
        self._time_came = True
        self.wake()


def _named(commands: Sequence[QueueCommand]) -> int:
    """How many messages these are about."""
    return sum(count_in(getattr(command, "ranges", ())) for command in commands)
