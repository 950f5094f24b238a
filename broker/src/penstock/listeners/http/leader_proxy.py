"""Requests that only the shard's leader can serve: passed on to its listener of the same name, and its answer relayed.

A client may talk to any broker. One that does not lead sends the request on as it came, body and all, and writes the
answer to the client as it arrives: status, headers and bytes are the leader's. What belongs to one connection and not
to the request (hop-by-hop fields, RFC 9110 section 7.6.1) stays behind. A request is passed on once: it carries the
name of the broker that did it, and a second one that does not lead either refuses it, so brokers that disagree about
who leads cannot send it in circles.

Whether the leader has served a request cannot be known when the connection ends before the answer. Such a request is
not sent again here unless its method is idempotent, which is aiohttp's own rule; the client is told and decides.
"""

from __future__ import annotations

import asyncio
import io
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from penstock.listeners.http.limits import (
    LEADER_ANSWER_SECONDS,
    LEADER_CONNECT_SECONDS,
    LEADER_CONNECTIONS_MAX,
    LEADER_KEEPALIVE_SECONDS,
    RELAY_BUFFER_BYTES,
    RELAY_WRITE_SECONDS,
    REPLACED_LEADER_SECONDS,
)
from penstock.listeners.http.problems import RefusalError
from penstock.model.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.listeners.http.services import LeaderHttp
    from penstock.telemetry.counters import ProtocolCounters

log = logging.getLogger("penstock.http")

FORWARDED_HEADER: Final = "Penstock-Forwarded"
"""Names the broker that passed the request on."""

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# The client library writes its own; Expect was answered when the body was read.
_OF_THE_REQUEST: Final = _HOP_BY_HOP | {"host", "content-length", "expect", FORWARDED_HEADER.lower()}
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})


class LeaderProxy:
    """One listener's way to the leader. Owns its connections; `close` ends them."""

    def __init__(self, leader: LeaderHttp, listener: str, counters: ProtocolCounters) -> None:
        self._leader = leader
        self._listener = listener
        self._counters = counters
        self._session: aiohttp.ClientSession | None = None

    async def leads(self) -> bool:
        """Whether this broker serves every request by itself. Where nobody is known to do so, an election is waited for, or
        the end of a hand-over."""
        if not self._leader.leads and self._leader.address(self._listener) is None:
            await self._leader.until_settled()
        return self._leader.leads

    def check(self, request: web.Request) -> tuple[str, int]:
        """Where the request is to go. Refuses one that was passed on already, or when no leader is known."""
        by = request.headers.get(FORWARDED_HEADER)
        if by is not None:
            raise _away(
                f"{by[:100]!r} passed this request on to {self._leader.name!r}, which does not lead the shard; "
                "ask again in a moment."
            )
        address = self._leader.address(self._listener)
        if address is None:
            raise _away("No broker is known to lead the shard now; ask again in a moment.")
        return address

    async def pass_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """The leader's answer, already on its way to the client. Raises RefusalError while nothing of it is."""
        try:
            return await self._pass_on(request, body)
        except _ReplacedError as error:
            if request.method not in _IDEMPOTENT:
                raise RefusalError(
                    ErrorCode.REQUEST_TIMED_OUT,
                    "The shard's leader was replaced before it answered. The request may have been served and was not sent "
                    "again; look before you send it once more.",
                ) from error
        try:
            return await self._pass_on(request, body)
        except _ReplacedError as error:
            raise _away("The shard's leader changes; ask again in a moment.") from error

    async def _pass_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        host, port = self.check(request)
        self._counters.requests_forwarded += 1
        hurry: asyncio.Future[None] | None = None
        try:
            async with asyncio.timeout(LEADER_ANSWER_SECONDS) as bound:
                hurry = asyncio.ensure_future(self._hurry(bound))
                answer = await self._connected().request(
                    request.method,
                    _url(host, port, request),
                    # Written in parts: a large body must not stall the loop.
                    data=io.BytesIO(body) if body else None,
                    headers=self._request_headers(request),
                    allow_redirects=False,
                )
                hurry.cancel()
            async with answer:
                first = await answer.content.readany()
                return await self._relay(request, answer, first)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _away("The shard's leader cannot be reached now; ask again in a moment.") from error
        except TimeoutError as error:
            if hurry is not None and hurry.done() and not hurry.cancelled():
                raise _ReplacedError from error
            raise RefusalError(
                ErrorCode.REQUEST_TIMED_OUT,
                f"The shard's leader did not answer within {LEADER_ANSWER_SECONDS:.0f} seconds; the request may "
                "have been served.",
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            if request.method in _IDEMPOTENT:
                raise _away("The connection to the shard's leader ended; ask again in a moment.") from error
            raise RefusalError(
                ErrorCode.REQUEST_TIMED_OUT,
                "The connection to the shard's leader ended before it answered. The request may have been served "
                "and was not sent again; look before you send it once more.",
            ) from error
        finally:
            if hurry is not None:
                hurry.cancel()

    async def _hurry(self, bound: asyncio.Timeout) -> None:
        """Leaves a leader that was replaced little time: it may hang, and then would not answer at all."""
        await self._leader.until_replaced()
        bound.reschedule(asyncio.get_running_loop().time() + REPLACED_LEADER_SECONDS)

    async def close(self) -> None:
        """Ends all connections to leaders."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _connected(self) -> aiohttp.ClientSession:
        """Made with the first request that is passed on: a broker that always leads has none."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=LEADER_CONNECTIONS_MAX,
                    keepalive_timeout=LEADER_KEEPALIVE_SECONDS,
                    # A broker that was restarted may have another address under its name.
                    use_dns_cache=False,
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=LEADER_CONNECT_SECONDS, sock_read=LEADER_ANSWER_SECONDS
                ),
                # Requests of many clients share it: nothing may be kept of one and sent with another.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
                read_bufsize=RELAY_BUFFER_BYTES,
            )
        return self._session

    def _request_headers(self, request: web.Request) -> CIMultiDict[str]:
        headers = _end_to_end(request.headers, _OF_THE_REQUEST)
        headers[FORWARDED_HEADER] = quote(self._leader.name)
        return headers

    async def _relay(
        self, request: web.Request, answer: aiohttp.ClientResponse, chunk: bytes
    ) -> web.StreamResponse:
        """Writes the answer to the client as it arrives, and reads on only as fast as the client takes it."""
        response = web.StreamResponse(
            status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers, _HOP_BY_HOP)
        )
        try:
            await response.prepare(request)
            while chunk:
                async with asyncio.timeout(RELAY_WRITE_SECONDS):
                    await response.write(chunk)
                self._counters.bytes_out += len(chunk)
                chunk = await _next_chunk(answer)
        except _CutOffError as error:
            log.warning("the leader's answer to %s %s broke off: %s", request.method, request.path, error)
            _end_connection(request)
        except (ConnectionError, TimeoutError):
            # The client went away, or takes nothing any more: nobody is left to be told.
            _end_connection(request)
        return response


class _ReplacedError(Exception):
    """The leader did not answer, and another one leads."""


class _CutOffError(Exception):
    """The rest of an answer that the client has begun to read will not come."""


async def _next_chunk(answer: aiohttp.ClientResponse) -> bytes:
    try:
        return await answer.content.readany()
    except (aiohttp.ClientError, OSError) as error:
        raise _CutOffError(repr(error)) from error


def _end_connection(request: web.Request) -> None:
    """So that the client does not take what it has got for the whole answer."""
    if request.transport is not None:
        request.transport.close()


def _away(sentence: str) -> RefusalError:
    return RefusalError(ErrorCode.NOT_LEADER_OR_FOLLOWER, sentence)


def _url(host: str, port: int, request: web.Request) -> URL:
    """The same path and query there, escaped as they came."""
    return URL(f"{URL.build(scheme='http', host=host, port=port)}{request.rel_url.raw_path_qs}", encoded=True)


def _end_to_end(headers: Mapping[str, str], without: frozenset[str]) -> CIMultiDict[str]:
    """The fields that are the message's and not the connection's. A byte that is not UTF-8 becomes a question mark."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict(
        (name, value.encode("utf-8", "replace").decode())
        for name, value in headers.items()
        if name.lower() not in without and name.lower() not in named
    )
