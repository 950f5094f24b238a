"""Single records in and out of record batches (Kafka's message format v2, magic 2).

The broker does not look at single records on their way through; the HTTP API, the command line, filters and tests do. Reading checks
every length against the bytes that are there, and is lazy, so that a false record count costs nothing. The CRC is not checked here:
whoever takes a batch from outside does that once, with `batch_crc_is_right`.
"""

from collections.abc import Iterable, Iterator
from struct import Struct

from msgspec import Struct as Structure

from penstock.base.crc import crc32c
from penstock.codec.compression import Compression, compress, decompress
from penstock.codec.errors import CodecError, unencodable
from penstock.codec.limits import DECOMPRESSED_BYTES_MAX
from penstock.codec.primitives import ENCODE_ERRORS, varint, varlong, write_varint, write_varlong
from penstock.model.record_batch import (
    CONTROL_MASK,
    CRC_START,
    HEADER,
    HEADER_SIZE,
    LENGTH_OVERHEAD,
    MAGIC,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    TIMESTAMP_TYPE_MASK,
    TRANSACTIONAL_MASK,
    BatchHeader,
    parse_header,
)

# Length, attributes, timestamp, offset, key, value and header count take a byte each at least; a header takes two.
_RECORD_BYTES_MIN = 7
_HEADER_BYTES_MIN = 2
_batch_length = Struct(">qi").unpack_from


class Record(Structure, gc=False):
    """One record. `timestamp` is in milliseconds since 1970; null keys and values are None, as are null values of headers.

    `offset` is absolute in a record that was read, and not looked at in one that is to be written: batches are dense.
    """

    key: bytes | None = None
    value: bytes | None = None
    timestamp: int = 0
    headers: tuple[tuple[str, bytes | None], ...] = ()
    offset: int = 0


class BatchOptions(Structure, frozen=True, kw_only=True):
    """What the header of a batch says beside its records. `log_append_time` is that timestamp in ms, or None for CreateTime."""

    compression: Compression = Compression.NONE
    log_append_time: int | None = None
    leader_epoch: int = -1
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = -1
    base_sequence: int = NO_SEQUENCE
    transactional: bool = False
    control: bool = False

    @property
    def attributes(self) -> int:
        """The attribute bits of the header."""
        bits = int(self.compression)
        bits |= TIMESTAMP_TYPE_MASK if self.log_append_time is not None else 0
        bits |= TRANSACTIONAL_MASK if self.transactional else 0
        return bits | (CONTROL_MASK if self.control else 0)


_PLAIN = BatchOptions()


def split_batches(buffer: memoryview) -> Iterator[memoryview]:
    """The complete batches of a records field, in order. A part of a batch at the end, which old brokers send, is left out."""
    position = 0
    limit = len(buffer)
    while limit - position >= HEADER_SIZE:
        _, length = _batch_length(buffer, position)
        if length < HEADER_SIZE - LENGTH_OVERHEAD:
            raise CodecError(f"the batch at byte {position} has {length} bytes, less than its header")
        end = position + LENGTH_OVERHEAD + length
        if end > limit:
            return
        yield buffer[position:end]
        position = end


def batch_crc_is_right(batch: memoryview) -> bool:
    """Whether the checksum of a complete batch is that of its bytes."""
    return parse_header(batch).crc == crc32c(batch[CRC_START:])


def read_records(batch: memoryview, decompressed_bytes_max: int = DECOMPRESSED_BYTES_MAX) -> Iterator[Record]:
    """The records of one complete batch, in order, those of a control batch too.

    Raises `CodecError` for another format, a length that does not fit, damaged compression, or more decompressed bytes than allowed.
    """
    if len(batch) < HEADER_SIZE:
        raise CodecError(f"a batch of {len(batch)} bytes is shorter than its header of {HEADER_SIZE}")
    header = parse_header(batch)
    if header.magic != MAGIC:
        raise CodecError(
            f"the batch has format {header.magic}; only format {MAGIC} (Kafka 0.11 and later) is read"
        )
    if header.size_bytes != len(batch):
        raise CodecError(f"the batch says that it has {header.size_bytes} bytes, but {len(batch)} are there")
    body = decompress(header.compression, batch[HEADER_SIZE:], decompressed_bytes_max)
    if not 0 <= header.record_count <= len(body) // _RECORD_BYTES_MIN:
        raise CodecError(
            f"the batch says that it has {header.record_count} records, but their {len(body)} bytes cannot hold them"
        )
    return _records(header, body)


def _records(header: BatchHeader, body: bytes) -> Iterator[Record]:
    append_time = header.max_timestamp if header.attributes & TIMESTAMP_TYPE_MASK else None
    position = 0
    for number in range(header.record_count):
        where = f"record {number} of the batch at offset {header.base_offset}"
        try:
            record, position = _read_record(body, position, where)
        except IndexError as error:
            raise CodecError(f"{where}: it ends after the last byte of its batch") from error
        record.offset += header.base_offset
        record.timestamp = record.timestamp + header.first_timestamp if append_time is None else append_time
        yield record
    if position != len(body):
        raise CodecError(
            f"{len(body) - position} bytes follow the last record of the batch at offset {header.base_offset}"
        )


def _read_record(body: bytes, position: int, where: str) -> tuple[Record, int]:
    """Read one record; its timestamp and offset are still relative. IndexError where the body ends within a number."""
    length, position = varint(body, position, len(body), where)
    end = position + length
    if length < _RECORD_BYTES_MIN - 1 or end > len(body):
        raise CodecError(f"{where}: its length is {length}, but {len(body) - position} bytes are left")
    position += 1  # Attributes, of which none is in use.
    # One byte is by far the most common size of these numbers, so it is read here without a call.
    if body[position] < 0x80:
        timestamp = (body[position] >> 1) ^ -(body[position] & 1)
        position += 1
    else:
        timestamp, position = varlong(body, position, end, where)
    offset, position = varint(body, position, end, where)
    key, position = _nullable_bytes(body, position, end, where)
    value, position = _nullable_bytes(body, position, end, where)
    headers: tuple[tuple[str, bytes | None], ...] = ()
    if body[position] == 0:
        position += 1
    else:
        headers, position = read_headers(body, position, end, where)
    if position != end:
        raise CodecError(f"{where}: its length leads to byte {end}, but its fields end at byte {position}")
    return Record(key, value, timestamp, headers, offset), position


def _nullable_bytes(body: bytes, position: int, limit: int, where: str) -> tuple[bytes | None, int]:
    byte = body[position]
    if byte < 0x80:
        length = (byte >> 1) ^ -(byte & 1)
        position += 1
    else:
        length, position = varint(body, position, limit, where)
    if length < 0:
        if length != -1:
            raise CodecError(f"{where}: the length before byte {position} is {length}")
        return None, position
    end = position + length
    if end > limit:
        raise CodecError(
            f"{where}: the length before byte {position} is {length}, but {max(0, limit - position)} bytes are left"
        )
    return body[position:end], end


def read_headers(
    body: bytes, position: int, limit: int, where: str
) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    """All headers of one record from `position` on. Raises `CodecError`, or IndexError where the body ends too early."""
    count, position = varint(body, position, limit, where)
    if not 0 <= count <= (limit - position) // _HEADER_BYTES_MIN:
        raise CodecError(
            f"{where}: it says that it has {count} headers, but {limit - position} bytes are left"
        )
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        key, position = _nullable_bytes(body, position, limit, where)
        if key is None:
            raise CodecError(f"{where}: the key of a header is null")
        value, position = _nullable_bytes(body, position, limit, where)
        # The broker stores what it is sent, so a key that is not UTF-8 must not make its record unreadable; Java replaces too.
        headers.append((key.decode(errors="replace"), value))
    return tuple(headers), position


def build_batch(records: Iterable[Record], base_offset: int = 0, options: BatchOptions = _PLAIN) -> bytes:
    """One batch of these records, at dense offsets from `base_offset`. Raises `CodecError` for none, or a value out of range."""
    try:
        return _build_batch(records, base_offset, options)
    except ENCODE_ERRORS as error:
        raise unencodable("the record batch", error) from error


def _build_batch(records: Iterable[Record], base_offset: int, options: BatchOptions) -> bytes:
    body = bytearray()
    first_timestamp = max_timestamp = 0
    count = 0
    for record in records:
        if count == 0:
            first_timestamp = max_timestamp = record.timestamp
        max_timestamp = max(max_timestamp, record.timestamp)
        _write_record(body, record, record.timestamp - first_timestamp, count)
        count += 1
    if count == 0:
        raise CodecError("a batch needs at least one record")
    packed = compress(options.compression, body)
    header = BatchHeader(
        base_offset=base_offset,
        batch_length=HEADER_SIZE - LENGTH_OVERHEAD + len(packed),
        leader_epoch=options.leader_epoch,
        magic=MAGIC,
        crc=0,
        attributes=options.attributes,
        last_offset_delta=count - 1,
        first_timestamp=first_timestamp,
        max_timestamp=max_timestamp if options.log_append_time is None else options.log_append_time,
        producer_id=options.producer_id,
        producer_epoch=options.producer_epoch,
        base_sequence=options.base_sequence,
        record_count=count,
    )
    covered = HEADER.pack(*header)[CRC_START:]
    return HEADER.pack(*header._replace(crc=crc32c(packed, crc32c(covered)))) + packed


def _write_record(body: bytearray, record: Record, timestamp_delta: int, offset_delta: int) -> None:
    fields = bytearray(1)  # Attributes, of which none is in use.
    write_varlong(fields, timestamp_delta)
    write_varint(fields, offset_delta)
    _write_nullable_bytes(fields, record.key)
    _write_nullable_bytes(fields, record.value)
    write_varint(fields, len(record.headers))
    for key, value in record.headers:
        _write_nullable_bytes(fields, key.encode())
        _write_nullable_bytes(fields, value)
    write_varint(body, len(fields))
    body += fields


def _write_nullable_bytes(fields: bytearray, value: bytes | None) -> None:
    if value is None:
        fields.append(1)  # -1 in zigzag.
    else:
        write_varint(fields, len(value))
        fields += value
