"""Several clients that append and read at once, and write down every outcome.

A client is one logical process: it has one operation under way. After an append with an unknown outcome it goes on under
a new number, because the old one's operation never ended. Appends are never repeated under the same value, so the model
is simply a list. Beside these clients, every broker of several has a reader that asks it alone, whatever the metadata say:
it finds the leader that was deposed and does not know it yet. With `idempotent`, a producer repeats an append with its
sequence number until it has an answer: the whole of it is one operation, and a value that is stored twice is a violation.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from lin_client import AnomalyError, Beyond, LogClient, Producer, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lin_client import Address
    from penstock.testing.history import History

TOPIC = "linear"
APPENDS, ENDS = 0.5, 0.15
"""Parts of all operations; the rest are reads."""
REACH_BACK = 6
"""A read begins at most so many offsets before the highest end that anybody saw."""
BACK_OFF_S = 0.05
IDEMPOTENT_TRY_S = 10.0
"""How long an idempotent producer repeats one append before it gives up, and itself."""
SETTLE_TIMEOUT_S = 30.0
BROKEN_PRODUCER = frozenset(
    {"OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "INVALID_PRODUCER_EPOCH", "DUPLICATE_SEQUENCE_NUMBER"}
)  # fmt: skip
"""What a producer is never told that has one append under way and no gap: the broker forgot what it had stored."""


@dataclass(frozen=True)
class Load:
    """Who works: `clients` of them, pausing for up to `think_s` between operations on `partitions` partitions."""

    clients: int = 6
    partitions: int = 3
    think_s: float = 0.03
    idempotent: bool = False


@dataclass
class _Identity:
    """An idempotent producer of one client, and its next sequence number by partition."""

    producer: Producer
    sequences: dict[int, int] = field(default_factory=dict)


class Workload:
    """The clients of one run. `appended` counts acknowledged appends, `was_read` reads that were answered, `ended` all
    operations that ended in any way."""

    def __init__(self, history: History, brokers: Sequence[Address], load: Load, seed: int) -> None:
        self.appended = 0
        self.was_read = 0
        self.ended = 0
        self._history = history
        self._brokers = brokers
        self._load = load
        self._seed = seed
        self._values = itertools.count(1)
        self._clients = itertools.count()
        self._ends = dict.fromkeys(range(load.partitions), 0)
        self._moved = asyncio.Event()

    async def create_topic(self) -> None:
        """Makes the topic, and waits until every partition takes appends. Raises TimeoutError."""
        with self._client(Random(self._seed)) as client:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while True:
                    try:
                        await client.create_topic(self._load.partitions)
                        break
                    except Refused:
                        await asyncio.sleep(BACK_OFF_S)
                await self._append_to_all(client)

    async def run(self, until: asyncio.Event) -> None:
        """All clients at once. Raises AnomalyError."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._load.clients):
                group.create_task(self._work(Random(f"{self._seed}-{number}"), until))
            if len(self._brokers) > 1:
                for broker in self._brokers:
                    group.create_task(self._read_one_broker(Random(f"{self._seed}-{broker}"), broker, until))

    async def settle(self) -> None:
        """After the faults: one more append to every partition, then a read of everything, so that what was lost shows.

        Raises TimeoutError when the brokers do not get there.
        """
        with self._client(Random(self._seed)) as client:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                await self._append_to_all(client)
                for partition in self._ends:
                    await self._read_all(client, partition)

    async def until_all_appended(self, timeout_s: float) -> None:
        """Waits for an append that began after now and is acknowledged. Raises TimeoutError."""
        await self.until_appended(self._load.clients + 1, timeout_s)

    async def until_appended(self, count: int, timeout_s: float) -> None:
        """Waits for so many more acknowledged appends. Raises TimeoutError."""
        wanted = self.appended + count
        async with asyncio.timeout(timeout_s):
            while self.appended < wanted:
                await self._moved.wait()

    async def until_ended(self, count: int, timeout_s: float) -> None:
        """Waits until so many more operations ended in any way. Raises TimeoutError."""
        wanted = self.ended + count
        async with asyncio.timeout(timeout_s):
            while self.ended < wanted:
                await self._moved.wait()

    # --- one client ------------------------------------------------------------------------------

    @contextmanager
    def _client(self, random: Random, stubborn: Address | None = None) -> Iterator[LogClient]:
        client = LogClient(self._brokers, TOPIC, random, stubborn)
        try:
            yield client
        finally:
            client.close()

    async def _work(self, random: Random, until: asyncio.Event) -> None:
        number = next(self._clients)
        identity: _Identity | None = None
        with self._client(random) as client:
            while not until.is_set():
                await asyncio.sleep(random.uniform(0, self._load.think_s))
                partition = random.randrange(self._load.partitions)
                chance = random.random()
                try:
                    if chance < APPENDS and self._load.idempotent:
                        identity = identity or _Identity(await client.new_producer())
                        await self._append_once(client, number, partition, identity)
                    elif chance < APPENDS:
                        await self._append(client, number, partition)
                    elif chance < APPENDS + ENDS:
                        await self._end(client, number, partition)
                    else:
                        await self._read(client, number, partition, self._near_end(random, partition))
                except Refused as error:
                    if not error.sure:
                        number, identity = next(self._clients), None
                    await asyncio.sleep(BACK_OFF_S)

    async def _read_one_broker(self, random: Random, broker: Address, until: asyncio.Event) -> None:
        number = next(self._clients)
        with self._client(random, broker) as client:
            while not until.is_set():
                await asyncio.sleep(random.uniform(0, self._load.think_s))
                partition = random.randrange(self._load.partitions)
                try:
                    if random.random() < ENDS:
                        await self._end(client, number, partition)
                    else:
                        await self._read(client, number, partition, self._near_end(random, partition))
                except Refused:
                    continue  # It follows, or is not there.

    async def _append(self, client: LogClient, number: int, partition: int) -> None:
        value = next(self._values)
        operation = self._history.append(number, partition, value)
        try:
            offset = await client.append(partition, value)
        except Refused as error:
            self._refused(operation, error)
            raise
        self._acknowledged(operation, partition, offset)

    async def _append_once(self, client: LogClient, number: int, partition: int, identity: _Identity) -> None:
        value = next(self._values)
        sequence = identity.sequences.get(partition, 0)
        operation = self._history.append(number, partition, value)
        deadline = asyncio.get_running_loop().time() + IDEMPOTENT_TRY_S
        sure = True
        while True:
            try:
                offset = await client.append(partition, value, identity.producer, sequence)
                break
            except Refused as error:
                if str(error) in BROKEN_PRODUCER:
                    raise AnomalyError(f"{error} for sequence {sequence} of {identity.producer}") from error
                sure = sure and error.sure
                if asyncio.get_running_loop().time() > deadline:
                    given_up = Refused(str(error), sure=sure)
                    self._refused(operation, given_up)
                    # Whether this sequence number is taken is not known either: a new producer goes on.
                    raise Refused(str(error), sure=False) from error
            await asyncio.sleep(BACK_OFF_S)
        identity.sequences[partition] = sequence + 1
        self._acknowledged(operation, partition, offset)

    def _near_end(self, random: Random, partition: int) -> int:
        return max(0, self._ends[partition] - random.randrange(REACH_BACK))

    async def _read(self, client: LogClient, number: int, partition: int, offset: int) -> int:
        """Returns the first offset that was not read."""
        operation = self._history.read(number, partition, offset)
        try:
            values, end = await client.read(partition, offset)
        except Refused as error:
            self._refused(operation, error)
            raise
        except Beyond:
            self._history.was_beyond(operation)
            self._has_ended()
            return offset
        self._history.was_read(operation, values, end)
        self.was_read += 1
        self._has_ended()
        self._ends[partition] = max(self._ends[partition], end)
        return offset + len(values)

    async def _end(self, client: LogClient, number: int, partition: int) -> None:
        operation = self._history.end(number, partition)
        try:
            end = await client.end(partition)
        except Refused as error:
            self._refused(operation, error)
            raise
        self._history.had_end(operation, end)
        self._has_ended()
        self._ends[partition] = max(self._ends[partition], end)

    async def _append_to_all(self, client: LogClient) -> None:
        for partition in self._ends:
            while True:
                try:
                    await self._append(client, next(self._clients), partition)
                    break
                except Refused:
                    await asyncio.sleep(BACK_OFF_S)

    async def _read_all(self, client: LogClient, partition: int) -> None:
        offset = 0
        while True:
            try:
                after = await self._read(client, next(self._clients), partition, offset)
            except Refused:
                await asyncio.sleep(BACK_OFF_S)
                continue
            if after == offset:
                return
            offset = after

    # --- the books -------------------------------------------------------------------------------

    def _has_ended(self) -> None:
        self.ended += 1
        self._moved.set()
        self._moved = asyncio.Event()

    def _acknowledged(self, operation: int, partition: int, offset: int) -> None:
        self._history.appended(operation, offset)
        self.appended += 1
        self._has_ended()
        self._ends[partition] = max(self._ends[partition], offset + 1)

    def _refused(self, operation: int, error: Refused) -> None:
        if error.sure:
            self._history.failed(operation, str(error))
        else:
            self._history.unknown(operation, str(error))
        self._has_ended()
