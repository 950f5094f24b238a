"""One item of the commit log: a fixed header of 32 bytes and a payload.

Layout, little-endian: crc u32, undurable u32, length u32, index u64, epoch u32, kind u8, version u8, flags u16,
partition u32. The CRC-32C covers everything from `length` on, header and payload. `undurable` is outside of it because
it is each replica's own note: how many entries up to this one were not known to be on disk when this one was written.
So the newest readable entry proves up to which index the log must be whole, and recovery can tell a torn tail (cut)
from damage in the middle (refused).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from penstock.base.crc import crc32c

ENTRY_HEADER = struct.Struct("<IIIQIBBHI")
ENTRY_HEADER_SIZE = 32
ENTRY_VERSION = 1
_COVERED = struct.Struct("<IQIBBHI")
_UNCOVERED = struct.Struct("<II")
COVERED_FROM = 8

KIND_BATCH = 1
KIND_COMMAND = 2
KINDS = frozenset({KIND_BATCH, KIND_COMMAND})

# What a reader compares with its index before it trusts an entry: crc, length, partition.
CHECKED = struct.Struct("<I4xI16xI")

UNDURABLE_MAX = 0xFFFFFFFF

Buffer = bytes | bytearray | memoryview


class EntryHeader(NamedTuple):
    """The header's fields; `length` counts the payload's bytes, `partition` is 0 for commands."""

    crc: int
    undurable: int
    length: int
    log_index: int
    epoch: int
    kind: int
    version: int
    flags: int
    partition: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole entry."""
        return ENTRY_HEADER_SIZE + self.length

    @property
    def durable_index(self) -> int:
        """Every entry up to this index was on disk when this one was written."""
        return self.log_index - self.undurable


def encode_header(
    index: int, epoch: int, kind: int, partition: int, payload: tuple[Buffer, ...], durable_index: int
) -> bytes:
    """The header of an entry whose payload is the given buffers, back to back."""
    length = 0
    for part in payload:
        length += len(part)
    covered = _COVERED.pack(length, index, epoch, kind, ENTRY_VERSION, 0, partition)
    crc = crc32c(covered)
    for part in payload:
        crc = crc32c(part, crc)
    return _UNCOVERED.pack(crc, min(index - durable_index, UNDURABLE_MAX)) + covered


def parse_entry_header(buffer: Buffer, position: int) -> EntryHeader:
    """The header at `position`; the caller made sure that its 32 bytes are there."""
    return EntryHeader._make(ENTRY_HEADER.unpack_from(buffer, position))


def entry_is_intact(buffer: memoryview, position: int, header: EntryHeader) -> bool:
    """Whether the entry's bytes match its CRC; the caller made sure that they are all there."""
    end = position + ENTRY_HEADER_SIZE + header.length
    return crc32c(buffer[position + COVERED_FROM : end]) == header.crc
