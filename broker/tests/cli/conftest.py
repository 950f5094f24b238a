"""Both HTTP listeners over services in memory, in a thread of their own, and the command line as a function."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from penstock.admin.listener import AdminHttpListener
from penstock.cli.main import run
from penstock.listeners.http.listener import DataHttpListener
from penstock.testing.memory_services import MemoryServices


@dataclass
class Server:
    services: MemoryServices
    data_url: str
    admin_url: str


@dataclass
class Result:
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[Server]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[MemoryServices, DataHttpListener, AdminHttpListener]:
        services = MemoryServices()
        data = DataHttpListener("http", "127.0.0.1", 0, services.http)
        admin = AdminHttpListener("admin", "127.0.0.1", 0, services.http)
        await data.start()
        await admin.start()
        return services, data, admin

    async def stop() -> None:
        await data.stop()
        await admin.stop()

    services, data, admin = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    urls = ["http://{}:{}".format(*listener.address) for listener in (data, admin)]
    yield Server(services, *urls)
    asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def cli(server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs one command line against the server."""
    monkeypatch.setenv("PENSTOCK_SERVER", server.data_url)
    monkeypatch.setenv("PENSTOCK_ADMIN", server.admin_url)

    def call(*arguments: str) -> Result:
        capfd.readouterr()
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            code = run(list(arguments))
        finally:
            # A broker's log goes to the stderr of this very test, which is closed when later tests log.
            root.handlers[:] = handlers
            root.setLevel(level)
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return call
