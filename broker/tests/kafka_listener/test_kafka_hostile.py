"""Peers that lie, stall and hoard: they are answered or closed with a reason, and everybody else is served meanwhile."""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from penstock.codec.kafka.apis import APIS
from penstock.listeners.kafka.limits import FETCH_BYTES_MIN, KafkaLimits
from penstock.listeners.kafka.server import KafkaListener
from penstock.testing.fake_services import FakeCluster
from penstock.testing.kafka_fuzz import KafkaFuzz
from penstock.testing.kafka_wire import KafkaWire, batch_of, fake_broker, to_fetch, to_produce, until

MIB = 1024 * 1024


@asynccontextmanager
async def besieged(
    limits: KafkaLimits | None = None,
) -> AsyncIterator[tuple[FakeCluster, KafkaListener, KafkaWire]]:
    """A broker whose honest client is served before and after whatever the test does."""
    async with fake_broker(limits) as (cluster, listener):
        honest = await KafkaWire.connect(listener.address)
        cluster.topics.create("t")
        yield cluster, listener, honest
        assert (await honest.ask("Metadata", 12, topics=None)).topics[0].name == "t"
        assert listener.counters.internal_errors == 0
        await honest.close()
        await until(lambda: listener.counters.connections_open == 0, "everybody is gone")
        assert (listener.memory.held, listener.memory.answering, listener._unsent_bytes) == (0, 0, 0)


def sweep_after(cluster: FakeCluster, listener: KafkaListener, milliseconds: int) -> None:
    """Moves the clock and looks at all connections, as the timer does each second."""
    cluster.clock_ms += milliseconds
    listener._sweep()


def request(key: int, version: int, body: bytes = b"") -> bytes:
    content = struct.pack(">hhih", key, version, 1, -1) + body
    return struct.pack(">i", len(content)) + content


@pytest.mark.parametrize(
    ("bytes_sent", "word"),
    [
        (struct.pack(">i", 2**31 - 1), "2147483647 bytes, more than socket.request.max.bytes"),
        (struct.pack(">i", -5), "-5 bytes, which no Kafka request has"),
        (b"GET / HTTP/1.1\r\n\r\n", "speaks HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "TLS handshake"),
        (request(99, 0), "API key 99 is not served"),
        (request(-1, 0), "API key -1 is not served"),
        (request(3, 99), "Metadata version 99 is not served, only 0 to 12 are"),
        (request(1, 3), "Fetch version 3 is not served"),
        (request(3, -1), "Metadata version -1 is not served"),
        (request(3, 5, struct.pack(">i", 2**31 - 1)), "a request cannot be read"),
        (request(0, 3, struct.pack(">hhii", -1, 1, 1000, 10**6)), "a request cannot be read"),
        (request(0, 1, struct.pack(">hii", 1, 1000, 2**31 - 1)), "a request cannot be read"),
        (request(0, 1, struct.pack(">hii", 1, 1000, -7)), "a request cannot be read"),
        (request(12, 0, b"\x00\x02\xff\xfe" + bytes(6)), "a request cannot be read"),
        (struct.pack(">ihhih", 10, 3, 1, 1, 500), "a request cannot be read"),
    ],
)
async def test_what_is_no_request_ends_its_connection_with_a_reason(
    caplog: pytest.LogCaptureFixture, bytes_sent: bytes, word: str
) -> None:
    async with besieged() as (_, listener, _honest):
        wire = await KafkaWire.connect(listener.address)
        await wire.send(bytes_sent)
        assert await wire.is_closed()
        assert (
            f"closed the connection of 127.0.0.1:{wire.writer.get_extra_info('sockname')[1]}" in caplog.text
        )
        assert word in caplog.text
        await until(lambda: listener.counters.closed_for_cause == 1, "it is counted")
        await wire.close()


async def test_random_bytes_never_stop_the_listener(caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(20)
    async with besieged() as (_, listener, _honest):
        for _ in range(300):
            wire = await KafkaWire.connect(listener.address)
            await wire.send(rng.randbytes(rng.randrange(1, 200)))
            wire.writer.write_eof()
            assert await wire.is_closed()
            await wire.close()
        await until(lambda: listener.counters.connections_open == 1, "all of them are closed")
    lines = [record for record in caplog.records if "closed the connection" in record.getMessage()]
    assert 0 < len(lines) <= 20, "a flood of bad peers is not a flood of lines"


async def test_well_framed_garbage_for_every_api_is_answered_or_closed() -> None:
    """The header is right, the body is not: each is answered, or its connection is closed, and nothing else happens."""
    rng = random.Random(21)
    async with besieged() as (_, listener, _honest):
        for key, api in APIS.items():
            for version in range(api.minimum, api.maximum + 1):
                wire = await KafkaWire.connect(listener.address)
                tags = b"\x00" if version >= api.first_flexible else b""
                await wire.send(request(key, version, tags + rng.randbytes(rng.randrange(60))))
                wire.writer.write_eof()
                async with asyncio.timeout(10):
                    await wire.reader.read()
                await wire.close()
        await until(lambda: listener.counters.connections_open == 1, "all of them are closed")


async def test_a_million_empty_elements_do_not_become_objects() -> None:
    """Counts that the frame could hold but no honest client sends: refused by size before anything is decoded."""
    async with besieged() as (_, listener, _honest):
        wire = await KafkaWire.connect(listener.address)
        names = 4 * MIB
        tracemalloc.start()
        await wire.send(request(3, 4, struct.pack(">i", names) + bytes(2 * names) + b"\x00"))
        assert await wire.is_closed()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 60 * MIB
        await wire.close()


async def test_pipelined_and_half_closed_is_answered_whole() -> None:
    async with besieged() as (_, listener, _honest):
        wire = await KafkaWire.connect(listener.address)
        frames = [wire.frame("Produce", 9, acks=1, topic_data=to_produce("t", batch_of(b"x")))]
        frames += [wire.frame("ApiVersions", 3) for _ in range(100)]
        frames += [wire.frame("Metadata", 12, topics=None)]
        await wire.send(b"".join(frames))
        wire.writer.write_eof()
        assert (await wire.read("Produce", 9))[0] == 1
        for number in range(2, 102):
            assert (await wire.read("ApiVersions", 3))[0] == number
        assert (await wire.read("Metadata", 12))[0] == 102
        assert await wire.is_closed()
        await wire.close()


async def test_an_end_in_the_middle_of_a_request_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with besieged() as (_, listener, _honest):
        wire = await KafkaWire.connect(listener.address)
        await wire.send(wire.frame("Metadata", 12, topics=None)[:-3])
        wire.writer.write_eof()
        assert await wire.is_closed()
        assert "it ended in the middle of a request" in caplog.text
        await wire.close()


async def test_a_frame_that_comes_byte_by_byte_is_served() -> None:
    async with besieged() as (_, listener, _honest):
        wire = await KafkaWire.connect(listener.address)
        for byte in wire.frame("ApiVersions", 3, client_software_name="slow"):
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await wire.read("ApiVersions", 3))[0] == 1
        await wire.close()


async def test_a_large_announcement_costs_nothing_until_the_bytes_come() -> None:
    async with besieged() as (_, listener, _honest):
        wires = [await KafkaWire.connect(listener.address) for _ in range(20)]
        tracemalloc.start()
        for wire in wires:
            await wire.send(struct.pack(">ihh", 100 * MIB, 0, 9))
        await until(lambda: listener.memory.held == 20 * 8, "all announcements came")
        current, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert current < MIB
        for wire in wires:
            await wire.close()
        await until(lambda: listener.memory.held == 0, "their bytes are forgotten")


async def test_a_slow_reader_of_a_fast_topic_holds_one_response() -> None:
    limits = KafkaLimits(response_bytes_high=64 * 1024)
    async with besieged(limits) as (cluster, listener, honest):
        partition = cluster.topics.partition("t", 0)
        assert partition is not None
        partition.endless = bytes(4 * MIB)
        slow = await KafkaWire.connect(listener.address)
        await slow.send(
            b"".join(slow.frame("Fetch", 12, topics=to_fetch("t", 0, 4 * MIB)) for _ in range(50))
        )
        await until(lambda: bool(listener._slow), "the listener notices that nobody reads")
        served = len(cluster.data.fetch_limits)
        for _ in range(20):
            await honest.ask("ApiVersions", 3)
        assert len(cluster.data.fetch_limits) == served < 50
        assert listener._unsent_bytes < 2 * 4 * MIB
        for number in range(1, 51):
            assert (await slow.read("Fetch", 12))[0] == number
        await until(lambda: listener._unsent_bytes == 0, "nothing is left unsent")
        await slow.close()


async def test_fetches_shrink_while_a_slow_reader_fills_the_memory() -> None:
    limits = KafkaLimits(
        response_bytes_high=64 * 1024,
        queued_response_bytes_max=MIB,
        fetch_bytes_max=32 * MIB,
        stalled_ms_max=5_000,
    )
    async with besieged(limits) as (cluster, listener, honest):
        partition = cluster.topics.partition("t", 0)
        assert partition is not None
        partition.endless = bytes(64 * MIB)
        slow = await KafkaWire.connect(listener.address)
        await slow.send(slow.frame("Fetch", 12, topics=to_fetch("t", 0, 32 * MIB)))
        # More than the kernel's buffers take.
        await until(lambda: listener._unsent_bytes > 8 * MIB, "it is found to be slow")
        await honest.ask("Fetch", 12, topics=to_fetch("t", 0, 8 * MIB))
        assert cluster.data.fetch_limits == [32 * MIB, FETCH_BYTES_MIN]
        sweep_after(cluster, listener, 4_000)
        assert listener._slow
        sweep_after(cluster, listener, 4_000)
        await until(lambda: not listener._slow, "who took nothing is gone")
        assert listener.fetch_bytes_max == 32 * MIB
        assert listener.counters.closed_for_cause == 1
        slow.reset()


async def test_memory_for_requests_is_bounded_over_all_connections() -> None:
    """Ten peers send requests that the log does not finish; reading stops at the bound and goes on after."""
    limits = KafkaLimits(queued_request_bytes_max=2 * MIB)
    async with besieged(limits) as (cluster, listener, honest):
        cluster.data.holding = True
        wires = [await KafkaWire.connect(listener.address) for _ in range(10)]
        big = batch_of(bytes(512 * 1024))
        sending = [
            asyncio.create_task(
                wire.send(
                    b"".join(
                        wire.frame("Produce", 9, acks=1, topic_data=to_produce("t", big)) for _ in range(4)
                    )
                )
            )
            for wire in wires
        ]
        await until(lambda: listener.memory.full, "the bound is reached")
        for _ in range(50):
            await asyncio.sleep(0)
        # The bound, one read of each connection that was under way, and the one request that may be finished.
        assert listener.memory.held < 2 * MIB + 2 * 512 * 1024
        answered = 0
        while answered < 40:
            await until(lambda: len(cluster.data.held) > answered, "more requests are read")  # noqa: B023
            assert listener.memory.held < 2 * MIB + 2 * 512 * 1024
            while answered < len(cluster.data.held):
                cluster.data.let_go(answered)
                answered += 1
        for wire in wires:
            for number in range(1, 5):
                assert (await wire.read("Produce", 9))[0] == number
        await asyncio.gather(*sending)
        await until(lambda: listener.memory.held == 0, "everything is given back")
        assert not listener.memory.full
        assert await honest.ask("ApiVersions", 3)
        for wire in wires:
            await wire.close()


async def test_unfinished_requests_that_fill_the_memory_let_one_go_on() -> None:
    limits = KafkaLimits(queued_request_bytes_max=MIB)
    async with besieged(limits) as (_cluster, listener, _honest):
        wires = [await KafkaWire.connect(listener.address) for _ in range(3)]
        frames = [
            wire.frame("Produce", 9, acks=1, topic_data=to_produce("t", batch_of(bytes(700 * 1024))))
            for wire in wires
        ]
        for wire, frame in zip(wires, frames, strict=True):
            await wire.send(frame[: 400 * 1024])
        await until(lambda: listener.memory.full, "unfinished requests fill the memory")
        await asyncio.gather(
            *(wire.send(frame[400 * 1024 :]) for wire, frame in zip(wires, frames, strict=True))
        )
        for wire in wires:
            assert (await wire.read("Produce", 9))[0] == 1
            await wire.close()


async def test_who_stalls_in_a_request_while_memory_is_full_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = KafkaLimits(queued_request_bytes_max=MIB, stalled_ms_max=5_000)
    async with besieged(limits) as (cluster, listener, honest):
        hoarders = [await KafkaWire.connect(listener.address) for _ in range(3)]
        for wire in hoarders:
            await wire.send(struct.pack(">ihh", 50 * MIB, 0, 9) + bytes(400 * 1024))
        await until(lambda: listener.memory.full, "the hoarders fill the memory")
        asked = asyncio.create_task(honest.ask("ApiVersions", 3))
        sweep_after(cluster, listener, 4_000)
        assert listener.memory.full
        sweep_after(cluster, listener, 4_000)
        assert not listener.memory.full
        assert (await asked).error_code == 0
        assert "while memory for requests (1048576 bytes) was full for more than 5000 ms" in caplog.text
        for wire in hoarders:
            await wire.close()


async def test_too_many_connections_are_turned_away(caplog: pytest.LogCaptureFixture) -> None:
    async with besieged(KafkaLimits(connections_max=3)) as (_, listener, _honest):
        wires = [await KafkaWire.connect(listener.address) for _ in range(4)]
        assert await wires[2].is_closed()
        assert await wires[3].is_closed()
        assert "3 connections are open, which is max.connections" in caplog.text
        assert (await wires[0].ask("ApiVersions", 3)).error_code == 0
        assert listener.counters.connections_refused == 2
        for wire in wires:
            await wire.close()


async def test_idle_connections_are_closed_and_busy_ones_kept(caplog: pytest.LogCaptureFixture) -> None:
    async with besieged(KafkaLimits(connection_idle_ms_max=60_000)) as (cluster, listener, honest):
        idle = await KafkaWire.connect(listener.address)
        waiting = await KafkaWire.connect(listener.address)
        await waiting.send(
            waiting.frame("Fetch", 12, topics=to_fetch("t", 0), min_bytes=1, max_wait_ms=60_000)
        )
        await until(lambda: len(cluster.data.waiting) == 1, "a fetch waits")
        sweep_after(cluster, listener, 50_000)
        await honest.ask("ApiVersions", 3)
        sweep_after(cluster, listener, 20_000)
        assert await idle.is_closed()
        assert "idle" not in caplog.text
        await honest.ask("Produce", 9, acks=1, topic_data=to_produce("t", batch_of(b"x")))
        assert (await waiting.read("Fetch", 12))[0] == 1
        for wire in (idle, waiting):
            await wire.close()


async def test_a_half_closed_peer_does_not_wait_for_ever() -> None:
    async with besieged(KafkaLimits(half_closed_ms_max=5_000)) as (cluster, listener, _honest):
        wire = await KafkaWire.connect(listener.address)
        await wire.send(wire.frame("Fetch", 12, topics=to_fetch("t", 0), min_bytes=1, max_wait_ms=60_000))
        wire.writer.write_eof()
        await until(lambda: any(c.machine.eof for c in listener._connections), "the end is noticed")
        sweep_after(cluster, listener, 6_000)
        assert await wire.is_closed()
        await until(lambda: cluster.data.waiting[0].cancelled(), "its fetch is given up")
        await wire.close()


async def test_one_connection_does_not_take_all_turns() -> None:
    """Thousands of tiny requests in one write: another client is answered in between."""
    async with besieged() as (_, listener, honest):
        greedy = await KafkaWire.connect(listener.address)
        greedy.writer.write(b"".join(greedy.frame("ApiVersions", 0) for _ in range(5000)))
        counters = listener.counters
        await until(lambda: counters.requests[18] > 0, "the flood begins to be served")
        await honest.ask("ApiVersions", 3)
        assert counters.requests[18] < 5000
        for _ in range(5000):
            await greedy.read_frame()
        await greedy.close()


async def test_idle_connections_are_cheap() -> None:
    """Ten thousand idle clients must stay under 60 MB: 6 kB each, measured here on fewer, after each asked something."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * count)), hard))
    page_bytes = resource.getpagesize()

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page_bytes

    loop = asyncio.get_running_loop()
    question = request(3, 1, struct.pack(">i", 0))
    async with besieged() as (_, listener, honest):
        await honest.ask("Metadata", 1, topics=[])
        before = resident_bytes()
        peers = []
        for _ in range(count):
            peer = socket.socket()
            peer.setblocking(False)
            await loop.sock_connect(peer, listener.address)
            await loop.sock_sendall(peer, question)
            await loop.sock_recv(peer, 4096)
            peers.append(peer)
        assert listener.counters.connections_open == count + 1
        assert (resident_bytes() - before) / count < 6_000
        for peer in peers:
            peer.close()
        await until(lambda: listener.counters.connections_open == 1, "all of them are gone")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_requests_that_are_almost_right_are_answered_or_closed() -> None:
    """3,000 frames with odd values and changed bytes reach every handler; only what the fakes get wrong may fail."""
    fuzz = KafkaFuzz(seed=7)
    sent = 0
    async with fake_broker() as (cluster, listener):
        cluster.topics.create("t")
        honest = await KafkaWire.connect(listener.address)
        while sent < 3000:
            frames = fuzz.burst()
            sent += len(frames)
            wire = await KafkaWire.connect(listener.address)
            wire.writer.write(b"".join(frames))
            wire.writer.write_eof()
            async with asyncio.timeout(10):
                try:
                    answer = await wire.reader.read()
                except ConnectionError:
                    answer = b""
            while answer:
                (size, correlation_id) = struct.unpack_from(">ii", answer)
                assert correlation_id == 7
                answer = answer[4 + size :]
            await wire.close()
            assert (await honest.ask("ApiVersions", 3)).error_code == 0
        await until(lambda: listener.counters.connections_open == 1, "all of them are closed")
        await until(
            lambda: listener.memory.held == listener.memory.answering == 0, "all memory is given back"
        )
        assert min(listener.counters.requests[key] for key in APIS) > 10
        await honest.close()
