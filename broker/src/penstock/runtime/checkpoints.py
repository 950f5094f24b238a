"""Checkpoints: index files of full segments, snapshots of the state machines, and the end of segments nobody needs.

All of it only saves time and space at a later start, so none of it may end the broker. On a full disk, a spare segment
gives its room for the checkpoint: without one no segment could be dropped, and the disk would stay full for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from penstock.log.disk import Disk
from penstock.log.maintenance import disk_is_full, remove_segment, write_index
from penstock.log.segment import Segment
from penstock.log.snapshots import SnapshotStore
from penstock.runtime.shard import Shard

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Checkpoints:
    """`covered_index` is the last entry that the snapshots on disk cover."""

    def __init__(self, shard: Shard, snapshots: SnapshotStore) -> None:
        self._shard = shard
        self._snapshots = snapshots
        self.covered_index = snapshots.covered_index

    async def make(self) -> None:
        """Writes what is missing, then drops the segments that nothing needs. Must not be under way twice."""
        await self._seal_segments()
        index = self._shard.commit_index
        if index > self.covered_index:
            frozen = {m.name: (m.version, m.freeze()) for m in self._shard.machines.written()}
            await self._write(
                lambda: self._snapshots.save({n: (v, encode()) for n, (v, encode) in frozen.items()}, index)
            )
            self.covered_index = index
        await self._drop_segments()

    @property
    def would_free_space(self) -> bool:
        """Whether a checkpoint would drop a segment."""
        log = self._shard.log
        return len(log.segments) > 1 and self._is_unneeded(log.segments[0])

    async def _seal_segments(self) -> None:
        for segment in self._shard.log.unsealed_segments(self._shard.commit_index):
            index = segment.index
            segment.seal(await self._write(partial(write_index, segment)))
            assert index is not None
            # Consumers that follow closely find the newest runs without reading them back.
            for key, run in index.runs.items():
                run.summary = segment.summaries[key]
                self._shard.table.cache.put(segment, key, run)

    async def _drop_segments(self) -> None:
        log = self._shard.log
        while self.would_free_space and log.segments[0].last_index <= self.covered_index:
            segment = log.segments[0]
            for key in segment.partitions():
                partition = self._shard.table.by_key.get(key)
                if partition is not None:
                    partition.forget(segment)
            log.drop_first()
            self._shard.on_dropped()
            await self._shard.threads.background(partial(remove_segment, log.disk, segment))
            logger.info("removed %s: every message in it is past its retention", segment.name)

    def _is_unneeded(self, segment: Segment) -> bool:
        for key in segment.partitions():
            partition, run = self._shard.table.by_key.get(key), segment.run(key)
            if partition is not None and run is not None and run.end_offset > partition.log_start:
                return False
        return True

    def begin_anew(self, covered_index: int) -> None:
        """A leader's snapshots took the place of this broker's."""
        self.covered_index = covered_index

    async def _write(self, function: Callable[[], T]) -> T:
        background, log = self._shard.threads.background, self._shard.log
        try:
            return await background(function)
        except OSError as error:
            if not disk_is_full(error):
                # After a failed sync nothing that the disk says can be relied on.
                self._shard.fail(error)
                raise
            if not log.spares:
                raise
            logger.warning("the disk is full: a spare segment gives its room for a checkpoint")
        return await background(partial(_in_room_of, log.disk, log.spares.pop(), function))


def _in_room_of(disk: Disk, spare: str, function: Callable[[], T]) -> T:
    # One job for both: between two, the room could become a spare again.
    disk.remove(spare)
    return function()
