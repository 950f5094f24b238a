"""A look at the wire with no client between: stored batches as they are, and the ends of partitions.

Clients unpack what they read, so only the batch headers themselves can say whether a compression went through
untouched, or whether offsets are dense. Requests are written by hand in the oldest versions that Kafka 4 serves
(Metadata 1, Fetch 4, ListOffsets 1), none of which our own codec has a part in. Like a client, the probe takes any
broker as bootstrap address and asks the partition's leader.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
"""By Kafka's number of the compression, in the low three bits of a batch's attributes."""

TIMEOUT_S = 10.0
FETCH_BYTES_MAX = 32 << 20
_BATCH = struct.Struct(">qiibIhiqqqhii")
_LENGTH_OVERHEAD = 12


class StoredBatch(NamedTuple):
    """One batch's header as it is stored."""

    base_offset: int
    last_offset: int
    records: int
    codec: str
    producer_id: int
    max_timestamp: int


class ProbeError(Exception):
    """The broker answered with an error code, or hung up."""


def leader_of(bootstrap: str, topic: str, partition: int = 0) -> str:
    """HOST:PORT of a partition's leader, as the first broker of `bootstrap` says. Raises ProbeError without one."""
    answer = _Reader(_ask(bootstrap, 3, 1, struct.pack(">i", 1) + _string(topic)))
    brokers = {}
    for _ in range(answer.take(">i")):
        node = answer.take(">i")
        brokers[node] = f"{answer.text()}:{answer.take('>i')}"
        answer.text()
    answer.skip(">ii")
    error, _, _ = answer.take(">h"), answer.text(), answer.take(">b")
    if error:
        raise ProbeError(f"Metadata of {topic} was answered with error {error}")
    for _ in range(answer.take(">i")):
        error, number, leader = answer.take(">h"), answer.take(">i"), answer.take(">i")
        for _ in ("replicas", "in sync"):
            answer.skip(f">{answer.take('>i')}i")
        if number == partition and leader in brokers:
            return brokers[leader]
    raise ProbeError(f"{bootstrap} knows no leader of {topic}-{partition}")


def end_offsets(bootstrap: str, topic: str, partitions: int) -> dict[int, int]:
    """The high watermark of every partition."""
    return _offsets(bootstrap, topic, partitions, -1)


def start_offsets(bootstrap: str, topic: str, partitions: int) -> dict[int, int]:
    """The first offset of every partition."""
    return _offsets(bootstrap, topic, partitions, -2)


def stored_batches(bootstrap: str, topic: str, partition: int, offset: int = 0) -> list[StoredBatch]:
    """All batches of a partition from the one that holds `offset`. Raises ProbeError with the broker's error code."""
    found: list[StoredBatch] = []
    leader = leader_of(bootstrap, topic, partition)
    while records := _fetch(leader, topic, partition, offset):
        batches = _headers(records)
        if not batches:
            raise ProbeError(
                f"{len(records)} bytes at offset {offset} of {topic}-{partition} hold no whole batch"
            )
        found += batches
        offset = batches[-1].last_offset + 1
    return found


def _headers(records: bytes) -> list[StoredBatch]:
    batches = []
    position = 0
    while position + _BATCH.size <= len(records):
        base, length, _, _, _, attributes, delta, _, latest, producer, _, _, count = _BATCH.unpack_from(
            records, position
        )
        if position + _LENGTH_OVERHEAD + length > len(records):
            break  # Kafka may cut the last batch short.
        batches.append(StoredBatch(base, base + delta, count, CODECS[attributes & 7], producer, latest))
        position += _LENGTH_OVERHEAD + length
    return batches


def _offsets(bootstrap: str, topic: str, partitions: int, timestamp: int) -> dict[int, int]:
    body = struct.pack(">ii", -1, 1) + _string(topic) + struct.pack(">i", partitions)
    body += b"".join(struct.pack(">iq", partition, timestamp) for partition in range(partitions))
    answer = _ask(leader_of(bootstrap, topic), 2, 1, body)
    position = 4 + 2 + len(topic.encode()) + 4
    found = {}
    for _ in range(partitions):
        partition, error, _, offset = struct.unpack_from(">ihqq", answer, position)
        if error:
            raise ProbeError(f"ListOffsets of {topic}-{partition} was answered with error {error}")
        found[partition] = offset
        position += 22
    return found


class _Reader:
    """Takes an answer apart from its beginning to its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, layout: str) -> int:
        """The next number."""
        (number,) = struct.unpack_from(layout, self._data, self._position)
        self.skip(layout)
        return int(number)

    def skip(self, layout: str) -> None:
        """Leaves out what is laid out like this."""
        self._position += struct.calcsize(layout)

    def text(self) -> str:
        """The next string; empty for null."""
        size = max(0, self.take(">h"))
        self._position += size
        return self._data[self._position - size : self._position].decode()


def _fetch(leader: str, topic: str, partition: int, offset: int) -> bytes:
    body = struct.pack(">iiiibi", -1, 0, 0, FETCH_BYTES_MAX, 0, 1) + _string(topic)
    body += struct.pack(">iiqi", 1, partition, offset, FETCH_BYTES_MAX)
    answer = _ask(leader, 1, 4, body)
    position = 4 + 4 + 2 + len(topic.encode()) + 4
    _, error, _, _, aborted = struct.unpack_from(">ihqqi", answer, position)
    if error:
        raise ProbeError(f"Fetch of {topic}-{partition} at {offset} was answered with error {error}")
    position += 26 + 16 * max(0, aborted)
    (size,) = struct.unpack_from(">i", answer, position)
    return answer[position + 4 : position + 4 + max(0, size)]


def _ask(bootstrap: str, api: int, version: int, body: bytes) -> bytes:
    """One request on a connection of its own, to the first of the addresses; the answer without its correlation id."""
    host, _, port = bootstrap.partition(",")[0].rpartition(":")
    frame = struct.pack(">hhi", api, version, 7) + _string("wire-probe") + body
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(struct.pack(">i", len(frame)) + frame)
        (size,) = struct.unpack(">i", _read(connection, 4))
        answer = _read(connection, size)
    return answer[4:]


def _read(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ProbeError(f"the broker hung up after {len(parts)} of {size} bytes")
        parts += part
    return bytes(parts)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw
