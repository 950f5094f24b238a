"""The operator's borders: the admin API client against servers that misbehave, health, metrics, logs, the command line."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web

from fake_broker import FakeBroker
from penstock_operator import broker_admin
from penstock_operator.broker_admin import HttpBrokerAdmin
from penstock_operator.health import OVERDUE_SECONDS_MAX, Health
from penstock_operator.logs import JsonFormatter, TextFormatter
from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError, Again, Key
from penstock_operator.reconcile.queue import WorkQueue


@pytest.fixture
async def session() -> Any:
    async with aiohttp.ClientSession() as made:
        yield made


class Server:
    """Answers everything with the same thing."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, _: web.Request) -> web.StreamResponse:
        return web.Response(**self._answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 200, "text": "<html>"}, "something else than JSON"),
        ({"status": 200, "body": b"\xff\xfe"}, "something else than JSON"),
        ({"status": 502, "text": "<html>"}, "was answered with 502"),
        ({"status": 200, "body": b"[" + b"1," * 100_000 + b"1]"}, "bytes"),
    ],
)
async def test_strange_answers_mean_that_nothing_is_known(
    session: Any, answer: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_admin, "ANSWER_BYTES_MAX", 100_000)
    async with Server(answer) as server:
        with pytest.raises(AdminUnreachableError, match=words):
            await HttpBrokerAdmin(session, server.url).cluster()


async def test_a_broker_that_is_not_there_is_unreachable(session: Any) -> None:
    async with Server({"status": 200}) as server:
        url = server.url
    with pytest.raises(AdminUnreachableError, match="does not answer"):
        await HttpBrokerAdmin(session, url).topic("a")


async def test_refusals_carry_the_brokers_sentence_and_code(session: Any) -> None:
    broker = FakeBroker()
    await broker.start()
    try:
        admin = HttpBrokerAdmin(session, f"http://127.0.0.1:{broker.port}")
        with pytest.raises(AdminError) as caught:
            await admin.patch_settings({"flush.policy": "async"})
        assert (caught.value.status, caught.value.code) == (400, "INVALID_CONFIG")
        assert "needs a restart" in str(caught.value)
        assert await admin.topic("a/b c") is None  # names are quoted, absence is a value
        await admin.delete_topic("a")
        await admin.create_topic("a", 1, {})
        await admin.create_topic("a", 1, {})  # made by somebody meanwhile: as good
        broker.not_ready = ["recovering"]
        assert await admin.not_ready() == ["recovering"]
    finally:
        await broker.stop()


async def idle(_: Key) -> Again:
    return Again()


async def fetch(session: Any, health: Health, path: str) -> tuple[int, str]:
    runner = await health.serve("127.0.0.1", 0)
    try:
        host, port = runner.addresses[0][:2]
        async with session.get(f"http://{host}:{port}{path}") as response:
            return response.status, await response.text()
    finally:
        await runner.cleanup()


async def test_health_fails_when_nobody_works_while_leading(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = WorkQueue(idle, lambda: 0.5)
    health = Health(queue)
    assert (await fetch(session, health, "/healthz"))[0] == 200
    monkeypatch.setattr(queue, "overdue_s", lambda _: OVERDUE_SECONDS_MAX + 1)
    assert (await fetch(session, health, "/healthz"))[
        0
    ] == 200  # one that only waits to lead has nothing to do
    health.leading = True
    status, body = await fetch(session, health, "/healthz")
    assert status == 503
    assert "no worker takes it" in body
    status, body = await fetch(session, health, "/metrics")
    assert status == 200
    assert "penstock_operator_leading 1.0" in body
    assert f"penstock_operator_overdue_seconds {OVERDUE_SECONDS_MAX + 1}" in body


def test_logs_keep_their_fields_in_both_formats() -> None:
    record = logging.LogRecord("penstock", logging.INFO, __file__, 1, "acting on %s", ("x",), None)
    record.object = "shop/orders"
    line = json.loads(JsonFormatter().format(record))
    assert line.items() >= {"level": "info", "message": "acting on x", "object": "shop/orders"}.items()
    assert TextFormatter().format(record).endswith("info    acting on x object=shop/orders")


@pytest.mark.parametrize(
    ("arguments", "code", "words"), [(["--help"], 0, "--lease-name"), ([], 2, "--image")]
)
def test_the_command_line(arguments: list[str], code: int, words: str) -> None:
    command = [sys.executable, "-m", "penstock_operator.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert words in done.stdout + done.stderr


def test_without_a_way_to_kubernetes_it_says_so_and_ends() -> None:
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    command = [sys.executable, "-m", "penstock_operator.main", "--image", "x", "--health-port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 2
    assert "no way to the Kubernetes API" in done.stderr
