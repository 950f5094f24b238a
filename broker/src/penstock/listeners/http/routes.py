"""The route table: one value per operation, from which both the server and its OpenAPI document are made.

A handler gets a `Call` with everything decoded and checked (query, body, who asks) and gives a `Reply`. What a route
accepts and answers is written once, as msgspec structs; nothing about it can be documented and not enforced, or the
other way round. Reading bytes and answering errors is left to `application`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import msgspec

from penstock.service.context import RequestContext

Q = TypeVar("Q")
B = TypeVar("B")

JSON_MEDIA_TYPE: Final = "application/json"


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A route without query parameters."""


class NoBody(msgspec.Struct):
    """A route that reads no body."""


@dataclass(frozen=True, slots=True)
class RawBody:
    """A body that the handler decodes itself, because its meaning depends on more than its media type."""

    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """One request, decoded. `accept` is the client's Accept header."""

    context: RequestContext
    path: Mapping[str, str]
    query: Q
    body: B
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a value that msgspec encodes as JSON, bytes of another media type, or None for no body."""

    body: Any = None
    status: int = 200
    media_type: str = JSON_MEDIA_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route(Generic[Q, B]):
    """One operation.

    `name` is its operation id and its name in the metrics. `replies` maps each successful status to the type of its
    body. `accepts` maps media types to the types of the request body where it is not the JSON of `body`.
    `quick` routes (probes) are served even when the listener is at its bound of requests in flight; `waits` routes
    (long polls) are ended when the listener stops, instead of waited for. `local` routes are answered by the broker that
    is asked, from what it knows; all others by the shard's leader, to which a broker that does not lead passes them on.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[[Call[Q, B]], Awaitable[Reply]]
    replies: Mapping[int, Any]
    query: type[Q]
    body: type[B]
    accepts: Mapping[str, Any] = field(default_factory=dict)
    reply_media_type: str = JSON_MEDIA_TYPE
    quick: bool = False
    waits: bool = False
    local: bool = False

    @property
    def reads_body(self) -> bool:
        """Whether the route takes a request body."""
        return self.body is not NoBody


Routes = list[Route[Any, Any]]
