"""The use-cases of queue groups, as `queue_api.QueueService` states them, on the shard's leader.

One driver for each group acts; this file finds it, turns receipts into what they say and grants into messages, and begins and
ends with a leadership. How a group is declared, reset and deleted is `groups_declared`'s and `groups_admin`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from penstock.delivery.commands import QueueGroupDropped, QueueTopicDropped
from penstock.delivery.deciding import Receipt
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.context import RequestContext
from penstock.service.queue_api import Leased, LeasedMessage, LeaseRequest, ReceiptResult
from penstock.service.queue_asks import UNKNOWN, Ask, Verb
from penstock.service.queue_driver import QueueDriver
from penstock.service.queue_granting import LEASE_BYTES_MAX
from penstock.service.queue_outbox import Outbox, OutboxDoors
from penstock.service.queue_ports import QUEUE_MODE, QueueHouse
from penstock.service.queue_receipts import decode_receipt, encode_receipt
from penstock.service.queue_waiting import Granted, LeaseKind

_log = logging.getLogger(__name__)

COMMIT_WAIT_MS: Final = 30_000
"""How long an answer waits to be committed: less than a broker that passes a request on waits for the leader."""

READING_MAX: Final = 16
"""Leases whose messages are read at the same time; others wait for their turn."""


class _Group:
    """A group that this broker acts for."""

    def __init__(self, name: str, house: QueueHouse, doors: OutboxDoors) -> None:
        self.outbox = Outbox(name, house, doors, lambda: self.driver.wake())
        self.driver = QueueDriver(name, house, self.outbox.wake)

    def stop(self, error: PenstockError) -> None:
        self.driver.stop(error)
        self.outbox.stop()


class QueueGroups:
    """Implements `QueueService` for the groups of one shard. The runtime calls `start` when this broker leads its shard and the
    machine is up to date, `stop` when it no longer does."""

    def __init__(self, house: QueueHouse, doors: OutboxDoors) -> None:
        self._house = house
        self._doors = doors
        self._groups: dict[str, _Group] = {}
        self._leads = False
        self._reading = asyncio.Semaphore(READING_MAX)

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """This broker acts from now on: every lease and every wait begins anew."""
        self._house.time.begin()
        self._leads = True
        machine = self._house.machine
        for name in machine.groups():
            if self._house.settings(name) is not None:
                group = self._open(name)
                group.driver.wake()
                group.outbox.wake()
        self._clear_left_behind()

    def _clear_left_behind(self) -> None:
        left = self._left_behind()
        if not left:
            return
        try:
            asyncio.ensure_future(self._house.log.propose(left)).add_done_callback(_seen)
        except PenstockError as error:
            # The next leadership does it.
            _log.warning("what is left of deleted groups and topics stays for now: %s", error.sentence)

    def _left_behind(self) -> list[Command]:
        """A failover may have come between the end of a group or topic and the end of what is known of it here."""
        machine, now_ms = self._house.machine, self._house.time.now_ms()
        left: list[Command] = []
        topics: set[str] = set()
        for name in machine.groups():
            if self._house.settings(name) is None:
                left.append(QueueGroupDropped(name, now_ms))
            else:
                topics.update(queue.topic for queue in machine.queues(name))
        left += [
            QueueTopicDropped(topic, now_ms)
            for topic in sorted(topics)
            if not self._house.partitions.of(topic)
        ]
        return left

    def stop(self) -> None:
        """Somebody else acts, or nobody: whoever waits is told so."""
        self._leads = False
        groups, self._groups = self._groups, {}
        for group in groups.values():
            group.stop(_elsewhere())
        self._house.reader.forget()

    def changed(self, group: str) -> None:
        """The group was declared, reset or deleted, and that is committed."""
        found = self._groups.get(group)
        if found is None:
            return
        if self._house.settings(group) is not None:
            found.driver.resume()
        else:
            del self._groups[group]
            found.stop(PenstockError(ErrorCode.GROUP_ID_NOT_FOUND, f"The queue group {group!r} was deleted."))

    def topic_dropped(self, topic: str) -> list[Command]:
        """The commands that go with the end of a topic."""
        if not self._house.machine.has_topic(topic):
            return []
        return [QueueTopicDropped(topic, self._house.clock.now_ms())]

    def _open(self, name: str) -> _Group:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(name, self._house, self._doors)
        return group

    def _driver(self, name: str) -> QueueDriver:
        """Raises PenstockError unless there is such a group and this broker acts for it."""
        if not self._leads:
            raise _elsewhere()
        if self._house.settings(name) is None:
            declared = self._house.groups.declared(name)
            if declared is None:
                raise PenstockError(
                    ErrorCode.GROUP_ID_NOT_FOUND,
                    f"There is no queue group {name[:100]!r}: declare it first"
                    " (`penstock group declare NAME --mode queue --topic TOPIC`).",
                )
            raise PenstockError(
                ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
                f"Group {name!r} has mode {declared.mode!r}, whose members read by offset: only groups of mode"
                f" {QUEUE_MODE!r} lease messages. Declare one under another name.",
            )
        return self._open(name).driver

    @property
    def waiting_count(self) -> int:
        """Requests that wait for messages, of all groups."""
        return sum(group.driver.waiting_count for group in self._groups.values())

    # --- leasing ---------------------------------------------------------------------------------

    async def lease(self, context: RequestContext, request: LeaseRequest) -> Leased:
        """See `QueueService.lease`."""
        driver = self._driver(request.group)
        settings = self._house.settings(request.group)
        assert settings is not None, request.group
        duration_ms = settings.lease_ms if request.lease_ms is None else request.lease_ms
        waiting = driver.lease(LeaseKind(duration_ms, request.member), request.messages_max, request.wait_ms)
        try:
            async with _answered_within(request.wait_ms + COMMIT_WAIT_MS):
                granted = await waiting.future
            return Leased(await self._messages(driver, granted), driver.window_full)
        except BaseException:
            # The client went away, or cannot be given what it was granted.
            driver.leave(waiting)
            raise

    async def _messages(self, driver: QueueDriver, granted: Sequence[Granted]) -> list[LeasedMessage]:
        """What was granted, as far as it fits into an answer; the rest is given back, and what cannot be read given up."""
        messages: list[LeasedMessage] = []
        left: list[Granted] = []
        room = LEASE_BYTES_MAX
        for part in granted:
            if room <= 0:
                left.append(part)
                continue
            async with self._reading:
                read = await self._house.reader.read(
                    part.place, [offset for offset, _ in part.messages], room
                )
            room -= read.size_bytes
            deliveries = dict(part.messages)
            for record in read.found:
                receipt = encode_receipt(part.place.key, record.offset, part.lease_id)
                count = deliveries[record.offset]
                messages.append(
                    LeasedMessage(receipt, part.place.topic, part.place.number, record, count, part.until_ms)
                )
            if read.left:
                left.append(part._replace(messages=[(offset, 0) for offset in read.left]))
            # Nobody can have these: they would come again for ever.
            self._give_up(driver, part, Verb("reject", retry=False), read.unreadable)
            self._give_up(driver, part, Verb("acknowledge"), read.gone)
        driver.give_back(left)
        return messages

    def _give_up(self, driver: QueueDriver, part: Granted, verb: Verb, offsets: Iterable[int]) -> None:
        driver.settle_silently(verb, [(part.place.key, Receipt(offset, part.lease_id)) for offset in offsets])

    # --- settling --------------------------------------------------------------------------------

    async def acknowledge(
        self, context: RequestContext, group: str, receipts: Sequence[str]
    ) -> list[ReceiptResult]:
        """See `QueueService.acknowledge`."""
        return await self._ask(group, Verb("acknowledge"), receipts)

    async def release(
        self, context: RequestContext, group: str, receipts: Sequence[str]
    ) -> list[ReceiptResult]:
        """See `QueueService.release`."""
        return await self._ask(group, Verb("release"), receipts)

    async def reject(
        self,
        context: RequestContext,
        group: str,
        receipts: Sequence[str],
        *,
        retry: bool = True,
        delay_ms: int | None = None,
    ) -> list[ReceiptResult]:
        """See `QueueService.reject`."""
        return await self._ask(group, Verb("reject", retry, delay_ms), receipts)

    async def extend(
        self, context: RequestContext, group: str, receipts: Sequence[str], lease_ms: int
    ) -> list[ReceiptResult]:
        """See `QueueService.extend`."""
        return await self._ask(group, Verb("extend", duration_ms=lease_ms), receipts)

    async def _ask(self, group: str, verb: Verb, texts: Sequence[str]) -> list[ReceiptResult]:
        driver = self._driver(group)
        ask = Ask(texts)
        known: list[tuple[str, int, Receipt]] = []
        for text in dict.fromkeys(texts):
            receipt = decode_receipt(text)
            if receipt is None:
                ask.result(text, ErrorCode.INVALID_REQUEST, UNKNOWN)
            else:
                known.append((text, receipt.key, Receipt(receipt.offset, receipt.lease_id)))
        driver.ask(verb, ask, known)
        async with _answered_within(COMMIT_WAIT_MS):
            return await ask.future


class _answered_within:  # noqa: N801 (reads as what it is used for)
    """`asyncio.timeout` in milliseconds, whose end is an answer."""

    def __init__(self, wait_ms: int) -> None:
        self._timeout = asyncio.timeout(wait_ms / 1000)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *raised: object) -> None:
        try:
            await self._timeout.__aexit__(*raised)  # type: ignore[arg-type]
        except TimeoutError:
            raise PenstockError(
                ErrorCode.REQUEST_TIMED_OUT,
                "The change was not committed in time; whether it will be is not known. Try again.",
            ) from None


def _elsewhere() -> PenstockError:
    return PenstockError(
        ErrorCode.NOT_COORDINATOR, "This broker does not lead now: ask again, or ask the shard's leader."
    )


def _seen(done: asyncio.Future[None]) -> None:
    """Nobody else looks at the outcome: what failed is tried again by those whom it concerns."""
    if not done.cancelled():
        done.exception()
