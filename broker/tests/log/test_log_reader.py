"""Payloads come back for any order of extents, because a fetch asks for one partition after the other."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from penstock.codec.entry import ENTRY_HEADER_SIZE, KIND_BATCH, encode_header
from penstock.log.disk import RealDisk
from penstock.log.errors import LogDamagedError
from penstock.log.reader import READ_GAP_BYTES_MAX, Extent, read_payloads
from penstock.log.segment import SEGMENT_HEADER_SIZE, Segment

if TYPE_CHECKING:
    from pathlib import Path

GAP = b"\0" * (READ_GAP_BYTES_MAX + 1)


def _segment(folder: Path, base_index: int, payloads: list[tuple[int, bytes]]) -> list[Extent]:
    """A segment file with one entry for each (partition, payload), and a gap that needs a second read in its middle."""
    disk = RealDisk(folder)
    segment = Segment(disk, base_index, disk.open(f"{base_index}.log", create=True), 1 << 20)
    assert segment.file is not None
    extents = []
    position = SEGMENT_HEADER_SIZE
    for number, (partition, payload) in enumerate(payloads):
        if number == len(payloads) // 2:
            position += len(GAP)
        header = encode_header(base_index + number, 1, KIND_BATCH, partition, (payload,), 0)
        segment.file.write_at(position, [header, payload])
        size = ENTRY_HEADER_SIZE + len(payload)
        extents.append(Extent(segment, position, size, partition))
        position += size
    return extents


def test_extents_of_several_partitions_and_segments_in_any_order(tmp_path: Path) -> None:
    first = _segment(tmp_path, 1, [(0, b"a0"), (1, b"b0"), (0, b"a1"), (1, b"b1")])
    second = _segment(tmp_path, 5, [(0, b"a2"), (1, b"b2")])
    payloads = dict(zip([*first, *second], [b"a0", b"b0", b"a1", b"b1", b"a2", b"b2"], strict=True))
    for extents in itertools.permutations(payloads, 4):
        assert [bytes(found) for found in read_payloads(extents)] == [payloads[one] for one in extents]


def test_what_is_kept_of_a_read_holds_little_more_than_what_was_asked_for(tmp_path: Path) -> None:
    """A payload may be a view of the whole read; one that would pin mostly gaps is copied."""
    near = _segment(tmp_path, 1, [(0, b"a" * 9000), (1, b"b" * 100), (0, b"c" * 9000), (0, b"d" * 9000)])
    assert {len(memoryview(one.obj)) for one in read_payloads([near[2], near[3]])} == {
        2 * (9000 + ENTRY_HEADER_SIZE)
    }
    apart = _segment(
        tmp_path, 17, [(0, b"a"), (1, b"x" * 5000), (0, b"b"), (0, b"c"), (0, b"d"), (0, b"e"), (0, b"f")]
    )
    found = read_payloads([apart[0], apart[2]])
    assert [bytes(one) for one in found] == [b"a", b"b"]
    assert [len(memoryview(one.obj)) for one in found] == [1, 1]


def test_an_extent_of_another_partition_is_refused(tmp_path: Path) -> None:
    (extent,) = _segment(tmp_path, 1, [(7, b"payload")])
    with pytest.raises(LogDamagedError, match=r"does not match its checksum"):
        read_payloads([extent._replace(partition=8)])
