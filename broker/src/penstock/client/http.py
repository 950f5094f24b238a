"""A small client of both HTTP APIs, for the command line and for scripts.

One request in, one decoded answer out; what goes wrong is one of two errors with a sentence in it: the server said
no (`ServerProblemError`), or nobody answered (`UnreachableError`). Answers are bounded, waits have deadlines; retrying
is left to the caller, who knows whether a request may be sent twice.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

CONNECT_TIMEOUT_SECONDS: Final = 5.0
ANSWER_TIMEOUT_SECONDS: Final = 60.0
"""Longest silence of the server, beyond what a request asks it to wait."""

ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
"""Longest answer that is taken into memory."""


class ClientError(Exception):
    """A request that failed; the text is a sentence for the person who made it."""


class UnreachableError(ClientError):
    """Nobody answered at `server`."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"nothing answers at {server} ({reason})")
        self.server = server


class ServerProblemError(ClientError):
    """The server refused: its problem document."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class _Problem(msgspec.Struct):
    detail: str = ""
    code: str = ""


def path(*segments: str) -> str:
    """`/v1/…` of these segments, each quoted: names may hold anything."""
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def server_url(text: str) -> str:
    """The base URL that a person meant: `localhost:8080` is `http://localhost:8080`. Raises ValueError."""
    url = text if "://" in text else f"http://{text}"
    parsed = URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query_string or parsed.fragment:
        raise ValueError(f"{text!r} is not the address of a server; write it like http://127.0.0.1:8080")
    return url.rstrip("/")


class HttpClient:
    """Requests to one server. Use as an async context manager."""

    def __init__(self, server: str) -> None:
        self.server = server_url(server)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers={"User-Agent": "penstock-cli"})
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(
        self, path: str, kind: type[T], *, query: Mapping[str, str] | None = None, wait_seconds: float = 0
    ) -> T:
        """GET, decoded. `wait_seconds` is how long the request asks the server to wait."""
        return decode(await self.request("GET", path, query=query, wait_seconds=wait_seconds), kind)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        wait_seconds: float = 0,
    ) -> bytes:
        """The answer's bytes. Raises ServerProblemError or UnreachableError."""
        if self._session is None:
            raise RuntimeError("the client is used outside of its `async with`")
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=CONNECT_TIMEOUT_SECONDS,
            sock_read=ANSWER_TIMEOUT_SECONDS + wait_seconds,
        )
        data = None if body is None else msgspec.json.encode(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        # The path is quoted already: "%2F" in a name must not become a slash.
        url = URL(self.server + path, encoded=True)
        try:
            async with self._session.request(
                method, url, params=query, data=data, headers=headers, timeout=timeout
            ) as answer:
                content = await _read(answer)
                if answer.status >= 400:
                    raise _problem(answer.status, content, self.server)
                return content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(self.server, _reason(error)) from error


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise ClientError(f"the answer is longer than {ANSWER_BYTES_MAX} bytes; ask for less at a time")
        parts.append(part)
    return b"".join(parts)


def decode(content: bytes, kind: type[T]) -> T:
    """An answer's bytes as a value; ClientError when they are something else."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise ClientError(
            f"the answer is not what this release of penstock expects ({error}); is it a Penstock server?"
        ) from error


def _problem(status: int, content: bytes, server: str) -> ServerProblemError:
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except msgspec.DecodeError:
        # Not one of our documents: a proxy, or another server altogether.
        problem = _Problem()
    detail = problem.detail or f"{server} answered with status {status}; is it a Penstock server?"
    return ServerProblemError(status, problem.code, detail)


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
