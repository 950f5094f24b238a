"""Offsets by position, by exact time, and by leader epoch."""

from __future__ import annotations

import logging

from penstock.log.errors import LogDamagedError
from penstock.log.reader import Extent, load_run, read_payloads
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import HEADER_SIZE, TIMESTAMP_TYPE_MASK, parse_header
from penstock.partition.batches import first_since
from penstock.partition.partition import MissingRun, Partition
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

logger = logging.getLogger(__name__)


class PositionLookup:
    """Answers ListOffsets and OffsetForLeaderEpoch on one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    async def find(self, query: PositionQuery) -> Position:
        """Errors travel in the answer."""
        position = Position(query.topic, query.partition)
        try:
            partition = self._shard.table.require(query.topic, query.partition)
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
            timestamp = partition.max_timestamp()
            if timestamp < 0:
                return -1, -1
        elif timestamp < 0:
            raise PenstockError(ErrorCode.UNSUPPORTED_VERSION, f"there is no position {timestamp}")
        return await self.offset_since(partition, timestamp)

    async def offset_since(self, partition: Partition, timestamp: int) -> tuple[int, int]:
        """(offset, timestamp) of the first message since a time, (-1, -1) when all are older."""
        extent = await self._batch_since(partition, timestamp)
        if extent is None:
            return -1, -1
        log_start = partition.log_start
        cached = self._shard.log.cache.get((extent.segment.base_index, extent.position))

        def search() -> tuple[int, int] | None:
            # A batch may be compressed, so that looking into it is work for a thread.
            payload = memoryview(b"".join(cached)) if cached is not None else read_payloads([extent])[0]
            header = parse_header(payload)
            if header.attributes & TIMESTAMP_TYPE_MASK:
                return max(header.base_offset, log_start), header.max_timestamp
            assert len(payload) >= HEADER_SIZE
            return first_since(payload, timestamp, log_start)

        found = await self._shard.threads.read(search)
        return found if found is not None else (-1, -1)

    async def _batch_since(self, partition: Partition, timestamp: int) -> Extent | None:
        while True:
            try:
                return partition.batches_since(timestamp)
            except MissingRun as missing:
                segment, summary = missing.segment, missing.summary
                run = await self._shard.threads.read(lambda: load_run(segment, summary))  # noqa: B023
                self._shard.table.cache.put(segment, missing.partition, run)

    def epoch_end(self, topic: str, number: int, current_epoch: int, epoch: int) -> EpochEnd:
        """Errors travel in the answer."""
        try:
            partition = self._shard.table.require(topic, number)
            check_leader_epoch(current_epoch, partition.epoch_base + self._shard.epoch)
        except PenstockError as error:
            return EpochEnd(topic, number, error.code)
        base = partition.epoch_base
        if epoch - base == self._shard.epoch:
            return EpochEnd(topic, number, leader_epoch=epoch, end_offset=partition.end_offset)
        found, end = partition.epoch_end(epoch - base)
        return EpochEnd(topic, number, leader_epoch=found + base if found >= 0 else -1, end_offset=end)
