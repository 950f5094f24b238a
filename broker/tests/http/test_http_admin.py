"""The admin API word for word: every operation, its errors, and that its OpenAPI document describes what it does."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import aiohttp
import jsonschema
import pytest

from penstock.codec.records import Record, build_batch
from penstock.service.group_api import MemberDescription
from penstock.testing.memory_services import MemoryGroup, MemoryServices
from penstock.tracing.rules import RULES_MAX


class Api:
    """Requests whose answers are held against the OpenAPI document."""

    def __init__(self, session: aiohttp.ClientSession, document: dict[str, Any]) -> None:
        self.session = session
        self.document = document
        self.called: set[tuple[str, str]] = set()

    async def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        async with self.session.request(method, path, json=body) as answer:
            content = await answer.read()
            assert answer.status == status, content
            self._check(method.lower(), path, status, answer.content_type, content)
            return json.loads(content) if content else None

    def _check(self, method: str, path: str, status: int, media_type: str, content: bytes) -> None:
        template = next(each for each in self.document["paths"] if _matches(each, path))
        self.called.add((method, template))
        responses = self.document["paths"][template][method]["responses"]
        response = responses.get(str(status), responses["default"])
        if not content:
            assert "content" not in response
            return
        schema = {**response["content"][media_type]["schema"], "components": self.document["components"]}
        jsonschema.Draft202012Validator(schema).validate(json.loads(content))


def _matches(template: str, path: str) -> bool:
    pairs = list(zip(template.split("/"), path.split("?")[0].split("/"), strict=False))
    return template.count("/") == path.count("/") and all(one == two or "{" in one for one, two in pairs)


async def open_api(session: aiohttp.ClientSession) -> Api:
    async with session.get("/v1/openapi.json") as answer:
        assert answer.status == 200
        return Api(session, await answer.json())


async def test_every_operation_does_and_answers_what_its_document_says(
    services: MemoryServices, admin: aiohttp.ClientSession
) -> None:
    api = await open_api(admin)
    await status_operations(api)
    await topic_operations(api, services)
    await group_operations(api, services)
    await message_operations(api, services)
    await config_operations(api)
    await tracing_operations(api)
    await api("DELETE", "/v1/topics/payments", status=204)
    undone = {
        (method, path)
        for path, operations in api.document["paths"].items()
        for method in operations
        if (method, path) not in api.called
    }
    assert undone == {("get", "/metrics"), ("get", "/v1/openapi.json")}, (
        "these two have no JSON schema to hold"
    )


async def status_operations(api: Api) -> None:
    assert await api("GET", "/healthz") == {"healthy": True}
    assert await api("GET", "/readyz") == {"ready": True, "reasons": []}
    cluster = await api("GET", "/v1/cluster")
    assert cluster["mode"] == "Raft"
    assert cluster["shards"][0]["leader"] == "memory-0-0"
    assert cluster["shards"][0]["featureLevel"] == 1
    assert cluster["shards"][0]["members"] == [
        {
            "name": "memory-0-0",
            "nodeId": 0,
            "role": "Leader",
            "inSync": True,
            "lagBytes": 0,
            "address": {"kafka": "localhost:9092"},
            "lagEntries": 0,
            "featureLevel": 2,
        }
    ]
    digest = await api("GET", "/v1/shard/digest?first=2")
    assert digest == {
        "commitIndex": 9,
        "firstIndex": 2,
        "index": 9,
        "entries": "e1",
        "machines": {"catalog": "c1"},
    }
    handed = await api("POST", "/v1/shard/hand-over", {"to": "memory-0-1"})
    assert handed == {"leader": "memory-0-0", "epoch": 3}
    assert await api("POST", "/v1/shard/resize", {"replicas": 3}) == {"replicas": 3}
    (resized,) = (await api("GET", "/v1/cluster"))["shards"]
    told = [resized[name] for name in ("replicas", "resizable", "leaving", "leavingRefused")]
    assert told == [3, False, "", False]
    copy = {
        "shardUid": cluster["shards"][0]["uid"],
        "storageId": (await api("GET", "/v1/broker"))["storageId"],
    }
    recovery = await api("POST", "/v1/shard/trust", copy)
    assert recovery == {
        "generation": 1,
        "broker": "memory-0-0",
        "epoch": 10003,
        "lastIndex": 10,
        "lastEpoch": 3,
        "commitIndex": 9,
        "at": "2023-11-14T22:13:20Z",
    }
    broker = await api("GET", "/v1/broker")
    assert broker["startedAt"] == "2023-11-14T22:13:20Z"
    assert broker["log"] == {"firstIndex": 1, "lastIndex": 10, "commitIndex": 9, "bytes": 4096}
    assert broker["forkedTails"] == [
        {
            "file": "5-2.forked",
            "firstIndex": 5,
            "lastIndex": 7,
            "entries": 3,
            "keptEntries": 2,
            "exact": True,
            "partitions": [
                {
                    "topic": "payments",
                    "partition": 0,
                    "firstOffset": 10,
                    "lastOffset": 12,
                    "messages": 3,
                }
            ],
        }
    ]
    assert broker["election"] == {
        "phase": "following",
        "holderName": "memory-0-1",
        "epoch": 3,
        "inSync": [1, 2],
        "pending": None,
        "reason": "Holder",
        "sentence": "it leads",
        "loss": "1 is lost",
        "lossEpoch": 2,
    }


async def topic_operations(api: Api, services: MemoryServices) -> None:
    wanted = {"name": "payments", "partitions": 2, "config": {"retention.ms": 86400000}}
    await api("POST", "/v1/topics", {**wanted, "validateOnly": True})
    assert services.topics.topics == {}
    made = await api("POST", "/v1/topics", wanted, status=201)
    assert made["config"] == {"retention.ms": "86400000"}
    assert (await api("GET", "/v1/topics"))["topics"] == [made]
    change = {"partitions": 3, "config": {"retention.ms": None}}
    assert (await api("PATCH", "/v1/topics/payments", change))["partitions"] == 3
    assert await api("PATCH", "/v1/topics/payments", {"partitions": 3}) == await api(
        "PATCH", "/v1/topics/payments", {}
    )
    detail = await api("GET", "/v1/topics/payments")
    assert (detail["config"], detail["effectiveConfig"]) == ({}, {"retention.ms": "604800000"})
    assert detail["partitionDetails"][2]["leader"] == "memory-0-0"


async def group_operations(api: Api, services: MemoryServices) -> None:
    declaration = {"mode": "stream", "topics": ["payments"], "start": {"at": "latest"}}
    declared = await api("PUT", "/v1/groups/billing", declaration, status=201)
    assert await api("PUT", "/v1/groups/billing", declaration) == declared
    services.groups.groups["billing"].members = [MemberDescription("m-1", None, "app", "h", b"", b"")]
    services.groups.groups["billing"].assignments = {"m-1": {"payments": [0, 2]}}
    group = await api("GET", "/v1/groups/billing")
    assert (group["state"], group["declared"], group["topics"]) == ("Stable", True, ["payments"])
    assert group["members"][0]["assignments"] == [{"topic": "payments", "partitions": [0, 2]}]
    assert (await api("GET", "/v1/groups"))["groups"] == [
        {"name": "billing", "mode": "stream", "state": "Stable", "members": 1, "lag": 0}
    ]
    reset = {"to": {"offset": 0}, "topics": ["payments"]}
    problem = await api("POST", "/v1/groups/billing/reset", reset, status=409)
    assert problem["code"] == "NON_EMPTY_GROUP"
    moved = await api("POST", "/v1/groups/billing/reset", {**reset, "force": True})
    assert moved["offsets"][0] == {"topic": "payments", "partition": 0, "from": 0, "to": 0}
    assert (await api("DELETE", "/v1/groups/billing", status=409))["code"] == "NON_EMPTY_GROUP"
    services.groups.groups["billing"].members = []
    await api("DELETE", "/v1/groups/billing", status=204)
    assert (await api("DELETE", "/v1/groups/billing", status=404))["code"] == "GROUP_ID_NOT_FOUND"


async def message_operations(api: Api, services: MemoryServices) -> None:
    records = [
        Record(b"4711", b"\xff", 1000, (("a", None),)),
        Record(b"x", None, 2000),
        Record(b"4711", b"b", 3000),
    ]
    topic = services.add_topic("orders", 2)
    for record in records:
        topic.partitions[1].append(build_batch([record]))
    message = await api("GET", "/v1/topics/orders/partitions/1/messages/0?preview=5")
    assert message["value"] == {"bytes": 1, "text": None, "base64": "/w==", "truncated": False}
    assert (message["time"], message["headers"]) == ("1970-01-01T00:00:01Z", [{"name": "a", "value": None}])
    services.messages.batches_per_request = 1
    found, where = [], "/v1/topics/orders/messages?key=4711&since=500"
    pages = 0
    following = ""
    while following is not None:
        page = await api("GET", f"{where}{following and '&cursor='}{following}")
        found += [(each["partition"], each["offset"]) for each in page["messages"]]
        following, pages = page["next"], pages + 1
    assert (found, pages) == ([(1, 2), (1, 0)], 4)
    assert (page["partitionsDone"], page["partitionCount"]) == (2, 2)
    trace = await api("GET", "/v1/traces?topic=orders&partition=1&offset=0")
    assert [event["what"] for event in trace["events"]] == ["produced", "appended", "committed"]
    assert trace["sampled"] is False
    assert "tracing is off" in trace["note"]
    services.traces.place_in = ("orders", 1)
    by_id = await api("GET", f"/v1/traces?id={trace['traceId'].upper()}")
    assert (by_id["message"], by_id["traceId"]) == (trace["message"], trace["traceId"])
    nobody = await api("GET", f"/v1/traces?id={'0' * 32}")
    assert (nobody["message"], nobody["events"], nobody["sampled"]) == (None, [], False)
    assert await api("GET", "/v1/topics/orders/partitions/1/messages/1/value", status=204) is None
    async with api.session.get("/v1/topics/orders/partitions/1/messages/0/value") as answer:
        assert (await answer.read(), answer.content_type) == (b"\xff", "application/octet-stream")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    services.topics.topics.pop("orders")


async def config_operations(api: Api) -> None:
    table = await api("PATCH", "/v1/config", {"log.retention.ms": 5})
    assert table["config"][0] == {
        "name": "log.retention.ms",
        "value": "5",
        "default": "604800000",
        "source": "dynamic",
        "dynamic": True,
        "type": "long",
        "doc": "How long messages are kept, in ms.",
    }
    await api("PATCH", "/v1/config", {"log.retention.ms": None})
    assert (await api("GET", "/v1/config"))["config"][0]["source"] == "default"


async def tracing_operations(api: Api) -> None:
    asked = {"topic": "orders", "key": "order-4711*", "seconds": 60}
    rule = await api("POST", "/v1/tracing/rules", asked, status=201)
    assert (rule["topic"], rule["key"], rule["messageId"]) == ("orders", "order-4711*", "")
    left = datetime.fromisoformat(rule["expiresAt"]) - datetime.now(UTC)
    assert 50 < left.total_seconds() <= 60
    other = await api("POST", "/v1/tracing/rules", {"messageId": "m-1"}, status=201)
    assert await api("GET", "/v1/tracing/rules") == {"rules": [rule, other]}
    await api("DELETE", f"/v1/tracing/rules/{rule['id']}", status=204)
    assert await api("GET", "/v1/tracing/rules") == {"rules": [other]}
    await api("DELETE", f"/v1/tracing/rules/{other['id']}", status=204)
    assert await api("GET", "/v1/tracing/rules") == {"rules": []}


async def test_rules_that_are_made_at_the_same_time_are_all_kept(admin: aiohttp.ClientSession) -> None:
    async def add(number: int) -> int:
        async with admin.post("/v1/tracing/rules", json={"key": f"k{number}"}) as answer:
            return answer.status

    statuses = await asyncio.gather(*(add(number) for number in range(RULES_MAX + 2)))
    assert sorted(statuses) == [201] * RULES_MAX + [400, 400]
    async with admin.get("/v1/tracing/rules") as answer:
        assert len((await answer.json())["rules"]) == RULES_MAX


async def test_a_cluster_that_traces_nothing_takes_no_rule(
    services: MemoryServices, admin: aiohttp.ClientSession
) -> None:
    services.topics.trace_endpoint = ""
    async with admin.post("/v1/tracing/rules", json={"key": "k"}) as answer:
        assert answer.status == 400
        assert "tracing.endpoint or tracing.topic.enabled" in (await answer.json())["detail"]
    services.topics.trace_topic = True
    async with admin.post("/v1/tracing/rules", json={"key": "k"}) as answer:
        assert answer.status == 201


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "part"),
    [
        ("POST", "/v1/tracing/rules", {}, 400, "INVALID_REQUEST", "either"),
        ("POST", "/v1/tracing/rules", {"key": "a", "messageId": "b"}, 400, "INVALID_REQUEST", "either"),
        ("POST", "/v1/tracing/rules", {"key": "a", "seconds": 90000}, 400, "INVALID_REQUEST", "$.seconds"),
        ("DELETE", "/v1/tracing/rules/none", None, 404, "INVALID_REQUEST", "no rule none"),
        (
            "POST",
            "/v1/shard/trust",
            {"shardUid": "s", "storageId": "t"},
            400,
            "INVALID_REQUEST",
            "another one",
        ),
        ("POST", "/v1/topics", {"name": "taken"}, 409, "TOPIC_ALREADY_EXISTS", "taken"),
        ("POST", "/v1/topics", {"name": "a/b"}, 400, "INVALID_TOPIC_EXCEPTION", "letters"),
        ("POST", "/v1/topics", {"name": "a", "config": {"x": "y"}}, 400, "INVALID_CONFIG", "'x'"),
        ("POST", "/v1/topics", {"name": "a", "partitons": 1}, 400, "INVALID_REQUEST", "`partitons`"),
        ("POST", "/v1/topics", {"name": "a", "partitions": 0}, 400, "INVALID_REQUEST", "$.partitions"),
        ("POST", "/v1/topics", {"name": ""}, 400, "INVALID_REQUEST", "$.name"),
        ("POST", "/v1/topics", [], 400, "INVALID_REQUEST", "Expected `object`"),
        ("GET", "/v1/topics/none", None, 404, "UNKNOWN_TOPIC_OR_PARTITION", "none"),
        ("PATCH", "/v1/topics/none", {}, 404, "UNKNOWN_TOPIC_OR_PARTITION", "none"),
        ("DELETE", "/v1/topics/none", None, 404, "UNKNOWN_TOPIC_OR_PARTITION", "none"),
        ("PATCH", "/v1/topics/taken", {"partitions": 1}, 400, "INVALID_PARTITIONS", "cannot have fewer"),
        ("DELETE", "/v1/topics/taken", {"really": True}, 400, "INVALID_REQUEST", "takes no body"),
        ("GET", "/v1/groups/none", None, 404, "GROUP_ID_NOT_FOUND", "none"),
        ("PUT", "/v1/groups/g", {"topics": ["none"]}, 404, "UNKNOWN_TOPIC_OR_PARTITION", "none"),
        ("PUT", "/v1/groups/g", {"topics": [], "mode": "x"}, 400, "INVALID_REQUEST", "$.mode"),
        ("PUT", "/v1/groups/g", {"topics": [], "start": {}}, 400, "INVALID_REQUEST", "exactly one"),
        (
            "PUT",
            "/v1/groups/g",
            {"topics": [], "start": {"at": "latest", "offset": 0}},
            400,
            "INVALID_REQUEST",
            "2 were given",
        ),
        (
            "PUT",
            "/v1/groups/g",
            {"topics": [], "start": {"timestamp": "2026-01-01T00:00:00"}},
            400,
            "INVALID_REQUEST",
            "$.start.timestamp",
        ),
        ("PUT", "/v1/groups/queue", {"topics": []}, 409, "INCONSISTENT_GROUP_PROTOCOL", "cannot be changed"),
        ("POST", "/v1/groups/none/reset", {"to": {"at": "latest"}}, 404, "GROUP_ID_NOT_FOUND", "none"),
        ("POST", "/v1/groups/queue/reset", {}, 400, "INVALID_REQUEST", "missing required field `to`"),
        ("PATCH", "/v1/config", {"shard.id": 1}, 400, "INVALID_CONFIG", "set it in the configuration file"),
        ("PATCH", "/v1/config", {"log.retention.ms": [1]}, 400, "INVALID_REQUEST", "Expected"),
        ("GET", "/v1/nothing", None, 404, "INVALID_REQUEST", "/v1/openapi.json"),
        ("PUT", "/v1/topics", {}, 405, "INVALID_REQUEST", "GET, HEAD, POST"),
    ],
)
async def test_errors_are_problem_documents(
    services: MemoryServices,
    admin: aiohttp.ClientSession,
    method: str,
    path: str,
    body: Any,
    status: int,
    code: str,
    part: str,
) -> None:
    services.add_topic("taken", 2)
    services.groups.groups["queue"] = MemoryGroup("queue")
    async with admin.request(method, path, json=body) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["status"], problem["code"]) == (status, status, code), problem
        assert part in problem["detail"]
        assert set(problem) == {"type", "title", "status", "detail", "code"}
    assert list(services.topics.topics) == ["taken"]
    assert len(services.topics.topics["taken"].partitions) == 2


MESSAGE = "/v1/topics/taken/partitions/0/messages"
FIND = "/v1/topics/taken/messages"
TRACE = "/v1/traces?topic=taken"


@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        ("/v1/topics/none/partitions/0/messages/0", 404, "no topic 'none'"),
        ("/v1/topics/taken/partitions/2/messages/0", 404, "no partition 2"),
        ("/v1/topics/taken/partitions/-1/messages/0", 400, "partition '-1' is not a number"),
        ("/v1/topics/taken/partitions/2147483648/messages/0", 400, "not a number from 0 to 2147483647"),
        (f"{MESSAGE}/0", 416, "not written yet"),
        (f"{MESSAGE}/9223372036854775807", 416, "not written yet"),
        (f"{MESSAGE}/9223372036854775808", 400, "not a number from 0 to 9223372036854775807"),
        (f"{MESSAGE}/{'9' * 4000}", 400, "is not a number"),
        (f"{MESSAGE}/-1", 400, "offset '-1' is not a number"),
        (f"{MESSAGE}/1e3", 400, "is not a number"),
        (f"{MESSAGE}/%C2%B2", 400, "is not a number"),
        (f"{MESSAGE}/%FF", 400, "is not a number"),
        (f"{MESSAGE}/%00", 400, "is not a number"),
        (f"{MESSAGE}/0/value", 416, "not written yet"),
        (f"{MESSAGE}/-0/value", 400, "is not a number"),
        (f"{MESSAGE}/0?preview=65537", 400, "$.preview"),
        (f"{MESSAGE}/0?preview=-1", 400, "$.preview"),
        (f"{MESSAGE}/0?preview={'9' * 5000}", 400, "$.preview"),
        (f"{MESSAGE}/0?what=else", 400, "there is no parameter"),
        ("/v1/topics/none/messages?key=a", 404, "no topic 'none'"),
        (FIND, 400, "exactly one of `key` and `keyBase64`"),
        (f"{FIND}?key=a&keyBase64=YQ==", 400, "exactly one of `key` and `keyBase64`"),
        (f"{FIND}?key=a&key=b", 400, "given twice"),
        (f"{FIND}?keyBase64=%25", 400, "is not base64"),
        (f"{FIND}?keyBase64=%C3%A9", 400, "is not base64"),
        (f"{FIND}?key=a&limit=0", 400, "$.limit"),
        (f"{FIND}?key=a&limit=101", 400, "$.limit"),
        (f"{FIND}?key=a&since=yesterday", 400, "$.since"),
        (f"{FIND}?key=a&since=-1", 400, "$.since"),
        (f"{FIND}?key=a&since=99999999999999999999", 400, "$.since"),
        (f"{FIND}?key=a&partition=2", 404, "no partition 2"),
        (f"{FIND}?key=a&partition=-1", 400, "$.partition"),
        (f"{FIND}?key=a&cursor=", 400, "`cursor` is not a cursor"),
        (f"{FIND}?key=a&cursor=AAAA", 400, "`cursor` is not a cursor"),
        (f"{FIND}?key=a&cursor=%C3%A9", 400, "`cursor` is not a cursor"),
        (f"{TRACE}&partition=0", 400, "either `id`, or `topic`, `partition` and `offset`"),
        (f"{TRACE}&partition=0&offset=0&id={'0' * 32}", 400, "either `id`, or"),
        ("/v1/traces", 400, "either `id`, or"),
        ("/v1/traces?id=4711", 400, "$.id"),
        (f"/v1/traces?id={'0' * 33}", 400, "$.id"),
        (f"/v1/traces?id={'%D9%A1' * 32}", 400, "$.id"),
        (f"/v1/traces?id={'0' * 32}&before=-1", 400, "$.before"),
        (f"{TRACE}&partition=0&offset=0", 416, "not written yet"),
        (f"{TRACE}&partition=0&offset=-1", 400, "$.offset"),
        (f"{TRACE}&partition=0&offset=9223372036854775808", 400, "$.offset"),
        (f"{TRACE}&partition=99999999999&offset=0", 400, "$.partition"),
    ],
)
async def test_messages_that_are_asked_for_wrongly(
    services: MemoryServices, admin: aiohttp.ClientSession, path: str, status: int, part: str
) -> None:
    services.add_topic("taken", 2)
    async with admin.get(aiohttp.client.URL(path, encoded=True)) as answer:
        problem = await answer.json(content_type="application/problem+json")
    assert answer.status == status, problem
    assert part in problem["detail"]


@pytest.mark.parametrize("key", ["%ED%A0%80", "%FF%FE", "%00", "", "%F0%9F%98%80", "a" * 4000])
async def test_any_key_can_be_looked_for(
    services: MemoryServices, admin: aiohttp.ClientSession, key: str
) -> None:
    services.add_topic("taken", 2)
    async with admin.get(aiohttp.client.URL(f"{FIND}?key={key}", encoded=True)) as answer:
        assert (answer.status, (await answer.json())["messages"]) == (200, [])


async def test_a_refused_change_changes_nothing(
    services: MemoryServices, admin: aiohttp.ClientSession
) -> None:
    topic = services.add_topic("orders")
    change = {"partitions": 5, "config": {"retention.ms": "1", "nonsense": "2"}}
    async with admin.patch("/v1/topics/orders", json=change) as answer:
        assert answer.status == 400
    assert (len(topic.partitions), topic.config) == (1, {})


async def test_names_may_hold_anything(services: MemoryServices, admin: aiohttp.ClientSession) -> None:
    services.groups.groups["a/b c?"] = MemoryGroup("stream")
    async with admin.get(aiohttp.client.URL("/v1/groups/a%2Fb%20c%3F", encoded=True)) as answer:
        assert (answer.status, (await answer.json())["name"]) == (200, "a/b c?")


async def test_not_ready_is_503_with_reasons(services: MemoryServices, admin: aiohttp.ClientSession) -> None:
    services.broker.reasons = ["the log is being recovered"]
    async with admin.get("/readyz") as answer:
        assert answer.status == 503
        assert await answer.json() == {"ready": False, "reasons": ["the log is being recovered"]}
    async with admin.get("/healthz") as answer:
        assert answer.status == 200


async def test_bodies_need_their_media_type(services: MemoryServices, admin: aiohttp.ClientSession) -> None:
    """A web page can make a browser send text/plain anywhere, but not application/json."""
    async with admin.post(
        "/v1/topics", data='{"name": "a"}', headers={"Content-Type": "text/plain"}
    ) as answer:
        assert answer.status == 415
    assert services.topics.topics == {}
