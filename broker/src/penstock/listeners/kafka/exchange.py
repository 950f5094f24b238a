"""One request from its frame to its response: decode, dispatch, encode, and every way in which that can fail.

What may fail and what follows: bytes that are no request (`CodecError`) and a version that is not served end the
connection; a service's refusal (`PenstockError`) is answered in the API's own shape; anything else is our mistake, is
logged with its traceback and answered UNKNOWN_SERVER_ERROR. Only where even that cannot be written does the
connection end. Nothing here touches the socket: `Connection` is what the protocol offers.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from penstock.codec.errors import CodecError
from penstock.codec.kafka.apis import API_VERSIONS_KEY, Api, api_for
from penstock.codec.kafka.headers import RequestHeader, decode_request_header
from penstock.listeners.kafka.counters import KafkaCounters
from penstock.listeners.kafka.errors import PeerFaultError, is_ours, refusal_of
from penstock.listeners.kafka.forwarding import FORWARDED_KEYS, is_for_leader
from penstock.listeners.kafka.handlers.endpoint import Answered, Direct, Endpoint, Immediate
from penstock.listeners.kafka.handlers.produce_legacy import refuse_legacy_produce
from penstock.listeners.kafka.handlers.table import ENDPOINTS
from penstock.listeners.kafka.handlers.versions import unsupported_api_versions
from penstock.listeners.kafka.limits import KafkaLimits
from penstock.listeners.kafka.services import Call
from penstock.session.kafka_connection import Buffer, Slot

logger = logging.getLogger("penstock.listeners.kafka")

PRODUCE_KEY = 0
FETCH_KEY = 1
# JoinGroup and SyncGroup carry subscriptions and assignments and may be larger than other requests.
GROUP_KEYS = frozenset({11, 14})

# Length and correlation id, and the empty tagged fields of a flexible header behind them.
_prefix = struct.Struct(">ii")
_flexible_prefix = struct.Struct(">iix")
_LENGTH_SIZE = 4
# Two small pieces are cheaper to copy together than to hand over apart.
_JOIN_BYTES_MAX = 4096


class Connection(Protocol):
    """What an exchange needs of its connection."""

    @property
    def counters(self) -> KafkaCounters: ...

    @property
    def limits(self) -> KafkaLimits: ...

    @property
    def is_ending(self) -> bool:
        """Whether the peer, or the listener, has ended its side."""
        ...

    def call(self, client_id: str | None, version: int) -> Call:
        """The surroundings of a request."""
        ...

    def begin(self, frame: memoryview) -> Slot:
        """Reserves the place of the response."""
        ...

    def finish(self, slot: Slot, buffers: Sequence[Buffer], count: int) -> None:
        """Files the response of `count` bytes; none for a request that gets no response."""
        ...

    def close_for(self, sentence: str) -> None:
        """Ends the connection because of what the peer did."""
        ...

    def spawn(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        """Runs a coroutine as a task that the listener owns; passes futures through."""
        ...

    def watch(self, future: asyncio.Future[Any] | None) -> None:
        """Notes the fetch that waits, so that it is cancelled when the peer goes; None when it is over."""
        ...


def start_exchange(connection: Connection, frame: memoryview) -> None:
    """Decodes a request and starts serving it. Whatever goes wrong is dealt with here."""
    try:
        header, position = decode_request_header(frame)
        api = api_for(header.api_key)
        if api is None:
            raise PeerFaultError(
                f"API key {header.api_key} is not served; the client asked without ApiVersions"
            )
        if not api.minimum <= header.api_version <= api.maximum:
            _answer_unsupported(connection, frame, header, api)
            return
        if header.api_key != PRODUCE_KEY:
            _check_size(connection.limits, header.api_key, api.name, len(frame))
        connection.counters.requests[header.api_key] += 1
        if header.api_version < api.first_decodable:
            _answer_legacy(connection, frame, header, position, api)
            return
        # Bytes behind a request are ignored, as Apache Kafka does: librdkafka 2.16 leaves three of them behind its
        # request for the metadata of all topics.
        request, _ = api.decode_request[header.api_version](frame, position)
    except CodecError as error:
        connection.close_for(f"a request cannot be read: {error}")
        return
    except PeerFaultError as error:
        connection.close_for(str(error))
        return
    exchange = _Exchange(connection, api, header, request, connection.begin(frame))
    exchange.start(header.client_id, frame)


class _Relayed(NamedTuple):
    """The leader's response to a request that was passed on to it."""

    frame: bytes


async def _relayed(call: Call, frame: bytes) -> _Relayed:
    forwarder = call.services.forwarder
    assert forwarder is not None
    return _Relayed(await forwarder.forward(call.context, frame))


class _Exchange:
    """A request that is being served. Called with the future when it is done."""

    __slots__ = (
        "_api",
        "_began",
        "_connection",
        "_correlation_id",
        "_endpoint",
        "_request",
        "_slot",
        "_version",
    )

    def __init__(
        self, connection: Connection, api: Api, header: RequestHeader, request: Any, slot: Slot
    ) -> None:
        self._began = perf_counter()
        self._connection = connection
        self._api = api
        self._version = header.api_version
        self._correlation_id = header.correlation_id
        self._request = request
        self._slot = slot
        self._endpoint: Endpoint = ENDPOINTS[header.api_key]

    def start(self, client_id: str | None, frame: memoryview) -> None:
        connection = self._connection
        call = connection.call(client_id, self._version)
        endpoint = self._endpoint
        try:
            if self._api.key in FORWARDED_KEYS and is_for_leader(call, self._api.key, self._request):
                connection.spawn(_relayed(call, bytes(frame))).add_done_callback(self)
                return
            if isinstance(endpoint, Direct):
                work = endpoint.start(call, self._request)
                if isinstance(work, Answered):
                    self._respond(work.response)
                    return
            elif isinstance(endpoint, Immediate):
                self._respond(endpoint.serve(call, self._request))
                return
            else:
                work = endpoint.serve(call, self._request)
            future = connection.spawn(work)
        except Exception as error:
            self._fail(error)
            return
        if self._api.key == FETCH_KEY:
            connection.watch(future)
        if future.done():
            self(future)
        else:
            future.add_done_callback(self)

    def __call__(self, future: asyncio.Future[Any]) -> None:
        if self._api.key == FETCH_KEY:
            self._connection.watch(None)
        if future.cancelled():
            if self._connection.is_ending:
                # Stopping, or the peer went away: nobody is there to be answered.
                self._connection.finish(self._slot, (), 0)
            else:
                self._fail(RuntimeError("the service cancelled a request that nobody had given up"))
            return
        error = future.exception()
        if error is not None:
            self._fail(error)
            return
        result = future.result()
        if isinstance(result, _Relayed):
            self._finish((result.frame,), len(result.frame))
            return
        endpoint = self._endpoint
        try:
            if isinstance(endpoint, Direct):
                result = endpoint.finish(self._request, self._version, result)
            self._respond(result)
        except Exception as caught:
            self._fail(caught)

    def _respond(self, response: Any) -> None:
        """Encodes and files the response; None is filed as nothing to be written."""
        if response is None:
            self._finish((), 0)
            return
        buffers, count = encode(self._api, self._version, self._correlation_id, response)
        self._finish(buffers, count)

    def _finish(self, buffers: Sequence[Buffer], count: int) -> None:
        connection = self._connection
        connection.counters.durations[self._api.key].observe(perf_counter() - self._began)
        connection.finish(self._slot, buffers, count)

    def _fail(self, error: BaseException) -> None:
        connection = self._connection
        if isinstance(error, PeerFaultError):
            connection.finish(self._slot, (), 0)
            connection.close_for(str(error))
            return
        connection.counters.refusals[self._api.key] += 1
        if is_ours(error):
            connection.counters.internal_errors += 1
            logger.error("%s version %d failed", self._api.name, self._version, exc_info=error)
        try:
            self._respond(self._endpoint.refuse(self._request, self._version, refusal_of(error)))
        except PeerFaultError as fault:
            connection.finish(self._slot, (), 0)
            connection.close_for(str(fault))
        except Exception:
            logger.exception("%s version %d: its refusal failed too", self._api.name, self._version)
            connection.finish(self._slot, (), 0)
            connection.close_for("the broker failed to answer a request; its log has the cause")


def encode(api: Api, version: int, correlation_id: int, response: Any) -> tuple[list[Buffer], int]:
    """The response as it goes on the wire, length first, and its bytes; large records stay buffers of their own."""
    buffers: list[Buffer] = [b""]
    api.encode_response[version](response, buffers)
    prefix = _flexible_prefix if api.response_header_version(version) else _prefix
    count = prefix.size + sum(map(len, buffers))
    buffers[0] = prefix.pack(count - _LENGTH_SIZE, correlation_id)
    if count <= _JOIN_BYTES_MAX:
        buffers = [b"".join(buffers)]
    return buffers, count


def _check_size(limits: KafkaLimits, key: int, name: str, size: int) -> None:
    """Refuses what could only be large to be harmful: all but records become many small objects when decoded."""
    if size <= limits.control_request_bytes_max:
        return
    size_max = limits.group_request_bytes_max if key in GROUP_KEYS else limits.control_request_bytes_max
    if size > size_max:
        raise PeerFaultError(f"a {name} request of {size} bytes came; more than {size_max} are not accepted")


def _answer_unsupported(connection: Connection, frame: memoryview, header: RequestHeader, api: Api) -> None:
    """Every client may guess a version of ApiVersions; of no other API, since it could have known."""
    if api.key != API_VERSIONS_KEY:
        raise PeerFaultError(
            f"{api.name} version {header.api_version} is not served, only {api.minimum} to {api.maximum} are; "
            "a client that asks ApiVersions first chooses one of these"
        )
    connection.counters.requests[api.key] += 1
    slot = connection.begin(frame)
    buffers, count = encode(api, 0, header.correlation_id, unsupported_api_versions())
    connection.finish(slot, buffers, count)


def _answer_legacy(
    connection: Connection, frame: memoryview, header: RequestHeader, position: int, api: Api
) -> None:
    if api.key != PRODUCE_KEY:
        raise PeerFaultError(f"{api.name} version {header.api_version} is not served")
    body = refuse_legacy_produce(frame, position, header.api_version)
    connection.counters.refusals[api.key] += 1
    slot = connection.begin(frame)
    start = _prefix.pack(_prefix.size - _LENGTH_SIZE + len(body), header.correlation_id)
    connection.finish(slot, (start + body,), len(start) + len(body))
