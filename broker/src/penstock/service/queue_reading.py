"""The records of granted offsets: batches are read from the log, taken apart once, and kept while they are near.

A group hands out a batch's messages one by one or a few at a time, so the records of the last batches are kept, bounded by
bytes. A batch that cannot be taken apart (the broker takes whatever the checksum vouches for) is told as such and not raised:
one producer's damage must not stop a group.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from penstock.codec.errors import CodecError
from penstock.codec.records import Record, read_records, split_batches
from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import CONTROL_MASK, BatchHeader, parse_header
from penstock.service.api import FetchedPartition, FetchPartition

READ_BYTES: Final = 1024 * 1024
"""Bytes that one read of the log brings; a first batch that is larger comes whole."""

DECODED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of records that are kept; the last batch is kept whatever its size."""

RECORD_OVERHEAD_BYTES: Final = 200
"""What a record takes in memory beside its key, value and headers, about."""

INLINE_RECORDS_MAX: Final = 2_000
"""Records that are taken apart on the loop; more, and compressed ones, in a thread."""


class Reads(Protocol):
    """Reading whole batches of committed messages (`service.fetching.Fetching`)."""

    def fetch(
        self, partitions: Sequence[FetchPartition], *, min_bytes: int, max_bytes: int, max_wait_ms: int
    ) -> asyncio.Future[list[FetchedPartition]]: ...


class Place(NamedTuple):
    """A partition: its key in the shard, its topic and number."""

    key: int
    topic: str
    number: int


class ReadRecords(msgspec.Struct):
    """What became of offsets that were asked for: `left` did not fit, `gone` are no longer in the log (or never were
    messages), `unreadable` cannot be taken apart. `size_bytes` is that of the records, about."""

    found: list[Record] = []
    size_bytes: int = 0
    left: list[int] = []
    gone: list[int] = []
    unreadable: list[int] = []


class _Batch(NamedTuple):
    """Offsets `first` to `last`; no records where it cannot be taken apart."""

    first: int
    last: int
    records: dict[int, Record] | None
    size_bytes: int


class QueueReader:
    """Reads for all queue groups of a shard."""

    def __init__(self, reads: Reads, decoded_bytes_max: int = DECODED_BYTES_MAX) -> None:
        self._reads = reads
        self._bytes_max = decoded_bytes_max
        self._batches: OrderedDict[tuple[int, int], _Batch] = OrderedDict()
        # By partition, the first offsets of its batches in order.
        self._firsts: dict[int, list[int]] = {}
        self._turns: dict[int, asyncio.Lock] = {}
        self.size_bytes = 0

    async def read(self, place: Place, offsets: Iterable[int], bytes_max: int) -> ReadRecords:
        """The records at these offsets, which ascend, as far as they fit into `bytes_max` bytes of keys and values (the first
        comes whatever its size). Raises PenstockError where nothing can be read now."""
        result = ReadRecords()
        # Whoever waits for the same batch finds it taken apart.
        turn = self._turns.setdefault(place.key, asyncio.Lock())
        async with turn:
            for offset in offsets:
                if result.found and result.size_bytes >= bytes_max:
                    result.left.append(offset)
                    continue
                batch = self._kept(place.key, offset) or await self._load(place, offset)
                record = None
                if batch is not None and batch.records is None:
                    result.unreadable.append(offset)
                    continue
                if batch is not None and batch.records is not None:
                    record = batch.records.get(offset)
                if record is None:
                    result.gone.append(offset)
                    continue
                result.found.append(record)
                result.size_bytes += _size(record)
        if not turn.locked() and self._turns.get(place.key) is turn:
            del self._turns[place.key]
        return result

    def forget(self) -> None:
        """Lets go of everything: this broker leads no longer."""
        self._batches.clear()
        self._firsts.clear()
        self.size_bytes = 0

    # --- what is kept ----------------------------------------------------------------------------

    def _kept(self, key: int, offset: int) -> _Batch | None:
        firsts = self._firsts.get(key)
        slot = bisect_right(firsts, offset) - 1 if firsts else -1
        if firsts is None or slot < 0:
            return None
        place = (key, firsts[slot])
        batch = self._batches[place]
        if offset > batch.last:
            return None
        self._batches.move_to_end(place)
        return batch

    def _keep(self, key: int, batch: _Batch) -> None:
        place = (key, batch.first)
        if place in self._batches:
            return
        self._batches[place] = batch
        insort(self._firsts.setdefault(key, []), batch.first)
        self.size_bytes += batch.size_bytes
        while self.size_bytes > self._bytes_max and len(self._batches) > 1:
            (old_key, first), dropped = self._batches.popitem(last=False)
            self.size_bytes -= dropped.size_bytes
            firsts = self._firsts[old_key]
            firsts.remove(first)
            if not firsts:
                del self._firsts[old_key]

    # --- reading ---------------------------------------------------------------------------------

    async def _load(self, place: Place, offset: int) -> _Batch | None:
        """The batch that holds the offset, None where there is none any more. Those behind it that came along are kept."""
        asked = FetchPartition(place.topic, place.number, offset, READ_BYTES)
        [fetched] = await self._reads.fetch([asked], min_bytes=1, max_bytes=READ_BYTES, max_wait_ms=0)
        if fetched.error in (ErrorCode.OFFSET_OUT_OF_RANGE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION):
            return None
        if fetched.error is not ErrorCode.NONE:
            raise PenstockError(
                fetched.error,
                f"Partition {place.number} of {place.topic!r} cannot be read now; try again in a moment.",
            )
        wanted = None
        for batch in await _batches(fetched):
            if batch.first <= offset <= batch.last:
                wanted = batch
            self._keep(place.key, batch)
        if wanted is not None:
            # What came along must not have pushed it out.
            self._keep(place.key, wanted)
        return wanted


async def _batches(fetched: FetchedPartition) -> list[_Batch]:
    buffers = fetched.records
    data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
    try:
        whole = [(parse_header(batch), batch) for batch in split_batches(data)]
    except CodecError as error:
        raise PenstockError(
            ErrorCode.CORRUPT_MESSAGE,
            f"Partition {fetched.partition} of {fetched.topic!r} cannot be read: {error}.",
        ) from error
    records = sum(header.record_count for header, _ in whole)
    decode: Callable[[], list[_Batch]] = lambda: [_decoded(header, batch) for header, batch in whole]  # noqa: E731
    if records <= INLINE_RECORDS_MAX and not any(header.compression for header, _ in whole):
        return decode()
    return await asyncio.to_thread(decode)


def _decoded(header: BatchHeader, batch: memoryview) -> _Batch:
    if header.attributes & CONTROL_MASK:
        return _Batch(header.base_offset, header.last_offset, {}, RECORD_OVERHEAD_BYTES)
    try:
        records = {record.offset: record for record in read_records(batch)}
    except CodecError:
        return _Batch(header.base_offset, header.last_offset, None, RECORD_OVERHEAD_BYTES)
    size = sum(_size(record) for record in records.values())
    return _Batch(header.base_offset, header.last_offset, records, size)


def _size(record: Record) -> int:
    size = RECORD_OVERHEAD_BYTES + len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += len(name) + len(value or b"")
    return size
