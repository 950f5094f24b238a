"""A bare Kafka client for tests: one connection, our own codec, and every freedom to misbehave."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from penstock.codec.kafka.apis import API_BY_NAME
from penstock.codec.kafka.generated import fetch, produce
from penstock.codec.kafka.headers import RequestHeader, decode_response_header, encode_request_header
from penstock.codec.records import Record, build_batch
from penstock.listeners.kafka.limits import KafkaLimits
from penstock.listeners.kafka.server import KafkaListener
from penstock.testing.fake_services import FakeCluster

_length = struct.Struct(">i")
# A test that waits longer than this for bytes has failed.
WAIT_SECONDS_MAX = 10.0


class KafkaWire:
    """Sends requests and reads responses. Correlation ids count from 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.correlation_id = 0

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> KafkaWire:
        """A new connection."""
        return cls(*await asyncio.open_connection(*address))

    def frame(self, api_name: str, version: int, client_id: str | None = "wire", **fields: Any) -> bytes:
        """A whole request, length included, with the next correlation id."""
        api = API_BY_NAME[api_name]
        self.correlation_id += 1
        header = RequestHeader(api.key, version, self.correlation_id, client_id)
        out: list[Any] = [encode_request_header(header, api.request_header_version(version))]
        api.encode_request[version](api.request_class(**fields), out)
        body = b"".join(out)
        return _length.pack(len(body)) + body

    async def send(self, data: bytes) -> None:
        """Writes bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def read_frame(self) -> memoryview:
        """The next response without its length. Raises asyncio.IncompleteReadError when the connection ends."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            (size,) = _length.unpack(await self.reader.readexactly(4))
            return memoryview(await self.reader.readexactly(size))

    async def read(self, api_name: str, version: int) -> tuple[int, Any]:
        """The next response as (correlation id, message)."""
        api = API_BY_NAME[api_name]
        frame = await self.read_frame()
        correlation_id, position = decode_response_header(frame, 0, api.response_header_version(version))
        return correlation_id, api.parse_response(version, frame, position)

    async def ask(self, api_name: str, version: int, **fields: Any) -> Any:
        """One request and its response."""
        await self.send(self.frame(api_name, version, **fields))
        correlation_id, message = await self.read(api_name, version)
        if correlation_id != self.correlation_id:
            raise AssertionError(f"asked {self.correlation_id}, answered {correlation_id}")
        return message

    async def is_closed(self) -> bool:
        """Waits until the broker ends the connection; False when bytes come instead."""
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def reset(self) -> None:
        """Ends the connection at once, so that the broker sees it broken and not ended."""
        connected: socket.socket = self.writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def drop(self) -> None:
        """Ends the connection without a word and without waiting, whatever has become of it."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """Ends the connection."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


@asynccontextmanager
async def fake_broker(limits: KafkaLimits | None = None) -> AsyncIterator[tuple[FakeCluster, KafkaListener]]:
    """A listener on a free port with fake services behind it."""
    cluster = FakeCluster()
    listener = KafkaListener("internal", "127.0.0.1", 0, cluster.services(), limits)
    await listener.start()
    cluster.advertise(listener.address)
    try:
        yield cluster, listener
    finally:
        await listener.stop()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Gives the loop turns until something holds; fails with a sentence when it never does."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"waited {WAIT_SECONDS_MAX} s in vain until {what}")
        await asyncio.sleep(0.005)


class ServedWire:
    """What a test has in hand: the fakes, the listener before them, and a connection."""

    def __init__(self, cluster: FakeCluster, listener: KafkaListener, wire: KafkaWire) -> None:
        self.cluster = cluster
        self.listener = listener
        self.wire = wire


def batch_of(*values: bytes) -> bytes:
    """A record batch of these values, with timestamps from 1000 on."""
    return build_batch([Record(value=value, timestamp=1000 + index) for index, value in enumerate(values)])


def to_produce(topic: str, records: bytes, partition: int = 0) -> list[produce.TopicProduceData]:
    """The topics of a produce request for one partition."""
    data = produce.PartitionProduceData(index=partition, records=memoryview(records))
    return [produce.TopicProduceData(name=topic, partition_data=[data])]


def to_fetch(topic: str, offset: int, max_bytes: int = 1 << 20, partition: int = 0) -> list[fetch.FetchTopic]:
    """The topics of a fetch request for one partition."""
    asked = fetch.FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes)
    return [fetch.FetchTopic(topic=topic, partitions=[asked])]


def decodable_versions(name: str) -> list[int]:
    """The versions of an API that are served."""
    api = API_BY_NAME[name]
    return list(range(api.first_decodable, api.maximum + 1))
