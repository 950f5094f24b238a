"""Reads what consumers tell each other through the coordinator: subscriptions and assignments.

The bytes belong to the clients (Kafka's ConsumerProtocolSubscription and ConsumerProtocolAssignment schemas); the
coordinator only passes them on. It looks inside in three places: to show assignments, to keep positions of subscribed
topics, and to see whether a restarted static member subscribes to something else. Later versions append fields, so
what follows the known ones is ignored. Counts and lengths are checked against the bytes that are there.
"""

from __future__ import annotations

import struct

CONSUMER = "consumer"
"""The protocol type whose bytes can be read."""

_TOPIC_BYTES_MIN = 2
_TOPIC_PARTITIONS_BYTES_MIN = 6
_PARTITION_BYTES = 4


class _Reader:
    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def _take(self, count: int) -> int:
        start = self._position
        if count > len(self._data) - start:
            raise ValueError(
                f"The consumer protocol data ends at byte {len(self._data)} within a field that starts at byte "
                f"{start}: the client sent damaged data."
            )
        self._position = start + count
        return start

    def int16(self) -> int:
        return int(struct.unpack_from(">h", self._data, self._take(2))[0])

    def count(self, element_bytes_min: int) -> int:
        """An array's length; a null array is empty."""
        count = int(struct.unpack_from(">i", self._data, self._take(4))[0])
        if count == -1:
            return 0
        if count < 0 or count > (len(self._data) - self._position) // element_bytes_min:
            raise ValueError(
                f"The consumer protocol data announces {count} elements, more than its {len(self._data)} bytes can "
                f"hold: the client sent damaged data."
            )
        return count

    def string(self) -> str:
        length = self.int16()
        if length < 0:
            raise ValueError(
                "The consumer protocol data has a topic without a name: the client sent damaged data."
            )
        start = self._take(length)
        return self._data[start : start + length].decode()

    def int32s(self) -> list[int]:
        count = self.count(_PARTITION_BYTES)
        start = self._take(count * _PARTITION_BYTES)
        return list(struct.unpack_from(f">{count}i", self._data, start))


def decode_subscription(data: bytes) -> frozenset[str]:
    """The subscribed topics. Raises ValueError when the bytes are no subscription."""
    reader = _Reader(data)
    _check_version(reader.int16())
    return frozenset(reader.string() for _ in range(reader.count(_TOPIC_BYTES_MIN)))


def decode_assignment(data: bytes) -> dict[str, list[int]]:
    """Topic to partitions; empty bytes are an empty assignment. Raises ValueError when the bytes are none."""
    if not data:
        return {}
    reader = _Reader(data)
    _check_version(reader.int16())
    assigned: dict[str, list[int]] = {}
    for _ in range(reader.count(_TOPIC_PARTITIONS_BYTES_MIN)):
        topic = reader.string()
        assigned.setdefault(topic, []).extend(reader.int32s())
    return assigned


def subscribed_topics(protocol_type: str, metadata: bytes) -> frozenset[str] | None:
    """The topics of a member's subscription, None when they cannot be known (another protocol type, foreign bytes)."""
    if protocol_type != CONSUMER:
        return None
    try:
        return decode_subscription(metadata)
    except ValueError:
        # Includes UnicodeDecodeError. What a client writes here is its own affair; unknown is an ordinary answer.
        return None


def _check_version(version: int) -> None:
    if version < 0:
        raise ValueError(f"The consumer protocol data has version {version}: the client sent damaged data.")
