"""One partition as its shard's broker sees it: offsets, where its batches stand, and who waits for more.

The commit log holds the bytes; this object knows which segments have a run of the partition and finds the batch that
holds an offset. Decoded runs of sealed segments are kept in a bounded cache; a run that is neither active nor cached
is asked for with `MissingRun`, so that the caller reads it in a thread and tries again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from penstock.catalog.partitions import PartitionState
from penstock.log.reader import Extent
from penstock.log.segment import Segment
from penstock.log.segment_index import PartitionRun, RunSummary
from penstock.log.truncation import Truncation


class WantedRun(NamedTuple):
    """A run that has to be read from its segment's index file."""

    segment: Segment
    partition: int
    summary: RunSummary


class MissingRun(Exception):  # noqa: N818 (not an error: it asks for a read)
    """A sealed segment's run has to be loaded before the question can be answered. Keep `wanted` and not the exception:
    with its frames it is a cycle, which would hold a removed segment's file open, and its room, until a collection."""

    def __init__(self, wanted: WantedRun) -> None:
        super().__init__(wanted.segment.name)
        self.wanted = wanted


class RunCache:
    """Decoded runs of sealed segments, the least recently used dropped beyond a number of bytes."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._runs: OrderedDict[tuple[int, int], PartitionRun] = OrderedDict()
        self.size_bytes = 0

    def get(self, segment: Segment, partition: int) -> PartitionRun | None:
        """The run, marked as used."""
        key = (segment.base_index, partition)
        run = self._runs.get(key)
        if run is not None:
            self._runs.move_to_end(key)
        return run

    def fitting(self, summaries: Sequence[RunSummary]) -> int:
        """How many of these runs, from the first on, may be loaded together: at least one, together half the bound."""
        size = 0
        for count, summary in enumerate(summaries):
            size += summary.memory_bytes
            if count and size * 2 > self._bytes_max:
                return count
        return len(summaries)

    def put(self, segment: Segment, partition: int, run: PartitionRun) -> None:
        """Keeps a run that was read."""
        key = (segment.base_index, partition)
        replaced = self._runs.get(key)
        if replaced is not None:
            self.size_bytes -= replaced.memory_bytes
        self.size_bytes += run.memory_bytes
        self._runs[key] = run
        while self.size_bytes > self._bytes_max and len(self._runs) > 1:
            _, dropped = self._runs.popitem(last=False)
            self.size_bytes -= dropped.memory_bytes


def _expired(run: PartitionRun | RunSummary, oldest_ms: int | None) -> bool:
    # Batches without any timestamp (-1) have no age: only bytes retire them.
    return oldest_ms is not None and 0 <= run.max_timestamp < oldest_ms


class Partition:
    """Offsets: `log_start` <= readable < `high_watermark` <= `end_offset` (the next one to be written)."""

    __slots__ = (
        "_cache",
        "_firsts",
        "_segments",
        "end_offset",
        "epoch_base",
        "high_watermark",
        "key",
        "log_start",
        "number",
        "size_bytes",
        "topic",
        "topic_id",
        "waiters",
    )  # fmt: skip

    def __init__(self, state: PartitionState, cache: RunCache) -> None:
        self._cache = cache
        self.key = state.key
        self.topic = state.topic
        self.number = state.number
        self.topic_id = state.topic_id
        self.epoch_base = state.epoch_base
        self.log_start = state.log_start
        self.end_offset = state.log_start
        self.high_watermark = state.log_start
        self.size_bytes = 0
        # Called once, in order, when the high watermark moves or the partition is dropped.
        self.waiters: dict[object, Callable[[], None]] = {}
        self._segments: list[Segment] = []
        # The first offset of the run in each of them.
        self._firsts: list[int] = []

    # --- changes ---------------------------------------------------------------------------------

    def attach(self, segment: Segment) -> None:
        """Notes that a segment (later than all before) has a run of this partition; used at start."""
        run = segment.run(self.key)
        assert run is not None
        self._segments.append(segment)
        self._firsts.append(run.first_offset)
        self.size_bytes += run.size_bytes
        self.end_offset = max(self.end_offset, run.end_offset)

    def appended(self, segment: Segment, end_offset: int, size_bytes: int) -> None:
        """A batch was appended to `segment`."""
        if not self._segments or self._segments[-1] is not segment:
            run = segment.run(self.key)
            assert run is not None
            self._segments.append(segment)
            self._firsts.append(run.first_offset)
        self.end_offset = end_offset
        self.size_bytes += size_bytes

    def commit(self, high_watermark: int) -> None:
        """Everything below is committed; wakes those who wait."""
        self.high_watermark = high_watermark
        if self.waiters:
            self.wake()

    def wake(self) -> None:
        """Calls and forgets all waiters."""
        waiters, self.waiters = self.waiters, {}
        for callback in waiters.values():
            callback()

    def move_start(self, log_start: int) -> None:
        """Offsets below are gone for readers. Runs that lie below no longer count."""
        self.log_start = max(self.log_start, log_start)
        if self.log_start > self.end_offset:
            self.end_offset = self.high_watermark = self.log_start
        while self._segments:
            run = self._segments[0].run(self.key)
            assert run is not None
            # The segment that is still written to stays: it may get batches of this partition again.
            maybe_active = len(self._segments) == 1 and self._segments[0].index is not None
            if run.end_offset > self.log_start or maybe_active:
                break
            self.size_bytes -= run.size_bytes
            del self._segments[0], self._firsts[0]

    def forget(self, segment: Segment) -> None:
        """The segment leaves the log."""
        if self._segments and self._segments[0] is segment:
            run = segment.run(self.key)
            self.size_bytes -= run.size_bytes if run is not None else 0
            del self._segments[0], self._firsts[0]

    def truncated(self, cut: Truncation) -> None:
        """The log lost batches of this partition: `cut.ends` has its key."""
        while self._segments and (self._segments[-1].removed or self._segments[-1].run(self.key) is None):
            del self._segments[-1], self._firsts[-1]
        self.size_bytes = 0
        for segment in self._segments:
            run = segment.run(self.key)
            assert run is not None
            self.size_bytes += run.size_bytes
        self.end_offset = max(cut.ends[self.key], self.log_start)
        self.high_watermark = min(self.high_watermark, self.end_offset)

    # --- questions -------------------------------------------------------------------------------

    def extents(self, offset: int, bytes_max: int, end: int) -> list[Extent]:
        """The whole batches from the one that holds `offset` on, below offset `end`: at least one (when there is one),
        then as many as fit into `bytes_max`. Raises MissingRun when the first run has to be loaded."""
        found: list[Extent] = []
        total = 0
        for number in range(self._segment_of(offset), len(self._segments)):
            segment = self._segments[number]
            try:
                run = self._run(segment)
            except MissingRun:
                if found:
                    break
                raise
            sizes, positions = run.sizes, run.positions
            stop = bisect_left(run.base_offsets, end)
            for slot in range(run.slot_of(offset), stop):
                size = sizes[slot]
                if found and total + size > bytes_max:
                    return found
                found.append(Extent(segment, positions[slot], size, self.key))
                total += size
            if stop < len(run):
                break
            offset = run.end_offset
        return found

    def batch_since(self, timestamp: int, from_offset: int = 0) -> Extent | None:
        """The first committed batch whose largest timestamp is at least `timestamp`, from the one that holds `from_offset`
        or the log start on."""
        start = max(self.log_start, from_offset)
        for segment in self._segments:
            summary = segment.run(self.key)
            assert summary is not None
            if summary.max_timestamp < timestamp or summary.end_offset <= start:
                continue
            run = self._run(segment)
            for slot in range(run.slot_of(start), len(run)):
                if run.base_offsets[slot] >= self.high_watermark:
                    return None
                if run.max_timestamps[slot] >= timestamp:
                    return Extent(segment, run.positions[slot], run.sizes[slot], self.key)
        return None

    def max_timestamp(self) -> int:
        """The largest timestamp of all committed batches from the log start on, -1 when there are none. Raises MissingRun."""
        largest = -1
        for segment in self._segments:
            summary = segment.run(self.key)
            assert summary is not None
            if summary.end_offset <= self.log_start or summary.max_timestamp <= largest:
                continue
            if summary.first_offset >= self.log_start and summary.end_offset <= self.high_watermark:
                largest = summary.max_timestamp
                continue
            run = self._run(segment)
            for slot in range(run.slot_of(self.log_start), len(run)):
                if run.base_offsets[slot] < self.high_watermark:
                    largest = max(largest, run.max_timestamps[slot])
        return largest

    def timestamp_at(self, offset: int) -> int:
        """The largest timestamp of the batch that holds a committed `offset`, -1 where it has none. Raises MissingRun."""
        segment = self._segments[self._segment_of(offset)]
        summary = segment.run(self.key)
        if isinstance(summary, RunSummary) and summary.batches == 1:
            return summary.max_timestamp
        run = self._run(segment)
        return run.max_timestamps[run.slot_of(offset)]

    def epoch_end(self, epoch: int, current: int) -> tuple[int, int]:
        """(largest epoch up to `epoch`, its end offset), by the shard's epochs, of which `current` is the newest.

        As Kafka's `LeaderEpochFileCache.endOffsetFor`: of an epoch that the log no longer holds, the answer is where the
        next one begins, so that a consumer whose old messages went by retention is not told that its log was cut;
        (-1, -1) for an epoch that is yet to come.
        """
        if not 0 <= epoch <= current:
            return -1, -1
        found = epoch
        if epoch < current:
            for segment in self._segments:
                run = segment.run(self.key)
                assert run is not None
                for start_epoch, start in run.epochs:
                    if start_epoch > epoch:
                        return found, max(start, self.log_start)
                    found = start_epoch
        return found, self.end_offset

    def retention_start(self, oldest_ms: int | None, bytes_max: int) -> int:
        """The log start that retention asks for: runs of sealed segments go when all their batches are older than
        `oldest_ms`, or while what remains without them still holds `bytes_max` bytes (-1: no bound)."""
        start, remaining = self.log_start, self.size_bytes
        for segment in self._segments:
            run = segment.run(self.key)
            assert run is not None
            # What may still be written to is only retired by age, and whole, as Kafka rolls an expired active segment.
            active = segment.index is not None and segment is self._segments[-1]
            expired = _expired(run, oldest_ms)
            oversize = not active and bytes_max >= 0 and remaining - run.size_bytes >= bytes_max
            if not expired and not oversize:
                break
            start = min(run.end_offset, self.high_watermark)
            remaining -= run.size_bytes
        return start

    def _segment_of(self, offset: int) -> int:
        return max(bisect_right(self._firsts, offset) - 1, 0)

    def _run(self, segment: Segment) -> PartitionRun:
        run = segment.run(self.key)
        if isinstance(run, PartitionRun):
            return run
        assert run is not None
        cached = self._cache.get(segment, self.key)
        if cached is None or cached.summary is not run:
            # Nobody has loaded it, or the segment was cut and filled again since.
            raise MissingRun(WantedRun(segment, self.key, run))
        return cached
