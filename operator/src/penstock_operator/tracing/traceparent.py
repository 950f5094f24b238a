"""W3C `traceparent`: the place in a trace that somebody hands on as text (W3C Trace Context, section 3.2).

Whoever may edit a resource may write one, so nothing but the exact form of version 00 is taken; everything else counts as
none at all, and never as an error.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from penstock_operator.api.names import ANNOTATION_TRACEPARENT

# As pipelines write it that know nothing of us; ours comes first.
ANNOTATIONS: Final = (ANNOTATION_TRACEPARENT, "traceparent")
_FORM: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED: Final = 0x01


class TraceParent(msgspec.Struct, frozen=True):
    """A span of a trace, and whether its trace is recorded."""

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def parse_traceparent(text: object) -> TraceParent | None:
    """What the text says; None where it is anything but version 00, whose ids are not all zeros."""
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    if not trace_id or not span_id:
        return None
    return TraceParent(trace_id, span_id, bool(flags & _SAMPLED))


def parent_of(resource: dict[str, Any]) -> TraceParent | None:
    """What a resource's annotations say of the trace that its change belongs to."""
    annotations = resource["metadata"].get("annotations") or {}
    parents = (parse_traceparent(annotations.get(name)) for name in ANNOTATIONS)
    return next((parent for parent in parents if parent is not None), None)
