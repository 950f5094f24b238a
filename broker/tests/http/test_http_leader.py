"""Requests that reach a broker which does not lead: what is passed on, to whom, and with which of its words.

That every operation is answered alike by a leader and by a broker that follows it is not held here but by all other
tests of this folder, which run through both (see conftest).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from penstock.admin.listener import AdminHttpListener
from penstock.listeners.http.leader_proxy import FORWARDED_HEADER
from penstock.listeners.http.listener import DataHttpListener
from penstock.model.errors import ErrorCode
from penstock.testing.http_leaders import (
    OK,
    Address,
    answering,
    following,
    leading,
    problem,
    scripted,
    silent,
)
from penstock.testing.memory_services import MemoryLeader, MemoryServices

MESSAGES = "/v1/topics/orders/messages"


def test_what_a_broker_answers_by_itself() -> None:
    """Everything else needs the leader; whoever adds a route has to say so here if it does not."""
    services = MemoryServices()
    local = {
        (listener.name, route.method, route.path)
        for listener in (
            DataHttpListener("http", "127.0.0.1", 0, services.http),
            AdminHttpListener("admin", "127.0.0.1", 0, services.http),
        )
        for route in listener.routes
        if route.local
    }
    assert local == {
        ("http", "GET", "/v1/openapi.json"),
        ("admin", "GET", "/v1/openapi.json"),
        ("admin", "GET", "/healthz"),
        ("admin", "GET", "/readyz"),
        ("admin", "GET", "/metrics"),
        ("admin", "GET", "/v1/broker"),
        ("admin", "GET", "/v1/cluster"),
        ("admin", "GET", "/v1/config"),
        ("admin", "GET", "/v1/shard/digest"),
        ("admin", "POST", "/v1/shard/trust"),
    }


async def test_local_operations_need_no_leader_and_the_others_reach_the_leader_alone(
    services: MemoryServices,
) -> None:
    async with (
        leading(services, AdminHttpListener) as leader,
        following(leader, AdminHttpListener) as (follower, session),
    ):
        for route in follower.listener.routes:
            path = route.path.format(topic="orders", group="billing", rule="none")
            before = follower.forwarded
            async with session.request(route.method, path, json={} if route.reads_body else None) as answer:
                assert answer.status not in (500, 503), await answer.text()
            assert follower.forwarded == before + (not route.local), route.name
        asked = services.counters.protocol("admin").requests
        assert asked == {route.name: 1 for route in follower.listener.routes if not route.local}
        follower.leadership.addresses.clear()
        for route in follower.listener.routes:
            path = route.path.format(topic="orders", group="billing", rule="none")
            async with session.request(route.method, path, json={} if route.reads_body else None) as answer:
                assert (answer.status == 503) != route.local, route.name
        async with session.get("/v1/nowhere") as answer:
            assert answer.status == 404


async def test_a_message_is_stored_by_the_leader_and_read_by_way_of_the_follower(
    services: MemoryServices,
) -> None:
    services.add_topic("orders")
    async with leading(services) as leader, following(leader) as (follower, session):
        async with session.post(MESSAGES, json={"messages": [{"value": "a"}]}) as answer:
            assert await answer.json() == {"offsets": [{"partition": 0, "offset": 0}]}
        async with session.get(MESSAGES) as answer:
            assert [each["value"] for each in (await answer.json())["messages"]] == ["a"]
        async with session.head("/v1/topics/orders") as answer:
            head = (answer.status, answer.headers["Content-Length"], await answer.read())
        async with session.get("/v1/topics/orders") as answer:
            assert head == (200, answer.headers["Content-Length"], b"")
        assert follower.services.topics.topics == {}
        copied = follower.services.counters.copy().protocols["http"]
        assert (copied.requests, copied.requests_forwarded, copied.errors) == (
            {"produce": 1, "browse": 1, "getTopic": 2},
            4,
            {},
        )
        assert copied.bytes_in == services.counters.protocol("http").bytes_in > 0
        assert copied.bytes_out == services.counters.protocol("http").bytes_out - int(head[1])


async def test_metrics_of_a_follower_show_what_it_passed_on_and_no_groups(services: MemoryServices) -> None:
    async with (
        leading(services, AdminHttpListener) as leader,
        following(leader, AdminHttpListener) as (follower, session),
    ):
        groups = follower.services.groups
        for refusal in (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS):
            groups.refusal = refusal
            async with session.get("/v1/groups") as answer:
                assert answer.status == 200
            async with session.get("/metrics") as answer:
                text = await answer.text()
            assert answer.status == 200
            assert "penstock_group_lag{" not in text
        assert 'penstock_requests_forwarded_total{protocol="admin"} 2.0' in text
        groups.refusal = ErrorCode.UNKNOWN_SERVER_ERROR
        async with session.get("/metrics") as answer:
            assert answer.status == 500


async def test_the_request_arrives_as_it_was_sent_and_says_who_passed_it_on() -> None:
    sent = {
        "User-Agent": "shop/1",
        "Accept": "application/json",
        "X-Trace": "1",
        "Connection": "keep-alive, X-Mine",
        "X-Mine": "not for you",
        "Expect": "100-continue",
        "TE": "trailers",
    }
    async with scripted(answering(OK)) as (leader, address), following(address) as (follower, session):
        follower.leadership.name = "orders-0-1 ä"
        path = "/v1/topics/a%2Fb/messages?key=%26%C3%A4&header=a:b+c"
        async with session.post(
            path, data=b"\x00text", headers={**sent, "Content-Type": "text/plain"}
        ) as answer:
            assert answer.status == 200
        async with session.get("/v1/topics", skip_auto_headers=["User-Agent", "Accept"]) as answer:
            assert answer.status == 200
    line, headers, body = leader.requests[0]
    assert line == f"POST {path} HTTP/1.1"
    assert headers == {
        "host": "{}:{}".format(*address),
        "user-agent": "shop/1",
        "accept": "application/json",
        "accept-encoding": headers["accept-encoding"],
        "x-trace": "1",
        "content-type": "text/plain",
        "content-length": "5",
        FORWARDED_HEADER.lower(): "orders-0-1%20%C3%A4",
    }
    assert body == b"\x00text"
    line, headers, body = leader.requests[1]
    assert (line, body) == ("GET /v1/topics HTTP/1.1", b"")
    assert "content-length" not in headers
    assert "user-agent" not in headers


async def test_the_answer_arrives_as_the_leader_gave_it() -> None:
    given = (
        b"HTTP/1.1 418 Short and stout\r\nContent-Type: text/x-tea\r\nX-Kind: 1\r\nConnection: X-Secret\r\n"
        b"X-Secret: 1\r\nKeep-Alive: timeout=1\r\nLocation: /elsewhere\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    see_other = b"HTTP/1.1 303 See Other\r\nLocation: /v1/other\r\nContent-Length: 0\r\n\r\n"
    async with (
        scripted(answering(given), answering(see_other)) as (leader, address),
        # By name: cookies of plain addresses would not be kept anyway.
        following(("localhost", address[1])) as (follower, _),
        aiohttp.ClientSession(
            "http://{}:{}".format(*follower.listener.address),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session,
    ):
        async with session.get("/v1/topics") as answer:
            assert (answer.status, answer.reason) == (418, "Short and stout")
            assert await answer.read() == b"abcde"
            assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
            names = {name.lower() for name in answer.headers}
            assert names == {
                *("content-type", "x-kind", "location", "set-cookie", "content-encoding"),
                *("transfer-encoding", "date", "server"),
            }
            assert answer.headers["Server"] == "penstock"
        async with session.get("/v1/topics", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/v1/other")
        # A cookie that the leader gave to one client is not sent with the request of another.
        assert ["cookie" in headers for _, headers, _ in leader.requests] == [False, False]


@pytest.mark.parametrize(
    "line",
    [
        b"GET /v1/topics/caf\xc3\xa9 HTTP/1.1",
        b"GET /v1/topics/caf\xe9 HTTP/1.1",
        b"GET /v1/topics/.. HTTP/1.1",
        b"GET /v1/topics/%2e%2e HTTP/1.1",
        b"GET /v1/topics/a%zz HTTP/1.1",
        b'GET /v1/topics/a?x=\xff%zz&&=;[]{}|"<>^` HTTP/1.1',
        b"GET http://elsewhere:1/v1/topics/a HTTP/1.1",
        b"GET /v1/topics/a#b HTTP/1.1",
        b"GET /v1/topics/a HTTP/1.0",
        b"GET /v1/topics/a HTTP/1.1\r\nUser-Agent: caf\xe9",
    ],
)
async def test_odd_requests_are_refused_alike_by_leader_and_follower(
    services: MemoryServices, line: bytes
) -> None:
    async def ask(address: Address) -> tuple[bytes, Any]:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return head.split()[1], json.loads(body)["code"] if body.startswith(b"{") else body

    async with leading(services) as leader, following(leader) as (follower, _):
        direct = await ask(leader)
        assert await ask(follower.listener.address) == direct
        assert direct[0] != b"500"


async def test_each_request_goes_to_whoever_leads_then(services: MemoryServices) -> None:
    next_services = MemoryServices()
    for number, each in enumerate((services, next_services)):
        each.add_topic(f"topic-{number}")
    async with (
        leading(services) as first,
        leading(next_services) as second,
        following(first) as (follower, session),
    ):

        async def names() -> list[str]:
            async with session.get("/v1/topics") as answer:
                return [topic["name"] for topic in (await answer.json())["topics"]]

        assert await names() == ["topic-0"]
        follower.leadership.addresses["http"] = second
        assert await names() == ["topic-1"]
        follower.leadership.leads = True
        assert await names() == []
        follower.leadership.leads = False
        assert await names() == ["topic-1"]
        assert follower.forwarded == 3


async def test_the_end_of_an_election_is_waited_for(services: MemoryServices) -> None:
    services.add_topic("the-leader-s")
    async with leading(services) as leader, following(None) as (follower, session):

        async def names() -> list[str]:
            async with session.get("/v1/topics") as answer:
                assert answer.status == 200
                return [topic["name"] for topic in (await answer.json())["topics"]]

        leadership = follower.leadership
        leadership.on_wait = lambda: leadership.addresses.update(http=leader)
        assert await names() == ["the-leader-s"]
        # As after a hand-over that came to nothing.
        leadership.addresses.clear()
        leadership.on_wait = lambda: setattr(leadership, "leads", True)
        assert await names() == []
        assert follower.forwarded == 1


async def test_a_leader_that_serves_what_was_passed_on_to_it_takes_no_notice_of_who_did(
    services: MemoryServices,
) -> None:
    services.leader = MemoryLeader(leads=True)
    async with (
        leading(services) as leader,
        aiohttp.ClientSession("http://{}:{}".format(*leader)) as session,
        session.get("/v1/topics", headers={FORWARDED_HEADER: "orders-0-1"}) as answer,
    ):
        assert answer.status == 200


async def test_a_stopped_follower_has_no_connection_left() -> None:
    async with scripted(answering(OK)) as (leader, address):
        async with following(address) as (_, session), session.get("/v1/topics") as answer:
            assert answer.status == 200
        await asyncio.wait_for(leader.gone.wait(), 10)


async def test_a_leader_that_hangs_is_not_waited_for_once_another_one_leads() -> None:
    async with (
        scripted(silent) as (hanging, old),
        scripted(answering(OK)) as (_, new),
        following(old) as (follower, session),
    ):
        read = asyncio.ensure_future(session.get("/v1/topics"))
        written = asyncio.ensure_future(
            problem(session, "POST", MESSAGES, json={"messages": [{"value": "a"}]})
        )
        while len(hanging.requests) < 2:  # noqa: ASYNC110 (the other side is a plain socket)
            await asyncio.sleep(0)
        follower.leadership.addresses["http"] = new
        follower.leadership.replaced.set()
        status, document = await written
        assert (status, document["code"]) == (504, "REQUEST_TIMED_OUT")
        assert "was replaced before it answered" in document["detail"]
        async with await read as answer:
            assert answer.status == 200, "what may be sent twice is, to the new leader"
