"""From a route table to an aiohttp application: decode, check bounds, call, encode, count, answer errors.

Everything that holds for every operation of both APIs is here and nowhere else, so that a handler is only the
translation between one request and one use-case.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from penstock.listeners.http.bodies import (
    BodyBudget,
    QueryDecoder,
    body_size_bound,
    check_media_type,
    decode_json,
    read_body,
)
from penstock.listeners.http.limits import CLIENT_ID_LENGTH_MAX, REQUESTS_IN_FLIGHT_MAX
from penstock.listeners.http.problems import RefusalError, invalid, problem_response
from penstock.listeners.http.routes import JSON_MEDIA_TYPE, Call, NoBody, RawBody, Reply, Route, Routes
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.context import RequestContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock.listeners.http.leader_proxy import LeaderProxy
    from penstock.telemetry.counters import ProtocolCounters

log = logging.getLogger("penstock.http")

_ENCODER: Final = msgspec.json.Encoder()
_NO_BODY: Final = NoBody()
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class HttpApplication:
    """The requests of one listener: `web` is the aiohttp application that serves its routes."""

    def __init__(
        self,
        routes: Routes,
        *,
        listener: str,
        protocol: str,
        body_bytes_max: int,
        counters: ProtocolCounters,
        leader: LeaderProxy,
        requests_in_flight_max: int = REQUESTS_IN_FLIGHT_MAX,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._body_bytes_max = body_bytes_max
        self._counters = counters
        self._leader = leader
        self._requests_max = requests_in_flight_max
        self._requests = 0
        self._waiting: set[asyncio.Task[object]] = set()
        self._stopping = False
        self._budget = BodyBudget()
        self.web = web.Application(client_max_size=body_bytes_max, middlewares=[self._answer_errors])
        self.web.on_response_prepare.append(_name_server)
        for route in routes:
            self.web.router.add_route(route.method, route.path, self._serving(route), name=route.name)
            if route.method == "GET":
                self.web.router.add_route("HEAD", route.path, self._serving(route))

    def _serving(self, route: Route[Any, Any]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        queries = QueryDecoder(route.query)

        async def serve(request: web.Request) -> web.StreamResponse:
            if self._requests >= self._requests_max and not route.quick:
                raise RefusalError(
                    ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                    f"This broker serves {self._requests_max} HTTP requests at a time on one listener; "
                    "try again in a moment.",
                )
            self._requests += 1
            began = perf_counter()
            try:
                self._counters.request(route.name)
                if route.waits:
                    return await self._serve_waiting(route, queries, request)
                return await self._serve(route, queries, request)
            finally:
                self._requests -= 1
                self._counters.took(route.name, perf_counter() - began)

        return serve

    @property
    def requests_open(self) -> int:
        """How many requests are being served; REQUESTS_IN_FLIGHT_MAX, and the quick ones, at most."""
        return self._requests

    def stop_waiting(self) -> None:
        """Ends long polls, the running ones and those to come: the listener stops."""
        self._stopping = True
        for task in self._waiting:
            task.cancel()

    async def _serve_waiting(
        self, route: Route[Any, Any], queries: QueryDecoder, request: web.Request
    ) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            if self._stopping:
                raise _stopping()
            return await self._serve(route, queries, request)
        except asyncio.CancelledError:
            # Also raised when the client went away; then nobody reads an answer.
            if not self._stopping:
                raise
            task.uncancel()
            raise _stopping() from None
        finally:
            self._waiting.discard(task)

    async def _serve(
        self, route: Route[Any, Any], queries: QueryDecoder, request: web.Request
    ) -> web.StreamResponse:
        passes_on = not route.local and not await self._leader.leads()
        if passes_on:
            self._leader.check(request)
        query = None if passes_on else queries.decode(request)
        reserved = body_size_bound(request, self._body_bytes_max)
        if not route.reads_body and reserved:
            raise invalid(f"{route.method} {route.path} takes no body.")
        self._budget.reserve(reserved)
        try:
            if passes_on:
                data = await self._data(request) if route.reads_body else b""
                return await self._leader.pass_on(request, data)
            body: Any = _NO_BODY
            if route.reads_body:
                body = await self._body(route, request)
            call = Call(
                context=self._context(request),
                path=request.match_info,
                query=query,
                body=body,
                accept=request.headers.get("Accept", ""),
            )
            return self._response(await route.handler(call))
        finally:
            self._budget.release(reserved)

    async def _body(self, route: Route[Any, Any], request: web.Request) -> Any:
        if request.can_read_body:
            check_media_type(request.content_type, route.accepts or (JSON_MEDIA_TYPE,))
        data = await self._data(request)
        if route.body is RawBody:
            return RawBody(request.content_type, data)
        return decode_json(data, route.body)

    async def _data(self, request: web.Request) -> bytes:
        data = await read_body(request, self._body_bytes_max)
        self._counters.bytes_in += len(data)
        return data

    def _context(self, request: web.Request) -> RequestContext:
        return RequestContext(
            listener=self._listener,
            protocol=self._protocol,
            client_id=request.headers.get("User-Agent", "")[:CLIENT_ID_LENGTH_MAX],
            client_host=request.remote or "",
        )

    def _response(self, reply: Reply) -> web.Response:
        if reply.body is None:
            return web.Response(status=reply.status, headers=reply.headers)
        data = reply.body if isinstance(reply.body, bytes) else _ENCODER.encode(reply.body)
        self._counters.bytes_out += len(data)
        return web.Response(
            body=data, status=reply.status, headers={"Content-Type": reply.media_type, **reply.headers}
        )

    @web.middleware
    async def _answer_errors(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        try:
            _refuse_other_sites(request)
            return await handler(request)
        except PenstockError as error:
            self._counters.error(error.code.name)
            return problem_response(error)
        except web.HTTPException as error:
            self._counters.error(ErrorCode.INVALID_REQUEST.name)
            return problem_response(_http_refusal(request, error))
        except Exception:
            self._counters.error(ErrorCode.UNKNOWN_SERVER_ERROR.name)
            log.exception("request failed: %s %s", request.method, request.path)
            sentence = "The broker failed on this request; its log says why."
            return problem_response(PenstockError(ErrorCode.UNKNOWN_SERVER_ERROR, sentence))


def _stopping() -> RefusalError:
    return RefusalError(ErrorCode.LEADER_NOT_AVAILABLE, "The broker is stopping; ask again in a moment.")


async def _name_server(request: web.Request, response: web.StreamResponse) -> None:
    """Which library and which release of Python answer is nobody's business."""
    response.headers["Server"] = "penstock"


def _refuse_other_sites(request: web.Request) -> None:
    """A web page of another site must not write to a broker that its reader's browser happens to reach.

    Browsers send Sec-Fetch-Site (Fetch Metadata) with every request to a trustworthy address, localhost included;
    other clients do not send it.
    """
    if request.method not in _SAFE_METHODS and request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise invalid("Requests that change something are not taken from web pages of other sites.", 403)


def _http_refusal(request: web.Request, error: web.HTTPException) -> RefusalError:
    headers: dict[str, str] = {}
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        headers["Allow"] = allowed
        sentence = f"{request.path} takes {allowed}, not {request.method}."
    elif isinstance(error, web.HTTPNotFound):
        sentence = f"There is nothing at {request.path}; /v1/openapi.json lists what there is."
    else:
        sentence = f"{error.reason}."
    return RefusalError(ErrorCode.INVALID_REQUEST, sentence, status=error.status, headers=headers)
