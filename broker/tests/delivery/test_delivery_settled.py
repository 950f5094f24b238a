"""The set of settled messages: against a plain set, and small whatever the order."""

from __future__ import annotations

import random
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.delivery.settled import CHUNK_OFFSETS, SettledSet

END = 3 * CHUNK_OFFSETS
# Near the borders of chunks, and anywhere.
OFFSETS = st.one_of(
    st.integers(0, END),
    st.builds(
        lambda chunk, near: max(chunk * CHUNK_OFFSETS + near, 0), st.integers(0, 3), st.integers(-2, 2)
    ),
)
LENGTHS = st.one_of(st.integers(1, 5), st.sampled_from([CHUNK_OFFSETS - 1, CHUNK_OFFSETS, 2 * CHUNK_OFFSETS]))


def plain(settled: SettledSet, end: int) -> set[int]:
    return {offset for offset in range(end) if offset in settled}


@settings(max_examples=50, deadline=None)
@given(start=OFFSETS, adds=st.lists(st.tuples(OFFSETS, LENGTHS), max_size=8), seed=st.integers(0, 5))
def test_settled_set_is_a_set(start: int, adds: list[tuple[int, int]], seed: int) -> None:
    settled, model = SettledSet(start), set(range(start))
    for first, length in adds:
        settled.add(first, first + length - 1)
        model.update(range(first, first + length))
    end = END + 3 * CHUNK_OFFSETS
    assert plain(settled, end) == model
    assert settled.floor == next(offset for offset in range(end + 1) if offset not in model)
    for stop in (settled.floor, start + 7, END, end):
        if stop >= settled.floor:
            assert settled.count_below(stop) == sum(settled.floor <= offset < stop for offset in model)
    # However it came about, it is stored equally, and comes back.
    other = SettledSet(start)
    shuffled = list(adds)
    random.Random(seed).shuffle(shuffled)
    for first, length in shuffled:
        other.add(first, first + length - 1)
    assert (other.floor, other.rows()) == (settled.floor, settled.rows())
    restored = SettledSet.restored(settled.floor, settled.rows())
    assert plain(restored, end) == model
    assert (restored.floor, restored.rows()) == (settled.floor, settled.rows())


def test_a_copy_goes_its_own_way() -> None:
    settled = SettledSet()
    settled.add(5, 6)
    copy = settled.copy()
    settled.add(0, 4)
    assert (copy.floor, 5 in copy, 3 in copy) == (0, True, False)


def bytes_of(settled: SettledSet) -> int:
    chunks = settled._chunks
    distinct = {id(bits): sys.getsizeof(bits) for bits in chunks.values()}
    return sys.getsizeof(chunks) + sum(distinct.values()) + len(chunks) * sys.getsizeof(1)


def test_a_million_messages_settled_at_random_are_small() -> None:
    offsets = list(range(1, 1_000_000))
    random.Random(1).shuffle(offsets)
    settled = SettledSet()
    for offset in offsets[:500_000]:
        settled.add(offset, offset)
    half = bytes_of(settled)
    for offset in offsets[500_000:]:
        settled.add(offset, offset)
    print(f"half settled: {half} bytes, all but the first: {bytes_of(settled)} bytes")
    assert half <= 170_000
    # Full chunks share one integer.
    assert bytes_of(settled) <= 20_000
    settled.add(0, 0)
    assert (settled.floor, settled.rows()) == (1_000_000, [])
