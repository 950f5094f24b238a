"""The routes of queue groups: what is asked of the service, what is answered, and that the document describes it."""

from __future__ import annotations

from typing import Any

import aiohttp
import jsonschema
import pytest

from penstock.codec.records import Record
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.queue_api import Leased, LeasedMessage, LeaseRequest, ReceiptResult
from penstock.testing.memory_services import MemoryServices

RECORD = Record(b"key", b"\xff", 1_700, (("h", b"1"),), 5)


async def post(
    session: aiohttp.ClientSession, verb: str, body: Any, *, group: str = "work", status: int = 200
) -> Any:
    """Also holds the answer against the OpenAPI document."""
    async with session.get("/v1/openapi.json") as answer:
        document = await answer.json()
    async with session.post(f"/v1/groups/{group}/{verb}", json=body) as answer:
        told = await answer.json()
        assert answer.status == status, told
    responses = document["paths"][f"/v1/groups/{{group}}/{verb}"]["post"]["responses"]
    response = responses.get(str(status), responses["default"])
    [content] = response["content"].values()
    schema = {**content["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(told)
    return told


async def test_a_lease_is_asked_for_and_shown(services: MemoryServices, data: aiohttp.ClientSession) -> None:
    services.queues.leased = Leased([LeasedMessage("r1", "t", 2, RECORD, 3, 9_000)], window_full=True)
    told = await post(data, "lease", {"max": 7, "waitMs": 10, "leaseMs": 500, "member": "m"}, group="a%2Fb")
    assert services.queues.asked == [("lease", LeaseRequest("a/b", 7, 10, 500, "m"))]
    assert told == {
        "messages": [
            {
                "receipt": "r1",
                "topic": "t",
                "partition": 2,
                "offset": 5,
                "timestamp": 1_700,
                "key": "key",
                "value": {"base64": "/w=="},
                "headers": {"h": "1"},
                "deliveries": 3,
                "leaseUntil": 9_000,
            }
        ],
        "windowFull": True,
    }


async def test_what_is_left_out_has_its_default(
    services: MemoryServices, data: aiohttp.ClientSession
) -> None:
    assert await post(data, "lease", {}) == {"messages": []}
    await post(data, "reject", {"receipts": ["r"]})
    assert services.queues.asked == [
        ("lease", LeaseRequest("work", 1, 0, None, "")),
        ("reject", "work", ["r"], True, None),
    ]


@pytest.mark.parametrize(
    ("verb", "more", "asked"),
    [
        ("acknowledge", {}, ()),
        ("release", {}, ()),
        ("reject", {"retry": False, "delayMs": 5}, (False, 5)),
        ("extend", {"leaseMs": 700}, (700,)),
    ],
)
async def test_each_receipt_is_answered_by_itself(
    services: MemoryServices,
    data: aiohttp.ClientSession,
    verb: str,
    more: dict[str, object],
    asked: tuple[object, ...],
) -> None:
    services.queues.results["r2"] = ReceiptResult("r2", ErrorCode.INVALID_RECORD_STATE, "It ran out.")
    told = await post(data, verb, {"receipts": ["r1", "r2"], **more})
    assert services.queues.asked == [(verb, "work", ["r1", "r2"], *asked)]
    assert told["results"] == [
        {"receipt": "r1"},
        {"receipt": "r2", "error": {"code": "INVALID_RECORD_STATE", "detail": "It ran out."}},
    ]


async def test_a_refusal_is_a_problem_document(services: MemoryServices, data: aiohttp.ClientSession) -> None:
    services.queues.refusal = PenstockError(ErrorCode.GROUP_ID_NOT_FOUND, "There is no such group.")
    for verb, body in (("lease", {}), ("acknowledge", {"receipts": ["r"]})):
        told = await post(data, verb, body, status=404)
        assert (told["code"], told["detail"]) == ("GROUP_ID_NOT_FOUND", "There is no such group.")


async def test_a_queue_group_is_declared_and_shown(
    services: MemoryServices, admin: aiohttp.ClientSession
) -> None:
    services.add_topic("t")
    body = {
        "mode": "queue",
        "topics": ["t"],
        "retry": {"maxDeliveries": 3, "backoff": {"initialMs": 5}},
        "lease": {"durationMs": 7},
        "deadLetter": {"topicName": "dead"},
    }
    async with admin.put("/v1/groups/work", json=body) as answer:
        assert answer.status == 201
        told = await answer.json()
    assert told["queue"] == {
        "inFlight": 0,
        "waiting": 0,
        "deadLetters": 0,
        "oldestMessageAgeMs": None,
        "windowFull": False,
        "deadLetterTopic": "dead",
        "leaseMs": 7,
        "maxInFlight": 10_000,
        "maxDeliveries": 3,
    }
    for wrong in ({"ordering": "key"}, {"filter": {"sql": "a = 1"}}):
        async with admin.put("/v1/groups/other", json={**body, **wrong}) as answer:
            assert answer.status == 400
            assert "not available in this release" in (await answer.json())["detail"]
