"""Members of a queue group over the simulated topic: they lease, work, fail, forget, and remember what they were told.

What a member sees is judged when it sees it, by the true time: a message whose acknowledgement was answered never comes
again, and nobody is given one that another is sure to hold. What became of every message is asked at the end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock.codec.records import read_records, split_batches
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.queue_settings import Backoff, QueueSettings
from penstock.service.api import FetchPartition, NewTopic
from penstock.service.group_api import StartPosition
from penstock.service.queue_api import Leased, LeaseRequest, ReceiptResult
from penstock.testing.simulated_cluster.broker import CONTEXT, SimulatedBroker
from penstock.testing.simulated_cluster.checks import Violation
from penstock.testing.simulated_cluster.clients import RETRIABLE, TOPIC, Clients, Unanswered

if TYPE_CHECKING:
    from collections.abc import Collection

GROUP = "w"
DEAD_TOPIC = "w.dlq"
LEASE_MS = 1_000
SETTINGS = QueueSettings(
    lease_ms=LEASE_MS,
    in_flight_max=200,
    deliveries_max=3,
    backoff=Backoff(initial_ms=50, factor=2.0, max_ms=200, jitter=0.1),
)
# Brokers' clocks run at rates of their own.
SURE_SECONDS = LEASE_MS / 1000 * 0.8
RETRY_SECONDS = 0.1
# While the shard is being founded, and where the declaration of the group was lost with its leader.
NOT_YET = frozenset({ErrorCode.UNSUPPORTED_VERSION, ErrorCode.GROUP_ID_NOT_FOUND})
MESSAGES_MAX = 20


class QueueBook:
    """What all members were given and told. Times are true ones, in seconds."""

    def __init__(self) -> None:
        self.declared = False
        self.drained = False
        self.leased = 0
        # When it was answered that a message is acknowledged.
        self.done: dict[bytes, float] = {}
        # Of these it was asked for, and nobody knows.
        self.maybe: set[bytes] = set()
        # Until when nobody else may hold a message.
        self._sure: dict[bytes, float] = {}

    def given(self, value: bytes, asked: float, now: float) -> None:
        """A member has it, and asked for it at `asked`. Raises Violation."""
        self.leased += 1
        done = self.done.get(value)
        if done is not None and asked > done:
            raise Violation(f"message {value[:10]!r} came again after its acknowledgement was answered")
        if self._sure.get(value, 0.0) > now:
            raise Violation(f"message {value[:10]!r} was given to somebody while another held it")
        self._sure[value] = asked + SURE_SECONDS

    def begins_to_settle(self, value: bytes) -> None:
        """Its holder is not sure of it any more."""
        self._sure.pop(value, None)

    def acknowledged(self, value: bytes, now: float) -> None:
        """It was answered so. Raises Violation."""
        if value in self.done:
            raise Violation(f"message {value[:10]!r} was acknowledged twice")
        self.done[value] = now

    def check(self, values: Collection[bytes], dead: list[bytes]) -> None:
        """Nothing is left to do. Raises Violation unless every message came to one end."""
        if len(dead) != len(set(dead)):
            raise Violation("a dead letter was written twice")
        both = self.done.keys() & set(dead)
        if both:
            raise Violation(f"{len(both)} messages are acknowledged and dead")
        lost = set(values) - self.done.keys() - self.maybe - set(dead)
        if lost:
            raise Violation(
                f"{len(lost)} of {len(values)} messages are lost to the group, as {min(lost)[:10]!r}"
            )


class QueueMember:
    """One member. It goes on after the others have stopped, until nothing is left."""

    def __init__(self, clients: Clients, book: QueueBook) -> None:
        self._clients = clients
        self._book = book
        self._chance = clients.chance

    async def run(self) -> None:
        """Until nothing is left to do."""
        while not self._book.drained:
            try:
                if not self._book.declared:
                    await self._declare()
                else:
                    await self._work()
            except PenstockError as error:
                if error.code not in RETRIABLE | NOT_YET:
                    raise Violation(f"a member was refused: {error.code.name}: {error.sentence}") from error
                await asyncio.sleep(RETRY_SECONDS)
            except Unanswered:
                continue
            await asyncio.sleep(self._chance.random() * self._clients.shape.pause_seconds)

    async def _declare(self) -> None:
        async def declare(broker: SimulatedBroker) -> bool:
            # Wall clocks jump by days here: retention would take dead letters.
            new = NewTopic(DEAD_TOPIC, 1, config={"retention.ms": "-1"})
            (made,) = await broker.topics.create_topics(CONTEXT, [new])
            if made.error not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                raise PenstockError(made.error, made.message or "")
            start = StartPosition(at="earliest")
            return await broker.groups.declare(CONTEXT, GROUP, "queue", [TOPIC], start, SETTINGS)

        await self._clients.ask(self._clients.any_broker(), declare)
        self._book.declared = True

    async def _work(self) -> None:
        clients, book = self._clients, self._book
        asked = clients.agenda.now
        request = LeaseRequest(
            GROUP, self._chance.randint(1, MESSAGES_MAX), wait_ms=self._chance.choice((0, 200))
        )

        async def lease(broker: SimulatedBroker) -> Leased:
            return await broker.queues.lease(CONTEXT, request)

        leased = await clients.ask(clients.any_broker(), lease)
        now = clients.agenda.now
        mine = {message.receipt: message.record.value or b"" for message in leased.messages}
        for value in mine.values():
            book.given(value, asked, now)
        if not mine and clients.stopped:
            await self._look()
        fates: dict[str, list[str]] = {}
        for receipt in mine:
            (fate,) = self._chance.choices(
                ("acknowledge", "reject", "give up", "release", "forget"), (75, 10, 2, 5, 8)
            )
            fates.setdefault(fate, []).append(receipt)
        for fate, receipts in fates.items():
            if fate != "forget":
                await self._settle(fate, receipts, mine)

    async def _settle(self, fate: str, receipts: list[str], mine: dict[str, bytes]) -> None:
        clients, book = self._clients, self._book

        async def settle(broker: SimulatedBroker) -> list[ReceiptResult]:
            if fate == "acknowledge":
                return await broker.queues.acknowledge(CONTEXT, GROUP, receipts)
            if fate == "release":
                return await broker.queues.release(CONTEXT, GROUP, receipts)
            return await broker.queues.reject(CONTEXT, GROUP, receipts, retry=fate == "reject")

        for receipt in receipts:
            book.begins_to_settle(mine[receipt])
        try:
            results = await clients.ask(clients.any_broker(), settle)
        except (PenstockError, Unanswered):
            if fate == "acknowledge":
                book.maybe.update(mine[receipt] for receipt in receipts)
            raise
        for receipt, error, _ in results:
            if fate == "acknowledge" and error is ErrorCode.NONE:
                book.acknowledged(mine[receipt], clients.agenda.now)

    async def _look(self) -> None:
        async def look(broker: SimulatedBroker) -> bool:
            detail = await broker.groups.detail(CONTEXT, GROUP)
            queues = broker.queues_machine
            return detail.overview.lag == 0 and not queues.outbox_topics(GROUP)

        self._book.drained = await self._clients.ask(self._clients.any_broker(), look)


async def check_queue(leader: SimulatedBroker, clients: Clients, book: QueueBook) -> None:
    """Raises Violation unless every message came to one end."""
    values = [value for key in clients.keys for value in clients.checks.values.get(key, ())]
    book.check(values, await _dead_values(leader))


async def _dead_values(leader: SimulatedBroker) -> list[bytes]:
    """The values of all dead letters."""
    partition = leader.shard.table.get(DEAD_TOPIC, 0)
    found: list[bytes] = []
    while partition is not None and len(found) < partition.high_watermark:
        asked = FetchPartition(DEAD_TOPIC, 0, len(found), 10_000)
        (result,) = await leader.data.fetch(CONTEXT, [asked], min_bytes=1, max_bytes=1 << 20, max_wait_ms=0)
        if result.error is not ErrorCode.NONE or not result.records:
            raise Violation(f"the dead letters cannot be read back: {result.error.name}")
        for view in split_batches(memoryview(b"".join(result.records))):
            for record in read_records(view):
                if record.offset == len(found):
                    found.append(record.value or b"")
    return found
