"""Producing over HTTP: every form of a message, batching, partition choice, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import aiohttp
import pytest

from penstock.codec.murmur2 import partition_for_key
from penstock.codec.records import Record, read_records
from penstock.listeners.http import limits, partitioner
from penstock.model.errors import ErrorCode
from penstock.service.api import AppendResult
from penstock.testing.memory_services import MemoryServices

MESSAGES = "/v1/topics/orders/messages"


def stored(services: MemoryServices, topic: str = "orders", partition: int = 0) -> list[Record]:
    """What the topic has, decoded."""
    batches = services.topics.topics[topic].partitions[partition].batches
    return [record for batch in batches for record in read_records(memoryview(batch))]


async def produce(data: aiohttp.ClientSession, body: Any, status: int = 200) -> dict[str, Any]:
    async with data.post(MESSAGES, json=body) as answer:
        document: dict[str, Any] = await answer.json(content_type=None)
        assert answer.status == status, document
        return document


async def test_an_envelope_keeps_text_json_base64_and_null(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    services.add_topic("orders")
    encoded = base64.b64encode(b"\xff\x00").decode()
    body = """{"messages": [
        {"key": "k", "value": "grüß", "headers": {"a": "1", "b": null}, "timestamp": 1000},
        {"value": {"json": {"price": 1.00}}, "headers": [["a", "1"], ["a", {"base64": "BYTES"}]]},
        {"value": {"base64": "BYTES"}, "timestamp": "2026-11-21T00:00:00Z"},
        {"key": {"json": 7}, "value": null}
    ]}""".replace("BYTES", encoded)
    async with data.post(MESSAGES, data=body, headers={"Content-Type": "application/json"}) as answer:
        document = await answer.json()
    assert document == {"offsets": [{"partition": 0, "offset": number} for number in range(4)]}
    text, json_value, binary, tombstone = stored(services)
    assert (text.key, text.value, text.timestamp) == (b"k", "grüß".encode(), 1000)
    assert text.headers == (("a", b"1"), ("b", None))
    assert json_value.value == b'{"price": 1.00}', "JSON is kept as it was written"
    assert json_value.headers == (("a", b"1"), ("a", b"\xff\x00"))
    assert (binary.value, binary.timestamp) == (b"\xff\x00", 1795219200000)
    assert (tombstone.key, tombstone.value) == (b"7", None)


@pytest.mark.parametrize(
    ("media_type", "query", "value"),
    [
        ("text/plain", "", b"plain text"),
        ("text/plain; charset=utf-8", "", b""),
        ("application/octet-stream", "", b"\x00\xff{"),
        ("application/json", "&raw=true", b'{"messages": "of my own"}'),
    ],
)
async def test_a_raw_body_is_one_message(
    services: MemoryServices, data: aiohttp.ClientSession, media_type: str, query: str, value: bytes
) -> None:
    services.add_topic("orders", partitions=3)
    url = f"{MESSAGES}?key=k1&header=a:1&header=b:x:y&partition=2&timestamp=5{query}"
    async with data.post(url, data=value, headers={"Content-Type": media_type}) as answer:
        assert answer.status == 200
        assert await answer.json() == {"offsets": [{"partition": 2, "offset": 0}]}
    [record] = stored(services, partition=2)
    assert (record.key, record.value, record.timestamp) == (b"k1", value, 5)
    assert record.headers == (("a", b"1"), ("b", b"x:y"))


@pytest.mark.parametrize(
    ("query", "media_type", "body", "status", "part"),
    [
        ("", "application/x-www-form-urlencoded", b"a", 415, "-H 'Content-Type: text/plain'"),
        ("", "application/json", b"", 400, "needs a JSON body"),
        ("", "application/json", b"{", 400, "not valid JSON"),
        ("", "application/json", b"[" * 100_000, 400, ""),
        ("", "application/json", b'{"messages":[]}', 400, "length >= 1"),
        ("", "application/json", b'{"messages":[{"valu":"x"}]}', 400, "`valu`"),
        ("", "application/json", b'{"messages":[{"key":"x"}]}', 400, "missing required field `value`"),
        ("", "application/json", b'{"messages":[{"value":1}]}', 400, "messages[0].value"),
        ("", "application/json", b'{"messages":[{"value":{}}]}', 400, "exactly one of"),
        ("", "application/json", b'{"messages":[{"value":{"base64":"?"}}]}', 400, "base64"),
        ("", "application/json", b'{"messages":[{"value":"\\ud800"}]}', 400, ""),
        ("", "application/json", b'{"messages":[{"value":"","headers":{"\\ud800":""}}]}', 400, ""),
        ("", "application/json", b'{"messages":[{"value":"","partition":-1}]}', 400, "partition"),
        ("", "application/json", b'{"messages":[{"value":""}],"acks":"some"}', 400, "acks"),
        ("", "application/json", b'{"messages":[{"value":"","timestamp":"2026-01-01"}]}', 400, "timestamp"),
        ("?key=a", "application/json", b'{"messages":[{"value":""}]}', 400, "?raw=true"),
        ("?kex=a", "text/plain", b"x", 400, "there is no parameter `kex`"),
        ("?key=a&key=b", "text/plain", b"x", 400, "given twice"),
        ("?header=a", "text/plain", b"x", 400, "name:value"),
        ("?partition=x", "text/plain", b"x", 400, "partition"),
        ("?raw=true", "application/json", b"{", 400, "not valid JSON"),
        ("", "application/json", b'{"messages":[{"value":"","partition":7}]}', 404, "there is no 7"),
    ],
)
async def test_bad_requests_are_refused_with_a_sentence(
    services: MemoryServices,
    data: aiohttp.ClientSession,
    query: str,
    media_type: str,
    body: bytes,
    status: int,
    part: str,
) -> None:
    services.add_topic("orders", partitions=3)
    async with data.post(MESSAGES + query, data=body, headers={"Content-Type": media_type}) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["status"]) == (status, status), problem
        assert part in problem["detail"]
        assert problem["code"] in ErrorCode.__members__
    assert services.data.calls == []


async def test_a_key_goes_where_kafka_sends_it(services: MemoryServices, data: aiohttp.ClientSession) -> None:
    services.add_topic("orders", partitions=7)
    keys = [f"key-{number}" for number in range(20)]
    answer = await produce(data, {"messages": [{"key": key, "value": "v"} for key in keys]})
    assert [entry["partition"] for entry in answer["offsets"]] == [
        partition_for_key(key.encode(), 7) for key in keys
    ]


async def test_keyless_messages_stick_within_a_request_and_move_on_after_it(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    services.add_topic("orders", partitions=3)
    seen = []
    for _ in range(4):
        answer = await produce(data, {"messages": [{"value": "a"}, {"value": "b"}]})
        partitions = {entry["partition"] for entry in answer["offsets"]}
        assert len(partitions) == 1
        seen.append(partitions.pop())
    assert seen == [0, 1, 2, 0]


async def test_a_large_request_is_cut_into_bounded_batches_in_order(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    services.add_topic("orders")
    values = [str(number) for number in range(2500)]
    answer = await produce(data, {"messages": [{"value": value} for value in values]})
    assert [entry["offset"] for entry in answer["offsets"]] == list(range(2500))
    assert [record.value for record in stored(services)] == [value.encode() for value in values]
    assert services.data.calls == [[1000], [1000], [500]]


async def test_requests_of_one_turn_become_one_batch(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    services.add_topic("orders")
    await asyncio.gather(*(produce(data, {"messages": [{"value": str(n)}]}) for n in range(50)))
    batches = sum(map(len, services.data.calls))
    assert len(stored(services)) == 50
    assert batches < 50, "messages that arrived together were not batched at all"


async def test_a_batch_that_the_topic_finds_too_large_is_halved(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    services.add_topic("orders")
    services.data.batch_bytes_max = 500
    messages = [{"value": f"{number}" + "x" * 100} for number in range(9)] + [{"value": "y" * 600}]
    problem = await produce(data, {"messages": messages}, status=413)
    assert problem["code"] == "MESSAGE_TOO_LARGE"
    assert problem["detail"].startswith("9 of 10 messages were stored.")
    assert problem["offsets"][:9] == [{"partition": 0, "offset": number} for number in range(9)]
    assert problem["offsets"][9] == {"partition": 0, "offset": None, "code": "MESSAGE_TOO_LARGE"}
    assert [(record.value or b"")[:1] for record in stored(services)] == [b"%d" % n for n in range(9)]


async def test_acks_none_answers_without_offsets(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    services.add_topic("orders")
    answer = await produce(data, {"messages": [{"value": "a"}], "acks": "none"})
    assert answer == {"offsets": [{"partition": 0, "offset": None}]}


async def test_a_retriable_failure_is_503_with_retry_after(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    services.add_topic("orders")
    services.data.failure = AppendResult(
        "orders", 0, ErrorCode.KAFKA_STORAGE_ERROR, message="The disk is full; delete something."
    )
    async with data.post(MESSAGES, json={"messages": [{"value": "a"}]}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "The disk is full; delete something." in (await answer.json(content_type=None))["detail"]


async def test_a_failing_use_case_is_500_and_nobody_waits_for_ever(
    services: MemoryServices, data: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    services.add_topic("orders")
    services.data.crash = ZeroDivisionError("we are wrong")
    problem = await produce(data, {"messages": [{"value": "a"}]}, status=500)
    assert problem["code"] == "UNKNOWN_SERVER_ERROR"
    assert "produce failed" in caplog.text


async def test_missing_topics_are_made_where_that_is_configured(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    await produce(data, {"messages": [{"value": "a"}]})
    services.topics.auto_create = False
    async with data.post("/v1/topics/other/messages", json={"messages": [{"value": "a"}]}) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["code"]) == (404, "UNKNOWN_TOPIC_OR_PARTITION")


async def test_a_topic_that_is_just_being_made_is_asked_for_again(
    services: MemoryServices, data: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitioner, "METADATA_RETRY_SECONDS", 0)
    services.topics.not_available = partitioner.METADATA_ATTEMPTS_MAX - 1
    await produce(data, {"messages": [{"value": "a"}]})
    services.topics.not_available = partitioner.METADATA_ATTEMPTS_MAX
    async with data.post("/v1/topics/other/messages", json={"messages": [{"value": "a"}]}) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["code"]) == (503, "LEADER_NOT_AVAILABLE")


async def test_a_body_over_the_limit_is_413(services: MemoryServices, data: aiohttp.ClientSession) -> None:
    services.add_topic("orders")
    headers = {"Content-Type": "text/plain"}
    size = limits.DATA_BODY_BYTES_MAX + 1
    async with data.post(MESSAGES, data=io.BytesIO(b"x" * size), headers=headers) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["code"]) == (413, "MESSAGE_TOO_LARGE")

    async def chunks() -> Any:
        for _ in range(size // 65536 + 1):
            yield b"x" * 65536

    async with data.post(MESSAGES, data=chunks(), headers=headers) as answer:
        assert answer.status == 413
    assert services.data.calls == []


async def test_a_compressed_body_and_other_sites_are_refused(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    async with data.post(MESSAGES, data=b"x", headers=headers) as answer:
        assert answer.status == 415
    headers = {"Content-Type": "text/plain", "Sec-Fetch-Site": "cross-site"}
    async with data.post(MESSAGES, data=b"x", headers=headers) as answer:
        assert answer.status == 403
    assert services.data.calls == []
