"""Frames that are almost right: requests of every API with odd values, then bent, cut, or replaced by noise.

Pure noise dies at the first length field and tests nothing behind it. So a frame starts as a request that our own codec
wrote, its fields filled from values at the edges of their types, and only then is damaged - or left whole, because
the worst requests are the ones that can be read. All of it comes from one seed.
"""

from __future__ import annotations

import random
import struct
import types
import typing
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.codec.errors import CodecError
from penstock.codec.kafka.apis import APIS
from penstock.codec.kafka.headers import RequestHeader, encode_request_header

if TYPE_CHECKING:
    from penstock.codec.kafka.apis import Api

NAMES = (
    "honest",
    "fuzz",
    "",
    "t" * 249,
    "t" * 300,
    "..",
    "a/b",
    "größe",
    "\x00",
    "__consumer_offsets",
    "0",
    "range",
)
INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    5,
    10,
    100,
    -2,
    -3,
    127,
    -128,
    32767,
    -32768,
    2**31 - 1,
    -(2**31),
    2**63 - 1,
    -(2**63),
)
ELEMENTS_MAX = 3
TEMPLATES = 6000
NOISE_BYTES_MAX = 400
LENGTHS = (0, -1, 1, 4, 2**31 - 1, -(2**31), 1 << 24, 105_000_000)


class Frames:
    """An endless supply of frames, each with its length in front."""

    def __init__(self, seed: int, templates: int = TEMPLATES) -> None:
        self._random = random.Random(seed)
        self._templates = [self._template() for _ in range(templates)]

    def next(self) -> bytes:
        """One frame. A share is whole, most are damaged, a few are noise or lie about their length."""
        draw = self._random.random()
        body = self._random.choice(self._templates)
        if draw < 0.35:
            return _framed(body)
        if draw < 0.80:
            return _framed(self._damaged(body))
        if draw < 0.95:
            header = body[: self._random.randrange(4, 16)]
            return _framed(header + self._random.randbytes(self._random.randrange(NOISE_BYTES_MAX)))
        if draw < 0.98:
            return struct.pack(">i", self._random.choice(LENGTHS)) + body
        return self._random.randbytes(self._random.randrange(1, NOISE_BYTES_MAX))

    def _damaged(self, body: bytes) -> bytes:
        bent = bytearray(body)
        for _ in range(self._random.randint(1, 4)):
            place = self._random.randrange(len(bent)) if bent else 0
            match self._random.randrange(5):
                case 0:
                    bent[place : place + 1] = self._random.randbytes(1)
                case 1:
                    bent[place : place + 4] = struct.pack(">i", self._random.choice(LENGTHS))
                case 2:
                    del bent[place:]
                case 3:
                    bent[place:place] = self._random.randbytes(self._random.randrange(1, 9))
                case _:
                    bent[place : place + 5] = (
                        b"\xff\xff\xff\xff\x7f"  # The largest unsigned varint of five bytes.
                    )
        return bytes(bent)

    def _template(self) -> bytes:
        api = self._random.choice(list(APIS.values()))
        while True:
            version = self._random.randint(api.first_decodable, api.maximum)
            try:
                return self._request(api, version)
            except (CodecError, struct.error, OverflowError):
                continue  # A value that this field or version cannot carry; another one will.

    def _request(self, api: Api, version: int) -> bytes:
        header = RequestHeader(
            api.key, version, self._random.randrange(1 << 31), self._random.choice((*NAMES, None))
        )
        out: list[Any] = []
        api.encode_request[version](self._filled(api.request_class), out)
        return encode_request_header(header, api.request_header_version(version)) + b"".join(out)

    def _filled(self, kind: Any) -> Any:
        """A value of a type: structs field by field, the rest from the edges."""
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            hints = typing.get_type_hints(kind)
            return kind(**{name: self._filled(hints[name]) for name in kind.__struct_fields__})
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            # Half of what may be null is; buffers come as unions of bytes and views, where bytes do.
            some = [one for one in arguments if one is not type(None)]
            null = len(some) < len(arguments) and self._random.random() < 0.5
            return None if null else self._filled(bytes if bytes in some else some[0])
        if origin is not None:
            element = arguments[0] if arguments else bytes
            return [self._filled(element) for _ in range(self._random.randrange(ELEMENTS_MAX + 1))]
        return self._plain(kind)

    def _plain(self, kind: Any) -> Any:
        if kind is bool:
            return self._random.random() < 0.5
        if kind is int:
            return self._random.choice(INTEGERS)
        if kind is float:
            return self._random.choice((0.0, -1.0, float("inf"), float("nan")))
        if kind is str:
            return self._random.choice(NAMES)
        if kind in (bytes, memoryview, bytearray):
            size = self._random.choice((0, 1, 16, 60, 61, 70, 200))
            return self._random.randbytes(size)
        raise TypeError(f"a request has a field of type {kind!r}, which nothing here fills")


def _framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body
