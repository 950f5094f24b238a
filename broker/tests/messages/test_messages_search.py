"""Searching for a key: in batches, through a partition's index, and what a request may cost at most."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.crc import crc32c
from penstock.codec.compression import Compression
from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.config.broker_config import load_config
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import HEADER, parse_header
from penstock.partition.searching import (
    UNREADABLE_BYTES,
    SearchBounds,
    Wanted,
    message_at,
    search_batches,
)
from penstock.process.assembly import Broker
from penstock.runtime.shard import Shard
from penstock.service.api import NewTopic, ProduceBatches
from penstock.service.context import RequestContext
from penstock.service.message_api import FindRequest, Found
from penstock.service.messages import FindLimits, MessageServiceImpl
from penstock.service.settings import Settings

CONTEXT = RequestContext("test", "test")
ALL = SearchBounds(2**40, 2**40)
MIB = 1024 * 1024
PRODUCE_ATTEMPTS_MAX = 1000


def batch(base: int, *keys: bytes | None, timestamp: int = 1000, **options: Any) -> memoryview:
    records = [Record(key=key, value=b"v", timestamp=timestamp + number) for number, key in enumerate(keys)]
    return memoryview(build_batch(records, base, BatchOptions(**options)))


def offsets(batches: list[memoryview], **wanted: Any) -> list[int]:
    asked = {"key": b"k", "since": None, "from_offset": 0, "before": 100, "limit": 100, **wanted}
    return [match.record.offset for match in search_batches(batches, Wanted(**asked), ALL).matches]


# --- batches ----------------------------------------------------------------------------------------


def test_matches_come_newest_first_and_only_of_the_whole_key() -> None:
    batches = [batch(4, b"k", b"kk", b"k"), batch(0, b"x", None, b"k", b"K", compression=Compression.GZIP)]
    assert offsets(batches) == [6, 4, 2]
    assert offsets(batches, key=b"kk") == [5]
    assert offsets(batches, key=b"v") == []


def test_an_empty_key_is_a_key_and_null_is_none() -> None:
    assert offsets([batch(0, None, b"", b"k")], key=b"") == [1]


def test_bounds_of_offsets_and_time_count_for_each_record() -> None:
    batches = [batch(0, b"k", b"k", b"k", b"k")]
    assert offsets(batches, from_offset=1, before=3) == [2, 1]
    assert offsets(batches, since=1002) == [3, 2]
    assert offsets(batches, limit=1) == [3]


def test_a_search_goes_on_below_its_last_match_within_a_batch() -> None:
    batches = [batch(0, b"k", b"k", b"k")]
    first = search_batches(batches, Wanted(b"k", None, 0, 100, 2), ALL)
    assert (first.before, first.stopped) == (1, True)
    assert offsets(batches, before=first.before) == [0]


def test_bounds_end_a_search_after_one_batch_at_least() -> None:
    batches = [batch(4, b"k"), batch(2, b"x"), batch(0, b"k")]
    by_bytes = search_batches(batches, Wanted(b"k", None, 0, 100, 9), SearchBounds(1, 2**40))
    assert ([m.record.offset for m in by_bytes.matches], by_bytes.before, by_bytes.stopped) == ([4], 4, True)
    by_records = search_batches(batches[1:], Wanted(b"k", None, 0, 4, 9), SearchBounds(2**40, 1))
    assert (by_records.opened, by_records.messages, by_records.before) == (1, 2, 0)


def test_batches_without_the_key_are_not_taken_apart() -> None:
    # The longer key has the wanted one within it.
    searched = search_batches([batch(0, *[b"xkx"] * 50)], Wanted(b"k", None, 0, 99, 9), ALL)
    assert (searched.messages, searched.opened, searched.unreadable) == (50, 0, 0)
    assert searched.read_bytes > 0


def test_batches_that_cannot_be_read_are_counted_and_cost_something() -> None:
    damaged = bytearray(batch(4, b"k", compression=Compression.GZIP))
    damaged[-9:] = b"\xff" * 9
    shapeless = bytes(batch(2, b"k"))[:-1] + b"\x07"
    searched = search_batches(
        [memoryview(damaged), memoryview(shapeless), batch(0, b"k")], Wanted(b"k", None, 0, 99, 9), ALL
    )
    assert [match.record.offset for match in searched.matches] == [0]
    assert searched.unreadable == 2
    assert searched.read_bytes > 2 * UNREADABLE_BYTES


def test_control_batches_hold_no_messages() -> None:
    assert offsets([batch(0, b"k", control=True)]) == []


def test_a_record_that_claims_an_offset_outside_of_its_batch_is_not_found() -> None:
    honest = batch(0, b"k", b"k")
    header = parse_header(honest)
    short = HEADER.pack(*header._replace(last_offset_delta=0)) + bytes(honest)[61:]
    assert offsets([memoryview(short)]) == [0]


@given(
    st.lists(st.lists(st.sampled_from([b"k", b"x", b"", None]), min_size=1, max_size=5), max_size=8),
    st.integers(1, 4),
    st.integers(1, 200),
    st.sampled_from(list(Compression)),
)
def test_going_on_finds_what_a_plain_look_finds(
    keys: list[list[bytes | None]], limit: int, bytes_max: int, compression: Compression
) -> None:
    flat = [key for part in keys for key in part]
    expected = [offset for offset in reversed(range(len(flat))) if flat[offset] == b"k"]
    batches, base = [], 0
    for part in keys:
        batches.insert(0, batch(base, *part, compression=compression))
        base += len(part)
    found: list[int] = []
    before = len(flat)
    while before > 0:
        rest = [each for each in batches if parse_header(each).base_offset < before]
        searched = search_batches(rest, Wanted(b"k", None, 0, before, limit), SearchBounds(bytes_max, 9))
        found += [match.record.offset for match in searched.matches]
        assert searched.before < before
        before = searched.before
    assert found == expected


def test_message_at_an_offset() -> None:
    found = message_at(batch(5, b"a", b"b", compression=Compression.GZIP), 6)
    assert found is not None
    assert (found.record.key, found.header.base_offset) == (b"b", 5)
    assert message_at(batch(5, b"a"), 6) is None


# --- a whole broker ---------------------------------------------------------------------------------


def fail(error: BaseException) -> None:
    raise AssertionError("the broker's log failed") from error


class Scene:
    """A broker in this process with small segments, and a service with bounds of its own."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.shard: Shard = broker.shard

    def service(self, **limits: int) -> MessageServiceImpl:
        settings = Settings(self.shard.machines.catalog, {})
        return MessageServiceImpl(self.shard, settings, FindLimits(**limits))

    async def produce(
        self, *keys: bytes | None, number: int = 0, value: bytes = b"v", **options: Any
    ) -> None:
        timestamp = options.pop("timestamp", 1000)
        records = [Record(key=key, value=value, timestamp=timestamp) for key in keys]
        data = memoryview(build_batch(records, 0, BatchOptions(**options)))
        for _ in range(PRODUCE_ATTEMPTS_MAX):
            [result] = await self.broker.data.produce(
                CONTEXT, [ProduceBatches("t", number, data)], -1, 10_000
            )
            if result.error is not ErrorCode.KAFKA_STORAGE_ERROR:
                break
            # Segments are filled faster here than new ones are allocated; what comes meanwhile is refused.
            await asyncio.sleep(0.01)
        assert result.error is ErrorCode.NONE, result.message

    async def fill_segments(self, count: int) -> None:
        """Batches whose bytes are not those of a key, until there are so many more segments."""
        wanted = len(self.shard.log.segments) + count
        noise = random.Random(1).randbytes(200_000)
        while len(self.shard.log.segments) < wanted:
            await self.produce(b"noise", value=noise)

    async def find_all(
        self, service: MessageServiceImpl, on_page: Callable[[Found], None] = lambda _: None, **asked: Any
    ) -> list[tuple[int, int]]:
        partitions = asked.pop("partitions", [0])
        place, before = 0, None
        found = []
        while place < len(partitions):
            request = FindRequest(
                "t", partitions[place:], **{"key": b"k", "limit": 100, "before": before, **asked}
            )
            page = await service.find(CONTEXT, request)
            on_page(page)
            found += [(message.partition, message.record.offset) for message in page.messages]
            place, before = place + page.done, page.before
        return found


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    file = tmp_path / "broker.yaml"
    file.write_text("log.segment.bytes: 1048576\nlog.cache.bytes: 1048576\nlog.retention.ms: -1\n")
    broker = Broker(load_config(tmp_path / "data", listen=["admin=127.0.0.1:0"], config_file=file), fail)
    await broker.start()
    [outcome] = await broker.topics.create_topics(CONTEXT, [NewTopic("t", 3)])
    assert outcome.error is ErrorCode.NONE
    yield Scene(broker)
    await broker.stop()


async def test_a_search_reads_sealed_segments_and_the_newest_batches_alike(scene: Scene) -> None:
    await scene.produce(b"k", b"x")
    await scene.fill_segments(3)
    await scene.produce(b"k")
    await scene.fill_segments(2)
    await scene.produce(b"x", b"k")
    end = scene.shard.table.require("t", 0).high_watermark
    found = await scene.find_all(scene.service())
    assert found[0] == (0, end - 1)
    assert found[-1] == (0, 0)
    assert len(found) == 3


async def test_a_request_stops_at_each_of_its_bounds_and_goes_on(scene: Scene) -> None:
    for _ in range(6):
        await scene.produce(b"k", b"x")
    expected = [(0, offset) for offset in (10, 8, 6, 4, 2, 0)]
    for bound in ("bytes_max", "records_max", "slots_max"):
        pages: list[Found] = []
        limits = {bound: 1, "slice_bytes_max": 1, "slice_slots_max": 1}
        assert await scene.find_all(scene.service(**limits), pages.append) == expected, bound
        assert [len(page.messages) for page in pages] == [1] * 6
    assert await scene.find_all(scene.service(), limit=4) == expected
    partitions = scene.service(partitions_max=1)
    assert await scene.find_all(partitions, partitions=[1, 0, 2]) == expected


async def test_what_is_too_old_is_not_read(scene: Scene) -> None:
    await scene.produce(b"k", timestamp=1000)
    await scene.fill_segments(2)
    await scene.produce(b"k", timestamp=5000)
    scanned = []
    found = await scene.find_all(
        scene.service(), lambda page: scanned.append(page.scanned_messages), since_ms=4000
    )
    assert (len(found), sum(scanned)) == (1, 1)


async def test_partitions_are_searched_in_the_order_asked_for(scene: Scene) -> None:
    for number in range(3):
        await scene.produce(b"k", number=number)
    assert await scene.find_all(scene.service(), partitions=[2, 0, 1]) == [(2, 0), (0, 0), (1, 0)]
    assert await scene.find_all(scene.service(), partitions=[2, 0, 1], limit=1) == [(2, 0), (0, 0), (1, 0)]


async def test_only_so_many_searches_run_at_a_time(scene: Scene) -> None:
    await scene.produce(b"k")
    with pytest.raises(PenstockError, match="0 searches at a time") as refused:
        await scene.find_all(scene.service(at_a_time_max=0))
    assert refused.value.code is ErrorCode.THROTTLING_QUOTA_EXCEEDED
    service = scene.service(at_a_time_max=1)
    for _ in range(2):
        assert await scene.find_all(service) == [(0, 0)]


async def test_what_is_not_committed_is_got_and_not_found(scene: Scene) -> None:
    await scene.produce(b"k")
    await scene.produce(b"k")
    place = scene.shard.table.require("t", 0)
    place.high_watermark = 1
    service = scene.service()
    assert await scene.find_all(service) == [(0, 0)]
    message = await service.get(CONTEXT, "t", 0, 1)
    assert (message.committed, message.high_watermark, message.end_offset) == (False, 1, 2)
    assert (await service.get(CONTEXT, "t", 0, 0)).committed
    place.high_watermark = 2


async def test_the_log_start_bounds_both(scene: Scene) -> None:
    await scene.produce(b"k", b"k", b"k")
    await scene.broker.data.delete_records(CONTEXT, [("t", 0, 2)], 1000)
    service = scene.service()
    assert await scene.find_all(service) == [(0, 2)]
    with pytest.raises(PenstockError, match=r"its log starts at 2, where retention \(retention.ms="):
        await service.get(CONTEXT, "t", 0, 1)
    with pytest.raises(PenstockError, match="the next message there gets offset 3"):
        await service.get(CONTEXT, "t", 0, 3)
    assert (await service.get(CONTEXT, "t", 0, 2)).record.key == b"k"


async def test_a_batch_that_is_no_records_is_told_and_passed_over(scene: Scene) -> None:
    await scene.produce(b"k")
    whole = bytes(build_batch([Record(key=b"k", value=b"v")]))
    # A client may say what it likes within a batch whose checksum is right: only its header is looked at.
    shapeless = whole[:-1] + b"\x07"
    shapeless = shapeless[:17] + crc32c(shapeless[21:]).to_bytes(4, "big") + shapeless[21:]
    asked = [ProduceBatches("t", 0, memoryview(shapeless))]
    [result] = await scene.broker.data.produce(CONTEXT, asked, -1, 10_000)
    assert result.error is ErrorCode.NONE
    service, unreadable = scene.service(), []
    assert await scene.find_all(service, lambda page: unreadable.append(page.unreadable)) == [(0, 0)]
    assert sum(unreadable) == 1
    with pytest.raises(PenstockError, match="offset 1 cannot be read as messages") as refused:
        await service.get(CONTEXT, "t", 0, 1)
    assert refused.value.code is ErrorCode.CORRUPT_MESSAGE


async def test_a_search_holds_little_of_a_large_log_in_memory(scene: Scene) -> None:
    await scene.fill_segments(12)
    service = scene.service()
    tracemalloc.start()
    try:
        assert await scene.find_all(service) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB


async def test_unknown_places_are_refused_with_a_sentence(scene: Scene) -> None:
    service = scene.service()
    with pytest.raises(PenstockError, match="There is no topic 'nope'"):
        service.partition_count("nope")
    with pytest.raises(PenstockError, match="has 3 partitions, 0 to 2; there is no 3"):
        await service.get(CONTEXT, "t", 3, 0)
    with pytest.raises(PenstockError, match="there is no 7"):
        await scene.find_all(service, partitions=[7])
