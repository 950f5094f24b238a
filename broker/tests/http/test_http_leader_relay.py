"""Bodies, answers and long polls on their way through a broker that does not lead: within bounds, and never cut in silence."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from penstock.admin.listener import AdminHttpListener
from penstock.listeners.http import bodies, leader_proxy
from penstock.listeners.http.application import HttpApplication
from penstock.listeners.http.leader_proxy import LeaderProxy
from penstock.listeners.http.limits import ADMIN_BODY_BYTES_MAX, DATA_BODY_BYTES_MAX
from penstock.listeners.http.routes import Call, NoQuery, RawBody, Reply, Route
from penstock.listeners.http.server import HttpServer
from penstock.telemetry.counters import Counters
from penstock.testing.http_leaders import Gate, following, leading, problem, scripted
from penstock.testing.memory_services import MemoryLeader, MemoryServices

MESSAGES = "/v1/topics/orders/messages"
POLL = "/v1/topics/orders/partitions/0/messages?offset=0&waitMs=30000"


async def chunks(size: int) -> AsyncIterator[bytes]:
    while size > 0:
        yield b"x" * min(size, 100_000)
        size -= 100_000


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_at_the_bound_is_passed_on_and_one_beyond_it_is_not(
    services: MemoryServices, chunked: bool
) -> None:
    services.add_topic("orders")
    services.data.batch_bytes_max = 2 * DATA_BODY_BYTES_MAX
    octets = {"Content-Type": "application/octet-stream"}
    async with leading(services) as leader, following(leader) as (follower, session):

        async def post(size: int) -> int:
            body = chunks(size) if chunked else io.BytesIO(b"x" * size)
            async with session.post(MESSAGES, data=body, headers=octets) as answer:
                return answer.status

        assert await post(DATA_BODY_BYTES_MAX) == 200
        assert await post(DATA_BODY_BYTES_MAX + 1) == 413
        assert follower.forwarded == 1
        assert services.counters.protocol("http").bytes_in == DATA_BODY_BYTES_MAX


async def test_a_body_beyond_the_admin_bound_is_refused_without_the_leader() -> None:
    async with following(None, AdminHttpListener) as (follower, session):
        follower.leadership.addresses["http"] = ("127.0.0.1", 1)
        status, document = await problem(session, "POST", "/v1/topics", data=chunks(ADMIN_BODY_BYTES_MAX + 1))
        assert (status, document["code"]) == (413, "MESSAGE_TOO_LARGE")
        status, document = await problem(session, "DELETE", "/v1/topics/a", data=b"x")
        assert (status, document["detail"]) == (400, "DELETE /v1/topics/{topic} takes no body.")


async def never(call: Call[NoQuery, RawBody]) -> Reply:
    raise AssertionError("the follower serves this by itself")


@pytest.mark.parametrize(("requests_max", "body_budget"), [(1, 10_000), (10, 1500)])
async def test_requests_that_are_passed_on_count_within_the_bounds_and_are_given_back(
    monkeypatch: pytest.MonkeyPatch, requests_max: int, body_budget: int
) -> None:
    monkeypatch.setattr(bodies.BodyBudget.__init__, "__defaults__", (body_budget,))
    gate, counters, leadership = Gate(), Counters().protocol("http"), MemoryLeader()
    accepts = {"text/plain": str}
    work: Route[NoQuery, RawBody] = Route(
        "POST", "/work", "work", "", never, {200: dict}, NoQuery, RawBody, accepts=accepts
    )
    proxy = LeaderProxy(leadership, "http", counters)
    application = HttpApplication(
        [work],
        listener="http",
        protocol="http",
        body_bytes_max=1000,
        counters=counters,
        leader=proxy,
        requests_in_flight_max=requests_max,
    )
    server = HttpServer(application, "127.0.0.1", 0, counters)
    await server.start()
    async with scripted(gate.step) as (_, address):
        leadership.addresses["http"] = address
        async with aiohttp.ClientSession("http://{}:{}".format(*server.address)) as session:

            async def post() -> int:
                async with session.post(
                    "/work", data=b"x" * 1000, headers={"Content-Type": "text/plain"}
                ) as answer:
                    return answer.status

            first = asyncio.create_task(post())
            await gate.entered.acquire()
            assert await post() == 429
            gate.open.set()
            assert await first == 200
            assert await post() == 200
        await server.stop()
        await proxy.close()


async def test_an_answer_is_read_from_the_leader_only_as_fast_as_the_client_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Far more than all buffers on the way hold: it could only be written if somebody kept it."""
    monkeypatch.setattr(leader_proxy, "RELAY_WRITE_SECONDS", 0.2)
    size, written = 256 * 1024 * 1024, 0
    ended = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        try:
            while written < size:
                writer.write(bytes(65536))
                await writer.drain()
                written += 65536
        finally:
            ended.set()

    async with scripted(endless) as (_, address), following(address) as (follower, _):
        reader, writer = await asyncio.open_connection(*follower.listener.address)
        writer.write(b"GET /v1/topics HTTP/1.1\r\nHost: x\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(ended.wait(), 30)
        writer.transport.abort()
    assert 0 < written < size


async def test_a_large_answer_comes_whole(services: MemoryServices) -> None:
    services.add_topic("orders")
    services.data.batch_bytes_max = 2 * DATA_BODY_BYTES_MAX
    octets = {"Content-Type": "application/octet-stream"}
    async with leading(services) as leader, following(leader) as (_, session):
        for _ in range(2):
            async with session.post(MESSAGES, data=io.BytesIO(b"\xff" * 4_000_000), headers=octets) as answer:
                assert answer.status == 200
        path = "/v1/topics/orders/partitions/0/messages?maxBytes=8388608"
        async with session.get(path) as answer, session.get("http://{}:{}".format(*leader) + path) as direct:
            whole = await answer.read()
            assert whole == await direct.read()
        assert len(whole) > 10_000_000


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_not_taken_for_whole(begun: bytes) -> None:
    handed_over = asyncio.Event()

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        await handed_over.wait()
        raise ConnectionResetError

    async with (
        scripted(break_off) as (_, address),
        following(address) as (_, session),
        session.get("/v1/topics") as answer,
    ):
        assert await answer.content.readexactly(3) == b"abc"
        handed_over.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


# --- long polls -----------------------------------------------------------------------------------


class Polls:
    """Says when a long poll waits at the leader, and how it ended there."""

    def __init__(self, services: MemoryServices, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = asyncio.Semaphore(0)
        self.cancelled = asyncio.Event()
        fetch = services.data.fetch

        async def watched(*arguments: Any, **options: Any) -> Any:
            self.waiting.release()
            try:
                return await fetch(*arguments, **options)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        monkeypatch.setattr(services.data, "fetch", watched)


async def test_a_long_poll_waits_at_the_leader(
    services: MemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.add_topic("orders")
    polls = Polls(services, monkeypatch)
    async with leading(services) as leader, following(leader) as (_, session):

        async def poll() -> Any:
            async with session.get(POLL) as answer:
                return await answer.json()

        waiting = asyncio.create_task(poll())
        await polls.waiting.acquire()
        async with session.post(MESSAGES, json={"messages": [{"value": "late"}]}) as answer:
            assert answer.status == 200
        assert [each["value"] for each in (await asyncio.wait_for(waiting, 10))["messages"]] == ["late"]


async def test_a_long_poll_ends_at_the_leader_when_its_client_goes_away(
    services: MemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.add_topic("orders")
    polls = Polls(services, monkeypatch)
    async with leading(services) as leader, following(leader) as (follower, _):
        _, writer = await asyncio.open_connection(*follower.listener.address)
        writer.write(f"GET {POLL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await polls.waiting.acquire()
        writer.close()
        await asyncio.wait_for(polls.cancelled.wait(), 10)


async def test_a_stopping_follower_ends_long_polls_and_finishes_the_rest() -> None:
    gate = Gate()
    async with scripted(gate.step) as (_, address), following(address) as (follower, session):

        async def status(method: str, path: str) -> tuple[int, Any]:
            async with session.request(method, path, json={} if method == "POST" else None) as answer:
                return answer.status, (await answer.json(content_type=None)).get("detail")

        poll = asyncio.create_task(status("GET", POLL))
        written = asyncio.create_task(status("POST", MESSAGES))
        for _ in range(2):
            await gate.entered.acquire()
        stopping = asyncio.create_task(follower.listener.stop())
        assert await asyncio.wait_for(poll, 5) == (503, "The broker is stopping; ask again in a moment.")
        gate.open.set()
        assert await asyncio.wait_for(written, 5) == (200, None)
        await asyncio.wait_for(stopping, 5)
