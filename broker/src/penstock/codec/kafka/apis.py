"""The served APIs: which keys and versions there are, and the functions that read and write their messages.

The table itself is generated from one line per API in the generator. A module of messages is imported when its API is first used, so
that a command that speaks two of them does not pay for twenty-six; a broker calls `load_all` once before it listens.

    api = api_for(header.api_key)                    # None: unknown key
    request = api.parse_request(header.api_version, frame, position)
    api.encode_response[header.api_version](response, out)
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import Any, TypeAlias

from penstock.codec.errors import CodecError, trailing_bytes
from penstock.codec.kafka.generated.table import ROWS
from penstock.codec.primitives import Buffer

Decode: TypeAlias = Callable[[memoryview, int], tuple[Any, int]]
"""Reads a body at a position. Returns the message and the position behind it; raises `CodecError`."""

Encode: TypeAlias = Callable[[Any, list[Buffer]], None]
"""Appends the buffers of a body to a list; raises `CodecError`, after which the list is of no use."""

API_VERSIONS_KEY = 18


class Api:
    """One API: its key, its name as Kafka writes it, its versions and the functions of each version.

    `minimum` and `maximum` are advertised; versions below `first_decodable` are advertised only, and are to be answered with
    UNSUPPORTED_VERSION. From `first_flexible` on messages are flexible (KIP-482); it is past `maximum` where no version is.
    The mappings hold exactly the versions from `first_decodable` to `maximum`.
    """

    def __init__(
        self,
        key: int,
        name: str,
        module: str,
        minimum: int,
        maximum: int,
        first_decodable: int,
        first_flexible: int,
    ) -> None:
        self.key = key
        self.name = name
        self.minimum = minimum
        self.maximum = maximum
        self.first_decodable = first_decodable
        self.first_flexible = first_flexible
        self._module_name = module

    def __repr__(self) -> str:
        return f"<Api {self.key} {self.name} {self.minimum}-{self.maximum}>"

    @cached_property
    def messages(self) -> ModuleType:
        """The generated module with the classes and functions of this API."""
        return import_module(f"penstock.codec.kafka.generated.{self._module_name}")

    @cached_property
    def decode_request(self) -> Mapping[int, Decode]:
        """By version: reads a request's body."""
        return _table(self.messages, "DECODE_REQUEST")

    @cached_property
    def encode_response(self) -> Mapping[int, Encode]:
        """By version: writes a response's body."""
        return _table(self.messages, "ENCODE_RESPONSE")

    @cached_property
    def encode_request(self) -> Mapping[int, Encode]:
        """By version: writes a request's body, for clients."""
        return _table(self.messages, "ENCODE_REQUEST")

    @cached_property
    def decode_response(self) -> Mapping[int, Decode]:
        """By version: reads a response's body, for clients."""
        return _table(self.messages, "DECODE_RESPONSE")

    @property
    def request_class(self) -> type[Any]:
        """The class of requests."""
        found: type[Any] = getattr(self.messages, f"{self.name}Request")
        return found

    @property
    def response_class(self) -> type[Any]:
        """The class of responses."""
        found: type[Any] = getattr(self.messages, f"{self.name}Response")
        return found

    def request_header_version(self, version: int) -> int:
        """The version of the header before a request of this version: 2 where it is flexible, 1 where not."""
        return 2 if version >= self.first_flexible else 1

    def response_header_version(self, version: int) -> int:
        """The version of the header before a response to this version.

        ApiVersions responses always have header 0, so that a client that guessed its version wrong can read the answer (KIP-511).
        """
        return 1 if version >= self.first_flexible and self.key != API_VERSIONS_KEY else 0

    def parse_request(self, version: int, frame: memoryview, position: int) -> Any:
        """Read a request's body that begins at `position`.

        Bytes after it are ignored, as Apache Kafka does: librdkafka leaves three of them behind its request for the
        metadata of all topics (version 12, seen with 2.16.0).
        """
        message, _ = self._parse(self.decode_request, version, frame, position)
        return message

    def parse_response(self, version: int, frame: memoryview, position: int) -> Any:
        """Read a response's body that begins at `position` and must end where the frame ends."""
        message, end = self._parse(self.decode_response, version, frame, position)
        if end != len(frame):
            raise trailing_bytes(f"{self.name}Response version {version}", end, len(frame))
        return message

    def _parse(
        self, functions: Mapping[int, Decode], version: int, frame: memoryview, position: int
    ) -> tuple[Any, int]:
        decode = functions.get(version)
        if decode is None:
            raise CodecError(
                f"{self.name} version {version} is not served: versions are {self.first_decodable} to {self.maximum}"
            )
        return decode(frame, position)


def _table(module: ModuleType, name: str) -> Mapping[int, Any]:
    # A real dict is read faster than a view of it, and this one is read for each request; nobody writes it.
    table: dict[int, Any] = getattr(module, name)
    return table


APIS: Mapping[int, Api] = MappingProxyType({row[0]: Api(*row) for row in ROWS})
"""All served APIs by key, in ascending order of keys."""

api_for: Callable[[int], Api | None] = dict(APIS).get
"""The API of a key, or None for a key that is not served."""

API_BY_NAME: Mapping[str, Api] = MappingProxyType({api.name: api for api in APIS.values()})
"""All served APIs by their names."""


def load_all() -> None:
    """Import the messages of every API now, so that no request has to wait for an import."""
    for api in APIS.values():
        assert api.messages
