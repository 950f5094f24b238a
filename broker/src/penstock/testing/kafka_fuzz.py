"""Kafka requests that are almost right, from one seed: every API and version, odd values in every field, broken bytes.

Random bytes end at the decoder; these reach handlers and services. Values are drawn by the types of the generated
classes, a third of the frames has one byte changed afterwards.
"""

from __future__ import annotations

import random
import struct
import types
import typing
from typing import Any

import msgspec

from penstock.codec.errors import CodecError
from penstock.codec.kafka.apis import APIS
from penstock.codec.kafka.headers import RequestHeader, encode_request_header
from penstock.codec.records import Record, build_batch

WORDS = (
    "t",
    "g",
    "",
    "retention.ms",
    "cleanup.policy",
    "x" * 300,
    "0",
    "é",
    "a b",
    "range",
    "consumer",
    "-1",
)
USUAL_NUMBERS = (0, 1, -1, 2, 3, 5, 100)
ODD_NUMBERS = (*USUAL_NUMBERS, 2**15 - 1, -(2**15), 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
# A fetch that waits would hold its connection back and with it the run.
WAIT_MS_MAX = 5
CORRELATION_ID = 7


class KafkaFuzz:
    """An endless supply of frames; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def frame(self) -> bytes:
        """One request with its length; its header is read by every broker unless the changed byte is in it."""
        while True:
            api = self._random.choice(list(APIS.values()))
            version = self._random.randrange(api.first_decodable, api.maximum + 1)
            message = self._value(api.request_class)
            if hasattr(message, "max_wait_ms"):
                message.max_wait_ms = self._random.choice((0, -1, WAIT_MS_MAX))
            if hasattr(message, "acks"):
                message.acks = self._random.choice((-1, 0, 1, 2))
            header = RequestHeader(api.key, version, CORRELATION_ID, self._random.choice((None, "fuzz")))
            out: list[Any] = [encode_request_header(header, api.request_header_version(version))]
            try:
                api.encode_request[version](message, out)
            except CodecError:
                continue  # a value that this version cannot carry
            content = bytearray(b"".join(out))
            if self._random.random() < 0.3:
                content[self._random.randrange(8, len(content))] = self._random.randrange(256)
            return struct.pack(">i", len(content)) + content

    def burst(self) -> list[bytes]:
        """What one connection sends before it ends."""
        return [self.frame() for _ in range(self._random.randrange(1, 15))]

    def _value(self, kind: Any) -> Any:
        origin = typing.get_origin(kind)
        if origin is list:
            (element,) = typing.get_args(kind)
            return [self._value(element) for _ in range(self._random.choice((0, 1, 1, 2)))]
        if origin in (typing.Union, types.UnionType):
            return self._alternative(typing.get_args(kind))
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return kind(**{field.name: self._value(field.type) for field in msgspec.structs.fields(kind)})
        return self._scalar(kind)

    def _alternative(self, kinds: tuple[Any, ...]) -> Any:
        if type(None) in kinds and self._random.random() < 0.2:
            return None
        return self._value(next(kind for kind in kinds if kind is not type(None)))

    def _scalar(self, kind: Any) -> Any:
        if kind is bool:
            return self._random.random() < 0.5
        if kind is int:
            return self._random.choice(USUAL_NUMBERS if self._random.random() < 0.9 else ODD_NUMBERS)
        if kind is str:
            return self._random.choice(WORDS)
        if kind is bytes:
            return self._random.choice((bytes(16), b"", b"abc", self._random.randbytes(16)))
        if kind is memoryview:
            return self._records()
        raise TypeError(f"no values are known for {kind}")

    def _records(self) -> memoryview:
        count = self._random.randrange(1, 3)
        batch = bytearray(build_batch([Record(value=b"value", timestamp=5)] * count))
        for _ in range(self._random.choice((0, 0, 1, 2))):
            batch[self._random.randrange(len(batch))] = self._random.randrange(256)
        if self._random.random() < 0.1:
            del batch[self._random.randrange(len(batch)) :]
        return memoryview(bytes(batch))
