"""The header of a record batch, the one part of what producers send that the broker looks at.

Layout: Kafka's message format v2 (`RecordBatch`, magic 2), 61 bytes, big-endian. The CRC-32C at byte 17 covers
everything from byte 21 on, so base offset and leader epoch may be filled in without touching it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER_SIZE = 61
# base offset, length, leader epoch, magic, crc, attributes, last offset delta, first timestamp, max timestamp,
# producer id, producer epoch, base sequence, record count
HEADER = struct.Struct(">qiibIhiqqqhii")
# The fields alone that an index needs: base offset, last offset delta, max timestamp.
PLACE = struct.Struct(">q15xi8xq")
# Where the producer id stands, and what stands there.
PRODUCER_ID_AT = 43
PRODUCER_ID = struct.Struct(">q")
CRC_START = 21
# What `batch length` does not count: the base offset and the length field itself.
LENGTH_OVERHEAD = 12
MAGIC = 2

COMPRESSION_MASK = 0x07
TIMESTAMP_TYPE_MASK = 0x08
TRANSACTIONAL_MASK = 0x10
CONTROL_MASK = 0x20

NO_PRODUCER_ID = -1
NO_SEQUENCE = -1


class BatchHeader(NamedTuple):
    """One record batch's header. Timestamps are milliseconds since the epoch; -1 means none."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole batch, header and records."""
        return self.batch_length + LENGTH_OVERHEAD

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def compression(self) -> int:
        """Kafka's codec number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & COMPRESSION_MASK


def parse_header(buffer: bytes | bytearray | memoryview, position: int = 0) -> BatchHeader:
    """The header at `position`. The caller made sure that `HEADER_SIZE` bytes are there."""
    return BatchHeader._make(HEADER.unpack_from(buffer, position))
