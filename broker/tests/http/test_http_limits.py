"""The bounds of the HTTP listeners: reaching each is an ordinary answer, and what was held is given back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from penstock.listeners.http import batcher, bodies
from penstock.listeners.http.application import HttpApplication
from penstock.listeners.http.leader_proxy import LeaderProxy
from penstock.listeners.http.listener import DataHttpListener
from penstock.listeners.http.routes import Call, NoBody, NoQuery, RawBody, Reply, Route, Routes
from penstock.listeners.http.server import HttpServer
from penstock.listeners.http.services import AlwaysLeads
from penstock.telemetry.counters import Counters
from penstock.testing.memory_services import MemoryServices

Handler = Callable[[Call[NoQuery, RawBody]], Awaitable[Reply]]


def routes(handler: Handler) -> Routes:
    async def quick(call: Call[NoQuery, NoBody]) -> Reply:
        return Reply({"quick": True})

    slow: Route[NoQuery, RawBody] = Route(
        "POST", "/work", "work", "", handler, {200: dict}, NoQuery, RawBody, accepts={"text/plain": str}
    )
    probe: Route[NoQuery, NoBody] = Route(
        "GET", "/quick", "quick", "", quick, {200: dict}, NoQuery, NoBody, quick=True
    )
    return [slow, probe]


@asynccontextmanager
async def serving(
    handler: Handler, counters: Counters, *, requests_max: int = 100, connections_max: int = 100
) -> AsyncIterator[aiohttp.ClientSession]:
    protocol = counters.protocol("http")
    application = HttpApplication(
        routes(handler),
        listener="http",
        protocol="http",
        body_bytes_max=1000,
        counters=protocol,
        leader=LeaderProxy(AlwaysLeads(), "http", protocol),
        requests_in_flight_max=requests_max,
    )
    server = HttpServer(application, "127.0.0.1", 0, protocol, connections_max=connections_max)
    await server.start()
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession("http://{}:{}".format(*server.address), connector=connector) as session:
        yield session
    await server.stop()


class Gate:
    """A handler that says when it was entered, and waits to be let on."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.open = asyncio.Event()

    async def __call__(self, call: Call[NoQuery, RawBody]) -> Reply:
        self.entered.release()
        await self.open.wait()
        return Reply({"size": len(call.body.data)})


async def post(session: aiohttp.ClientSession, size: int = 10) -> tuple[int, str]:
    async with session.post("/work", data=b"x" * size, headers={"Content-Type": "text/plain"}) as answer:
        document = json.loads(await answer.read())
        return answer.status, document.get("code", "")


async def test_requests_in_flight_are_bounded_but_probes_are_served() -> None:
    gate, counters = Gate(), Counters()
    async with serving(gate, counters, requests_max=2) as session:
        running = [asyncio.create_task(post(session)) for _ in range(2)]
        for _ in running:
            await gate.entered.acquire()
        assert await post(session) == (429, "THROTTLING_QUOTA_EXCEEDED")
        async with session.get("/quick") as answer:
            assert answer.status == 200
        gate.open.set()
        assert [await each for each in running] == [(200, ""), (200, "")]
        assert await post(session) == (200, "")
    assert counters.protocol("http").errors == {"THROTTLING_QUOTA_EXCEEDED": 1}


async def test_bytes_of_bodies_in_flight_are_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, counters = Gate(), Counters()
    monkeypatch.setattr(bodies.BodyBudget.__init__, "__defaults__", (1500,))
    async with serving(gate, counters) as session:
        first = asyncio.create_task(post(session, 1000))
        await gate.entered.acquire()
        assert await post(session, 501) == (429, "THROTTLING_QUOTA_EXCEEDED")
        gate.open.set()
        assert await post(session, 500) == (200, "")
        assert await first == (200, "")
        assert await post(session, 1000) == (200, "")


async def test_a_handler_that_fails_gives_back_what_it_held() -> None:
    async def fail(call: Call[NoQuery, RawBody]) -> Reply:
        raise ZeroDivisionError

    async with serving(fail, Counters(), requests_max=1) as session:
        for _ in range(3):
            assert await post(session) == (500, "UNKNOWN_SERVER_ERROR")


async def test_connections_are_bounded() -> None:
    gate, counters = Gate(), Counters()
    async with serving(gate, counters, connections_max=1) as session:
        first = asyncio.create_task(post(session))
        await gate.entered.acquire()
        assert counters.copy().protocols["http"].connections_open == 1
        async with session.get("/quick") as answer:
            assert answer.status == 503
            assert "as many connections as it takes" in (await answer.json(content_type=None))["detail"]
        gate.open.set()
        assert await first == (200, "")
    assert counters.protocol("http").connections_refused == 1
    assert counters.copy().protocols["http"].connections_open == 0


async def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_READ_TIMEOUT_SECONDS", 0.05)

    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with (
        serving(Gate(), Counters()) as session,
        session.post("/work", data=never(), headers={"Content-Type": "text/plain"}) as answer,
    ):
        assert answer.status == 408


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100,
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_garbage_closes_that_connection_alone(garbage: bytes) -> None:
    async with serving(Gate(), Counters()) as session:
        url = session._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(garbage)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer == b"" or b" 400 " in answer.split(b"\r\n")[0]
        writer.close()
        async with session.get("/quick") as answer2:
            assert answer2.status == 200


async def test_messages_that_wait_are_bounded(
    services: MemoryServices, data: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.add_topic("orders")
    monkeypatch.setattr(batcher, "MESSAGES_PENDING_MAX", 2)
    messages = [{"value": "a"}] * 3
    async with data.post("/v1/topics/orders/messages", json={"messages": messages}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    async with data.post("/v1/topics/orders/messages", json={"messages": messages[:2]}) as answer:
        assert answer.status == 200


async def test_a_taken_address_is_an_error_and_leaves_nothing_behind(services: MemoryServices) -> None:
    first = DataHttpListener("http", "127.0.0.1", 0, services.http)
    await first.start()
    second = DataHttpListener("http", *first.address, services.http)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await first.stop()
    await second.stop()
    assert services.counters.copy().protocols["http"].connections_open == 0


async def test_a_stopping_listener_ends_long_polls_and_finishes_the_rest(services: MemoryServices) -> None:
    services.add_topic("orders")
    gate = asyncio.Event()
    polling = asyncio.Semaphore(0)
    fetch, produce = services.data.fetch, services.data.produce

    async def slow_produce(*arguments: Any, **options: Any) -> Any:
        polling.release()
        await gate.wait()
        return await produce(*arguments, **options)

    async def announced_fetch(*arguments: Any, **options: Any) -> Any:
        polling.release()
        return await fetch(*arguments, **options)

    services.data.produce = slow_produce  # type: ignore[method-assign]
    services.data.fetch = announced_fetch  # type: ignore[method-assign]
    listener = DataHttpListener("http", "127.0.0.1", 0, services.http)
    await listener.start()
    async with aiohttp.ClientSession("http://{}:{}".format(*listener.address)) as session:

        async def status(method: str, path: str, body: object = None) -> int:
            async with session.request(method, f"/v1/topics/orders/{path}", json=body) as answer:
                return answer.status

        polls = [
            asyncio.create_task(status("GET", "partitions/0/messages?waitMs=30000")),
            asyncio.create_task(status("GET", "messages?waitMs=30000")),
        ]
        written = asyncio.create_task(status("POST", "messages", {"messages": [{"value": "a"}]}))
        for _ in range(3):
            await polling.acquire()
        stopping = asyncio.create_task(listener.stop())
        assert [await asyncio.wait_for(poll, 5) for poll in polls] == [503, 503]
        gate.set()
        assert await asyncio.wait_for(written, 5) == 200
        await asyncio.wait_for(stopping, 5)
