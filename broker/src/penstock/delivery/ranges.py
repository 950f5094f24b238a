"""Sets of offsets as sorted, disjoint ranges, each (first, last) with both ends in it.

Messages are granted and acknowledged side by side, so a command that names a thousand of them is mostly one range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Ranges = tuple[tuple[int, int], ...]


def ranges_of(offsets: Iterable[int]) -> Ranges:
    """The ranges of offsets that come in ascending order, each once."""
    ranges: list[tuple[int, int]] = []
    first = last = -2
    for offset in offsets:
        if offset != last + 1:
            if last >= 0:
                ranges.append((first, last))
            first = offset
        last = offset
    if last >= 0:
        ranges.append((first, last))
    return tuple(ranges)


def offsets_in(ranges: Ranges) -> Iterator[int]:
    """Every offset, ascending."""
    for first, last in ranges:
        yield from range(first, last + 1)


def count_in(ranges: Ranges) -> int:
    """How many offsets there are."""
    return sum(last - first + 1 for first, last in ranges)
