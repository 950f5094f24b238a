"""Writes a group's dead letters to their topic, each exactly once.

That a message is given up is committed first, with a number that has no gaps. Then it is written by an idempotent producer
that belongs to the group, with that number as its sequence, so that whoever leads next may write it again: the partition
knows what it holds. Only when it is committed there is the letter struck from the outbox. All of a topic's dead letters go to
its partition 0, one after the other, never more at a time than a partition remembers of a producer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final

import msgspec

from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.delivery.commands import QueueBuried, QueueProducerAssigned
from penstock.delivery.messages import DeadLetter
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.api import AppendResult, DataService, NewTopic, ProduceBatches, TopicService
from penstock.service.context import RequestContext
from penstock.service.queue_ports import QueueHouse
from penstock.service.queue_reading import Place
from penstock.session.producers import BATCHES_REMEMBERED, SEQUENCE_MODULUS, ProducerSessions

_log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
"""How long a topic that takes no dead letters now is left alone."""

WRITE_TIMEOUT_MS: Final = 30_000
"""How long one write waits to be committed before it is tried again."""

_TOPIC_DELETED: Final = "its topic was deleted"
HEADER_PREFIX: Final = "penstock-dlq-"
CONTEXT: Final = RequestContext("internal", "queue", client_id="dead-letters")


class OutboxDoors(msgspec.Struct, frozen=True):
    """What the outboxes of a shard use to write."""

    data: DataService
    topics: TopicService
    producers: ProducerSessions
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Outbox:
    """One group's. `on_buried` is called when there is room for other messages again. `wake` after dead letters were committed; one task at a time works until there are none."""

    def __init__(
        self, group: str, house: QueueHouse, doors: OutboxDoors, on_buried: Callable[[], None]
    ) -> None:
        self._group = group
        self._on_buried = on_buried
        self._house = house
        self._doors = doors
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There may be something to write."""
        if self._task is None and self._house.machine.outbox_topics(self._group):
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Somebody else writes from now on, or nobody."""
        if self._task is not None:
            self._task.remove_done_callback(self._ended)
            self._task.cancel()
            self._task = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.result()  # A fault of ours goes to the loop's exception handler.
            self.wake()

    async def _run(self) -> None:
        while topics := self._house.machine.outbox_topics(self._group):
            failed = False
            for topic in topics:
                try:
                    await self._bury(topic)
                except PenstockError as error:
                    failed = True
                    _log.warning(
                        "dead letters wait: topic=%s group=%r reason=%s", topic, self._group, error.sentence
                    )
            if failed:
                await self._doors.sleep(RETRY_SECONDS)

    async def _bury(self, topic: str) -> None:
        """Writes the next few dead letters. Raises PenstockError."""
        machine = self._house.machine
        letters = list(islice(machine.outbox(self._group, topic), BATCHES_REMEMBERED))
        if not letters:
            return
        await self._make(topic)
        producer = await self._producer()
        batches = [await self._batch(letter, producer) for letter in letters]
        written = await self._write(topic, batches)
        if written:
            end = letters[written - 1].sequence + 1
            now_ms = self._house.time.now_ms()
            await self._house.log.propose([QueueBuried(self._group, now_ms, topic, end)])
            self._house.counters.dead_lettered += written
            self._on_buried()

    async def _make(self, topic: str) -> None:
        if self._house.partitions.of(topic):
            return
        [made] = await self._doors.topics.create_topics(CONTEXT, [NewTopic(topic, partitions=1)])
        if made.error not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            raise PenstockError(made.error, made.message or f"{made.error.name} for {topic}")

    async def _producer(self) -> int:
        known = self._house.machine.producer_id(self._group)
        if known is not None:
            return known
        producer, allocated = self._doors.producers.decide_allocate()
        assigned = QueueProducerAssigned(self._group, self._house.time.now_ms(), producer)
        await self._house.log.propose([allocated, assigned])
        return producer

    # --- writing ---------------------------------------------------------------------------------

    async def _write(self, topic: str, batches: Sequence[tuple[bytes, bytes]]) -> int:
        """How many, from the first on, are committed. Raises PenstockError when not even one is. Each is (the batch, the same
        without what may make it too large)."""
        writes: list[asyncio.Future[list[AppendResult]]] = []
        for batch, smaller in batches:
            write = self._produce(topic, batch)
            if _refusal(write) is ErrorCode.MESSAGE_TOO_LARGE:
                write = self._produce(topic, smaller)
            writes.append(write)
            if _refusal(write) is not ErrorCode.NONE:
                # What follows must not be written before it.
                break
        written = 0
        for write in writes:
            [result] = await write
            if result.error is not ErrorCode.NONE:
                if not written:
                    raise PenstockError(result.error, result.message or result.error.name)
                break
            written += 1
        return written

    def _produce(self, topic: str, batch: bytes) -> asyncio.Future[list[AppendResult]]:
        item = ProduceBatches(topic, 0, memoryview(batch))
        return asyncio.ensure_future(self._doors.data.produce(CONTEXT, [item], -1, WRITE_TIMEOUT_MS))

    async def _batch(self, letter: DeadLetter, producer: int) -> tuple[bytes, bytes]:
        original, problem = await self._original(letter)
        options = BatchOptions(
            producer_id=producer, producer_epoch=0, base_sequence=letter.sequence % SEQUENCE_MODULUS
        )
        return (
            build_batch([_buried(self._group, letter, original, problem)], 0, options),
            build_batch(
                [_buried(self._group, letter, None, "the message is larger than the topic allows")],
                0,
                options,
            ),
        )

    async def _original(self, letter: DeadLetter) -> tuple[Record | None, str]:
        """The message, or why it cannot be had."""
        if letter.gone:
            return None, _TOPIC_DELETED
        partition = next(
            (each for each in self._house.partitions.of(letter.topic) if each.number == letter.partition),
            None,
        )
        if partition is None:
            return None, _TOPIC_DELETED
        place = Place(partition.key, letter.topic, letter.partition)
        read = await self._house.reader.read(place, [letter.offset], 1)
        if read.found:
            return read.found[0], ""
        return None, "it cannot be read" if read.unreadable else "it fell out of its partition"


def _refusal(write: asyncio.Future[list[AppendResult]]) -> ErrorCode:
    """Why nothing was appended; NONE while that is not known."""
    return write.result()[0].error if write.done() else ErrorCode.NONE


def _buried(group: str, letter: DeadLetter, original: Record | None, problem: str) -> Record:
    """The dead letter. It is as old as its last failure, so that the topic's retention begins there."""
    told = {
        "cause": letter.cause,
        "deliveries": str(letter.deliveries),
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "first-failure": str(letter.first_failure_ms),
        "last-failure": str(letter.last_failure_ms),
        "group": group,
    }
    if original is not None:
        told["timestamp"] = str(original.timestamp)
    if problem:
        told["problem"] = problem
    kept = original.headers if original is not None else ()
    headers = [(name, value) for name, value in kept if not name.startswith(HEADER_PREFIX)]
    headers += [(HEADER_PREFIX + name, text.encode()) for name, text in told.items()]
    return Record(
        None if original is None else original.key,
        None if original is None else original.value,
        letter.last_failure_ms,
        tuple(headers),
    )
