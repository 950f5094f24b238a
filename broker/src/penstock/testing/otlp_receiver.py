"""A small OTLP receiver: takes spans over HTTP as a collector does, keeps them as plain values, and hands them out as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

import msgspec
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan


class ReceivedSpan(msgspec.Struct):
    """A span as it came. Ids are hexadecimal, times nanoseconds since 1970; `parent_id` is empty where there is none."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, object]
    resource: dict[str, object]
    events: list[tuple[str, dict[str, object]]]
    links: list[tuple[str, str]]
    error: str | None
    state: str


class OtlpReceiver:
    """Listens from `async with` on, port 0: on any. `status` other than 200 refuses; `headers` are those of the last request.
    `GET /spans` answers what came."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host, self._port = host, port
        self.spans: list[ReceivedSpan] = []
        self.headers: dict[str, str] = {}
        self.status = 200
        self.requests = 0
        self._news = asyncio.Event()
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_post("/v1/traces", self._take)
        application.router.add_get("/spans", self._hand_out)
        self._runner = web.AppRunner(application)

    @property
    def endpoint(self) -> str:
        """What `tracing.endpoint` is set to."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def until(self, condition: Callable[[list[ReceivedSpan]], bool], seconds: float = 20.0) -> None:
        """Waits until what came fits. Raises TimeoutError, with the spans' names."""
        try:
            async with asyncio.timeout(seconds):
                while not condition(self.spans):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"these spans came: {sorted(span.name for span in self.spans)}") from None

    async def _take(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.headers = dict(request.headers)
        if self.status != 200:
            return web.Response(status=self.status)
        message = ExportTraceServiceRequest.FromString(await request.read())
        for of_resource in message.resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            for scope in of_resource.scope_spans:
                self.spans.extend(_span(span, resource) for span in scope.spans)
        self._news.set()
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    async def _hand_out(self, _: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self.spans), content_type="application/json")


def _span(span: WireSpan, resource: dict[str, object]) -> ReceivedSpan:
    failed = span.status.code == span.status.STATUS_CODE_ERROR
    return ReceivedSpan(
        span.name,
        WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        resource,
        [(event.name, _attributes(event.attributes)) for event in span.events],
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        span.status.message if failed else None,
        span.trace_state,
    )


def _attributes(pairs: list[KeyValue]) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind is not None else None
