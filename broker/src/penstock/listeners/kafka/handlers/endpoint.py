"""The three ways to serve an API, and the small helpers that every family of handlers shares.

`Immediate` answers at once. `Direct` starts something that has a future and turns its result into a response without
a task, for the hot path. `Coroutine` runs one task per request, for all others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

from penstock.listeners.kafka.errors import Refusal
from penstock.listeners.kafka.services import Call

Refuse = Callable[[Any, int, Refusal], Any]
"""(request, version, refusal) -> the response that carries the error in the shape of that version."""

# Authorized operations are a bit per operation (KIP-430); this says that nobody asked.
OPERATIONS_NOT_ASKED = -(2**31)
_READ, _WRITE, _CREATE, _DELETE, _ALTER, _DESCRIBE = (1 << bit for bit in range(3, 9))
_DESCRIBE_CONFIGS, _ALTER_CONFIGS, _IDEMPOTENT_WRITE = (1 << bit for bit in range(10, 13))
# Who got in may do everything: listeners authenticate nobody yet.
CLUSTER_OPERATIONS = _CREATE | _ALTER | _DESCRIBE | _DESCRIBE_CONFIGS | _ALTER_CONFIGS | _IDEMPOTENT_WRITE
TOPIC_OPERATIONS = (
    _READ | _WRITE | _CREATE | _DELETE | _ALTER | _DESCRIBE | _DESCRIBE_CONFIGS | _ALTER_CONFIGS
)
GROUP_OPERATIONS = _READ | _DELETE | _DESCRIBE


class Immediate(NamedTuple):
    """`serve(call, request)` gives the response."""

    serve: Callable[[Call, Any], Any]
    refuse: Refuse


class Direct(NamedTuple):
    """`start(call, request)` gives an awaitable, or a response where nothing needs to be awaited (`answered`);
    `finish(request, version, result)` gives the response, None where the request gets none."""

    start: Callable[[Call, Any], Awaitable[Any] | Answered]
    finish: Callable[[Any, int, Any], Any]
    refuse: Refuse


class Coroutine(NamedTuple):
    """`serve(call, request)` is a coroutine function that gives the response."""

    serve: Callable[[Call, Any], Awaitable[Any]]
    refuse: Refuse


class Answered(NamedTuple):
    """A response that was known without asking a service."""

    response: Any


Endpoint = Immediate | Direct | Coroutine


class _OfTopic(Protocol):
    @property
    def topic(self) -> str: ...


T = TypeVar("T", bound=_OfTopic)
K = TypeVar("K")


def by_topic(results: Iterable[T]) -> dict[str, list[T]]:
    """Results of partitions under their topics, in the order in which they came."""
    topics: dict[str, list[T]] = {}
    for result in results:
        found = topics.get(result.topic)
        if found is None:
            topics[result.topic] = [result]
        else:
            found.append(result)
    return topics


def repeated(names: Iterable[K]) -> set[K]:
    """What occurs more than once; a request that says two things about one resource is refused for that one."""
    seen: set[K] = set()
    again: set[K] = set()
    for name in names:
        if name in seen:
            again.add(name)
        seen.add(name)
    return again
