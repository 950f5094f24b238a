"""A broker that follows, and leaders that do what a test says: for tests of how requests are passed on.

Everything listens on free ports of this machine and ends with its `async with`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from penstock.admin.listener import AdminHttpListener
from penstock.listeners.http.listener import DataHttpListener
from penstock.listeners.http.problems import PROBLEM_MEDIA_TYPE
from penstock.testing.memory_services import MemoryLeader, MemoryServices

Address = tuple[str, int]
Listeners = type[DataHttpListener | AdminHttpListener]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Follower:
    """A broker that does not lead, over services of its own that hold nothing."""

    def __init__(self, kind: Listeners) -> None:
        self.services = MemoryServices()
        self.services.leader = self.leadership = MemoryLeader()
        self.listener = kind("http", "127.0.0.1", 0, self.services.http)

    @property
    def forwarded(self) -> int:
        """Requests that it passed on."""
        return sum(each.requests_forwarded for each in self.services.counters.copy().protocols.values())

    @property
    def errors(self) -> dict[str, int]:
        """Answers with an error of its own, by code."""
        [protocol] = self.services.counters.copy().protocols.values()
        return protocol.errors


@asynccontextmanager
async def following(
    leader: Address | None, kind: Listeners = DataHttpListener
) -> AsyncIterator[tuple[Follower, aiohttp.ClientSession]]:
    """A follower of whoever listens at `leader`, and a client of it."""
    follower = Follower(kind)
    if leader is not None:
        follower.leadership.addresses["http"] = leader
    await follower.listener.start()
    async with aiohttp.ClientSession("http://{}:{}".format(*follower.listener.address)) as session:
        try:
            yield follower, session
        finally:
            await follower.listener.stop()


@asynccontextmanager
async def leading(services: MemoryServices, kind: Listeners = DataHttpListener) -> AsyncIterator[Address]:
    """A listener over these services; where it is."""
    listener = kind("http", "127.0.0.1", 0, services.http)
    await listener.start()
    try:
        yield listener.address
    finally:
        await listener.stop()


class ScriptedLeader:
    """Reads whole requests and does with each what the next step of its script says; the last step is repeated."""

    def __init__(self, *steps: Script) -> None:
        self._steps = list(steps)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.gone = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (each.partition(": ") for each in head[1:-2])
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests.append((head[0], headers, body))
                step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
                await step(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*steps: Script) -> AsyncIterator[tuple[ScriptedLeader, Address]]:
    """A leader that does these steps, and where it is. What its steps raise is raised when it ends."""
    leader = ScriptedLeader(*steps)
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(leader(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield leader, server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        for ended in await asyncio.gather(*connections, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


def answering(data: bytes) -> Script:
    """Writes this, and goes on with the next request."""

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return step


def ending(data: bytes = b"") -> Script:
    """Writes what there is and ends the connection."""

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        raise ConnectionResetError

    return step


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await reader.readexactly(1)


class Gate:
    """A step that says when it was entered, and waits to be let on."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.open = asyncio.Event()

    async def step(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The step."""
        self.entered.release()
        await self.open.wait()
        writer.write(OK)


async def problem(session: aiohttp.ClientSession, method: str, path: str, **options: Any) -> tuple[int, Any]:
    """Status and document of a refusal, which is always a whole problem document."""
    async with session.request(method, path, **options) as answer:
        assert answer.content_type == PROBLEM_MEDIA_TYPE
        document = await answer.json(content_type=None)
        assert document["status"] == answer.status
        assert ("Retry-After" in answer.headers) == (answer.status in (429, 503))
        return answer.status, document
