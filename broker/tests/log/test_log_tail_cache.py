"""The cache of the newest entries: bounded, but never without what is not yet written."""

from __future__ import annotations

from penstock.log.tail_cache import PAYLOAD_OVERHEAD_BYTES, TailCache

SIZE = 100 + PAYLOAD_OVERHEAD_BYTES


def put(cache: TailCache, index: int) -> None:
    cache.put((1, index * 100), b"h%d" % index, (b"p%d" % index, b"q"), 100)


def test_the_oldest_go_first_once_they_are_written() -> None:
    cache = TailCache(3 * SIZE)
    cache.clear(1)
    for index in range(1, 6):
        put(cache, index)
    assert (cache.first_index, cache.size_bytes) == (1, 5 * SIZE)
    cache.written(1)
    assert (cache.first_index, cache.size_bytes) == (2, 4 * SIZE)
    cache.written(5)
    assert (cache.first_index, cache.size_bytes) == (3, 3 * SIZE)
    assert cache.get((1, 200)) is None
    assert cache.get((1, 300)) == (b"p3", b"q")
    assert cache.buffers(3, 4) == [b"h3", b"p3", b"q", b"h4", b"p4", b"q"]
    assert cache.buffers(6, 5) == []


def test_places_of_dropped_entries_are_given_back() -> None:
    cache = TailCache(10 * SIZE)
    cache.clear(1)
    for index in range(1, 5001):
        put(cache, index)
        cache.written(index)
        assert cache.first_index == max(1, index - 9)
        assert cache.buffers(index, index)[0] == b"h%d" % index
        assert cache.buffers(cache.first_index, index)[0] == b"h%d" % cache.first_index
    assert len(cache._entries) < 3000
    assert len(cache._payloads) == 10


def test_a_cut_takes_the_newest() -> None:
    cache = TailCache(3 * SIZE)
    cache.clear(1)
    for index in range(1, 6):
        put(cache, index)
    cache.written(4)
    cache.cut(5)
    assert (cache.first_index, cache.size_bytes) == (3, 2 * SIZE)
    put(cache, 5)
    assert cache.buffers(3, 5)[::3] == [b"h3", b"h4", b"h5"]
    cache.cut(2)
    assert (cache.first_index, cache.size_bytes, cache.written_index) == (2, 0, 1)
    put(cache, 2)
    assert cache.buffers(2, 2) == [b"h2", b"p2", b"q"]
    assert cache.get((1, 300)) is None
    cache.clear(77)
    put(cache, 77)
    assert cache.buffers(77, 77)[0] == b"h77"
    assert cache.size_bytes == SIZE
