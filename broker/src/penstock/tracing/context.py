"""A trace's context as it travels in message headers: `traceparent` and `tracestate` of W3C Trace Context.

What is wrong in any way is no context, never an error: these headers come from anybody. Sections named below are those
of the W3C Recommendation "Trace Context" (level 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

# The only version whose whole form is known: 55 characters. A later one may go on behind another dash (section 3.2.4).
_VERSION_0 = b"00"
_VERSION_FORBIDDEN = b"ff"
TRACEPARENT_BYTES_MAX = 512
"""A longer `traceparent`, of a version to come, is none."""

TRACESTATE_BYTES_MAX = 4096
"""A longer `tracestate`, over all its headers, is left out."""

TRACESTATE_MEMBERS_MAX = 32
"""As section 3.3.1.1 has it."""

_SAMPLED = 0x01

_TRACEPARENT = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x20-\x7e]*)?"
).fullmatch
# Section 3.3.1.3: a simple key, or tenant@system.
_KEY = re.compile(
    r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
).fullmatch
# Printable ASCII without comma and equals sign, not ending with a space.
_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]").fullmatch

_WORD = TRACEPARENT.encode()
# The name with anything behind it but a value of 55 bytes whose last one is a hexadecimal digit without the lowest bit.
_PERHAPS_SAMPLED = re.compile(_WORD + rb"(?!\x6e.{54}[02468ace])", re.DOTALL).search

State = tuple[tuple[str, str], ...]


class TraceContext(NamedTuple):
    """One span of somebody else: trace id (128 bits) and span id (64 bits), neither of them 0, whether it is sampled, and
    what tracing systems keep with it."""

    trace_id: int
    span_id: int
    sampled: bool
    state: State = ()


def may_be_sampled(data: memoryview | bytes, begin: int, end: int) -> bool:
    """Whether there may be a context with the sampled flag between these positions, between which a record's headers are stored.
    True does not say that there is one: that takes reading them. Copies nothing: this is asked of every batch."""
    return _PERHAPS_SAMPLED(data, begin, end) is not None


def parse_traceparent(value: bytes | None) -> TraceContext | None:
    """Section 3.2. None for anything that is not exactly right."""
    if value is None or len(value) > TRACEPARENT_BYTES_MAX:
        return None
    match = _TRACEPARENT(value)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == _VERSION_FORBIDDEN or (version == _VERSION_0 and more is not None):
        return None
    trace, span = int(trace_id, 16), int(span_id, 16)
    if not trace or not span:
        return None
    # Flags that are not known say nothing (section 3.2.2.5).
    return TraceContext(trace, span, bool(int(flags, 16) & _SAMPLED))


def parse_tracestate(values: Iterable[bytes | None]) -> State:
    """Section 3.3: the members of all `tracestate` headers, in order; none at all where anything in them is wrong."""
    members: list[tuple[str, str]] = []
    seen: set[str] = set()
    size = 0
    for value in values:
        size += len(value) if value is not None else 0
        if value is None or size > TRACESTATE_BYTES_MAX or not value.isascii():
            return ()
        for member in value.decode("ascii").split(","):
            text = member.strip(" \t")
            if not text:
                continue  # Empty members are allowed (section 3.3.1.2).
            key, separator, content = text.partition("=")
            if not separator or key in seen or _KEY(key) is None or _VALUE(content) is None:
                return ()
            seen.add(key)
            members.append((key, content))
    return tuple(members) if len(members) <= TRACESTATE_MEMBERS_MAX else ()


def context_in(headers: Iterable[tuple[str, bytes | None]]) -> TraceContext | None:
    """The context among a message's headers. None where there is none, where it is wrong, or where there are several
    `traceparent`s, for then nobody knows which one is meant."""
    parents: list[bytes | None] = []
    states: list[bytes | None] = []
    for name, value in headers:
        if name == TRACEPARENT:
            parents.append(value)
        elif name == TRACESTATE:
            states.append(value)
    if len(parents) != 1:
        return None
    parent = parse_traceparent(parents[0])
    if parent is None or not states:
        return parent
    return parent._replace(state=parse_tracestate(states))


def traceparent(trace_id: int, span_id: int, *, sampled: bool = True) -> str:
    """The header for a span of ours, in version 00."""
    return f"00-{trace_id:032x}-{span_id:016x}-{int(sampled):02x}"
