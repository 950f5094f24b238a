"""Which messages of a partition a group is done with: everything below a floor, and single ones above it.

Groups settle mostly in order, so mostly there is only the floor. What is settled out of order is kept as bits, in chunks of
4,096 offsets, each one a Python integer: a million messages in any order take some 150 kB. The floor is never itself
settled and a chunk holds no bits below it, so that equal sets are stored equally however they came about.
"""

from __future__ import annotations

_SHIFT = 12
CHUNK_OFFSETS = 1 << _SHIFT
_MASK = CHUNK_OFFSETS - 1
_FULL = (1 << CHUNK_OFFSETS) - 1

ChunkRow = tuple[int, bytes]
"""(number of the chunk, its bits with the lowest offset first); no bytes stand for a full one."""


class SettledSet:
    """See the module's text. Offsets below `floor` are in it."""

    __slots__ = ("_chunks", "floor")

    def __init__(self, floor: int = 0) -> None:
        self.floor = floor
        self._chunks: dict[int, int] = {}

    def __contains__(self, offset: int) -> bool:
        if offset < self.floor:
            return True
        return bool(self._chunks.get(offset >> _SHIFT, 0) >> (offset & _MASK) & 1)

    def add(self, first: int, last: int) -> None:
        """These offsets and all between are settled."""
        if first > self.floor:
            self._set_bits(first, last)
        elif last >= self.floor:
            self._raise_floor(last + 1)

    def count_below(self, end: int) -> int:
        """How many offsets from the floor on and below `end` are settled."""
        whole = end >> _SHIFT
        count = sum(bits.bit_count() for number, bits in self._chunks.items() if number < whole)
        return count + (self._chunks.get(whole, 0) & ((1 << (end & _MASK)) - 1)).bit_count()

    def _set_bits(self, first: int, last: int) -> None:
        chunks = self._chunks
        lowest, highest = first >> _SHIFT, last >> _SHIFT
        for number in range(lowest, highest + 1):
            low = first & _MASK if number == lowest else 0
            high = last & _MASK if number == highest else _MASK
            bits = chunks.get(number, 0) | ((1 << (high - low + 1)) - 1) << low
            # Full ones share one integer: behind one message that is never settled there may be many.
            chunks[number] = _FULL if bits == _FULL else bits

    def _raise_floor(self, floor: int) -> None:
        chunks = self._chunks
        below = range(self.floor >> _SHIFT, floor >> _SHIFT)
        # A start that retention moved may be far away from the floor.
        for number in below if len(below) < len(chunks) else [number for number in chunks if number in below]:
            chunks.pop(number, None)
        while (bits := chunks.get(floor >> _SHIFT)) is not None:
            low = floor & _MASK
            rest = bits >> low
            run = (~rest & (rest + 1)).bit_length() - 1
            left = rest >> run << (low + run)
            if left:
                chunks[floor >> _SHIFT] = left
                floor += run
                break
            del chunks[floor >> _SHIFT]
            floor += run
            if floor & _MASK:
                break
        self.floor = floor

    # --- stored ------------------------------------------------------------------------------------

    def copy(self) -> SettledSet:
        """Another one that holds the same."""
        other = SettledSet(self.floor)
        other._chunks = dict(self._chunks)
        return other

    def rows(self) -> list[ChunkRow]:
        """What is settled above the floor, ascending."""
        return [
            (number, b"" if bits == _FULL else bits.to_bytes((bits.bit_length() + 7) // 8, "little"))
            for number, bits in sorted(self._chunks.items())
        ]

    @staticmethod
    def restored(floor: int, rows: list[ChunkRow]) -> SettledSet:
        """The set of which these are the floor and the `rows`."""
        restored = SettledSet(floor)
        restored._chunks = {
            number: int.from_bytes(data, "little") if data else _FULL for number, data in rows
        }
        return restored
