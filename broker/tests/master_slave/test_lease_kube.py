"""The Lease in Kubernetes where things go wrong: an API server that refuses, hangs, answers nonsense, or is not there."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from lease_scene import record
from penstock.replication.master_lease import (
    Conflict,
    LeaseRecord,
    Missing,
    Stored,
    Unavailable,
    Unknown,
    Unreadable,
)
from penstock.runtime.lease_kube import (
    ANSWER_BYTES_MAX,
    KubeAccess,
    KubeAccessError,
    KubeLease,
    access_from_pod,
)
from penstock.runtime.lease_manifest import lease_from_manifest, lease_to_manifest, lease_to_patch

TIMEOUT_MS = 20_000
SHORT_MS = 100
PATH = "/apis/coordination.k8s.io/v1/namespaces/here/leases"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """An API server that answers what a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.answer: Answer | web.Response = web.json_response({})
        self.url = ""
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self.write_access()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.url = "https://{}:{}".format(*self._runner.addresses[0][:2])

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def write_access(self, token: str = "first") -> None:
        self.authority.cert_pem.write_to_path(str(self.folder / "ca.crt"))
        (self.folder / "token").write_text(token + "\n")
        (self.folder / "namespace").write_text("here")

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        parsed = json.loads(body) if body else None
        self.requests.append((request.method, str(request.rel_url), dict(request.headers), parsed))
        if isinstance(self.answer, web.Response):
            # A response is sent once.
            return web.Response(
                status=self.answer.status, text=self.answer.text, content_type=self.answer.content_type
            )
        return await self.answer(request)  # type: ignore[arg-type]

    def store(self, timeout_ms: int = TIMEOUT_MS) -> KubeLease:
        access = KubeAccess(self.url, self.folder / "token", self.folder / "ca.crt", "here")
        return KubeLease(access, "orders-0", timeout_ms)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path)
    await made.start()
    yield made
    await made.stop()


def failure(status: int, reason: str, message: str = "as it is") -> web.Response:
    return web.json_response({"kind": "Status", "reason": reason, "message": message}, status=status)


def stored(version: str = "12") -> web.Response:
    manifest = lease_to_manifest("orders-0", "here", record())
    manifest["metadata"]["resourceVersion"] = version
    return web.json_response(manifest)


async def test_the_three_requests(server: Server) -> None:
    store = server.store()
    server.answer = stored()
    assert isinstance(await store.read(), LeaseRecord)
    assert await store.create(record()) == Stored("12")
    assert await store.compare_and_swap(record(), "11") == Stored("12")
    read, create, swap = server.requests
    assert read[:2] == ("GET", f"{PATH}/orders-0"), "no version: the newest state"
    assert create[:2] == ("POST", f"{PATH}?fieldManager=penstock-broker")
    assert swap[:2] == ("PATCH", f"{PATH}/orders-0?fieldManager=penstock-broker")
    assert swap[2]["Content-Type"] == "application/merge-patch+json"
    assert swap[3]["metadata"]["resourceVersion"] == "11"
    assert {request[2]["Authorization"] for request in server.requests} == {"Bearer first"}
    await store.close()


async def test_what_conflicts_did_not_take_effect(server: Server) -> None:
    store = server.store()
    server.answer = failure(409, "Conflict")
    assert await store.compare_and_swap(record(), "11") == Conflict()
    server.answer = failure(409, "AlreadyExists")
    assert await store.create(record()) == Conflict()
    server.answer = failure(404, "NotFound")
    assert await store.compare_and_swap(record(), "11") == Conflict()
    assert await store.read() == Missing()
    await store.close()


async def test_a_404_of_something_else_says_nothing_about_the_lease(server: Server) -> None:
    store = server.store()
    server.answer = web.Response(status=404, text="<html>not here</html>", content_type="text/html")
    assert await store.read() == Unavailable("the API server answered 404: no reason given")
    assert isinstance(await store.compare_and_swap(record(), "11"), Unknown)
    server.answer = failure(404, "NotFound", 'namespaces "here" not found')
    assert await store.create(record()) == Unknown('the API server answered 404: namespaces "here" not found')
    await store.close()


@pytest.mark.parametrize("status", [302, 400, 403, 422, 429, 500, 502, 503, 504])
async def test_what_else_the_server_answers_is_passed_on(server: Server, status: int) -> None:
    store = server.store()
    server.answer = failure(status, "Whatever", "as it is")
    why = f"the API server answered {status}: as it is"
    assert await store.read() == Unavailable(why)
    assert await store.create(record()) == Unknown(why)
    assert await store.compare_and_swap(record(), "11") == Unknown(why)
    await store.close()


async def test_a_server_that_hangs_is_answered_for_in_time(server: Server) -> None:
    store = server.store(SHORT_MS)

    async def hangs(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    server.answer = hangs
    why = "the API server did not answer within 0.1 s"
    assert await store.read() == Unavailable(why)
    assert await store.create(record()) == Unknown(why)
    assert await store.compare_and_swap(record(), "11") == Unknown(why)
    await store.close()


async def test_a_server_that_hangs_in_the_middle_is_answered_for_in_time(server: Server) -> None:
    store = server.store(SHORT_MS)

    async def begins(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"metadata":')
        await asyncio.Event().wait()
        raise AssertionError

    server.answer = begins
    assert isinstance(await store.read(), Unavailable)
    assert isinstance(await store.compare_and_swap(record(), "11"), Unknown)
    await store.close()


async def test_a_connection_that_ends_leaves_the_outcome_open(server: Server) -> None:
    store = server.store()

    async def ends(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.answer = ends
    assert isinstance(await store.read(), Unavailable)
    assert isinstance(await store.compare_and_swap(record(), "11"), Unknown)
    server.answer = stored()
    assert await store.compare_and_swap(record(), "11") == Stored("12"), "another connection"
    await store.close()


async def test_nobody_listens(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server.url = f"https://127.0.0.1:{port}"
    store = server.store()
    found = await store.read()
    assert isinstance(found, Unavailable)
    assert found.why.startswith("the API server cannot be asked: ClientConnectorError")
    assert isinstance(await store.create(record()), Unknown)
    assert isinstance(await store.compare_and_swap(record(), "11"), Unknown)
    await store.close()


async def test_an_answer_that_is_no_lease_is_no_lease(server: Server) -> None:
    store = server.store()
    for text in (
        "",
        "not JSON",
        "[]",
        "null",
        "{}",
        '{"metadata": {}, "spec": 1}',
        " " * (ANSWER_BYTES_MAX + 1),
    ):
        server.answer = web.Response(text=text, content_type="application/json")
        assert isinstance(await store.read(), Unreadable), text[:20]
        assert isinstance(await store.compare_and_swap(record(), "11"), Unknown), text[:20]
    await store.close()


async def test_a_token_that_was_exchanged_is_read_again(server: Server) -> None:
    store = server.store()
    server.answer = stored()
    await store.read()
    server.write_access("second")
    await store.read()
    server.answer = failure(401, "Unauthorized")
    assert isinstance(await store.read(), Unavailable)
    server.answer = stored()
    assert isinstance(await store.read(), LeaseRecord)
    tokens = [request[2]["Authorization"] for request in server.requests]
    assert tokens == ["Bearer first", "Bearer first", "Bearer first", "Bearer second"]
    await store.close()


async def test_a_token_is_read_again_now_and_then(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.runtime.lease_kube.CREDENTIALS_SECONDS_MAX", 0.0)
    store = server.store()
    server.answer = stored()
    await store.read()
    server.write_access("second")
    await store.read()
    assert [request[2]["Authorization"] for request in server.requests] == ["Bearer first", "Bearer second"]
    await store.close()


async def test_a_server_of_another_authority_is_not_trusted(server: Server) -> None:
    right, server.authority = server.authority, trustme.CA()
    server.write_access()
    store = server.store()
    server.answer = stored()
    found = await store.read()
    assert isinstance(found, Unavailable)
    assert "Certificate" in found.why
    assert not server.requests
    server.authority = right
    server.write_access()
    fresh = server.store()
    assert isinstance(await fresh.read(), LeaseRecord)
    await store.close()
    await fresh.close()


async def test_files_that_are_not_there_or_hold_nonsense_are_said(server: Server) -> None:
    (server.folder / "ca.crt").write_text("no certificate")
    store = server.store()
    assert isinstance(await store.read(), Unavailable)
    (server.folder / "ca.crt").write_bytes(b"\xff\xfe")
    assert isinstance(await store.read(), Unavailable)
    (server.folder / "token").unlink()
    found = await store.read()
    assert isinstance(found, Unavailable)
    assert "No such file" in found.why
    await store.close()


# --- where the server is ---------------------------------------------------------------------------


def test_a_pod_is_told_where_the_server_is(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("here\n")
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    found = access_from_pod(environment, tmp_path)
    assert found == KubeAccess("https://10.0.0.1:443", tmp_path / "token", tmp_path / "ca.crt", "here")
    six = access_from_pod({**environment, "KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path)
    assert six.url == "https://[fd00::1]:443"


def test_who_is_in_no_pod_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(KubeAccessError, match="KUBERNETES_SERVICE_HOST"):
        access_from_pod({}, tmp_path)
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(KubeAccessError, match="namespace cannot be read"):
        access_from_pod(environment, tmp_path)


# --- the object ------------------------------------------------------------------------------------


def manifest() -> dict[str, Any]:
    made = lease_to_manifest("orders-0", "here", record())
    made["metadata"]["resourceVersion"] = "7"
    return made


def test_a_patch_changes_what_is_ours_alone() -> None:
    patch = lease_to_patch(record(), "7")
    assert set(patch) == {"metadata", "spec"}
    assert set(patch["metadata"]) == {"annotations", "resourceVersion"}
    assert all(key.startswith("penstock.io/lease-") for key in patch["metadata"]["annotations"])
    assert patch["metadata"]["annotations"]["penstock.io/lease-pending"] is None, "taken away"
    assert "acquireTime" not in patch["spec"], "a renewal leaves it"


@pytest.mark.parametrize("renewed", ["2026-11-21T18:43:08.123456Z", "2026-11-21T18:43:08Z", None])
def test_times_are_read_as_the_server_writes_them(renewed: str | None) -> None:
    made = manifest()
    made["spec"]["renewTime"] = renewed
    found = lease_from_manifest(made)
    assert isinstance(found, LeaseRecord)
    assert found.renewed_at_us in (1795286588123456, 1795286588000000, 0)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("spec", "renewTime", "yesterday"),
        ("spec", "renewTime", "2026-11-21T18:43:08"),
        ("spec", "renewTime", 7),
        ("spec", "holderIdentity", 7),
        ("spec", "leaseTransitions", "x"),
        ("metadata", "resourceVersion", ""),
        ("metadata", "resourceVersion", None),
        ("metadata", "annotations", None),
        ("metadata", "annotations", []),
        ("metadata", "annotations", {"penstock.io/lease-format": 1}),
    ],
)
def test_an_object_that_somebody_damaged_is_unreadable(part: str, key: str, value: object) -> None:
    made = manifest()
    made[part][key] = value
    assert isinstance(lease_from_manifest(made), Unreadable)


def test_a_lease_of_somebody_else_is_unreadable() -> None:
    plain = {"metadata": {"name": "x", "resourceVersion": "7"}, "spec": {"holderIdentity": "somebody"}}
    assert lease_from_manifest(plain) == Unreadable("the Lease lacks format")
