"""The pure connection machine: any chunking gives the same requests, answers keep the order, nothing grows unbounded."""

from __future__ import annotations

import itertools
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.session.kafka_connection import ConnectionLimits, KafkaConnection, Slot
from penstock.session.request_memory import RequestMemory

PRODUCE = 0
METADATA = 3


def frame(key: int, body: bytes = b"") -> bytes:
    """A request with a header v1 and any body."""
    content = struct.pack(">hhih", key, 1, 7, -1) + body
    return struct.pack(">i", len(content)) + content


def started(machine: KafkaConnection) -> list[tuple[memoryview, Slot]]:
    """Starts everything that may start."""
    begun = []
    while (request := machine.next_request()) is not None:
        begun.append((request, machine.begin(request)))
    return begun


def machine(inflight: int = 128, size: int = 1000) -> KafkaConnection:
    return KafkaConnection(ConnectionLimits(request_bytes_max=size, inflight_requests_max=inflight))


@given(
    bodies=st.lists(st.binary(max_size=80), max_size=12),
    cuts=st.lists(st.integers(0, 800), max_size=30),
)
@settings(max_examples=200, deadline=None)
def test_any_chunking_gives_the_same_requests(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame(PRODUCE, body) for body in bodies)
    connection = machine()
    seen = []
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in itertools.pairwise(edges):
        connection.receive(stream[start:end])
        for request, slot in started(connection):
            seen.append(bytes(request[10:]))
            connection.complete(slot, [b"x"])
    assert seen == bodies
    assert connection.fault is None
    assert connection.unstarted_bytes == 0
    assert not connection.is_mid_request


def test_a_request_that_came_in_one_read_is_a_view_of_it() -> None:
    connection = machine()
    data = frame(PRODUCE, b"records")
    connection.receive(data)
    request = connection.next_request()
    assert request is not None
    assert request.obj is data


@pytest.mark.parametrize("length", [2**31 - 1, -1, -(2**31), 0, 7, 1001])
def test_an_impossible_length_is_a_fault_with_a_sentence(length: int) -> None:
    connection = machine()
    connection.receive(struct.pack(">i", length) + b"rest")
    assert connection.next_request() is None
    assert connection.fault is not None
    assert str(length) in connection.fault
    assert not connection.wants_read


def test_the_length_is_judged_as_soon_as_it_is_there_and_nothing_is_allocated_for_it() -> None:
    connection = machine(size=1000)
    for byte in struct.pack(">i", 1000) + b"abc":
        connection.receive(bytes([byte]))
        assert connection.next_request() is None
    assert connection.fault is None
    assert connection.missing_bytes == 997
    assert len(connection._partial or b"") == 7


@pytest.mark.parametrize(
    ("start", "word"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"\xff" * 16, "another protocol"),
    ],
)
def test_other_protocols_are_named(start: bytes, word: str) -> None:
    connection = machine()
    connection.receive(start)
    assert connection.next_request() is None
    assert connection.fault is not None
    assert word in connection.fault


def test_produce_requests_overlap_and_are_answered_in_order() -> None:
    connection = machine()
    connection.receive(frame(PRODUCE) * 3)
    first, second, third = (slot for _, slot in started(connection))
    assert connection.complete(third, [b"3"]) == ()
    assert connection.complete(second, [b"2"]) == ()
    assert list(connection.complete(first, [b"1"])) == [b"1", b"2", b"3"]
    assert connection.inflight == 0


@given(order=st.permutations(range(8)), silent=st.sets(st.integers(0, 7)))
def test_whatever_order_they_finish_in_answers_keep_theirs(order: list[int], silent: set[int]) -> None:
    connection = machine()
    connection.receive(frame(PRODUCE) * 8)
    slots = [slot for _, slot in started(connection)]
    written: list[bytes] = []
    for index in order:
        answer = [] if index in silent else [b"%d" % index]
        written += [bytes(buffer) for buffer in connection.complete(slots[index], answer)]
    assert written == [b"%d" % index for index in range(8) if index not in silent]


def test_other_requests_wait_for_those_before_and_hold_those_behind() -> None:
    connection = machine()
    connection.receive(frame(PRODUCE, b"a") + frame(METADATA, b"b") + frame(PRODUCE, b"c"))
    ((_, produce),) = started(connection)
    assert connection.blocked
    assert not connection.wants_read
    connection.complete(produce, [b"1"])
    ((_, metadata),) = started(connection)
    assert connection.blocked
    connection.complete(metadata, [b"2"])
    assert [bytes(request[10:]) for request, _ in started(connection)] == [b"c"]
    assert connection.wants_read


def test_requests_in_flight_are_bounded() -> None:
    connection = machine(inflight=4)
    connection.receive(frame(PRODUCE) * 10)
    slots = [slot for _, slot in started(connection)]
    assert len(slots) == 4
    assert not connection.wants_read
    connection.complete(slots[0], [b"1"])
    assert len(started(connection)) == 1
    assert not connection.wants_read


def test_a_peer_that_does_not_read_gets_nothing_more_started() -> None:
    connection = machine()
    connection.write_paused = True
    connection.receive(frame(PRODUCE))
    assert started(connection) == []
    assert not connection.wants_read
    connection.write_paused = False
    assert len(started(connection)) == 1


def test_a_small_leftover_does_not_keep_a_large_read_alive() -> None:
    connection = machine(size=100_000)
    data = frame(METADATA, bytes(50_000)) + frame(METADATA, b"next")
    connection.receive(data)
    started(connection)
    assert connection.blocked
    assert len(connection._chunk) == len(frame(METADATA, b"next"))


def test_after_the_end_of_input_what_came_whole_is_answered() -> None:
    connection = machine()
    connection.receive(frame(PRODUCE) + frame(METADATA) + frame(METADATA)[:6])
    connection.receive_eof()
    ((_, produce),) = started(connection)
    assert not connection.finished
    connection.complete(produce, [b"1"])
    ((_, metadata),) = started(connection)
    connection.complete(metadata, [b"2"])
    assert started(connection) == []
    assert connection.finished
    assert connection.is_mid_request


def test_draining_forgets_what_was_not_started() -> None:
    connection = machine()
    connection.receive(frame(METADATA) * 2)
    ((_, slot),) = started(connection)
    connection.drain()
    assert not connection.finished
    connection.complete(slot, [b"1"])
    assert started(connection) == []
    assert connection.finished
    assert connection.forget() == len(frame(METADATA))


def test_bytes_are_accounted_for_whatever_happens() -> None:
    """Received = waiting + held by requests in flight + answered, at every step of a random run."""
    rng = random.Random(3)
    connection = machine(inflight=5)
    received = gone = held = 0
    slots: list[Slot] = []
    stream = b"".join(frame(rng.choice([PRODUCE, METADATA]), bytes(rng.randrange(90))) for _ in range(300))
    position = 0
    while position < len(stream) or slots:
        if position < len(stream) and connection.wants_read:
            count = rng.randrange(1, 200)
            chunk = stream[position : position + count]
            position += len(chunk)
            received += len(chunk)
            connection.receive(chunk)
        for request, slot in started(connection):
            slots.append(slot)
            held += slot.held_bytes
            gone += 0 if slot.held_bytes else len(request) + 4
        if slots and (rng.random() < 0.5 or not connection.wants_read):
            slot = slots.pop(rng.randrange(len(slots)))
            connection.complete(slot, [b"x"])
            held -= slot.held_bytes
            gone += slot.held_bytes
            started_now = started(connection)
            for request, begun in started_now:
                slots.append(begun)
                held += begun.held_bytes
                gone += 0 if begun.held_bytes else len(request) + 4
        assert received == connection.unstarted_bytes + held + gone
    assert connection.unstarted_bytes == 0


def test_request_memory_stops_at_the_bound_and_starts_at_half() -> None:
    memory = RequestMemory(1000)
    assert not memory.receive(999)
    assert memory.receive(1)
    memory.stop(5_000)
    assert not memory.receive(100), "reading was stopped already"
    assert memory.stalled_ms(7_000) == 2_000
    assert not memory.release(599)
    assert memory.release(1)
    memory.start()
    assert memory.stalled_ms(9_000) == 0
    assert not memory.release(1)


def test_request_memory_favours_someone_only_when_answers_cannot_help() -> None:
    memory = RequestMemory(1000)
    memory.receive(1000)
    assert not memory.needs_favour, "reading goes on"
    memory.stop(0)
    assert memory.needs_favour
    memory.answering = 1
    assert not memory.needs_favour


def test_a_request_that_is_never_begun_is_given_back_with_its_connection() -> None:
    connection = machine()
    connection.receive(frame(METADATA, b"unreadable"))
    assert connection.next_request() is not None
    assert connection.forget() == len(frame(METADATA, b"unreadable"))
