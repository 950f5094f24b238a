"""Spans of the requests to brokers' admin APIs that traced passes make, as hooks of the HTTP client."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import aiohttp
from opentelemetry.trace import StatusCode

from penstock_operator.tracing import names
from penstock_operator.tracing.spans import fail

if TYPE_CHECKING:
    from penstock_operator.tracing.spans import Spans

NOT_FOUND: Final = 404
_ROUTE_PARTS: Final = 3  # "/v1/topics/payments" -> "/v1/topics": names of topics are no names of spans


def broker_calls(spans: Spans) -> aiohttp.TraceConfig:
    """What an aiohttp.ClientSession takes as one of its `trace_configs`."""

    async def start(
        _: aiohttp.ClientSession, call: SimpleNamespace, sent: aiohttp.TraceRequestStartParams
    ) -> None:
        route = "/".join(sent.url.path.split("/")[:_ROUTE_PARTS])
        call.span = spans.begin(
            f"{sent.method} {route}",
            {
                names.HTTP_METHOD: sent.method,
                names.URL_PATH: sent.url.path,
                names.SERVER: sent.url.host or "",
                names.SERVER_PORT: sent.url.port or 0,
            },
        )

    async def end(
        _: aiohttp.ClientSession, call: SimpleNamespace, got: aiohttp.TraceRequestEndParams
    ) -> None:
        if call.span is None:
            return
        status = got.response.status
        call.span.set_attribute(names.HTTP_STATUS, status)
        # That there is no such thing is an answer like any other.
        if status >= 400 and status != NOT_FOUND:
            call.span.set_attribute(names.ERROR, str(status))
            call.span.set_status(StatusCode.ERROR, f"answered with {status}")
        call.span.end()

    async def failed(
        _: aiohttp.ClientSession, call: SimpleNamespace, met: aiohttp.TraceRequestExceptionParams
    ) -> None:
        if call.span is not None:
            fail(call.span, met.exception)
            call.span.end()

    config = aiohttp.TraceConfig()
    config.on_request_start.append(start)
    config.on_request_end.append(end)
    config.on_request_exception.append(failed)
    return config
