"""The newest entries, kept in memory so that consumers at the tail and replicas that keep up cost no read.

Bounded in bytes; the oldest go first, but none before it is written: what is not in the file has to be here. An entry is
kept as the buffers it was written from, so caching copies nothing.
"""

from __future__ import annotations

from penstock.log.disk import Buffer

# What Python keeps for one entry beside its bytes: views, tuples, the entries of dict and list. Without it a cache of
# tiny batches would take several times its bound.
PAYLOAD_OVERHEAD_BYTES = 700
# Places of dropped entries are given back when there are this many, and as many as those in use.
_DROPPED_MIN = 1024

Payload = tuple[Buffer, ...]
Place = tuple[int, int]

_Kept = tuple[Place, int, Buffer, Payload]


class TailCache:
    """Entries by index, and their payloads by place: (segment base, position in the file)."""

    __slots__ = (
        "_bytes_max",
        "_dropped",
        "_entries",
        "_payloads",
        "first_index",
        "size_bytes",
        "written_index",
    )

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._payloads: dict[Place, Payload] = {}
        # Consecutive entries; the first `_dropped` places are empty, the next one holds `first_index`.
        self._entries: list[_Kept | None] = []
        self._dropped = 0
        self.first_index = 1
        self.written_index = 0
        self.size_bytes = 0

    def put(self, place: Place, header: Buffer, payload: Payload, size_bytes: int) -> None:
        """Keeps the log's next entry and drops the oldest beyond the bound."""
        size_bytes += PAYLOAD_OVERHEAD_BYTES
        self._payloads[place] = payload
        self._entries.append((place, size_bytes, header, payload))
        self.size_bytes += size_bytes
        if self.size_bytes > self._bytes_max:
            self._drop()

    def written(self, index: int) -> None:
        """Entries up to `index` are in their files."""
        self.written_index = index
        if self.size_bytes > self._bytes_max:
            self._drop()

    def _drop(self) -> None:
        entries, at = self._entries, self._dropped
        while (
            self.size_bytes > self._bytes_max and self.first_index <= self.written_index and at < len(entries)
        ):
            oldest = entries[at]
            assert oldest is not None
            del self._payloads[oldest[0]]
            entries[at] = None
            self.size_bytes -= oldest[1]
            self.first_index += 1
            at += 1
        if at >= _DROPPED_MIN and at * 2 >= len(entries):
            del entries[:at]
            at = 0
        self._dropped = at

    def get(self, place: Place) -> Payload | None:
        """The payload's buffers, or None when it has to be read from the file."""
        return self._payloads.get(place)

    def buffers(self, first_index: int, last_index: int) -> list[Buffer]:
        """Whole entries; the caller made sure that they are here."""
        start = self._dropped + first_index - self.first_index
        found: list[Buffer] = []
        for entry in self._entries[start : start + last_index - first_index + 1]:
            assert entry is not None
            found.append(entry[2])
            found.extend(entry[3])
        return found

    def cut(self, from_index: int) -> None:
        """Forgets entries from `from_index` on."""
        entries = self._entries
        kept = self._dropped + max(from_index - self.first_index, 0)
        while len(entries) > kept:
            entry = entries.pop()
            assert entry is not None
            del self._payloads[entry[0]]
            self.size_bytes -= entry[1]
        self.first_index = min(self.first_index, from_index)
        self.written_index = min(self.written_index, from_index - 1)

    def clear(self, next_index: int) -> None:
        """Forgets everything; `next_index` is the next entry that comes."""
        self._payloads.clear()
        self._entries.clear()
        self._dropped = 0
        self.first_index = next_index
        self.written_index = next_index - 1
        self.size_bytes = 0
