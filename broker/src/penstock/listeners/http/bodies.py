"""Request bodies and query strings: read within bounds, decoded by type, refused with a sentence.

The size of a body is known or bounded before a byte of it is read, and the bodies of all requests together stay under
one budget, so that no number of clients can make a listener allocate more than its limits say.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from penstock.listeners.http.limits import BODY_BYTES_IN_FLIGHT_MAX, BODY_READ_TIMEOUT_SECONDS
from penstock.listeners.http.problems import RefusalError, invalid
from penstock.model.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class BodyBudget:
    """Bytes of request bodies in flight. Reserve before reading, release when the request is answered."""

    __slots__ = ("_limit", "used")

    def __init__(self, limit: int = BODY_BYTES_IN_FLIGHT_MAX) -> None:
        self._limit = limit
        self.used = 0

    def reserve(self, size: int) -> None:
        """Counts `size` bytes, or refuses when that would exceed the budget."""
        if self.used + size > self._limit:
            raise RefusalError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                f"The bodies of the requests being served exceed {self._limit} bytes; try again in a moment, "
                "or send fewer requests at a time.",
            )
        self.used += size

    def release(self, size: int) -> None:
        """Gives back what was reserved."""
        self.used -= size


def body_size_bound(request: web.Request, limit: int) -> int:
    """How many bytes the body may have: what Content-Length says, or the limit when it comes in chunks."""
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise invalid(f"A body with Content-Encoding {encoding!r} is not accepted; send it as it is.", 415)
    length = request.content_length
    if length is None:
        return limit if request.can_read_body else 0
    if length > limit:
        raise _too_large(limit)
    return length


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes, within the time that a client has for it."""
    try:
        async with asyncio.timeout(BODY_READ_TIMEOUT_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large(limit) from error
    except TimeoutError as error:
        raise invalid(
            f"The request's body did not arrive within {BODY_READ_TIMEOUT_SECONDS:.0f} seconds.", 408
        ) from error


def _too_large(limit: int) -> RefusalError:
    return RefusalError(
        ErrorCode.MESSAGE_TOO_LARGE,
        f"The request's body is longer than the {limit} bytes that are accepted; send it in smaller parts.",
    )


def check_media_type(given: str, accepted: Iterable[str]) -> None:
    """Refuses a body whose media type is not among the accepted ones."""
    names = list(accepted)
    if given not in names:
        raise invalid(
            f"The body's Content-Type is {given!r}; this address takes {' or '.join(names)}"
            f" (curl: -H 'Content-Type: {names[0]}').",
            415,
        )


def decode_json(data: bytes, kind: type[T]) -> T:
    """The body as a value of `kind`; unknown fields and wrong types are refused with a sentence."""
    if not data:
        raise invalid("The request needs a JSON body; /v1/openapi.json describes it.")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(f"The body is not as expected: {error}. /v1/openapi.json describes it.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"The body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise invalid("The body is nested too deeply.") from error


class QueryDecoder:
    """Turns a query string into a struct; repeated parameters are only allowed where the field is a list."""

    __slots__ = ("_kind", "_lists")

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind
        self._lists = {field.encode_name for field in msgspec.structs.fields(kind) if _is_list(field.type)}

    def decode(self, request: web.Request) -> Any:
        """The query as a struct, or a refusal that names the parameter."""
        values: dict[str, Any] = {}
        for name, value in request.query.items():
            if name in self._lists:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise invalid(f"The query parameter {name!r} is given twice.")
            else:
                values[name] = value
        try:
            return msgspec.convert(values, self._kind, strict=False)
        except msgspec.ValidationError as error:
            sentence = str(error).replace("Object contains unknown field", "there is no parameter")
            raise invalid(
                f"The query is not as expected: {sentence}. /v1/openapi.json describes it."
            ) from error


def _is_list(kind: Any) -> bool:
    described = msgspec.inspect.type_info(kind)
    if isinstance(described, msgspec.inspect.Metadata):
        described = described.type
    return isinstance(described, msgspec.inspect.ListType)
