"""Looking for the messages of one key in batches: what `penstock message find` does to the bytes.

Batches are looked at newest first. One whose decompressed bytes do not hold the key, with its length before it, anywhere has no record
of that key, and telling so costs next to nothing; only the others are taken apart. How much is taken apart at a time is bounded, so that the
thread that does it is free again soon.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from penstock.codec.errors import CodecError
from penstock.codec.primitives import write_varint
from penstock.codec.records import Record, open_batch, records_of
from penstock.model.record_batch import CONTROL_MASK, BatchHeader, parse_header

# What a batch counts for that cannot be read: it may have become large before that was clear.
UNREADABLE_BYTES = 4 * 1024 * 1024


class Wanted(NamedTuple):
    """Messages of `key` at offsets from `from_offset` up to below `before`, as new as `since` (ms; None: of any time)."""

    key: bytes
    since: int | None
    from_offset: int
    before: int
    limit: int


class SearchBounds(NamedTuple):
    """At most so many decompressed bytes, and records taken apart; at least one batch."""

    bytes_max: int
    records_max: int


class Match(NamedTuple):
    """One record with the header of its batch, and how many bytes the batch's records have decompressed. `first` is the batch's
    first record, where one message was asked for."""

    header: BatchHeader
    record: Record
    uncompressed_bytes: int
    first: Record | None = None


class Searched(msgspec.Struct):
    """What came of it. The search goes on below offset `before` where it `stopped` early. `read_bytes` are those of the batches decompressed, `messages`
    how many they hold, `opened` how many of those were taken apart; `unreadable` batches were passed over."""

    before: int
    stopped: bool = False
    matches: list[Match] = []
    read_bytes: int = 0
    messages: int = 0
    opened: int = 0
    unreadable: int = 0


def search_batches(batches: Iterable[memoryview], wanted: Wanted, bounds: SearchBounds) -> Searched:
    """Looks through complete batches, newest first, until there are `wanted.limit` matches or a bound is reached."""
    searched = Searched(wanted.before)
    needle = _as_written(wanted.key)
    for batch in batches:
        header = parse_header(batch)
        searched.messages += header.record_count
        found = _matches(batch, header, needle, wanted, searched)
        room = wanted.limit - len(searched.matches)
        searched.matches += found[:room]
        if len(found) >= room:
            searched.before, searched.stopped = found[room - 1].record.offset, True
            break
        searched.before = header.base_offset
        if searched.read_bytes >= bounds.bytes_max or searched.opened >= bounds.records_max:
            searched.stopped = True
            break
    return searched


def _as_written(key: bytes) -> bytes:
    """The key as a record holds it. A length could be written longer than it need be; no client does."""
    written = bytearray()
    write_varint(written, len(key))
    return bytes(written + key)


def _matches(
    batch: memoryview, header: BatchHeader, needle: bytes, wanted: Wanted, searched: Searched
) -> list[Match]:
    """Newest first; none of a batch that cannot be read, because producers' batches are not looked into when they come."""
    if header.attributes & CONTROL_MASK:
        return []
    try:
        _, body = open_batch(batch)
        searched.read_bytes += len(body)
        if needle not in body:
            return []
        searched.opened += header.record_count
        found = [record for record in records_of(header, body) if _is_wanted(record, header, wanted)]
    except CodecError:
        searched.unreadable += 1
        searched.read_bytes += UNREADABLE_BYTES
        return []
    return [Match(header, record, len(body)) for record in reversed(found)]


def _is_wanted(record: Record, header: BatchHeader, wanted: Wanted) -> bool:
    if record.key != wanted.key or not wanted.from_offset <= record.offset < wanted.before:
        return False
    # What a batch says of its records' offsets is the producer's word; outside of the batch it is not true.
    if not header.base_offset <= record.offset <= header.last_offset:
        return False
    return wanted.since is None or record.timestamp >= wanted.since


def message_at(batch: memoryview, offset: int) -> Match | None:
    """The record of that offset; None when the batch holds none there. Raises CodecError."""
    header, body = open_batch(batch)
    first = None
    for record in records_of(header, body):
        first = first or record
        if record.offset == offset:
            return Match(header, record, len(body), first)
    return None
