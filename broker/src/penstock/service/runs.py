"""Questions to a partition's index whose answer may need a file: runs of sealed segments are read in a thread, then it is asked again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from penstock.log.errors import LogDamagedError
from penstock.log.reader import load_run
from penstock.log.segment_index import PartitionRun
from penstock.model.errors import ErrorCode, PenstockError
from penstock.partition.partition import MissingRun, Partition, WantedRun
from penstock.runtime.shard import Shard

T = TypeVar("T")


class RunLoader:
    """Loads the runs that questions to one shard's partitions need."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    async def ask(self, partition: Partition, question: Callable[[], T]) -> T:
        """Asks again until every run that the question needs is loaded. Raises PenstockError, LogDamagedError, OSError."""
        while True:
            try:
                return question()
            except MissingRun as missing:
                wanted = missing.wanted
            await self._load(partition, wanted)

    async def _load(self, partition: Partition, wanted: WantedRun) -> None:
        segment = wanted.segment
        try:
            run: PartitionRun = await self._shard.threads.read(partial(load_run, segment, wanted.summary))
        except (LogDamagedError, OSError):
            if not segment.removed:
                raise
            # Retention was faster. The partition no longer counts the segment, unless it is gone itself.
            self._shard.table.require(partition.topic, partition.number)
            if self._shard.table.by_key.get(partition.key) is not partition:
                raise PenstockError(
                    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic {partition.topic} was deleted meanwhile"
                ) from None
        else:
            self._shard.table.cache.put(segment, wanted.partition, run)
