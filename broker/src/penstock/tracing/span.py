"""Spans as plain values: what happened, when, under which ids. Nothing here knows who they are sent to."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec

from penstock.tracing.context import State

Attribute = str | int | bool


class Kind(IntEnum):
    """OpenTelemetry's span kinds, by the numbers of its API."""

    INTERNAL = 0
    SERVER = 1


class Event(NamedTuple):
    """Something that happened to a span at a time (nanoseconds since 1970)."""

    name: str
    time_ns: int
    attributes: dict[str, Attribute]


class Link(NamedTuple):
    """Another span that this one has to do with."""

    trace_id: int
    span_id: int
    state: State = ()


class Span(msgspec.Struct):
    """One span that has ended, or will. `parent_id` 0: none; `parent_remote`: it is another process's. `error` is the
    sentence of what went wrong, None where nothing did. Times are nanoseconds since 1970."""

    name: str
    kind: Kind
    trace_id: int
    span_id: int
    parent_id: int
    start_ns: int
    attributes: dict[str, Attribute]
    parent_remote: bool = False
    state: State = ()
    end_ns: int = 0
    error: str | None = None
    events: list[Event] = []
    links: tuple[Link, ...] = ()
