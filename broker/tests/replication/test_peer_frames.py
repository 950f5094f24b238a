"""Frames between brokers: what is written is read, in any pieces; what is not a frame is refused and never believed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.crc import crc32c
from penstock.codec.peer import (
    FRAME_VERSION,
    GREETING_BYTES_MAX,
    KIND_ASK,
    KIND_CONSENSUS,
    KIND_HELLO,
    KIND_SEED,
    KINDS,
    META_BYTES_MAX,
    FrameReader,
    PeerFrameError,
    encode_frame,
)

Frame = tuple[int, bytes, bytes]

_settings = settings(max_examples=200, deadline=None, derandomize=True, database=None)
frames = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.binary(max_size=40), st.binary(max_size=40)), max_size=6
)
HEADER_BYTES = 12


def encoded(kind: int, meta: bytes = b"", data: bytes = b"") -> bytes:
    return b"".join(encode_frame(kind, meta, [data]))


def read(reader: FrameReader, data: bytes) -> list[Frame]:
    return [(frame.kind, bytes(frame.meta), bytes(frame.data)) for frame in reader.feed(data)]


def framed(
    kind: int = KIND_HELLO,
    version: int = FRAME_VERSION,
    meta: bytes = b"meta",
    *,
    flags: int = 0,
    meta_length: int | None = None,
    crc: int | None = None,
) -> bytes:
    """A frame with one thing wrong about it, or nothing."""
    length = len(meta) if meta_length is None else meta_length
    checksum = crc32c(meta) if crc is None else crc
    return struct.pack("<IBBHII", HEADER_BYTES + len(meta), kind, version, flags, length, checksum) + meta


def test_the_layout_is_what_other_releases_read() -> None:
    frame = encode_frame(KIND_CONSENSUS, b"\x93\x01\x02\x03", [b"entry", memoryview(b"entries")])
    assert b"".join(frame).hex(" ", -4) == (
        "1c000000 03010000 04000000 " + struct.pack("<I", crc32c(b"\x93\x01\x02\x03")).hex() + " 93010203 "
        "656e7472 79656e74 72696573"
    )


@_settings
@given(frames, st.lists(st.integers(1, 30), max_size=80))
def test_any_chunking_gives_the_same_frames(given_frames: list[Frame], sizes: Sequence[int]) -> None:
    stream = b"".join(encoded(*frame) for frame in given_frames)
    reader = FrameReader()
    found: list[Frame] = []
    start = 0
    for end in [*accumulate(sizes), len(stream)]:
        found += read(reader, stream[start:end])
        start = max(start, end)
    assert found == given_frames
    assert not reader.in_frame


@_settings
@given(frames.filter(bool))
def test_every_prefix_gives_the_whole_frames_in_it_and_waits_for_the_rest(given_frames: list[Frame]) -> None:
    parts = [encoded(*frame) for frame in given_frames]
    ends = [0, *accumulate(map(len, parts))]
    stream = b"".join(parts)
    for length in range(len(stream) + 1):
        reader = FrameReader()
        whole = sum(end <= length for end in ends[1:])
        assert read(reader, stream[:length]) == given_frames[:whole]
        assert reader.in_frame == (length not in ends)
        assert read(reader, stream[length:]) == given_frames[whole:]


@_settings
@given(frames.filter(bool), st.data())
def test_changed_bytes_are_refused_or_are_another_frame(
    given_frames: list[Frame], data: st.DataObject
) -> None:
    """Nothing else is raised, and a description is never read that is not the one which was sent."""
    stream = bytearray(b"".join(encoded(*frame) for frame in given_frames))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = read(FrameReader(1000), bytes(stream))
    except PeerFrameError:
        return
    assert len(found) <= len(stream) // (4 + HEADER_BYTES)


@_settings
@given(st.binary(min_size=1, max_size=60), st.binary(max_size=20), st.data())
def test_a_changed_description_never_comes_through(meta: bytes, rest: bytes, data: st.DataObject) -> None:
    stream = bytearray(encoded(KIND_ASK, meta, rest))
    place = 4 + HEADER_BYTES + data.draw(st.integers(0, len(meta) - 1))
    stream[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PeerFrameError, match="does not match its checksum"):
        read(FrameReader(), bytes(stream))


@_settings
@given(st.lists(st.binary(max_size=100), max_size=10))
def test_noise_is_refused_and_nothing_else(pieces: list[bytes]) -> None:
    reader = FrameReader(200)
    length = 0
    for piece in pieces:
        length += len(piece)
        try:
            read(reader, piece)
        except PeerFrameError:
            assert length >= 4
            return


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1, 1001, 2**31, 2**32 - 1])
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_length_out_of_bounds_is_refused_before_anything_is_kept(length: int, cut: int) -> None:
    reader = FrameReader(1000)
    prefix = struct.pack("<I", length)
    assert read(reader, prefix[:cut]) == []
    with pytest.raises(
        PeerFrameError, match=f"a frame of {length} bytes was announced, 12 to 1000 are possible"
    ):
        read(reader, prefix[cut:])


def test_a_frame_may_be_as_long_as_the_bound_and_the_bound_may_be_raised() -> None:
    reader = FrameReader()
    longest = encoded(KIND_SEED, b"", bytes(GREETING_BYTES_MAX - HEADER_BYTES))
    assert [len(data) for _, _, data in read(reader, longest)] == [GREETING_BYTES_MAX - HEADER_BYTES]
    longer = encoded(KIND_SEED, b"", bytes(GREETING_BYTES_MAX))
    stream = reader.feed(encoded(KIND_HELLO) + longer)
    assert next(stream).kind == KIND_HELLO
    # Who reads the first frame may let the next one be longer, also where both came at once.
    reader.frame_bytes_max = len(longer) - 4
    assert [len(frame.data) for frame in stream] == [GREETING_BYTES_MAX]
    with pytest.raises(PeerFrameError, match="was announced"):
        read(FrameReader(), longer[:4])


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (framed(version=0), "frames of version 0 are not known to this release: upgrade it"),
        (framed(version=2), "frames of version 2 are not known to this release: upgrade it"),
        (framed(kind=0), "frames of kind 0 are not known to this release: upgrade it"),
        (framed(kind=max(KINDS) + 1), f"frames of kind {max(KINDS) + 1} are not known to this release"),
        (framed(meta_length=5), "a frame's description of 5 bytes does not fit"),
        (framed(meta_length=2**32 - 1), "a frame's description of 4294967295 bytes does not fit"),
        (framed(meta=bytes(META_BYTES_MAX + 1)), "a frame's description of 262145 bytes does not fit"),
        (framed(crc=0), "a frame's description does not match its checksum"),
        (framed(meta_length=3), "a frame's description does not match its checksum"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(frame: bytes, sentence: str) -> None:
    with pytest.raises(PeerFrameError, match=sentence):
        read(FrameReader(2 * META_BYTES_MAX), frame)


def test_flags_are_for_later_releases() -> None:
    assert read(FrameReader(), framed(flags=0xFFFF)) == [(KIND_HELLO, b"meta", b"")]


def test_data_is_handed_on_and_not_copied_when_a_frame_is_made() -> None:
    parts = [memoryview(b"one"), bytearray(b"two")]
    head, *rest = encode_frame(KIND_CONSENSUS, b"meta", parts)
    assert len(head) == 4 + HEADER_BYTES + 4
    assert all(one is two for one, two in zip(rest, parts, strict=True))


def test_a_frame_keeps_what_it_says_when_the_buffer_it_came_in_is_used_again() -> None:
    buffer = bytearray(encoded(KIND_CONSENSUS, b"meta", b"data"))
    reader = FrameReader()
    [first] = reader.feed(buffer)
    buffer[:] = encoded(KIND_CONSENSUS, b"META", b"DATA")
    [second] = reader.feed(buffer)
    assert (bytes(first.meta), bytes(first.data)) == (b"meta", b"data")
    assert (bytes(second.meta), bytes(second.data)) == (b"META", b"DATA")
