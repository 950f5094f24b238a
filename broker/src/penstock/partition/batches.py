"""Checking what a producer sent, by its batch headers alone, and finding a message by time inside one batch."""

from __future__ import annotations

from penstock.base.crc import crc32c
from penstock.codec.records import read_records
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import (
    CONTROL_MASK,
    CRC_START,
    HEADER,
    HEADER_SIZE,
    LENGTH_OVERHEAD,
    MAGIC,
    NO_PRODUCER_ID,
    TIMESTAMP_TYPE_MASK,
    TRANSACTIONAL_MASK,
    BatchHeader,
    parse_header,
)

# Where the bytes begin that stay as the producer sent them: base offset, length and leader epoch stand before.
KEPT_FROM = 16
COMPRESSION_MAX = 4
# More batches than this in one partition of one request are refused: clients send one.
BATCHES_PER_REQUEST_MAX = 1000


def split_batches(records: memoryview, size_bytes_max: int) -> list[tuple[BatchHeader, memoryview]]:
    """The checked batches of one partition's records, each with its whole bytes.

    Raises PenstockError: CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, INVALID_RECORD, UNSUPPORTED_FOR_MESSAGE_FORMAT.
    """
    batches: list[tuple[BatchHeader, memoryview]] = []
    position, size = 0, len(records)
    while position < size:
        if len(batches) == BATCHES_PER_REQUEST_MAX:
            raise PenstockError(
                ErrorCode.INVALID_RECORD,
                f"at most {BATCHES_PER_REQUEST_MAX} batches per partition and request",
            )
        if size - position < HEADER_SIZE:
            _refuse_short(records, position)
        header = parse_header(records, position)
        end = position + header.batch_length + LENGTH_OVERHEAD
        check_batch(header, records[position : min(max(end, position), size)], size_bytes_max)
        batches.append((header, records[position:end]))
        position = end
    if not batches:
        raise PenstockError(ErrorCode.INVALID_RECORD, "the request holds no record batch")
    return batches


def _refuse_short(records: memoryview, position: int) -> None:
    # Old message sets (magic 0 and 1) are shorter than a batch header; say what they are rather than "corrupt".
    if len(records) - position > 16 and records[position + 16] < MAGIC:
        raise PenstockError(
            ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
            "messages of format v0 and v1 are not accepted: use format v2",
        )
    raise PenstockError(ErrorCode.CORRUPT_MESSAGE, "the record batch is shorter than its header")


def check_batch(header: BatchHeader, batch: memoryview, size_bytes_max: int) -> None:
    """Raises PenstockError unless the batch is whole and may be appended."""
    if header.magic != MAGIC:
        code = (
            ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT
            if 0 <= header.magic < MAGIC
            else ErrorCode.CORRUPT_MESSAGE
        )
        raise PenstockError(code, f"the record batch has format {header.magic}, only format 2 is accepted")
    if header.batch_length + LENGTH_OVERHEAD != len(batch) or len(batch) < HEADER_SIZE:
        raise PenstockError(
            ErrorCode.CORRUPT_MESSAGE, "the record batch's length does not match what was sent"
        )
    if len(batch) > size_bytes_max:
        raise PenstockError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"the record batch has {len(batch)} bytes, the topic allows max.message.bytes={size_bytes_max}",
        )
    if crc32c(batch[CRC_START:]) != header.crc:
        raise PenstockError(ErrorCode.CORRUPT_MESSAGE, "the record batch does not match its checksum")
    if header.record_count < 1 or header.last_offset_delta != header.record_count - 1:
        raise PenstockError(ErrorCode.INVALID_RECORD, "the record batch's count does not match its offsets")
    if header.compression > COMPRESSION_MAX:
        raise PenstockError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"compression codec {header.compression} is not known"
        )
    if header.attributes & CONTROL_MASK:
        raise PenstockError(ErrorCode.INVALID_RECORD, "clients may not write control batches")
    if header.attributes & TRANSACTIONAL_MASK:
        raise PenstockError(ErrorCode.INVALID_TXN_STATE, "transactions are not served by this release")
    if header.producer_id != NO_PRODUCER_ID and (header.base_sequence < 0 or header.producer_epoch < 0):
        raise PenstockError(
            ErrorCode.INVALID_RECORD, "an idempotent batch needs a producer epoch and a sequence"
        )


def with_append_time(header: BatchHeader, batch: memoryview, now_ms: int) -> tuple[BatchHeader, memoryview]:
    """The batch under LogAppendTime: type and largest timestamp set, checksum renewed; returns (header, head bytes).

    The head replaces the batch's first 61 bytes; the records are left alone (Kafka: `max_timestamp` counts for all).
    """
    stamped = header._replace(attributes=header.attributes | TIMESTAMP_TYPE_MASK, max_timestamp=now_ms)
    head = bytearray(HEADER.pack(*stamped))
    crc = crc32c(batch[HEADER_SIZE:], crc32c(head[CRC_START:]))
    head[17:CRC_START] = crc.to_bytes(4, "big")
    return stamped._replace(crc=crc), memoryview(head)


def first_since(batch: memoryview, timestamp: int, from_offset: int) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record at or after `from_offset` whose timestamp is at least `timestamp`."""
    for record in read_records(batch):
        if record.offset >= from_offset and record.timestamp >= timestamp:
            return record.offset, record.timestamp
    return None
