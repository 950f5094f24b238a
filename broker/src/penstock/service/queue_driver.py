"""Acts for one queue group on its shard's leader: gathers what is asked in a turn of the loop, decides, appends, answers.

`penstock.delivery` decides; this file carries out. Whatever arrives in one turn about one partition becomes one entry; what
waits for messages is looked at when messages, returned ones or room come. Nothing waits between a decision and its being
appended, and everybody is answered once what they are told is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from penstock.delivery.commands import QueueCommand, QueuePositionSet
from penstock.delivery.deciding import (
    Decision,
    Failing,
    LeaseRequest,
    Receipt,
    expire,
    extend,
    grant,
    move_start,
    reject,
    release,
    settle,
)
from penstock.delivery.queue import Queue
from penstock.delivery.ranges import count_in, offsets_in
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import QueueSettings
from penstock.service.ports import TimerHandle
from penstock.service.queue_asks import LOST, UNKNOWN, Ask, Asked, Asking, Verb, receipts_of
from penstock.service.queue_ports import QueueHouse, QueuePartition
from penstock.service.queue_reading import Place
from penstock.service.queue_receipts import encode_receipt
from penstock.service.queue_waiting import Granted, LeaseKind, WaitingLease, dealt, shares

LEASE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of messages in one answer; a first message that is larger comes whole."""

GRANTED_PER_TURN_MAX: Final = 10_000
"""Messages that a group grants before others get their turn."""

WAITING_MAX: Final = 10_000
"""Requests for messages that wait in one group; more are refused."""

RECEIPTS_WAITING_MAX: Final = 100_000
"""Receipts of one group that wait to be decided about; more are refused."""

RETRY_MS: Final = 100
"""When something that could not be done is tried again."""

RELEASE: Final = Verb("release")


class QueueDriver:
    """One group. `on_dying` is called when messages are on their way to the dead letters."""

    def __init__(self, group: str, house: QueueHouse, on_dying: Callable[[], None]) -> None:
        self.group = group
        self.window_full = False
        self._house = house
        self._on_dying = on_dying
        self._waiting: dict[WaitingLease, None] = {}
        self._asking = Asking()
        # Receipts that an entry in flight names.
        self._parked: list[tuple[Verb, int, Asked]] = []
        self._watched: list[QueuePartition] = []
        self._rotation = 0
        self._turn_due = False
        self._stopped: PenstockError | None = None
        self._timer: TimerHandle | None = None

    # --- what is asked ---------------------------------------------------------------------------

    def lease(self, kind: LeaseKind, messages_max: int, wait_ms: int) -> WaitingLease:
        """Somebody wants messages. Raises PenstockError."""
        self._check()
        if len(self._waiting) >= WAITING_MAX:
            raise PenstockError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                f"{WAITING_MAX} requests wait for messages of group {self.group!r} already: try again later.",
            )
        waiting = WaitingLease(kind, messages_max, wait_ms)
        self._waiting[waiting] = None
        if wait_ms:
            waiting.timer = self._house.clock.call_later(wait_ms / 1000, lambda: self._wait_is_over(waiting))
        self.wake()
        return waiting

    def leave(self, waiting: WaitingLease) -> None:
        """Nobody waits for this any more: what it was granted, or will be, is given back."""
        self._waiting.pop(waiting, None)
        waiting.stop_timer()
        future = waiting.future
        if not future.done():
            future.cancel()
        elif not future.cancelled() and future.exception() is None:
            self.give_back(future.result())

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
        if self._stopped is not None:
            return
        texts: list[tuple[str, int, Receipt]] = []
        for place, lease_id, _, messages in granted:
            for offset, _ in messages:
                texts.append(
                    (
                        encode_receipt(place.key, offset, lease_id),
                        place.key,
                        Receipt(offset, lease_id),
                    )
                )
        if texts:
            # A failure has nobody to be told: the lease runs out instead.
            ask = Ask([text for text, _, _ in texts])
            ask.future.add_done_callback(lambda done: done.cancelled() or done.exception())
            for text, key, receipt in texts:
                self._asking.add(RELEASE, key, Asked(ask, text, receipt))
            self.wake()

    def wake(self) -> None:
        """Something may be possible now: looked at when the loop's turn ends."""
        if not self._turn_due and self._stopped is None:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def resume(self) -> None:
        """Somebody else changed the group or where it stands, and that is committed."""
        self._unpark()
        self.wake()

    def stop(self, error: PenstockError) -> None:
        """Nothing more is done here; whoever waits is told `error`."""
        self._stopped = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watch(())
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            each.fail(error)
        for _, _, several in self._asking.take():
            for asked in several:
                asked.ask.fail(error)
        parked, self._parked = self._parked, []
        for _, _, asked in parked:
            asked.ask.fail(error)

    @property
    def waiting_count(self) -> int:
        """Requests that wait for messages."""
        return len(self._waiting)

    def _check(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    def _wait_is_over(self, waiting: WaitingLease) -> None:
        # It waits no more where a grant is on its way already.
        waiting.timer = None
        if waiting in self._waiting:
            del self._waiting[waiting]
            waiting.end()

    # --- the turn --------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._turn_due = False
        if self._stopped is not None:
            return
        settings = self._house.settings(self.group)
        if settings is None:
            self.stop(
                PenstockError(ErrorCode.GROUP_ID_NOT_FOUND, f"The queue group {self.group!r} was deleted.")
            )
            return
        now_ms = self._house.time.now_ms()
        self._expire(settings, now_ms)
        self._decide_asked(settings, now_ms)
        self._grant(settings, now_ms)
        self._arm(now_ms)

    def _propose(self, commands: Sequence[Command], done: Callable[[PenstockError | None], None]) -> bool:
        """Appends, and calls back with the outcome; whether anything was appended."""
        try:
            write = asyncio.ensure_future(self._house.log.propose(commands))
        except PenstockError as error:
            done(error)
            return False

        def finished(write: asyncio.Future[None]) -> None:
            if write.cancelled():
                return  # The loop is closing.
            failure = write.exception()
            if failure is None or isinstance(failure, PenstockError):
                done(failure)
            else:
                done(PenstockError(ErrorCode.UNKNOWN_SERVER_ERROR, "The broker failed; its log says why."))
            self._unpark()
            self.wake()
            if failure is not None and not isinstance(failure, PenstockError):
                raise failure

        write.add_done_callback(finished)
        return True

    def _failing(self, settings: QueueSettings, now_ms: int) -> Failing:
        dead_topic = settings.dead_topic(self.group)
        sequence = self._house.machine.next_sequence(self.group, dead_topic)
        return Failing(settings, dead_topic, sequence, self._house.chance(), now_ms)

    # --- leases that ran out ---------------------------------------------------------------------

    def _expire(self, settings: QueueSettings, now_ms: int) -> None:
        for queue in list(self._house.machine.queues(self.group)):
            next_ms = queue.next_expiry_ms(now_ms)
            if next_ms is None or next_ms > now_ms or queue.moving:
                continue
            commands = expire(queue, self._failing(settings, now_ms))
            if commands and not self._propose(commands, self._expired(commands)):
                return

    def _expired(self, commands: Sequence[QueueCommand]) -> Callable[[PenstockError | None], None]:
        def done(error: PenstockError | None) -> None:
            if error is None:
                self._house.counters.expired += _count(commands)
                self._on_dying()

        return done

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
                _refuse(several, UNKNOWN)
            elif queue.moving:
                self._parked += [(verb, key, asked) for asked in several]
            else:
                self._decide(verb, queue, key, several, settings, now_ms)

    def _decide(
        self,
        verb: Verb,
        queue: Queue,
        key: int,
        several: list[Asked],
        settings: QueueSettings,
        now_ms: int,
    ) -> None:
        receipts = receipts_of(several)
        if verb.name == "acknowledge":
            decision = settle(queue, receipts, now_ms)
        elif verb.name == "release":
            decision = release(queue, receipts, now_ms)
        elif verb.name == "extend":
            decision = extend(queue, receipts, verb.duration_ms, now_ms)
        else:
            assert verb.name == "reject", verb
            failing = self._failing(settings, now_ms)
            decision = reject(queue, receipts, failing, retry=verb.retry, delay_ms=verb.delay_ms)
        accepted = self._sorted_out(verb, key, several, decision)
        if decision.commands:
            self._propose(
                decision.commands, lambda error: self._decided(verb, accepted, decision.commands, error)
            )

    def _sorted_out(self, verb: Verb, key: int, several: list[Asked], decision: Decision) -> list[Asked]:
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

    def _decided(
        self,
        verb: Verb,
        accepted: Sequence[Asked],
        commands: Sequence[QueueCommand],
        error: PenstockError | None,
    ) -> None:
        if error is not None:
            for asked in accepted:
                asked.ask.fail(error)
            return
        for asked in accepted:
            asked.ask.result(asked.text)
        self._count(verb, commands)

    def _count(self, verb: Verb, commands: Sequence[QueueCommand]) -> None:
        counters, count = self._house.counters, _count(commands)
        if verb.name == "acknowledge":
            counters.acknowledged += count
        elif verb.name == "release":
            counters.released += count
        elif verb.name == "reject":
            counters.rejected += count
            self._on_dying()

    # --- grants ----------------------------------------------------------------------------------

    def _grant(self, settings: QueueSettings, now_ms: int) -> None:
        if not self._waiting:
            self._watch(())
            return
        partitions = self._partitions()
        self._open_queues(partitions, now_ms)
        kinds: dict[LeaseKind, list[WaitingLease]] = {}
        for waiting in self._waiting:
            kinds.setdefault(waiting.kind, []).append(waiting)
        room = GRANTED_PER_TURN_MAX
        self.window_full = False
        for kind, members in kinds.items():
            if room <= 0:
                self.wake()
                break
            room -= self._grant_kind(kind, members, partitions, settings, now_ms, room)
        for waiting in [each for each in self._waiting if each.tried and not each.wait_ms]:
            del self._waiting[waiting]
            waiting.end()
        self._watch(partitions if self._waiting else ())

    def _partitions(self) -> list[QueuePartition]:
        """Of all topics, each turn beginning with another one."""
        found = [
            partition
            for topic in self._house.topics(self.group)
            for partition in self._house.partitions.of(topic)
        ]
        if found:
            self._rotation = (self._rotation + 1) % len(found)
        return found[self._rotation :] + found[: self._rotation]

    def _open_queues(self, partitions: Sequence[QueuePartition], now_ms: int) -> None:
        """A partition that came later is worked through from its beginning; one that lost its oldest messages goes on behind
        them."""
        machine, moved = self._house.machine, list[Command]()
        lost = 0
        for partition in partitions:
            place = (self.group, partition.topic, partition.number)
            queue = machine.queue(*place)
            if queue is None:
                if not machine.is_moving(*place):
                    moved.append(QueuePositionSet(*place, now_ms, partition.log_start))
            elif not queue.moving and queue.floor < partition.log_start:
                command, messages = move_start(queue, partition.log_start, now_ms)
                lost += messages
                if command is not None:
                    moved.append(command)
        if moved:
            self._propose(moved, lambda error: self._lost(lost if error is None else 0))

    def _lost(self, messages: int) -> None:
        self._house.counters.lost += messages

    def _grant_kind(
        self,
        kind: LeaseKind,
        members: Sequence[WaitingLease],
        partitions: Sequence[QueuePartition],
        settings: QueueSettings,
        now_ms: int,
        room: int,
    ) -> int:
        """Grants to requests of one kind, which share; how many messages."""
        left = min(sum(each.messages_max for each in members), room)
        bytes_left = LEASE_BYTES_MAX * len(members)
        collected: list[Granted] = []
        commands: list[QueueCommand] = []
        for each in members:
            each.tried = True
        for partition in partitions:
            if left <= 0 or bytes_left <= 0:
                break
            queue = self._house.machine.queue(self.group, partition.topic, partition.number)
            if queue is None or queue.moving:
                continue
            size = _message_bytes(partition)
            some = min(left, max(bytes_left // size, 1))
            request = LeaseRequest(self._house.new_lease_id(), kind.member, kind.duration_ms, some)
            answer = grant(queue, request, settings, partition.high_watermark, now_ms)
            self.window_full = self.window_full or answer.window_full
            if answer.command is None:
                continue
            offsets = offsets_in(answer.command.ranges)
            messages = [(offset, answer.redelivered.get(offset, 1)) for offset in offsets]
            place = Place(partition.key, partition.topic, partition.number)
            collected.append(Granted(place, request.lease_id, now_ms + kind.duration_ms, messages))
            commands.append(answer.command)
            left -= len(messages)
            bytes_left -= len(messages) * size
        if commands:
            self._deliver(members, collected, commands)
        return sum(len(granted.messages) for granted in collected)

    def _deliver(
        self, members: Sequence[WaitingLease], grants: Sequence[Granted], commands: Sequence[QueueCommand]
    ) -> None:
        """Shares out the grants among those that wait, and appends them."""
        count = sum(len(granted.messages) for granted in grants)
        hands = dealt(grants, shares(count, [each.messages_max for each in members]))
        served = [(each, hand) for each, hand in zip(members, hands, strict=True) if hand]
        for each, _ in served:
            del self._waiting[each]

        def done(error: PenstockError | None) -> None:
            if error is None:
                self._house.counters.leased += count
            for each, hand in served:
                self.give_back(each.settle(hand, error))

        self._propose(commands, done)

    def _watch(self, partitions: Sequence[QueuePartition]) -> None:
        for partition in self._watched:
            partition.waiters.pop(self, None)
        for partition in partitions:
            partition.waiters[self] = self.wake
        self._watched = list(partitions)

    # --- time ------------------------------------------------------------------------------------

    def _arm(self, now_ms: int) -> None:
        """One timer, for what time makes possible next. What was possible already waits for an entry in flight, or for a log
        that takes entries again."""
        next_ms: int | None = None
        for queue in self._house.machine.queues(self.group):
            for at_ms in (
                queue.next_expiry_ms(now_ms),
                queue.next_due_ms(now_ms) if self._waiting else None,
            ):
                if at_ms is not None:
                    at_ms = at_ms if at_ms > now_ms else now_ms + RETRY_MS
                    next_ms = at_ms if next_ms is None else min(next_ms, at_ms)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_ms is not None:
            self._timer = self._house.clock.call_later((next_ms - now_ms) / 1000, self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = None
        self.wake()


def _message_bytes(partition: QueuePartition) -> int:
    """About how large a message of this partition is."""
    messages = partition.high_watermark - partition.log_start
    return max(partition.size_bytes // messages, 1) if messages > 0 else 1


def _count(self, verb: Verb, commands: Sequence[QueueCommand]) -> None:
        counters, count = self._house.counters, _count(commands)
        if verb.name == "acknowledge":
            counters.acknowledged += count
        elif verb.name == "release":
            counters.released += count
        elif verb.name == "reject":
            counters.rejected += count
            self._on_dying()

    # --- grants ----------------------------------------------------------------------------------

    def _grant(self, settings: QueueSettings, now_ms: int) -> None:
        if not self._waiting:
            self._watch(())
            return
        partitions = self._partitions()
        self._open_queues(partitions, now_ms)
        kinds: dict[LeaseKind, list[WaitingLease]] = {}
        for waiting in self._waiting:
            kinds.setdefault(waiting.kind, []).append(waiting)
        room = GRANTED_PER_TURN_MAX
        self.window_full = False
        for kind, members in kinds.items():
            if room <= 0:
                self.wake()
                break
            room -= self._grant_kind(kind, members, partitions, settings, now_ms, room)
        for waiting in [each for each in self._waiting if each.tried and not each.wait_ms]:
            del self._waiting[waiting]
            waiting.end()
        self._watch(partitions if self._waiting else ())

    def _partitions(self) -> list[QueuePartition]:
        """Of all topics, each turn beginning with another one."""
        found = [
            partition
            for topic in self._house.topics(self.group)
            for partition in self._house.partitions.of(topic)
        ]
        if found:
            self._rotation = (self._rotation + 1) % len(found)
        return found[self._rotation :] + found[: self._rotation]

    def _open_queues(self, partitions: Sequence[QueuePartition], now_ms: int) -> None:
        """A partition that came later is worked through from its beginning; one that lost its oldest messages goes on behind
        them."""
        machine, moved = self._house.machine, list[Command]()
        lost = 0
        for partition in partitions:
            place = (self.group, partition.topic, partition.number)
            queue = machine.queue(*place)
            if queue is None:
                if not machine.is_moving(*place):
                    moved.append(QueuePositionSet(*place, now_ms, partition.log_start))
            elif not queue.moving and queue.floor < partition.log_start:
                command, messages = move_start(queue, partition.log_start, now_ms)
                lost += messages
                if command is not None:
                    moved.append(command)
        if moved:
            self._propose(moved, lambda error: self._lost(lost if error is None else 0))

    def _lost(self, messages: int) -> None:
        self._house.counters.lost += messages

    def _grant_kind(
        self,
        kind: LeaseKind,
        members: Sequence[WaitingLease],
        partitions: Sequence[QueuePartition],
        settings: QueueSettings,
        now_ms: int,
        room: int,
    ) -> int:
        """Grants to requests of one kind, which share; how many messages."""
        left = min(sum(each.messages_max for each in members), room)
        bytes_left = LEASE_BYTES_MAX * len(members)
        collected: list[Granted] = []
        commands: list[QueueCommand] = []
        for each in members:
            each.tried = True
        for partition in partitions:
            if left <= 0 or bytes_left <= 0:
                break
            queue = self._house.machine.queue(self.group, partition.topic, partition.number)
            if queue is None or queue.moving:
                continue
            size = _message_bytes(partition)
            some = min(left, max(bytes_left // size, 1))
            request = LeaseRequest(self._house.new_lease_id(), kind.member, kind.duration_ms, some)
            answer = grant(queue, request, settings, partition.high_watermark, now_ms)
            self.window_full = self.window_full or answer.window_full
            if answer.command is None:
                continue
            offsets = offsets_in(answer.command.ranges)
            messages = [(offset, answer.redelivered.get(offset, 1)) for offset in offsets]
            place = Place(partition.key, partition.topic, partition.number)
            collected.append(Granted(place, request.lease_id, now_ms + kind.duration_ms, messages))
            commands.append(answer.command)
            left -= len(messages)
            bytes_left -= len(messages) * size
        if commands:
            self._deliver(members, collected, commands)
        return sum(len(granted.messages) for granted in collected)

    def _deliver(
        self, members: Sequence[WaitingLease], grants: Sequence[Granted], commands: Sequence[QueueCommand]
    ) -> None:
        """Shares out the grants among those that wait, and appends them."""
        count = sum(len(granted.messages) for granted in grants)
        hands = dealt(grants, shares(count, [each.messages_max for each in members]))
        served = [(each, hand) for each, hand in zip(members, hands, strict=True) if hand]
        for each, _ in served:
            del self._waiting[each]

        def done(error: PenstockError | None) -> None:
            if error is None:
                self._house.counters.leased += count
            for each, hand in served:
                self.give_back(each.settle(hand, error))

        self._propose(commands, done)

    def _watch(self, partitions: Sequence[QueuePartition]) -> None:
        for partition in self._watched:
            partition.waiters.pop(self, None)
        for partition in partitions:
            partition.waiters[self] = self.wake
        self._watched = list(partitions)

    # --- time ------------------------------------------------------------------------------------

    def _arm(self, now_ms: int) -> None:
        """One timer, for what time makes possible next. What was possible already waits for an entry in flight, or for a log
        that takes entries again."""
        next_ms: int | None = None
        for queue in self._house.machine.queues(self.group):
            for at_ms in (
                queue.next_expiry_ms(now_ms),
                queue.next_due_ms(now_ms) if self._waiting else None,
            ):
                if at_ms is not None:
                    at_ms = at_ms if at_ms > now_ms else now_ms + RETRY_MS
                    next_ms = at_ms if next_ms is None else min(next_ms, at_ms)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_ms is not None:
            self._timer = self._house.clock.call_later((next_ms - now_ms) / 1000, self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = None
        self.wake()


def _fitting(partition: QueuePartition) -> int:
    """About how many messages of this partition one answer holds."""
    messages = partition.high_watermark - partition.log_start
    if messages <= 0 or partition.size_bytes <= 0:
        return 1
    return max(LEASE_BYTES_MAX * messages // partition.size_bytes, 1)


def _count(commands: Sequence[QueueCommand]) -> int:
    return sum(count_in(getattr(command, "ranges", ())) for command in commands)


def _refuse(several: Sequence[Asked], sentence: str) -> None:
    for asked in several:
        asked.ask.result(asked.text, ErrorCode.INVALID_REQUEST, sentence)
