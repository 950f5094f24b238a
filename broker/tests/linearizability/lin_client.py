"""One client of a partitioned log that always knows what it does not know.

Ordinary clients retry behind the caller's back, so nobody can tell which request had which outcome. This one sends one
request for one call, over the bare wire, and sorts what can happen into three: an answer; a refusal that guarantees that
nothing was done (`Refused.sure`); everything else, which is unknown. An error code counts as sure only where the
protocol says that the broker looked at it before it appended anything.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.codec.kafka.generated import create_topics, list_offsets, metadata
from penstock.codec.records import BatchOptions, Record, build_batch, read_records, split_batches
from penstock.model.errors import ErrorCode
from penstock.testing.kafka_wire import KafkaWire, to_fetch, to_produce

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

PRODUCE, FETCH, LIST_OFFSETS, METADATA, INIT_PRODUCER_ID, CREATE_TOPICS = 9, 12, 7, 12, 4, 7
"""Versions of the requests."""

CONNECT_TIMEOUT_S = 0.5
REQUEST_TIMEOUT_S = 1.0
READ_BYTES_MAX = 1 << 20
LATEST = -1
NOTHING_APPENDED = frozenset({ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.NOT_ENOUGH_REPLICAS})
"""Refusals of a produce request that come before anything is appended. NOT_LEADER_OR_FOLLOWER is not among them: a
leader that appended and then lost its leadership answers with it too."""

Address = tuple[str, int]


class Refused(Exception):  # noqa: N818 - an outcome, not a mistake
    """No answer. `sure`: nothing was done and nothing will be."""

    def __init__(self, reason: str, *, sure: bool) -> None:
        super().__init__(reason)
        self.sure = sure


class Beyond(Exception):  # noqa: N818 - an outcome, not a mistake
    """The asked offset lies behind the end."""


class AnomalyError(AssertionError):
    """An answer that no broker may give, whatever happened."""


@dataclass(frozen=True)
class Producer:
    """Identity of an idempotent producer."""

    id: int
    epoch: int


class Links:
    """Connections to brokers, one each; a connection on which anything went wrong is thrown away."""

    def __init__(self) -> None:
        self._wires: dict[Address, KafkaWire] = {}

    async def ask(self, address: Address, api: str, version: int, **fields: Any) -> Any:
        """One request and its answer. Raises Refused; for sure only when there was no connection."""
        wire = self._wires.pop(address, None) or await self._connect(address)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                answer = await wire.ask(api, version, **fields)
        except BaseException as error:
            # Also when the task is cancelled: the answer may still come, and would be taken for the next one.
            wire.drop()
            if isinstance(error, OSError | EOFError | TimeoutError):
                raise Refused(f"{type(error).__name__} from {address[0]}", sure=False) from error
            raise
        self._wires[address] = wire
        return answer

    async def _connect(self, address: Address) -> KafkaWire:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await KafkaWire.connect(address)
        except (OSError, TimeoutError) as error:
            raise Refused(f"no connection to {address[0]}: {type(error).__name__}", sure=True) from error

    def close(self) -> None:
        """Drops all connections."""
        while self._wires:
            self._wires.popitem()[1].drop()


class LogClient:
    """Appends to and reads from `topic` at whoever leads, as the brokers' metadata say; with `stubborn`, at that broker
    whatever the metadata say. Not for concurrent calls."""

    def __init__(
        self, brokers: Sequence[Address], topic: str, random: Random, stubborn: Address | None = None
    ) -> None:
        self._brokers = list(brokers)
        self._topic = topic
        self._random = random
        self._stubborn = stubborn
        self._links = Links()
        self._leaders: dict[int, Address] = {}

    def close(self) -> None:
        """Drops all connections."""
        self._links.close()

    async def append(
        self, partition: int, value: int, producer: Producer | None = None, sequence: int = -1
    ) -> int:
        """The offset at which `value` was acknowledged by acks=all. Raises Refused."""
        identity = producer or Producer(-1, -1)
        options = BatchOptions(producer_id=identity.id, producer_epoch=identity.epoch, base_sequence=sequence)
        batch = build_batch(
            [Record(value=str(value).encode(), timestamp=time.time_ns() // 1_000_000)], options=options
        )
        answer = await self._ask_leader(
            partition,
            "Produce",
            PRODUCE,
            acks=-1,
            timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            topic_data=to_produce(self._topic, batch, partition),
        )
        found = answer.responses[0].partition_responses[0]
        self._check(partition, found.error_code, NOTHING_APPENDED)
        return int(found.base_offset)

    async def read(self, partition: int, offset: int) -> tuple[list[int], int]:
        """Values from `offset` on, and the partition's end at that moment. Raises Refused and Beyond."""
        answer = await self._ask_leader(
            partition,
            "Fetch",
            FETCH,
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=READ_BYTES_MAX,
            topics=to_fetch(self._topic, offset, READ_BYTES_MAX, partition),
        )
        if answer.error_code:
            self._check(partition, answer.error_code)
        found = answer.responses[0].partitions[0]
        if found.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            if offset < found.log_start_offset:
                raise AnomalyError(
                    f"{offset} lies before the log start {found.log_start_offset}: who removed it?"
                )
            raise Beyond
        self._check(partition, found.error_code)
        return _values(found.records, offset), int(found.high_watermark)

    async def end(self, partition: int) -> int:
        """The partition's end. Raises Refused."""
        asked = list_offsets.ListOffsetsPartition(partition_index=partition, timestamp=LATEST)
        answer = await self._ask_leader(
            partition,
            "ListOffsets",
            LIST_OFFSETS,
            replica_id=-1,
            topics=[list_offsets.ListOffsetsTopic(name=self._topic, partitions=[asked])],
        )
        found = answer.topics[0].partitions[0]
        self._check(partition, found.error_code)
        return int(found.offset)

    async def new_producer(self) -> Producer:
        """A new identity from any broker. Raises Refused."""
        answer = await self._links.ask(
            self._random.choice(self._brokers), "InitProducerId", INIT_PRODUCER_ID, transactional_id=None
        )
        if answer.error_code:
            raise Refused(_name(answer.error_code), sure=False)
        return Producer(answer.producer_id, answer.producer_epoch)

    async def create_topic(self, partitions: int) -> None:
        """Makes the topic, unless it is there. Raises Refused."""
        wanted = create_topics.CreatableTopic(
            name=self._topic, num_partitions=partitions, replication_factor=-1
        )
        answer = await self._links.ask(
            self._random.choice(self._brokers), "CreateTopics", CREATE_TOPICS, topics=[wanted]
        )
        code = answer.topics[0].error_code
        if code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            raise Refused(_name(code), sure=False)

    # --- finding the leader ----------------------------------------------------------------------

    async def _ask_leader(self, partition: int, api: str, version: int, **fields: Any) -> Any:
        if self._stubborn is None and partition not in self._leaders:
            await self._look_up()
        leader = self._stubborn or self._leaders.get(partition)
        if leader is None:
            raise Refused("no leader is known", sure=True)
        try:
            return await self._links.ask(leader, api, version, **fields)
        except Refused:
            self._leaders.clear()
            raise

    async def _look_up(self) -> None:
        """Metadata from any broker: clients differ in whom they ask, so that some of them follow a deposed leader."""
        try:
            answer = await self._links.ask(
                self._random.choice(self._brokers),
                "Metadata",
                METADATA,
                topics=[metadata.MetadataRequestTopic(name=self._topic)],
                allow_auto_topic_creation=False,
            )
        except Refused as error:
            raise Refused(f"{error} (metadata)", sure=True) from error
        addresses = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
        for partition in answer.topics[0].partitions:
            if partition.leader_id in addresses:
                self._leaders[partition.partition_index] = addresses[partition.leader_id]

    def _check(self, partition: int, code: int, sure: frozenset[ErrorCode] = frozenset()) -> None:
        if code == ErrorCode.NONE:
            return
        self._leaders.pop(partition, None)
        raise Refused(_name(code), sure=code in sure)


def _values(records: Any, offset: int) -> list[int]:
    """The values from `offset` on; batches come whole, so some may lie before it."""
    found: list[int] = []
    for batch in split_batches(memoryview(records or b"")):
        for record in read_records(batch):
            if record.offset < offset:
                continue
            if record.offset != offset + len(found):
                raise AnomalyError(f"offset {record.offset} was read where {offset + len(found)} should be")
            found.append(int(record.value or b""))
    return found


def _name(code: int) -> str:
    return ErrorCode(code).name if code in ErrorCode._value2member_map_ else f"error {code}"
