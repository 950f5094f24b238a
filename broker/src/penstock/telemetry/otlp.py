"""Sends spans by OTLP over HTTP, with OpenTelemetry's own exporter. Imported only where tracing is switched on.

The SDK makes no span here: finished values are given to its exporter, which encodes, sends and repeats. What it would write
into the log for every failure is kept for the one line that `span_exporter` writes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SdkEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link as SdkLink
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from penstock.tracing.attributes import SCHEMA_URL, SCOPE
from penstock.tracing.context import State
from penstock.tracing.span import Attribute, Span

TRACES_PATH = "/v1/traces"
SEND_SECONDS_MAX = 5.0
"""How long one request is tried, with all its repetitions."""

HEADERS_FILE_BYTES_MAX = 64 * 1024
_HEADER = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)"
).fullmatch
_EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_FLAGS = TraceFlags(TraceFlags.SAMPLED)


class HeadersError(ValueError):
    """The file of headers cannot be used; the text is a sentence without any of its content."""


def read_headers(path: Path) -> dict[str, str]:
    """The `name: value` lines of a file; empty ones and those with # in front are left out. Raises HeadersError."""
    try:
        with path.open("rb") as file:
            text = file.read(HEADERS_FILE_BYTES_MAX + 1).decode()
    except OSError as error:
        raise HeadersError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise HeadersError(f"{path} is not text in UTF-8") from error
    if len(text) > HEADERS_FILE_BYTES_MAX:
        raise HeadersError(f"{path} has more than {HEADERS_FILE_BYTES_MAX} bytes")
    headers = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _HEADER(stripped)
        if match is None:
            raise HeadersError(f"{path}: line {number} is not `name: value`")
        headers[match[1]] = match[2]
    return headers


class _LastWords(logging.Handler):
    """Keeps what the exporter says of its last failure."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()

    @contextmanager
    def instead_of_others(self) -> Iterator[None]:
        """Nobody else hears what the exporter says; the logger belongs to the process, which has it back afterwards."""
        said = logging.getLogger(_EXPORTER_LOGGER)
        before = said.handlers[:], said.propagate
        said.handlers[:], said.propagate = [self], False
        try:
            yield
        finally:
            said.handlers[:], said.propagate = before


class _OneResource(Resource):
    """The exporter asks for the hash of each span's resource, for which the SDK writes all of it as JSON."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class OtlpSender:
    """Implements `SpanSender`. The file of headers is read anew for each request, so that a secret may change."""

    def __init__(
        self,
        endpoint: str,
        resource: Mapping[str, Attribute],
        headers_file: Path | None,
        *,
        seconds_max: float = SEND_SECONDS_MAX,
    ) -> None:
        self._url = endpoint.rstrip("/") + TRACES_PATH
        self._resource = _OneResource(dict(resource), SCHEMA_URL)
        self._scope = InstrumentationScope(SCOPE, schema_url=SCHEMA_URL)
        self._headers_file = headers_file
        self._seconds_max = seconds_max
        self._headers: dict[str, str] = {}
        self._words = _LastWords()
        self._exporter = self._make()

    def _make(self) -> OTLPSpanExporter:
        return OTLPSpanExporter(endpoint=self._url, headers=self._headers, timeout=self._seconds_max)

    def send(self, spans: list[Span]) -> str | None:
        """See `SpanSender.send`."""
        try:
            self._renew()
        except HeadersError as error:
            return str(error)
        self._words.text = ""
        with self._words.instead_of_others():
            result = self._exporter.export([self._readable(span) for span in spans])
        if result is SpanExportResult.SUCCESS:
            return None
        return f"{self._url}: {self._words.text or 'the exporter gave no reason'}"

    def stop(self) -> None:
        """See `SpanSender.stop`."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _renew(self) -> None:
        headers = read_headers(self._headers_file) if self._headers_file is not None else {}
        if headers != self._headers:
            self._headers = headers
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
            self._exporter = self._make()

    def _readable(self, span: Span) -> ReadableSpan:
        context = _context(span.trace_id, span.span_id, span.state, remote=False)
        parent = (
            _context(span.trace_id, span.parent_id, span.state, remote=span.parent_remote)
            if span.parent_id
            else None
        )
        status = Status(StatusCode.ERROR, span.error) if span.error is not None else Status(StatusCode.UNSET)
        return ReadableSpan(
            span.name,
            context,
            parent,
            self._resource,
            span.attributes,
            [SdkEvent(event.name, event.attributes, event.time_ns) for event in span.events],
            [SdkLink(_context(link.trace_id, link.span_id, link.state, remote=True)) for link in span.links],
            SpanKind(span.kind),
            status=status,
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _context(trace_id: int, span_id: int, state: State, *, remote: bool) -> SpanContext:
    return SpanContext(trace_id, span_id, remote, _FLAGS, TraceState(list(state)))
