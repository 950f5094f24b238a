"""The newest entries' payloads, kept in memory so that consumers at the tail cost no read.

Bounded in bytes; the oldest go first. A payload is kept as the buffers it was written from, so caching copies nothing.
"""

from __future__ import annotations

from collections import deque

# What Python keeps for one payload beside its bytes: views, tuples, the entries of dict and deque. Without it a cache of
# tiny batches would take several times its bound.
PAYLOAD_OVERHEAD_BYTES = 700

Payload = tuple[bytes | bytearray | memoryview, ...]


class TailCache:
    """Payloads by (segment base, position in the file)."""

    __slots__ = ("_bytes_max", "_order", "_payloads", "size_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._payloads: dict[tuple[int, int], Payload] = {}
        self._order: deque[tuple[tuple[int, int], int]] = deque()
        self.size_bytes = 0

    def put(self, key: tuple[int, int], payload: Payload, size_bytes: int) -> None:
        """Keeps a payload and drops the oldest beyond the bound."""
        size_bytes += PAYLOAD_OVERHEAD_BYTES
        self._payloads[key] = payload
        self._order.append((key, size_bytes))
        self.size_bytes += size_bytes
        while self.size_bytes > self._bytes_max:
            oldest, size = self._order.popleft()
            del self._payloads[oldest]
            self.size_bytes -= size

    def get(self, key: tuple[int, int]) -> Payload | None:
        """The payload's buffers, or None when it has to be read from the file."""
        return self._payloads.get(key)

    def clear(self) -> None:
        """Forgets everything (truncation)."""
        self._payloads.clear()
        self._order.clear()
        self.size_bytes = 0
