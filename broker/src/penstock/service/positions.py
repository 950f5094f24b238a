"""Offsets by position, by exact time, and by leader epoch."""

from __future__ import annotations

import logging
from functools import partial

from penstock.codec.errors import CodecError
from penstock.log.errors import LogDamagedError
from penstock.log.reader import Extent, read_payloads
from penstock.log.tail_cache import Payload
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import TIMESTAMP_TYPE_MASK, parse_header
from penstock.partition.batches import first_since
from penstock.partition.partition import Partition
from penstock.runtime.shard import Shard
from penstock.service.api import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    EpochEnd,
    Position,
    PositionQuery,
)
from penstock.service.fetching import check_leader_epoch
from penstock.service.runs import RunLoader

logger = logging.getLogger(__name__)


class PositionLookup:
    """Answers ListOffsets and OffsetForLeaderEpoch on one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._runs = RunLoader(shard)

    async def find(self, query: PositionQuery) -> Position:
        """Errors travel in the answer."""
        position = Position(query.topic, query.partition)
        try:
            partition = self._shard.table.require(query.topic, query.partition)
            await self._shard.surely_leading()
            epoch = partition.epoch_base + self._shard.epoch
            check_leader_epoch(query.leader_epoch, epoch)
            position.offset, position.timestamp = await self._locate(partition, query.timestamp)
            position.leader_epoch = epoch if position.offset >= 0 else -1
        except PenstockError as error:
            position.error = error.code
        except (LogDamagedError, OSError) as error:
            logger.error("an offset could not be looked up: %s", error)
            position.error = ErrorCode.KAFKA_STORAGE_ERROR
        return position

    async def _locate(self, partition: Partition, timestamp: int) -> tuple[int, int]:
        if timestamp == LATEST_TIMESTAMP:
            return partition.high_watermark, -1
        if timestamp == EARLIEST_TIMESTAMP:
            return partition.log_start, -1
        if timestamp == MAX_TIMESTAMP:
            timestamp = await self._runs.ask(partition, partition.max_timestamp)
            if timestamp < 0:
                return -1, -1
        elif timestamp < 0:
            raise PenstockError(ErrorCode.UNSUPPORTED_VERSION, f"there is no position {timestamp}")
        return await self.offset_since(partition, timestamp)

    async def offset_since(self, partition: Partition, timestamp: int) -> tuple[int, int]:
        """(offset, timestamp) of the first message since a time, (-1, -1) when all are older."""
        from_offset = partition.log_start
        while True:
            wanted = from_offset
            extent = await self._runs.ask(partition, lambda: partition.batch_since(timestamp, wanted))  # noqa: B023
            if extent is None:
                return -1, -1
            # A batch may be compressed, so that looking into it is work for a thread.
            cached = self._shard.log.cache.get((extent.segment.base_index, extent.position))
            search = partial(_search, extent, cached, timestamp, from_offset)
            found, from_offset = await self._shard.threads.read(search)
            if found is not None:
                return found

    def epoch_end(self, topic: str, number: int, current_epoch: int, epoch: int) -> EpochEnd:
        """Errors travel in the answer."""
        try:
            partition = self._shard.table.require(topic, number)
            self._shard.check_leading()
            check_leader_epoch(current_epoch, partition.epoch_base + self._shard.epoch)
        except PenstockError as error:
            return EpochEnd(topic, number, error.code)
        base = partition.epoch_base
        found, end = partition.epoch_end(epoch - base, self._shard.epoch)
        return EpochEnd(topic, number, leader_epoch=found + base if found >= 0 else -1, end_offset=end)


def _search(
    extent: Extent, cached: Payload | None, timestamp: int, from_offset: int
) -> tuple[tuple[int, int] | None, int]:
    """(what was found in the batch, the offset to go on from). The batch's largest timestamp may be that of a message
    below the log start, or simply not true: then it is in none of the messages that count."""
    payload = memoryview(b"".join(cached)) if cached is not None else read_payloads([extent])[0]
    header = parse_header(payload)
    next_offset = header.last_offset + 1
    if header.attributes & TIMESTAMP_TYPE_MASK:
        return (max(header.base_offset, from_offset), header.max_timestamp), next_offset
    try:
        return first_since(payload, timestamp, from_offset), next_offset
    except CodecError as error:
        # Batches are not looked into when they are produced. The best answer is the batch as a whole.
        logger.warning("partition %d, offset %d: %s", extent.partition, header.base_offset, error)
        return (max(header.base_offset, from_offset), header.max_timestamp), next_offset
