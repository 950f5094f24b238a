"""Variable-length integers, CRC-32C and murmur2 against known values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.crc import crc32c
from penstock.codec.errors import CodecError
from penstock.codec.murmur2 import murmur2, partition_for_key
from penstock.codec.primitives import (
    text_length,
    unsigned_varint,
    varint,
    varlong,
    write_unsigned_varint,
    write_varint,
    write_varlong,
)

_settings = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**32 - 1, "ffffffff0f")]
)
def test_unsigned_varint_vectors(value: int, encoded: str) -> None:
    chunk = bytearray()
    write_unsigned_varint(chunk, value)
    assert chunk.hex() == encoded
    assert unsigned_varint(memoryview(chunk), 0, len(chunk), 0, "x") == (value, len(chunk))


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (-1, "01"), (1, "02"), (-64, "7f"), (64, "8001"), (-(2**31), "ffffffff0f")],
)
def test_varint_vectors(value: int, encoded: str) -> None:
    chunk = bytearray()
    write_varint(chunk, value)
    assert chunk.hex() == encoded
    assert varint(bytes(chunk), 0, len(chunk), "x") == (value, len(chunk))


@_settings
@given(st.integers(-(2**63), 2**63 - 1))
def test_varlong_round_trip(value: int) -> None:
    chunk = bytearray()
    write_varlong(chunk, value)
    assert varlong(bytes(chunk), 0, len(chunk), "x") == (value, len(chunk))
    for length in range(len(chunk)):
        with pytest.raises(CodecError):
            varlong(bytes(chunk), 0, length, "x")


@pytest.mark.parametrize("encoded", ["", "80", "ffffffff", "ffffffff10", "ffffffffff01", "8080808080"])
def test_unsigned_varint_that_ends_early_or_is_too_large(encoded: str) -> None:
    data = memoryview(bytes.fromhex(encoded))
    with pytest.raises(CodecError):
        unsigned_varint(data, 0, len(data), 0, "x")


def test_unsigned_varint_leaves_what_is_asked_for() -> None:
    data = memoryview(b"\x80\x00ab")
    assert unsigned_varint(data, 0, 4, 2, "x") == (0, 2)
    with pytest.raises(CodecError):
        unsigned_varint(data, 0, 4, 3, "x")


def test_varlong_too_large() -> None:
    with pytest.raises(CodecError, match="64 bits"):
        varlong(b"\xff" * 9 + b"\x02", 0, 10, "x")


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_values_that_do_not_fit(value: int) -> None:
    with pytest.raises(CodecError):
        write_varint(bytearray(), value)
    with pytest.raises(CodecError):
        write_varlong(bytearray(), value << 32)
    with pytest.raises(CodecError):
        write_unsigned_varint(bytearray(), value * 2 if value > 0 else value)


def test_text_length_has_kafkas_limit() -> None:
    chunk = bytearray()
    write_unsigned_varint(chunk, 0x8001)
    with pytest.raises(CodecError, match="32768 bytes, more than 32767"):
        text_length(memoryview(chunk), 0, len(chunk), 0, "x")


def test_crc32c_vectors_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


@_settings
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_crc32c_goes_on_over_several_buffers(parts: list[bytes]) -> None:
    checksum = 0
    for part in parts:
        checksum = crc32c(memoryview(bytearray(part)), checksum)
    assert checksum == crc32c(b"".join(parts))


@pytest.mark.parametrize(
    ("key", "value"),
    # The cases of Kafka's own UtilsTest, as signed integers.
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key: bytes, value: int) -> None:
    assert murmur2(key) == value & 0xFFFFFFFF
    assert partition_for_key(key, 7) == (value & 0x7FFFFFFF) % 7
