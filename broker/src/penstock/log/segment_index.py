"""What stands where inside one segment: packed arrays, 24 bytes a batch and 4 an entry.

A `PartitionRun` lists one partition's batches in one segment in offset order. While the segment is being written the
runs grow in memory, beside the position of every entry; when it is sealed they are written to its index file, and only
the file's directory stays in memory: a few numbers a partition, and the positions of some entries.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

from penstock.codec.entry import ENTRY_HEADER_SIZE

BATCH_BYTES = 24
# Of a sealed segment, entries about this far apart keep their position in memory.
MARK_BYTES = 64 * 1024


class RunSummary:
    """What stays in memory of a sealed segment's run."""

    __slots__ = ("batches", "end_offset", "epochs", "file_position", "first_offset", "max_timestamp",
                 "size_bytes")  # fmt: skip

    def __init__(
        self, first: int, end: int, max_timestamp: int, size: int, batches: int, position: int
    ) -> None:
        self.first_offset = first
        self.end_offset = end
        self.max_timestamp = max_timestamp
        self.size_bytes = size
        self.batches = batches
        self.file_position = position
        self.epochs: list[tuple[int, int]] = []

    @property
    def memory_bytes(self) -> int:
        """What the run's arrays take once they are loaded."""
        return self.batches * BATCH_BYTES


class PartitionRun:
    """One partition's batches in one segment. Positions and sizes are those of whole entries in the file; `size_bytes` is
    the sum of the batches alone, as retention counts them. `summary` is what a loaded run was loaded for."""

    __slots__ = ("base_offsets", "end_offset", "epochs", "max_timestamp", "max_timestamps", "positions",
                 "size_bytes", "sizes", "summary")  # fmt: skip

    def __init__(self) -> None:
        self.base_offsets = array("q")
        self.positions = array("I")
        self.sizes = array("I")
        self.max_timestamps = array("q")
        self.end_offset = 0
        self.max_timestamp = -1
        self.size_bytes = 0
        # (epoch, first offset in it), ascending; the source of OffsetForLeaderEpoch.
        self.epochs: list[tuple[int, int]] = []
        self.summary: RunSummary | None = None

    def add(self, base: int, end: int, position: int, size: int, max_timestamp: int, epoch: int) -> None:
        """Notes a batch of offsets [base, end)."""
        self.base_offsets.append(base)
        self.positions.append(position)
        self.sizes.append(size)
        self.max_timestamps.append(max_timestamp)
        self.end_offset = end
        self.size_bytes += size - ENTRY_HEADER_SIZE
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
        if not self.epochs or self.epochs[-1][0] != epoch:
            self.epochs.append((epoch, base))

    def __len__(self) -> int:
        return len(self.base_offsets)

    @property
    def first_offset(self) -> int:
        """Offset of the first record in this run."""
        return self.base_offsets[0]

    def slot_of(self, offset: int) -> int:
        """Which batch holds `offset`; the caller made sure that one does."""
        return max(bisect_right(self.base_offsets, offset) - 1, 0)

    @property
    def memory_bytes(self) -> int:
        """What the arrays take."""
        return len(self.base_offsets) * BATCH_BYTES

    def cut(self, position: int) -> PartitionRun:
        """The run without the batches from `position` in the file on; itself when there are none."""
        count = bisect_left(self.positions, position)
        if count == len(self):
            return self
        run = PartitionRun()
        run.base_offsets = self.base_offsets[:count]
        run.positions = self.positions[:count]
        run.sizes = self.sizes[:count]
        run.max_timestamps = self.max_timestamps[:count]
        run.end_offset = self.base_offsets[count]
        run.max_timestamp = max(run.max_timestamps, default=-1)
        run.size_bytes = sum(run.sizes) - count * ENTRY_HEADER_SIZE
        run.epochs = [item for item in self.epochs if item[1] < run.end_offset]
        return run


class SegmentIndex:
    """All runs of one segment, the position of each entry, and (epoch, index of its first entry here)."""

    __slots__ = ("epochs", "positions", "runs")

    def __init__(self) -> None:
        self.runs: dict[int, PartitionRun] = {}
        self.positions = array("I")
        self.epochs: list[tuple[int, int]] = []

    def add_entry(self, index: int, position: int, epoch: int) -> None:
        """Notes an entry of any kind."""
        self.positions.append(position)
        if not self.epochs or self.epochs[-1][0] != epoch:
            self.epochs.append((epoch, index))

    def add_batch(
        self, partition: int, base: int, end: int, position: int, size: int, max_timestamp: int, epoch: int
    ) -> PartitionRun:
        """Notes what a batch's entry holds; returns its run (a new one for a partition not seen in this segment)."""
        run = self.runs.get(partition)
        if run is None:
            run = self.runs[partition] = PartitionRun()
        run.add(base, end, position, size, max_timestamp, epoch)
        return run

    def cut(self, base_index: int, from_index: int) -> SegmentIndex:
        """The index without the entries from `from_index` on. A new object: a thread may be writing this one."""
        index = SegmentIndex()
        count = from_index - base_index
        index.positions = self.positions[:count]
        index.epochs = [item for item in self.epochs if item[1] < from_index]
        if count < len(self.positions):
            position = self.positions[count]
            runs = ((partition, run.cut(position)) for partition, run in self.runs.items())
            index.runs = {partition: run for partition, run in runs if len(run)}
        else:
            index.runs = dict(self.runs)
        return index


class Marks:
    """Positions of some entries of a sealed segment, by their number in it: the first, and each that begins at least
    `MARK_BYTES` behind the one before."""

    __slots__ = ("numbers", "positions")

    def __init__(self, numbers: array[int], positions: array[int]) -> None:
        self.numbers = numbers
        self.positions = positions

    @classmethod
    def among(cls, positions: array[int]) -> Marks:
        """Chosen among the positions of all entries."""
        numbers = array("I")
        number = 0
        while number < len(positions):
            numbers.append(number)
            number = bisect_left(positions, positions[number] + MARK_BYTES, number)
        return cls(numbers, array("I", [positions[number] for number in numbers]))

    def before(self, number: int) -> tuple[int, int]:
        """(number, position) of the nearest mark up to that entry."""
        slot = bisect_right(self.numbers, number) - 1
        return self.numbers[slot], self.positions[slot]

    def after(self, number: int) -> tuple[int, int] | None:
        """(number, position) of the nearest mark behind that entry."""
        slot = bisect_right(self.numbers, number)
        return (self.numbers[slot], self.positions[slot]) if slot < len(self.numbers) else None

    def up_to(self, position: int) -> tuple[int, int]:
        """(number, position) of the last mark at or before that position."""
        slot = max(bisect_right(self.positions, position) - 1, 0)
        return self.numbers[slot], self.positions[slot]
