"""A partition's questions against a list of all its batches: extents, times, epochs, retention, and its size."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.catalog.partitions import PartitionState
from penstock.codec.entry import ENTRY_HEADER_SIZE
from penstock.log.disk import RealDisk
from penstock.log.maintenance import write_index
from penstock.log.reader import load_run
from penstock.log.segment import Segment
from penstock.partition.partition import MissingRun, Partition, RunCache
from penstock.testing.simulated_disk import SimulatedDisk

KEY = 3
CURRENT_EPOCH = 9


class Batch:
    def __init__(
        self, base: int, end: int, size: int, timestamp: int, epoch: int, segment: Segment, position: int
    ) -> None:
        self.base, self.end, self.size, self.timestamp, self.epoch = base, end, size, timestamp, epoch
        self.segment, self.position = segment, position


class Model:
    """A partition in real segments, beside a plain list of everything that was appended to it."""

    def __init__(self, seed: int = 0, cache_bytes: int = 1 << 20) -> None:
        self.chance = random.Random(seed)
        self.disk = SimulatedDisk(seed)
        self.cache = RunCache(cache_bytes)
        self.partition = Partition(PartitionState(KEY, "t", 0, bytes(16)), self.cache)
        self.segments = [Segment(self.disk, 1, None, 1 << 20)]
        self.batches: list[Batch] = []
        self.epoch = 1
        self.loads = 0

    @property
    def live(self) -> list[Batch]:
        return [batch for batch in self.batches if not batch.segment.removed]

    @property
    def end(self) -> int:
        return self.batches[-1].end if self.batches else 0

    def append(
        self, records: int = 1, size: int = 100, timestamp: int = 1000, *, commit: bool = True
    ) -> None:
        segment, base = self.segments[-1], self.end
        assert segment.index is not None
        position = segment.write_position
        entry = size + ENTRY_HEADER_SIZE
        segment.index.add_batch(KEY, base, base + records, position, entry, timestamp, self.epoch)
        segment.write_position += entry
        segment.last_index += 1
        self.partition.appended(segment, base + records, size)
        self.batches.append(Batch(base, base + records, size, timestamp, self.epoch, segment, position))
        if commit:
            self.partition.commit(base + records)

    def roll(self, *, seal: bool = True) -> None:
        full = self.segments[-1]
        self.segments.append(Segment(self.disk, full.last_index + 1, None, 1 << 20))
        if seal:
            full.followed = True
            full.seal(write_index(full))

    def drop_first(self) -> None:
        segment = self.segments.pop(0)
        segment.removed = True
        self.partition.forget(segment)

    def ask(self, question: Callable[[], Any]) -> Any:
        while True:
            try:
                return question()
            except MissingRun as missing:
                self.loads += 1
                segment, key, summary = missing.wanted
                self.cache.put(segment, key, load_run(segment, summary))

    def extents(self, offset: int, bytes_max: int, end: int | None = None) -> list[tuple[int, int]]:
        """(position, size) of what is found, with as many questions as it takes."""
        until = self.partition.high_watermark if end is None else end
        found = self.ask(lambda: self.partition.extents(offset, bytes_max, until))
        return [(extent.position, extent.size_bytes) for extent in found]

    def expected(self, offset: int, bytes_max: int, end: int) -> list[tuple[int, int]]:
        found, total = [], 0
        for batch in self.live:
            if batch.end <= offset or batch.base >= end:
                continue
            size = batch.size + ENTRY_HEADER_SIZE
            if found and total + size > bytes_max:
                break
            found.append((batch.position, size))
            total += size
        return found


def test_the_batch_that_holds_the_offset_comes_whole() -> None:
    model = Model()
    model.append(5)
    model.append(5)
    assert model.extents(3, 1) == model.expected(0, 1, 10) == [(64, 132)]
    assert model.extents(5, 1) == [(196, 132)]
    assert model.extents(0, 264) == [(64, 132), (196, 132)]
    assert model.extents(0, 263) == [(64, 132)]


def test_what_is_not_committed_is_not_found() -> None:
    model = Model()
    model.append(5)
    model.append(5, commit=False)
    assert model.extents(0, 10_000) == [(64, 132)]
    assert model.extents(0, 10_000, end=0) == []


def test_an_old_run_is_asked_for_and_then_kept() -> None:
    model = Model()
    model.append(5)
    model.roll()
    model.append(5)
    with pytest.raises(MissingRun) as caught:
        model.partition.extents(0, 10_000, 10)
    assert caught.value.wanted.segment is model.segments[0]
    assert len(model.extents(0, 10_000)) == 2
    assert len(model.extents(0, 10_000)) == 2
    assert model.loads == 1


def test_a_read_ends_before_a_run_that_is_not_loaded() -> None:
    model = Model()
    for _ in range(2):
        model.append(5)
        model.roll()
    assert model.extents(0, 10_000) == [(64, 132)]


def test_the_run_cache_is_bounded() -> None:
    model = Model(cache_bytes=100)
    for number in range(20):
        model.append(1, timestamp=number)
        model.roll()
    for number in range(20):
        model.extents(number, 1)
    assert model.cache.size_bytes <= 100


def test_the_first_batch_since_a_time_is_exact_across_segments() -> None:
    model = Model()
    for timestamps in ((10, 50), (20, 30), (70, 60)):
        for timestamp in timestamps:
            model.append(2, timestamp=timestamp)
        model.roll()
    for timestamp in range(0, 80, 5):
        found = model.ask(lambda: model.partition.batch_since(timestamp))  # noqa: B023
        expected = next((batch for batch in model.batches if batch.timestamp >= timestamp), None)
        assert (found and (found.segment, found.position)) == (
            expected and (expected.segment, expected.position)
        )
    assert model.ask(lambda: model.partition.batch_since(55, 9)).position == model.batches[4].position
    model.partition.move_start(4)
    assert model.ask(lambda: model.partition.batch_since(0)).segment is model.batches[2].segment


def test_times_of_uncommitted_and_deleted_messages_do_not_count() -> None:
    model = Model()
    model.append(2, timestamp=90)
    model.append(2, timestamp=10)
    model.append(2, timestamp=80, commit=False)
    model.partition.move_start(2)
    assert model.partition.batch_since(50) is None
    assert model.partition.max_timestamp() == 10
    model.partition.commit(6)
    assert model.partition.max_timestamp() == 80


def test_epochs_end_as_kafka_says() -> None:
    model = Model()
    assert model.partition.epoch_end(3, CURRENT_EPOCH) == (3, 0)
    model.epoch = 2
    model.append(10)
    model.roll()
    model.epoch = 5
    model.append(10)
    model.roll()
    model.append(10)
    ends = {epoch: model.partition.epoch_end(epoch, CURRENT_EPOCH) for epoch in range(-1, 11)}
    assert ends[-1] == (-1, -1)
    assert ends[0] == (0, 0)
    assert ends[1] == (1, 0)
    assert ends[2] == ends[3] == ends[4] == (2, 10)
    assert ends[5] == ends[8] == (5, 30)
    assert ends[9] == (9, 30)
    assert ends[10] == (-1, -1)
    # Retention took the messages of epoch 2: a consumer that had read them all is not told that its log was cut.
    model.partition.move_start(12)
    assert model.partition.epoch_end(2, CURRENT_EPOCH) == (2, 12)


def test_retention_by_age_goes_up_to_the_first_run_that_is_young() -> None:
    model = Model()
    for timestamp in (10, 20, 90, 15):
        model.append(5, timestamp=timestamp)
        model.roll()
    assert model.partition.retention_start(None, -1) == 0
    assert model.partition.retention_start(10, -1) == 0
    assert model.partition.retention_start(11, -1) == 5
    assert model.partition.retention_start(50, -1) == 10
    assert model.partition.retention_start(91, -1) == 20


def test_the_active_run_is_retired_by_age_but_not_by_size() -> None:
    model = Model()
    model.append(5, timestamp=10)
    assert model.partition.retention_start(11, -1) == 5
    assert model.partition.retention_start(None, 0) == 0
    model.append(5, timestamp=10, commit=False)
    assert model.partition.retention_start(11, -1) == 5


def test_messages_without_a_time_are_not_retired_by_age() -> None:
    model = Model()
    model.append(5, timestamp=-1)
    model.roll()
    assert model.partition.retention_start(10**15, -1) == 0


def test_retention_by_size_keeps_at_least_what_is_asked() -> None:
    model = Model()
    for _ in range(5):
        model.append(5, size=100)
        model.roll()
    assert model.partition.size_bytes == 500
    for keep, start in ((500, 0), (401, 0), (400, 5), (399, 5), (100, 20), (0, 25)):
        assert model.partition.retention_start(None, keep) == start


def test_a_start_beyond_the_end_moves_the_end() -> None:
    model = Model()
    model.append(5)
    model.partition.move_start(50)
    assert (model.partition.log_start, model.partition.high_watermark, model.partition.end_offset) == (
        50,
        50,
        50,
    )


def test_waiters_are_called_once() -> None:
    model = Model()
    called: list[str] = []
    model.partition.waiters["a"] = lambda: called.append("a")
    model.append(1)
    model.append(1)
    assert called == ["a"]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_size_and_answers_are_those_of_the_plain_list(seed: int) -> None:
    model = Model(seed, cache_bytes=200)
    chance = model.chance
    for _ in range(chance.randint(1, 40)):
        action = chance.randrange(8)
        if action <= 3:
            model.append(
                chance.randint(1, 4),
                chance.randint(61, 300),
                chance.randint(0, 100),
                commit=chance.random() < 0.8,
            )
        elif action == 4:
            model.roll(seal=chance.random() < 0.7)
        elif action == 5:
            model.partition.move_start(chance.randint(0, model.partition.high_watermark))
        elif action == 6 and len(model.segments) > 1:
            run = model.segments[0].run(KEY)
            if run is None or run.end_offset <= model.partition.log_start:
                model.drop_first()
        else:
            model.epoch += 1
        listed = set(model.partition._segments)
        assert all(not segment.removed for segment in listed)
        counted = [batch for batch in model.live if batch.segment in listed]
        assert model.partition.size_bytes == sum(batch.size for batch in counted)
        # Whatever is readable is listed.
        assert {batch.segment for batch in model.live if batch.end > model.partition.log_start} <= listed
    start, hw = model.partition.log_start, model.partition.high_watermark
    for offset in range(start, hw):
        bytes_max = chance.randint(1, 1000)
        found = model.extents(offset, bytes_max)
        expected = model.expected(offset, bytes_max, hw)
        assert found
        assert found == expected[: len(found)]


def test_the_same_run_comes_back_from_a_real_file(tmp_path: Path) -> None:
    model = Model()
    model.disk = RealDisk(tmp_path)  # type: ignore[assignment]
    model.segments = [Segment(model.disk, 1, None, 1 << 20)]
    for number in range(100):
        model.append(number % 3 + 1, 100 + number, number)
    run = model.segments[0].index.runs[KEY]  # type: ignore[union-attr]
    model.roll()
    loaded = load_run(model.segments[0], model.segments[0].summaries[KEY])
    for name in (
        "base_offsets",
        "positions",
        "sizes",
        "max_timestamps",
        "end_offset",
        "max_timestamp",
        "size_bytes",
        "epochs",
    ):
        assert getattr(loaded, name) == getattr(run, name)
