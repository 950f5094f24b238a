"""Messages that come one by one and land in one partition in the same loop turn become one record batch.

The first message of a turn arms a flush at the end of it; everything that was added until then is cut into batches
within named bounds and handed to the produce use-case in one call per (who asks, acks). A batch that the topic finds
too large is halved and sent again, as Kafka's own producer does, until a single message is too large by itself; order
within a partition is only promised for what one batch holds and for requests that wait for each other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.codec.records import Record, build_batch
from penstock.listeners.http.limits import (
    BATCH_BYTES_MAX,
    BATCH_MESSAGES_MAX,
    MESSAGES_PENDING_MAX,
    PRODUCE_TIMEOUT_MS,
)
from penstock.listeners.http.problems import RefusalError
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.api import AppendResult, ProduceBatches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock.listeners.http.content import OutgoingMessage
    from penstock.service.api import DataService
    from penstock.service.context import RequestContext

log = logging.getLogger("penstock.http")


class Stored(NamedTuple):
    """What became of one message; offset -1 when it was not waited for or not stored."""

    offset: int
    error: ErrorCode
    message: str | None


class Receipt:
    """The answers to the messages of one request; `done` when all of them are there."""

    __slots__ = ("_open", "done", "results")

    def __init__(self, messages: int) -> None:
        self._open = messages
        self.results: list[Stored | None] = [None] * messages
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, number: int, stored: Stored) -> None:
        """Notes the answer to one message; a second one is ignored."""
        if self.results[number] is None:
            self.results[number] = stored
            self._open -= 1
            if self._open == 0 and not self.done.done():
                self.done.set_result(None)


class _Batch(msgspec.Struct, gc=False):
    topic: str
    partition: int
    messages: list[OutgoingMessage]
    receipts: list[tuple[Receipt, int]]
    size: int = 0


class _Group(NamedTuple):
    """What may share one produce call."""

    principal: str
    acks: int


class Batcher:
    """Collects the messages of one loop turn. One task of its own per flush, waited for by `stop`."""

    def __init__(self, data: DataService, sent: Callable[[str], None]) -> None:
        self._data = data
        self._sent = sent
        self._open: dict[_Group, dict[tuple[str, int], list[_Batch]]] = {}
        self._contexts: dict[_Group, RequestContext] = {}
        self._sends: set[asyncio.Task[None]] = set()
        self._armed = False
        self.pending = 0

    def reserve(self, messages: int) -> None:
        """Makes room for a request's messages, or refuses when too many wait already. `release` gives it back."""
        if self.pending + messages > MESSAGES_PENDING_MAX:
            raise RefusalError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                f"{self.pending} messages wait for their acknowledgement; try again in a moment.",
            )
        self.pending += messages

    def release(self, messages: int) -> None:
        """A request's messages are answered."""
        self.pending -= messages

    def add(
        self,
        context: RequestContext,
        acks: int,
        place: tuple[str, int],
        message: OutgoingMessage,
        receipt: tuple[Receipt, int],
    ) -> None:
        """Puts a message into this turn's batch of its place (topic, partition); the receipt's entry is its answer."""
        group = _Group(context.principal, acks)
        self._contexts.setdefault(group, context)
        batches = self._open.setdefault(group, {}).setdefault(place, [])
        if not batches or not _fits(batches[-1], message):
            batches.append(_Batch(*place, [], []))
        batch = batches[-1]
        batch.messages.append(message)
        batch.receipts.append(receipt)
        batch.size += message.size
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def stop(self) -> None:
        """Waits for everything that was added. Nothing may be added afterwards."""
        self._flush()
        while self._sends:
            await asyncio.wait(self._sends)

    def _flush(self) -> None:
        self._armed = False
        groups, self._open = self._open, {}
        contexts, self._contexts = self._contexts, {}
        for group, partitions in groups.items():
            for topic, _ in partitions:
                self._sent(topic)
            batches = [batch for of_partition in partitions.values() for batch in of_partition]
            task = asyncio.create_task(self._send(contexts[group], group.acks, batches))
            self._sends.add(task)
            task.add_done_callback(self._sends.discard)

    async def _send(self, context: RequestContext, acks: int, batches: Sequence[_Batch]) -> None:
        try:
            for part in _rounds(batches):
                await self._produce(context, acks, part)
        except Exception:
            log.exception("produce failed")
        finally:
            # Whatever is still open here was not answered by the use-case: nobody may wait for ever.
            for batch in batches:
                _settle(batch, AppendResult(batch.topic, batch.partition, ErrorCode.UNKNOWN_SERVER_ERROR))

    async def _produce(self, context: RequestContext, acks: int, batches: Sequence[_Batch]) -> None:
        built: list[ProduceBatches] = []
        for batch in batches:
            built.append(ProduceBatches(batch.topic, batch.partition, memoryview(_build(batch))))
            # Building a thousand records takes milliseconds; others get their turn in between.
            await asyncio.sleep(0)
        try:
            results = await self._data.produce(context, built, acks, PRODUCE_TIMEOUT_MS)
        except PenstockError as error:
            results = [
                AppendResult(b.topic, b.partition, error.code, message=error.sentence) for b in batches
            ]
        for batch, result in zip(batches, results, strict=True):
            if result.error is ErrorCode.MESSAGE_TOO_LARGE and len(batch.messages) > 1:
                for half in _halves(batch):
                    await self._produce(context, acks, [half])
            else:
                _settle(batch, result)


def _settle(batch: _Batch, result: AppendResult) -> None:
    stored = result.error is ErrorCode.NONE and result.base_offset >= 0
    for number, (receipt, place) in enumerate(batch.receipts):
        offset = result.base_offset + number if stored else -1
        receipt.settle(place, Stored(offset, result.error, result.message))


def _fits(batch: _Batch, message: OutgoingMessage) -> bool:
    return len(batch.messages) < BATCH_MESSAGES_MAX and batch.size + message.size <= BATCH_BYTES_MAX


def _rounds(batches: Sequence[_Batch]) -> Iterator[list[_Batch]]:
    """Calls to be made one after the other, each with at most one batch per partition, so that order is kept."""
    by_partition: dict[tuple[str, int], list[_Batch]] = {}
    for batch in batches:
        by_partition.setdefault((batch.topic, batch.partition), []).append(batch)
    depth = max((len(of_partition) for of_partition in by_partition.values()), default=0)
    for number in range(depth):
        yield [of_partition[number] for of_partition in by_partition.values() if number < len(of_partition)]


def _halves(batch: _Batch) -> Iterator[_Batch]:
    middle = len(batch.messages) // 2
    yield _Batch(batch.topic, batch.partition, batch.messages[:middle], batch.receipts[:middle])
    yield _Batch(batch.topic, batch.partition, batch.messages[middle:], batch.receipts[middle:])


def _build(batch: _Batch) -> bytes:
    return build_batch(
        Record(message.key, message.value, message.timestamp, message.headers) for message in batch.messages
    )
