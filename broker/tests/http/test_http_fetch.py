"""Reading over HTTP: one partition with a long poll, and a topic merged over its partitions."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.codec.compression import Compression
from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.listeners.http import limits, reading
from penstock.listeners.http.browse import PartitionRead, merge
from penstock.listeners.http.models import Message
from penstock.testing.memory_services import MemoryServices


def append(services: MemoryServices, *records: Record, partition: int = 0, **options: Any) -> None:
    topic = services.topics.topics.get("orders") or services.add_topic("orders", 3)
    topic.partitions[partition].append(build_batch(records, options=BatchOptions(**options)))


async def get(
    data: aiohttp.ClientSession, where: str, status: int = 200, **query: str | int
) -> dict[str, Any]:
    async with data.get(f"/v1/topics/orders/{where}", params=query) as answer:
        document: dict[str, Any] = await answer.json(content_type=None)
        assert answer.status == status, document
        return document


FETCH = "partitions/0/messages"


async def test_messages_come_with_everything_they_have(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    append(services, Record(b"k", b"v", 1000, (("a", b"1"), ("b", None))), Record(None, None, 1001))
    append(services, Record(b"\xff", b"\xfe", 1002, (("a", b"1"), ("a", b"2"))))
    assert await get(data, FETCH) == {
        "messages": [
            {
                "partition": 0,
                "offset": 0,
                "timestamp": 1000,
                "key": "k",
                "value": "v",
                "headers": {"a": "1", "b": None},
            },
            {"partition": 0, "offset": 1, "timestamp": 1001, "key": None, "value": None, "headers": {}},
            {
                "partition": 0,
                "offset": 2,
                "timestamp": 1002,
                "key": {"base64": "/w=="},
                "value": {"base64": "/g=="},
                "headers": [["a", "1"], ["a", "2"]],
            },
        ],
        "nextOffset": 3,
        "highWatermark": 3,
        "logStart": 0,
    }


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("auto", ['{"a": 1.00}', "text", {"base64": "/w=="}]),
        ("json", [{"json": {"a": 1.0}}, "text", {"base64": "/w=="}]),
        ("text", ['{"a": 1.00}', "text", "\ufffd"]),
        ("base64", [{"base64": "eyJhIjogMS4wMH0="}, {"base64": "dGV4dA=="}, {"base64": "/w=="}]),
    ],
)
async def test_formats(
    services: MemoryServices, data: aiohttp.ClientSession, form: str, expected: list[Any]
) -> None:
    append(services, Record(value=b'{"a": 1.00}'), Record(value=b"text"), Record(value=b"\xff"))
    answer = await get(data, FETCH, format=form)
    assert [message["value"] for message in answer["messages"]] == expected


@pytest.mark.parametrize("value", [b"[" * 100_000, b"NaN", b'"\xff"', b"", b"{} {}"])
async def test_what_is_nearly_json_does_not_break_the_answer(
    services: MemoryServices, data: aiohttp.ClientSession, value: bytes
) -> None:
    append(services, Record(value=value))
    [message] = (await get(data, FETCH, format="json"))["messages"]
    read = message["value"]
    assert (base64.b64decode(read["base64"]) if isinstance(read, dict) else read.encode()) == value


@pytest.mark.parametrize("form", ["auto", "json", "base64"])
async def test_what_was_read_can_be_written_again(
    services: MemoryServices, data: aiohttp.ClientSession, form: str
) -> None:
    records = [
        Record(b"k", b'{"a":  1}', 5, (("h", b"x"), ("h", b"\xff"))),
        Record(None, b"\xff", 6),
        Record(b"7", None, 7, (("n", None),)),
    ]
    append(services, *records)
    messages = (await get(data, FETCH, format=form))["messages"]
    for message in messages:
        del message["offset"]
        message["partition"] = 1
    # Not through Python's json, which would write {"a":  1} with one space.
    async with data.get(f"/v1/topics/orders/{FETCH}", params={"format": form}) as answer:
        raw = (await answer.read()).replace(b'"partition":0', b'"partition":1')
    body = b'{"messages":' + b",".join([_without_offsets(raw)]) + b"}"
    async with data.post(
        "/v1/topics/orders/messages", data=body, headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 200
    first, second = services.topics.topics["orders"].partitions[:2]
    copied = list(reading.read_records(memoryview(second.batches[0])))
    original = list(reading.read_records(memoryview(first.batches[0])))
    assert [(r.key, r.value, r.headers, r.timestamp) for r in copied] == [
        (r.key, r.value, r.headers, r.timestamp) for r in original
    ]


def _without_offsets(answer: bytes) -> bytes:
    messages = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])["messages"]
    parts = []
    for message in msgspec.json.decode(messages, type=list[dict[str, msgspec.Raw]]):
        del message["offset"]
        parts.append(msgspec.json.encode(message))
    return b"[" + b",".join(parts) + b"]"


async def test_limits_and_positions(services: MemoryServices, data: aiohttp.ClientSession) -> None:
    append(services, *(Record(value=b"%d" % n, timestamp=n) for n in range(10)))
    append(services, *(Record(value=b"%d" % n, timestamp=n) for n in range(10, 20)))
    page = await get(data, FETCH, offset=7, limit=5)
    assert ([m["value"] for m in page["messages"]], page["nextOffset"]) == (["7", "8", "9", "10", "11"], 12)
    page = await get(data, FETCH, offset=0, maxBytes=1)
    assert page["nextOffset"] == 10, "a first batch comes whole"
    page = await get(data, FETCH, offset="latest")
    assert (page["messages"], page["nextOffset"]) == ([], 20)
    page = await get(data, FETCH, offset="1970-01-01T00:00:00.015Z", limit=1)
    assert page["messages"][0]["value"] == "15"
    page = await get(data, FETCH, offset="2999-01-01T00:00:00Z")
    assert page["nextOffset"] == 20, "a time that nothing is as new as is the end"


async def test_a_long_poll_ends_when_a_message_comes(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    services.add_topic("orders")
    waiting = asyncio.create_task(get(data, FETCH, waitMs=20_000))
    async with data.post("/v1/topics/orders/messages", json={"messages": [{"value": "a"}]}) as answer:
        assert answer.status == 200
    page = await asyncio.wait_for(waiting, 10)
    assert [message["value"] for message in page["messages"]] == ["a"]


async def test_a_long_poll_ends_empty_after_its_time(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    services.add_topic("orders")
    assert (await get(data, FETCH, waitMs=1))["messages"] == []


async def test_compressed_and_control_batches(services: MemoryServices, data: aiohttp.ClientSession) -> None:
    append(services, Record(value=b"a"), compression=Compression.GZIP)
    append(services, Record(key=b"\0\0\0\0", value=b"marker"), control=True)
    append(services, Record(value=b"b"))
    page = await get(data, FETCH)
    assert [(m["offset"], m["value"]) for m in page["messages"]] == [(0, "a"), (2, "b")]
    page = await get(data, FETCH, offset=1, limit=1)
    assert [m["offset"] for m in page["messages"]] == [2]
    services.topics.topics["orders"].partitions[0].batches.pop()
    services.topics.topics["orders"].partitions[0].high_watermark = 2
    page = await get(data, FETCH, offset=1)
    assert (page["messages"], page["nextOffset"]) == ([], 2), "reading goes on behind a control batch"


async def test_a_damaged_batch_is_named_and_can_be_passed(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    append(services, Record(value=b"a"))
    append(services, Record(value=b"b"))
    batches = services.topics.topics["orders"].partitions[0].batches
    batches[0] = batches[0][:-3] + b"\xff\xff\xff"
    problem = await get(data, FETCH, status=400)
    assert problem["code"] == "CORRUPT_MESSAGE"
    assert "Read on from offset 1." in problem["detail"]
    assert [m["value"] for m in (await get(data, FETCH, offset=1))["messages"]] == ["b"]


async def test_an_answer_is_bounded_in_bytes(
    services: MemoryServices, data: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ANSWER_BYTES_MAX", 100)
    append(services, *(Record(value=b"x" * 60) for _ in range(5)))
    page = await get(data, FETCH)
    assert (len(page["messages"]), page["nextOffset"]) == (2, 2)


@pytest.mark.parametrize(
    ("where", "query", "status", "part"),
    [
        ("partitions/0/messages", "?offset=9", 416, "no offset 9"),
        ("partitions/0/messages", "?offset=-1", 400, "neither earliest nor latest"),
        ("partitions/0/messages", "?offset=²", 400, "not a number from 0"),
        ("partitions/0/messages", "?offset=" + "9" * 5000, 400, "not a number from 0"),
        ("partitions/0/messages", "?offset=9223372036854775808", 400, "not a number from 0"),
        ("partitions/0/messages", "?limit=0", 400, "limit"),
        ("partitions/0/messages", f"?limit={limits.FETCH_MESSAGES_MAX + 1}", 400, "limit"),
        ("partitions/0/messages", f"?maxBytes={limits.FETCH_BYTES_MAX + 1}", 400, "maxBytes"),
        ("partitions/0/messages", f"?waitMs={limits.FETCH_WAIT_MS_MAX + 1}", 400, "waitMs"),
        ("partitions/0/messages", "?format=xml", 400, "format"),
        ("partitions/0/messages", "?ofset=1", 400, "there is no parameter `ofset`"),
        ("partitions/x/messages", "", 400, "partition"),
        ("partitions/99999999999/messages", "", 400, "partition"),
        ("partitions/7/messages", "?offset=0", 404, "no partition 7"),
        ("partitions/7/messages", "", 404, "no partition 7"),
        ("messages", "?from=yesterday", 400, "2026-11-21T08:00:00Z"),
        ("messages", "?from=2026-11-21T08:00:00", 400, "2026-11-21T08:00:00Z"),
        ("messages", "?next=%FF", 400, "not a cursor"),
        ("messages", "?next=abc", 400, "not a cursor"),
        ("messages", "?from=earliest&next=abc", 400, "`from` and `next`"),
    ],
)
async def test_bad_reads_are_refused_with_a_sentence(
    services: MemoryServices, data: aiohttp.ClientSession, where: str, query: str, status: int, part: str
) -> None:
    services.add_topic("orders")
    async with data.get(f"/v1/topics/orders/{where}{query}") as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, part in problem["detail"]) == (status, True), problem


async def test_an_offset_out_of_range_says_what_there_is(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    append(services, *(Record(value=b"x") for _ in range(5)))
    services.topics.topics["orders"].partitions[0].log_start = 3
    problem = await get(data, FETCH, status=416, offset=1)
    assert (problem["logStart"], problem["highWatermark"]) == (3, 5)


# --- merged -----------------------------------------------------------------------------------------


async def browse(data: aiohttp.ClientSession, **query: str | int) -> tuple[list[str], dict[str, Any]]:
    page = await get(data, "messages", **query)
    return [message["value"] for message in page["messages"]], page


async def test_a_topic_is_read_merged_by_time_page_by_page(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    for number in range(30):
        append(services, Record(value=b"%d" % number, timestamp=number), partition=number % 3)
    seen, page = await browse(data, limit=7)
    pages = 1
    while not page["atEnd"]:
        values, page = await browse(data, limit=7, next=page["next"])
        seen += values
        pages += 1
    assert seen == [str(number) for number in range(30)]
    assert pages == 5
    append(services, Record(value=b"new", timestamp=99), partition=2)
    assert (await browse(data, next=page["next"]))[0] == ["new"]


async def test_a_topic_is_read_from_a_time_or_its_end(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    for number in range(6):
        append(services, Record(value=b"%d" % number, timestamp=1000 * number), partition=number % 3)
    assert (await browse(data, **{"from": "1970-01-01T00:00:03Z"}))[0] == ["3", "4", "5"]
    values, page = await browse(data, **{"from": "latest"})
    assert (values, page["atEnd"]) == ([], True)
    waiting = asyncio.create_task(browse(data, next=page["next"], waitMs=20_000))
    async with data.post("/v1/topics/orders/messages", json={"messages": [{"value": "a"}]}) as answer:
        assert answer.status == 200
    assert (await asyncio.wait_for(waiting, 10))[0] == ["a"]


async def test_browsing_skips_what_retention_deleted_and_reads_added_partitions(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    for number in range(4):
        append(services, Record(value=b"%d" % number, timestamp=number))
    _, page = await browse(data, limit=1)
    topic = services.topics.topics["orders"]
    topic.partitions[0].log_start = 3
    topic.partitions.append(type(topic.partitions[0])())
    append(services, Record(value=b"added", timestamp=9), partition=3)
    assert (await browse(data, next=page["next"]))[0] == ["3", "added"]


async def test_too_many_partitions_to_merge(services: MemoryServices, data: aiohttp.ClientSession) -> None:
    services.add_topic("orders", limits.BROWSE_PARTITIONS_MAX + 1)
    problem = await get(data, "messages", status=400)
    assert "read them one by one" in problem["detail"]


async def test_a_cursor_of_the_largest_topic_fits_into_a_request(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    topic = services.add_topic("orders", limits.BROWSE_PARTITIONS_MAX)
    for partition in topic.partitions:
        partition.log_start = partition.high_watermark = 2**63 - 2
    _, page = await browse(data)
    assert page["atEnd"]
    _, again = await browse(data, next=page["next"])
    assert again["next"] == page["next"]


def _message(partition: int, offset: int, timestamp: int) -> Message:
    return Message(partition, offset, timestamp, None, None, {})


@given(
    partitions=st.lists(st.lists(st.integers(0, 20), max_size=8), min_size=1, max_size=4),
    limit=st.integers(1, 10),
    chunk=st.integers(1, 4),
)
def test_merging_reads_everything_once_and_keeps_each_partition_in_order(
    partitions: list[list[int]], limit: int, chunk: int
) -> None:
    """Any split into pages and any amount read ahead gives every message once, in order per partition; and where each
    partition's timestamps ascend, all together ascend as well."""
    for ascending in (False, True):
        content = [
            [
                _message(number, offset, timestamp)
                for offset, timestamp in enumerate(sorted(each) if ascending else each)
            ]
            for number, each in enumerate(partitions)
        ]
        offsets = [0] * len(content)
        seen: list[Message] = []
        total = sum(map(len, content))
        for _ in range(total + 1):
            reads = [
                PartitionRead(
                    offset,
                    each[offset : offset + chunk],
                    min(offset + chunk, len(each)),
                    offset + chunk >= len(each),
                )
                for offset, each in zip(offsets, content, strict=True)
            ]
            merged, offsets = merge(reads, limit)
            assert len(merged) <= limit
            seen += merged
            if len(seen) == total:
                break
            assert merged, "a reader must get on"
        for number, each in enumerate(content):
            assert [m for m in seen if m.partition == number] == each
        assert offsets == [len(each) for each in content]
        if ascending:
            assert [m.timestamp for m in seen] == sorted(m.timestamp for m in seen)


async def test_topics_of_the_data_api(services: MemoryServices, data: aiohttp.ClientSession) -> None:
    append(services, Record(value=b"a"))
    async with data.get("/v1/topics") as answer:
        [topic] = (await answer.json())["topics"]
    assert (topic["name"], topic["partitions"], topic["messages"]) == ("orders", 3, 1)
    async with data.get("/v1/topics/orders") as answer:
        detail = await answer.json()
    assert detail["partitionDetails"][0] == {"partition": 0, "logStart": 0, "highWatermark": 1}
    async with data.get("/v1/topics/none") as answer:
        assert answer.status == 404
    async with data.head("/v1/topics/orders") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
