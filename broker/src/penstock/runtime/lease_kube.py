"""The Lease of a shard in Kubernetes, read and written by the broker itself with its pod's service account.

It takes three requests on one object, which is why there is no Kubernetes client here: the official one belongs to the
operator's dependencies, takes longer to import than a broker takes to start, and brings a model of every kind there is.
Reads name no version, and so are answered from the newest state (a quorum read). Tokens and certificates are exchanged
under a running pod, so they are read again now and then, and at once when the server does not accept one.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from penstock.replication.master_lease import (
    Conflict,
    LeaseRecord,
    Missing,
    Observation,
    Stored,
    Unavailable,
    Unknown,
    WriteOutcome,
    stamped,
)
from penstock.runtime.lease_manifest import lease_from_manifest, lease_to_manifest, lease_to_patch

SERVICE_ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
FIELD_MANAGER = "penstock-broker"
# An API server's answer about one Lease; longer ones are not read to the end.
ANSWER_BYTES_MAX = 1024 * 1024
CREDENTIALS_SECONDS_MAX = 60.0
# Characters of a server's sentence that are passed on.
SENTENCE_MAX = 300
MERGE_PATCH = "application/merge-patch+json"


class KubeAccessError(Exception):
    """There is no way to the API server; the text is a sentence."""


class KubeAccess(msgspec.Struct, frozen=True):
    """Where the API server is and how to get in."""

    url: str
    token_file: Path
    ca_file: Path
    namespace: str


def access_from_pod(
    environment: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT_FOLDER
) -> KubeAccess:
    """As Kubernetes tells every pod. Raises KubeAccessError."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise KubeAccessError(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: a broker in mode MasterSlave"
            " keeps its Lease in Kubernetes and has to run in a pod"
        )
    try:
        namespace = (folder / "namespace").read_text().strip()
    except OSError as error:
        raise KubeAccessError(
            f"{folder}/namespace cannot be read ({error.strerror}): give the pod a service account with its token mounted"
        ) from error
    name = f"[{host}]" if ":" in host else host
    return KubeAccess(f"https://{name}:{port}", folder / "token", folder / "ca.crt", namespace)


class _Credentials(msgspec.Struct, frozen=True):
    token: str
    authority: bytes
    context: ssl.SSLContext
    read_at: float


class _Answer(msgspec.Struct, frozen=True):
    status: int
    body: Any

    @property
    def sentence(self) -> str:
        """The server's own, as far as it has one."""
        message = self.body.get("message") if isinstance(self.body, dict) else None
        return f"the API server answered {self.status}: {str(message or 'no reason given')[:SENTENCE_MAX]}"

    @property
    def says_not_found(self) -> bool:
        """Whether it is the API server that says so, and not something before it."""
        return self.status == 404 and isinstance(self.body, dict) and self.body.get("reason") == "NotFound"


class KubeLease:
    """A `LeaseStore`. `wall_us` gives the wall clock's microseconds."""

    def __init__(
        self,
        access: KubeAccess,
        name: str,
        timeout_ms: int,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._access = access
        self._name = name
        self._timeout_s = timeout_ms / 1000
        self._wall_us = wall_us
        self._collection = f"{access.url}/apis/coordination.k8s.io/v1/namespaces/{access.namespace}/leases"
        self._session: aiohttp.ClientSession | None = None
        self._credentials: _Credentials | None = None

    async def read(self) -> Observation:
        """See `LeaseStore.read`."""
        answer = await self._ask("GET", f"{self._collection}/{self._name}", None)
        if isinstance(answer, str):
            return Unavailable(answer)
        if answer.says_not_found:
            return Missing()
        if answer.status != 200:
            return Unavailable(answer.sentence)
        return lease_from_manifest(answer.body)

    async def create(self, record: LeaseRecord) -> WriteOutcome:
        """See `LeaseStore.create`."""
        manifest = lease_to_manifest(self._name, self._access.namespace, stamped(record, 0, self._wall_us()))
        return _outcome(await self._ask("POST", self._collection, manifest))

    async def compare_and_swap(self, record: LeaseRecord, if_version: str) -> WriteOutcome:
        """See `LeaseStore.compare_and_swap`."""
        patch = lease_to_patch(stamped(record, 0, self._wall_us()), if_version)
        answer = await self._ask("PATCH", f"{self._collection}/{self._name}", patch)
        if isinstance(answer, _Answer) and answer.says_not_found:
            return Conflict()
        return _outcome(answer)

    async def close(self) -> None:
        """See `LeaseStore.close`."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, method: str, url: str, body: dict[str, Any] | None) -> _Answer | str:
        """The answer, or a sentence about why there is none."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._request(method, url, body)
        except TimeoutError:
            return f"the API server did not answer within {self._timeout_s} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: a token or certificate file that holds something else.
            return f"the API server cannot be asked: {type(error).__name__} {str(error)[:SENTENCE_MAX]}"

    async def _request(self, method: str, url: str, body: dict[str, Any] | None) -> _Answer:
        credentials = await self._current_credentials()
        if self._session is None:
            self._session = aiohttp.ClientSession(headers={"User-Agent": FIELD_MANAGER})
        headers = {"Authorization": f"Bearer {credentials.token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = MERGE_PATCH if method == "PATCH" else "application/json"
        async with self._session.request(
            method,
            url,
            params={"fieldManager": FIELD_MANAGER} if body is not None else None,
            data=msgspec.json.encode(body) if body is not None else None,
            headers=headers,
            ssl=credentials.context,
            allow_redirects=False,
        ) as response:
            if response.status == 401:
                self._credentials = None
            return _Answer(response.status, await _json(response))

    async def _current_credentials(self) -> _Credentials:
        """Raises OSError, ValueError."""
        known = self._credentials
        if known is None or time.monotonic() - known.read_at >= CREDENTIALS_SECONDS_MAX:
            self._credentials = known = await asyncio.to_thread(_read_credentials, self._access, known)
        return known


def _read_credentials(access: KubeAccess, before: _Credentials | None) -> _Credentials:
    token = access.token_file.read_text().strip()
    authority = access.ca_file.read_bytes()
    if before is not None and before.authority == authority:
        context = before.context  # Connections that are open can be used on.
    else:
        context = ssl.create_default_context(cadata=authority.decode("ascii"))
    return _Credentials(token, authority, context, time.monotonic())


async def _json(response: aiohttp.ClientResponse) -> Any:
    """What the body says, None for anything that is not JSON."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            return None
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None


def _outcome(answer: _Answer | str) -> WriteOutcome:
    if isinstance(answer, str):
        return Unknown(answer)
    if answer.status == 409:
        return Conflict()
    if answer.status not in (200, 201):
        return Unknown(answer.sentence)
    try:
        return Stored(answer.body["metadata"]["resourceVersion"])
    except (KeyError, TypeError):
        return Unknown("the API server's answer names no resourceVersion")
