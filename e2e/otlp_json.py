"""OTLP in JSON, as the OpenTelemetry Collector's file exporter writes it, one request a line.

The encoding is protobuf's for JSON but for the ids, which are hexadecimal (OTLP specification, "JSON Protobuf Encoding"):
64-bit numbers are text, enumerations are numbers, and what has its default is left out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from penstock.testing.otlp_receiver import ReceivedSpan

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUS_ERROR = 2


def spans_of(text: str) -> list[ReceivedSpan]:
    """The spans in whole lines; a last line without its end is still being written. Raises ValueError for other content."""
    return [
        span
        for line in text.splitlines(keepends=True)
        if line.endswith("\n") and line.strip()
        for span in _of_request(json.loads(line))
    ]


def _of_request(request: dict[str, Any]) -> Iterator[ReceivedSpan]:
    for of_resource in request["resourceSpans"]:
        resource = _attributes(of_resource.get("resource", {}))
        for scope in of_resource["scopeSpans"]:
            for span in scope["spans"]:
                yield _span(span, resource)


def _span(span: dict[str, Any], resource: dict[str, object]) -> ReceivedSpan:
    status = span.get("status", {})
    return ReceivedSpan(
        span["name"],
        KINDS[span.get("kind", 0)],
        span["traceId"],
        span["spanId"],
        span.get("parentSpanId", ""),
        int(span["startTimeUnixNano"]),
        int(span["endTimeUnixNano"]),
        _attributes(span),
        resource,
        [(event["name"], _attributes(event)) for event in span.get("events", [])],
        [(link["traceId"], link["spanId"]) for link in span.get("links", [])],
        status.get("message", "") if status.get("code") == STATUS_ERROR else None,
        span.get("traceState", ""),
    )


def _attributes(of: dict[str, Any]) -> dict[str, object]:
    return {pair["key"]: _value(pair["value"]) for pair in of.get("attributes", [])}


def _value(value: dict[str, Any]) -> object:
    ((kind, content),) = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "arrayValue":
        return [_value(item) for item in content.get("values", [])]
    return content
