"""Producers, consumers and who trims: clients that look for the leader, retry, and remember what they were told.

A request travels to a broker, is served on its loop by the same services that listeners use, and its answer travels
back; either may be lost with the broker. Clients run on a loop of their own that nothing ever kills.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from penstock.codec.records import BatchOptions, Record, build_batch, read_records, split_batches
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.api import FetchPartition, NewTopic, ProduceBatches
from penstock.service.group_api import OffsetToCommit
from penstock.testing.simulated_cluster.agenda import Agenda
from penstock.testing.simulated_cluster.broker import CONTEXT, SimulatedBroker
from penstock.testing.simulated_cluster.checks import Checks, Violation
from penstock.testing.simulated_cluster.shapes import Shape
from penstock.testing.simulated_cluster.virtual_loop import VirtualLoop

T = TypeVar("T")

TOPIC = "t"
LATENCY_SECONDS_MAX = 0.002
REQUEST_SECONDS_MAX = 1.5
RETRY_SECONDS = 0.1
# Answers after which the same request may succeed elsewhere or later.
RETRIABLE = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.LEADER_NOT_AVAILABLE,
    }
)

Serve = Callable[[SimulatedBroker], Awaitable[T]]


class Unanswered(Exception):  # noqa: N818 (not a defect: the fate of the request is not known)
    """No answer came."""


class Clients:
    """What all clients share: the way to the brokers, the judge, and what was promised. There is one topic."""

    def __init__(
        self,
        agenda: Agenda,
        chance: random.Random,
        brokers: list[SimulatedBroker],
        checks: Checks,
        on_error: Callable[[BaseException], None],
        shape: Shape,
    ) -> None:
        self.agenda = agenda
        self.chance = chance
        self.brokers = brokers
        self.checks = checks
        self.loop = VirtualLoop(agenda, chance, on_error=on_error)  # type: ignore[abstract]
        self.shape = shape
        self.topic_partitions = shape.partitions
        self.keys: list[int] = []
        self.stopped = False
        self.acknowledged = 0
        self.read = 0
        self.answers_lost = 0.0
        # Positions by partition: the one acknowledged last, and every one that was tried since.
        self.positions: dict[int, tuple[int, set[int]]] = {}
        # Partitions' ends that somebody was told of, by an acknowledgement or a read.
        self.ends: dict[int, int] = {}
        # How often the end of what was acknowledged went.
        self.losses = 0
        # Whether a leader may read under a lease that was broken by others than the brokers.
        self.lease_in_doubt: Callable[[], bool] = lambda: False
        # Log starts that were asked for.
        self.trimmed: dict[int, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._values = 0

    def start(self) -> None:
        """Begins everybody's work."""
        with self.loop.running():
            self._tasks.append(self.loop.create_task(self._work()))

    async def _work(self) -> None:
        await self._make_topic()
        for number in range(self.shape.producers):
            producer = Producer(self, idempotent=number < self.shape.idempotent)
            self._tasks.append(self.loop.create_task(producer.run()))
        self._tasks.append(self.loop.create_task(Consumer(self).run()))
        if self.shape.trims:
            self._tasks.append(self.loop.create_task(self._trim()))

    def write_alone(self, broker: SimulatedBroker, batches: int) -> None:
        """Clients of this broker's side write so many batches for which one copy is enough."""
        if self.keys:
            with self.loop.running():
                self._tasks.append(self.loop.create_task(self._write_alone(broker, batches)))

    async def _write_alone(self, broker: SimulatedBroker, batches: int) -> None:
        for _ in range(batches):
            batch = bytes(build_batch([Record(value=self.value(), timestamp=1000)], 0, BatchOptions()))

            async def produce(broker: SimulatedBroker, batch: bytes = batch) -> ErrorCode:
                item = ProduceBatches(TOPIC, 0, memoryview(batch))
                (result,) = await broker.data.produce(CONTEXT, [item], 1, 1000)
                return result.error

            try:
                if await self.ask(broker, produce) is not ErrorCode.NONE:
                    return
            except (PenstockError, Unanswered):
                return

    def employ(self, work: Coroutine[Any, Any, None]) -> None:
        """Somebody else works beside them."""
        with self.loop.running():
            self._tasks.append(self.loop.create_task(work))

    @property
    def done(self) -> bool:
        """Whether everybody has finished what was begun."""
        return all(task.done() for task in self._tasks)

    async def _make_topic(self) -> None:
        while not self.stopped:

            async def create(broker: SimulatedBroker) -> list[int]:
                new = NewTopic(TOPIC, self.topic_partitions, config={"retention.ms": "-1"})
                (outcome,) = await broker.topics.create_topics(CONTEXT, [new])
                if outcome.error not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                    raise PenstockError(outcome.error, outcome.message or "")
                table = broker.shard.table
                return [table.require(TOPIC, number).key for number in range(self.topic_partitions)]

            try:
                self.keys = await self.ask(self.any_broker(), create)
            except (PenstockError, Unanswered):
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def told_end(self, number: int, end: int) -> None:
        """No read that is asked for from now on may end before it."""
        self.ends[number] = max(self.ends.get(number, 0), end)

    def lost(self) -> None:
        """The end of what was acknowledged is gone, by a promise that was no better: others ends and positions are known."""
        self.ends = {}
        self.losses += 1

    def value(self) -> bytes:
        """One that nobody wrote before."""
        self._values += 1
        return b"%d:" % self._values + bytes(self.chance.randint(0, 300))

    # --- requests --------------------------------------------------------------------------------

    def any_broker(self) -> SimulatedBroker:
        """The one that leads as far as one can see from outside, most of the time."""
        if self.chance.random() < 0.8:
            leading = [broker for broker in self.brokers if broker.up and broker.shard.leading]
            if leading:
                return self.chance.choice(leading)
        return self.chance.choice(self.brokers)

    async def ask(self, broker: SimulatedBroker, serve: Serve[T]) -> T:
        """Has a request served. Raises PenstockError as the broker does, and Unanswered."""
        answer: asyncio.Future[T] = self.loop.create_future()
        self.agenda.after(self._latency(), self._arrive, broker, serve, answer)
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                return await answer
        except TimeoutError:
            raise Unanswered from None

    def _latency(self) -> float:
        return self.chance.random() * LATENCY_SECONDS_MAX

    def _arrive(self, broker: SimulatedBroker, serve: Serve[T], answer: asyncio.Future[T]) -> None:
        loop = broker.loop
        if loop is None or loop.dead:
            self.agenda.after(self._latency(), _give, answer, None, Unanswered())
            return

        async def run() -> T:
            return await serve(broker)

        def served(task: asyncio.Task[T]) -> None:
            if task.cancelled() or loop.dead:
                return
            error = task.exception()
            if isinstance(error, PenstockError | None):
                if self.chance.random() >= self.answers_lost:
                    self.agenda.after(self._latency(), _give, answer, None if error else task.result(), error)
            else:
                loop.call_exception_handler({"message": "", "exception": error})

        with loop.running():
            loop.create_task(run()).add_done_callback(served)

    async def _trim(self) -> None:
        while not self.stopped:
            await asyncio.sleep(self.chance.random() * 2)
            number = self.chance.randrange(self.topic_partitions)
            target = int(len(self.checks.values.get(self.keys[number], ())) * self.chance.random() ** 0.3)
            self.trimmed[number] = max(self.trimmed.get(number, 0), target)

            async def trim(broker: SimulatedBroker, number: int = number, target: int = target) -> Any:
                return await broker.data.delete_records(CONTEXT, [(TOPIC, number, target)], 1000)

            try:
                await self.ask(self.any_broker(), trim)
            except (PenstockError, Unanswered):
                continue


def _give(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


class _Batch(msgspec.Struct):
    """What a producer has under way in a partition; `data` is sent again as it is."""

    values: list[bytes]
    data: bytes


class Producer:
    """Writes one batch after the other, and sends an idempotent one again until it is acknowledged."""

    def __init__(self, clients: Clients, *, idempotent: bool) -> None:
        self._clients = clients
        self._chance = clients.chance
        self._idempotent = idempotent
        self._producer_id = -1
        self._sequences = [0] * clients.topic_partitions

    async def run(self) -> None:
        """Until the clients are stopped."""
        clients = self._clients
        while not clients.stopped:
            try:
                if self._idempotent and self._producer_id < 0:
                    await self._become_known()
                    continue
                await self._write()
            except Unanswered:
                continue
            except PenstockError as error:
                if error.code not in RETRIABLE:
                    raise Violation(f"a producer was refused: {error.code.name}: {error.sentence}") from error
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(self._chance.random() * clients.shape.pause_seconds)

    async def _become_known(self) -> None:
        async def init(broker: SimulatedBroker) -> tuple[int, int]:
            return await broker.data.init_producer_id(CONTEXT, None, -1, -1)

        self._producer_id, _ = await self._clients.ask(self._clients.any_broker(), init)

    async def _write(self) -> None:
        clients = self._clients
        number = self._chance.randrange(clients.topic_partitions)
        values = [clients.value() for _ in range(self._chance.randint(1, 3))]
        options = BatchOptions()
        if self._idempotent:
            sequence = self._sequences[number]
            options = BatchOptions(producer_id=self._producer_id, producer_epoch=0, base_sequence=sequence)
        records = [Record(value=value, timestamp=1000) for value in values]
        batch = _Batch(values, bytes(build_batch(records, 0, options)))
        while True:
            try:
                await self._send(number, batch)
            except (PenstockError, Unanswered) as error:
                retriable = isinstance(error, Unanswered) or error.code in RETRIABLE
                if not self._idempotent or not retriable or clients.stopped:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._sequences[number] += len(values)
                return

    async def _send(self, number: int, batch: _Batch) -> None:
        clients = self._clients
        acks = -1 if self._chance.random() < 0.8 else self._chance.choice((0, 1))
        if self._idempotent:
            acks = -1

        async def produce(broker: SimulatedBroker) -> int:
            item = ProduceBatches(TOPIC, number, memoryview(batch.data))
            (result,) = await broker.data.produce(CONTEXT, [item], acks, 1000)
            if result.error is not ErrorCode.NONE:
                raise PenstockError(result.error, result.message or "")
            if acks == -1:
                # Judged here and now: the answer is about to leave.
                clients.checks.observe(broker)
                clients.checks.acknowledged(clients.keys[number], result.base_offset, batch.values)
                clients.acknowledged += len(batch.values)
            return result.base_offset + len(batch.values)

        ends = clients.ends
        end = await clients.ask(clients.any_broker(), produce)
        if acks == -1 and clients.ends is ends:
            clients.told_end(number, end)


class Consumer:
    """Reads every partition in order, and commits where it is."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._chance = clients.chance
        self._offsets = [0] * clients.topic_partitions

    async def run(self) -> None:
        """Until the clients are stopped."""
        clients = self._clients
        while not clients.stopped:
            number = self._chance.randrange(clients.topic_partitions)
            try:
                await self._read(number)
                if self._chance.random() < 0.3:
                    await self._commit(number)
            except Unanswered:
                continue
            except PenstockError as error:
                if error.code not in RETRIABLE:
                    raise Violation(f"a consumer was refused: {error.code.name}: {error.sentence}") from error
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(self._chance.random() * clients.shape.pause_seconds)

    async def _read(self, number: int) -> None:
        clients = self._clients
        ends = clients.ends
        told = ends.get(number, 0)

        async def fetch(broker: SimulatedBroker) -> tuple[int, int]:
            offset = self._offsets[number]
            asked = FetchPartition(TOPIC, number, offset, self._chance.randint(1, 4000))
            (result,) = await broker.data.fetch(
                CONTEXT, [asked], min_bytes=1, max_bytes=1 << 20, max_wait_ms=self._chance.choice((0, 200))
            )
            if result.error not in (ErrorCode.NONE, ErrorCode.OFFSET_OUT_OF_RANGE):
                raise PenstockError(result.error, "")
            end = result.high_watermark
            if clients.ends is not ends:
                # Something was lost while a slow disk or thread held this up: it may be what there was before.
                return offset, end
            # Where a connection was cut, a member may have elected somebody before the lease of a leader ran out that does not
            # hear of the cut.
            if end < told and not clients.lease_in_doubt():
                raise Violation(f"a read of partition {number} ended at {end}, {told} was known before")
            if result.error is ErrorCode.OFFSET_OUT_OF_RANGE:
                if offset > end and clients.losses:
                    return end, end
                if result.log_start_offset > clients.trimmed.get(number, 0):
                    raise Violation(f"partition {number} begins at {result.log_start_offset} unasked")
                return max(result.log_start_offset, offset), end
            clients.checks.observe(broker)
            for view in split_batches(memoryview(b"".join(result.records))):
                for record in read_records(view):
                    clients.checks.read(clients.keys[number], record.offset, record.value or b"")
                    if record.offset >= offset:
                        if record.offset > offset:
                            raise Violation(f"partition {number} offset {offset} was passed over")
                        offset += 1
                        clients.read += 1
            return offset, end

        self._offsets[number], end = await clients.ask(clients.any_broker(), fetch)
        if clients.ends is ends:
            clients.told_end(number, end)

    async def _commit(self, number: int) -> None:
        clients, offset = self._clients, self._offsets[number]
        _, tried = clients.positions.setdefault(number, (-1, set()))
        tried.add(offset)

        async def commit(broker: SimulatedBroker) -> None:
            asked = OffsetToCommit(TOPIC, number, offset)
            ((_, _, error),) = await broker.groups.commit_offsets(CONTEXT, "g", -1, "", None, [asked])
            if error is not ErrorCode.NONE:
                raise PenstockError(error, "")

        await clients.ask(clients.any_broker(), commit)
        clients.positions[number] = (offset, set())
