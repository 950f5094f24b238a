"""The log of a replica against a list of entries: appended here, received, truncated, reset, sealed, dropped, reopened, in
any order, with jobs that are under way meanwhile."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from log_harness import SHARD, Log
from penstock.catalog.partitions import PartitionState
from penstock.codec.entry import (
    ENTRY_HEADER_SIZE,
    KIND_BATCH,
    KIND_COMMAND,
    encode_header,
    parse_entry_header,
)
from penstock.codec.records import Record, build_batch
from penstock.log.maintenance import remove_segment, write_index
from penstock.log.reader import load_index
from penstock.log.reset import finish_reset
from penstock.log.snapshots import Snapshot, SnapshotStore
from penstock.log.truncation import SealedSegmentError
from penstock.log.write_job import WriteJob
from penstock.partition.partition import RunCache
from penstock.partition.table import PartitionTable
from penstock.testing.simulated_disk import SimulatedDisk

PARTITIONS = 3
SEGMENT_BYTES = 2048
CACHE_BYTES = 4000


class Entry(NamedTuple):
    index: int
    epoch: int
    kind: int
    partition: int
    payload: bytes
    # Of a batch; 0 for a command.
    end_offset: int

    @property
    def size(self) -> int:
        return ENTRY_HEADER_SIZE + len(self.payload)


# (partition or None for a command, bytes, records, how much the epoch rises)
described = st.tuples(
    st.one_of(st.none(), st.integers(0, PARTITIONS - 1)),
    st.integers(0, 900),
    st.integers(1, 3),
    st.sampled_from([0, 0, 0, 0, 1, 3]),
)


class ReplicatedLog(RuleBasedStateMachine):
    """`entries` is the model, with the place of the entry before its first: (`base_index`, `base_epoch`)."""

    @initialize(sync=st.booleans())
    def open(self, sync: bool) -> None:
        self.disk = SimulatedDisk(0)
        self.sync = sync
        self.base_index = self.base_epoch = 0
        self.entries: list[Entry] = []
        self.job: WriteJob | None = None
        self.epoch = 1
        self.reopen()

    def reopen(self) -> None:
        self.store = SnapshotStore(self.disk)
        self.store.load()
        assert not finish_reset(self.disk, SHARD, self.store, SEGMENT_BYTES)
        self.harness = Log(
            self.disk,
            sync=self.sync,
            covered=self.store.covered_index,
            epoch=self.epoch,
            segment_bytes=SEGMENT_BYTES,
            cache_bytes=CACHE_BYTES,
        )
        self.log = self.harness.log
        self.make_table()

    def make_table(self) -> None:
        self.table = PartitionTable(RunCache(1 << 20))
        for key in range(PARTITIONS):
            self.table.open(PartitionState(key, "t", key, bytes(16)))
        for segment in self.log.segments:
            for key in segment.partitions():
                self.table.by_key[key].attach(segment)

    # --- the model -------------------------------------------------------------------------------

    @property
    def newest(self) -> int:
        return self.entries[-1].index if self.entries else self.base_index

    @property
    def newest_epoch(self) -> int:
        return self.entries[-1].epoch if self.entries else self.base_epoch

    def describe(self, what: tuple[int | None, int, int, int]) -> Entry:
        """The next entry, of a kind and size that was drawn."""
        partition, size, records, rise = what
        self.epoch = max(self.epoch, self.newest_epoch) + rise
        if partition is None:
            return Entry(self.newest + 1, self.epoch, KIND_COMMAND, 0, b"c" * size, 0)
        base = self.end_of(partition)
        batch = build_batch([Record(value=b"v" * (size // records), timestamp=size)] * records, base)
        return Entry(self.newest + 1, self.epoch, KIND_BATCH, partition, batch, base + records)

    def end_of(self, partition: int) -> int:
        ends = (
            e.end_offset for e in reversed(self.entries) if e.kind == KIND_BATCH and e.partition == partition
        )
        return next(ends, self.starts.get(partition, 0))

    @property
    def starts(self) -> dict[int, int]:
        """The offsets where partitions begin again once everything was dropped; partitions keep them elsewhere."""
        return {}

    # --- what happens ----------------------------------------------------------------------------

    @rule(what=described)
    def append(self, what: tuple[int | None, int, int, int]) -> None:
        entry = self.describe(what)
        self.log.epoch = entry.epoch
        self.harness.fill_spares()
        if entry.kind == KIND_COMMAND:
            assert self.log.append_command(entry.payload) == entry.index
        else:
            size, base, end = len(entry.payload), self.end_of(entry.partition), entry.end_offset
            assert (
                self.log.append_batch(entry.partition, (entry.payload,), size, base, end, what[1])
                == entry.index
            )
            self.table.by_key[entry.partition].appended(self.log.active, end, size)
        self.entries.append(entry)

    @rule(run=st.lists(described, min_size=1, max_size=8), writable=st.booleans())
    def receive(self, run: list[tuple[int | None, int, int, int]], writable: bool) -> None:
        kept = len(self.entries)
        for what in run:
            self.entries.append(self.describe(what))
        data = b"".join(
            encode_header(e.index, e.epoch, e.kind, e.partition, (e.payload,), 0) + e.payload
            for e in self.entries[kept:]
        )
        self.harness.fill_spares()
        appended = self.log.append_entries(bytearray(data) if writable else data)
        assert appended
        del self.entries[kept + len(appended) :]
        for (header, payload, segment), entry in zip(appended, self.entries[kept:], strict=True):
            assert (header.log_index, header.epoch, payload) == (entry.index, entry.epoch, entry.payload)
            if entry.kind == KIND_BATCH:
                self.table.by_key[entry.partition].appended(segment, entry.end_offset, len(payload))

    @precondition(lambda self: self.job is None)
    @rule()
    def take(self) -> None:
        self.job = self.log.take_job()

    @precondition(lambda self: self.job is not None)
    @rule()
    def complete(self) -> None:
        assert self.job is not None
        self.log.complete(self.job.run())
        self.job = None

    def settle(self) -> None:
        while self.job is not None or self.log.has_work:
            if self.job is None:
                self.take()
            self.complete()

    @rule(back=st.integers(0, 12))
    def truncate(self, back: int) -> None:
        # What a snapshot covers is committed, and no leader asks for that.
        from_index = max(self.newest + 1 - back, self.base_index + 1, self.store.covered_index + 1)
        try:
            cut = self.log.truncate(from_index)
        except SealedSegmentError as error:
            cut = self.log.truncate(from_index, load_index(error.segment))
        del self.entries[from_index - self.base_index - 1 :]
        self.table.truncated(cut)

    @rule()
    def seal(self) -> None:
        for segment in self.log.unsealed_segments():
            segment.seal(write_index(segment))

    @rule()
    def sync_outside_of_jobs(self) -> None:
        segment = self.log.unsynced_segment()
        if segment is not None:
            assert segment.file is not None
            segment.file.sync()
            self.log.mark_durable(self.log.written_index)

    @precondition(lambda self: len(self.log.segments) > 1 and self.log.segments[0].index is None)
    @rule()
    def drop_first(self) -> None:
        self.store.save({"machine": (1, b"state")}, self.log.durable_index)
        segment = self.log.segments[0]
        if segment.last_index > self.log.durable_index:
            return
        for partition in self.table:
            partition.forget(segment)
        remove_segment(self.disk, self.log.drop_first())
        self.base_epoch = self.entries[segment.last_index - self.base_index - 1].epoch
        del self.entries[: segment.last_index - self.base_index]
        self.base_index = segment.last_index

    @precondition(lambda self: self.job is None)
    @rule(index=st.integers(0, 100), rise=st.integers(0, 2))
    def reset(self, index: int, rise: int) -> None:
        self.base_index, self.base_epoch = index, self.newest_epoch + rise
        self.entries.clear()
        snapshots = [Snapshot("machine", 1, index, b"of the leader")]
        job = self.log.begin_reset(index, self.base_epoch, self.store, snapshots, index)
        self.log.complete_reset(job.run())
        self.make_table()

    @rule()
    def restart(self) -> None:
        self.settle()
        self.reopen()
        found = [(h.log_index, h.epoch, h.kind, h.partition, payload) for h, payload in self.harness.replayed]
        covered = self.store.covered_index
        assert found == [tuple(entry[:5]) for entry in self.entries if entry.index > covered]
        assert self.harness.report.sentences == [] or "made anew" in self.harness.report.sentences[0]

    # --- what holds ------------------------------------------------------------------------------

    @invariant()
    def the_log_is_the_list(self) -> None:
        log = self.log
        assert log.next_index == self.newest + 1
        assert log.first_index == self.base_index + 1
        assert log.durable_index <= log.written_index <= self.newest
        if log.segments or self.base_index:
            assert log.epoch_of(self.base_index) == self.base_epoch
        assert [log.epoch_of(entry.index) for entry in self.entries] == [
            entry.epoch for entry in self.entries
        ]
        runs: list[tuple[int, int]] = []
        for entry in self.entries:
            if not runs or runs[-1][0] != entry.epoch:
                runs.append((entry.epoch, entry.index))
        assert log.epoch_runs == tuple(runs)

    @invariant()
    def entries_are_shipped_as_they_are(self) -> None:
        if not self.entries:
            return
        first = self.entries[0].index
        middle = (first + self.newest) // 2
        for begin, end in ((first, self.newest), (middle, self.newest), (first, middle), (middle, middle)):
            data = b"".join(self.log.entries(begin, end).read())
            at = 0
            for entry in self.entries[begin - first : end - first + 1]:
                header = parse_entry_header(data, at)
                at += header.size_bytes
                assert (header.log_index, header.epoch, header.kind, header.partition) == entry[:4]
                assert data[at - header.length : at] == entry.payload
            assert at == len(data)

    @invariant()
    def what_fits_fits(self) -> None:
        for number in range(0, len(self.entries), 3):
            for bytes_max in (1, 700, 2500, 10_000):
                entry = self.entries[number]
                last = self.log.fitting(entry.index, bytes_max)
                assert entry.index <= last <= self.newest
                size = sum(each.size for each in self.entries[number : number + last - entry.index + 1])
                assert size <= bytes_max or last == entry.index
                in_memory = all(segment.index is not None for segment in self.log.segments)
                if in_memory and last < self.newest:
                    assert size + self.entries[last - self.base_index].size > bytes_max

    @invariant()
    def partitions_know_their_batches(self) -> None:
        for partition in self.table:
            batches = [e for e in self.entries if e.kind == KIND_BATCH and e.partition == partition.key]
            assert partition.size_bytes == sum(len(batch.payload) for batch in batches)
            if batches:
                assert partition.end_offset == batches[-1].end_offset


ReplicatedLog.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
TestReplicatedLog = ReplicatedLog.TestCase
