"""Single messages: one by its offset, or those of a key, in bounded steps.

A search goes through each partition from its newest batch back. The index alone leaves out batches that are too old; the others are
read and looked through in a reader's thread, a slice at a time and one slice of all searches at a time, so that the loop and consumers
of old messages hardly notice. What a request may cost altogether is bounded; whoever wants more asks again from where it ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

import msgspec

from penstock.codec.errors import CodecError
from penstock.log.errors import LogDamagedError
from penstock.log.reader import Extent, read_payloads
from penstock.log.tail_cache import Payload
from penstock.model.errors import ErrorCode, PenstockError
from penstock.partition.partition import Partition, Window
from penstock.partition.searching import Match, SearchBounds, Searched, Wanted, message_at, search_batches
from penstock.runtime.shard import Shard
from penstock.service.context import RequestContext
from penstock.service.message_api import FindRequest, Found, StoredMessage
from penstock.service.runs import RunLoader
from penstock.service.settings import Settings

logger = logging.getLogger(__name__)


class FindLimits(msgspec.Struct, frozen=True):
    """Bounds on one request of a search, and on a slice of it: decompressed bytes, records taken apart, index slots looked at,
    partitions; and how many requests search at a time."""

    bytes_max: int = 32 * 1024 * 1024
    records_max: int = 50_000
    slots_max: int = 50_000
    partitions_max: int = 1000
    slice_bytes_max: int = 512 * 1024
    slice_records_max: int = 5_000
    slice_slots_max: int = 10_000
    at_a_time_max: int = 8


class _Spent:
    """What a request has cost so far."""

    def __init__(self, limits: FindLimits) -> None:
        self._limits = limits
        self.bytes = self.records = self.slots = 0

    @property
    def is_enough(self) -> bool:
        limits = self._limits
        return (
            self.bytes >= limits.bytes_max
            or self.records >= limits.records_max
            or self.slots >= limits.slots_max
        )


class MessageServiceImpl:
    """Implements `MessageService` on one shard."""

    def __init__(self, shard: Shard, settings: Settings, limits: FindLimits) -> None:
        self._shard = shard
        self._settings = settings
        self._limits = limits
        self._runs = RunLoader(shard)
        self._slice_turn = asyncio.Lock()
        self._searching = 0

    def partition_count(self, topic: str) -> int:
        """See `MessageService.partition_count`."""
        known = self._shard.machines.catalog.topics.get(topic)
        if known is None:
            raise PenstockError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"There is no topic {topic!r}.")
        return len(known.partitions)

    def _require(self, topic: str, number: int) -> Partition:
        count = self.partition_count(topic)
        if number >= count:
            has = "one partition, 0" if count == 1 else f"{count} partitions, 0 to {count - 1}"
            raise PenstockError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic {topic!r} has {has}; there is no {number}."
            )
        return self._shard.table.require(topic, number)

    # --- one message -----------------------------------------------------------------------------

    async def get(self, context: RequestContext, topic: str, partition: int, offset: int) -> StoredMessage:
        """See `MessageService.get`."""
        await self._shard.surely_leading()
        place = self._require(topic, partition)
        self._check_offset(place, offset)
        try:
            found = await self._read(place, offset)
        except CodecError as error:
            raise PenstockError(
                ErrorCode.CORRUPT_MESSAGE,
                f"The batch that holds offset {offset} cannot be read as messages: {error}.",
            ) from error
        except (LogDamagedError, OSError) as error:
            raise self._storage_error(place, error) from error
        # What a thread has read may have been cut, or retired, meanwhile.
        self._shard.check_leading()
        if found is None:
            self._check_offset(place, offset)
            raise PenstockError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"Offset {offset} of partition {partition} of {topic!r} holds no message.",
            )
        return _stored(place, found)

    async def _read(self, place: Partition, offset: int) -> Match | None:
        extents = await self._runs.ask(place, lambda: place.extents(offset, 1, place.end_offset))
        if not extents:
            return None
        cached = self._shard.log.cache.get((extents[0].segment.base_index, extents[0].position))
        return await self._shard.threads.read(partial(_read_message, extents[0], cached, offset))

    def _check_offset(self, place: Partition, offset: int) -> None:
        where = f"partition {place.number} of {place.topic!r}"
        if offset < place.log_start:
            settings = self._settings.topic(place.topic)
            raise PenstockError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"Offset {offset} of {where} is gone: its log starts at {place.log_start}, where retention "
                f"(retention.ms={settings.retention_ms}, retention.bytes={settings.retention_bytes}) or a deletion of records "
                "has moved it.",
            )
        if offset >= place.end_offset:
            raise PenstockError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"Offset {offset} of {where} is not written yet: the next message there gets offset {place.end_offset}.",
            )

    def _storage_error(self, place: Partition, error: Exception) -> PenstockError:
        """What cannot be read any more: because it is not this broker's any more, or retention took it, or the disk failed."""
        if not self._shard.leading:
            return PenstockError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER, "The leadership moved meanwhile; ask again in a moment."
            )
        logger.error("a message of %s-%d could not be read: %s", place.topic, place.number, error)
        return PenstockError(
            ErrorCode.KAFKA_STORAGE_ERROR, f"The log cannot be read: {error}. The broker's log says more."
        )

    # --- a search --------------------------------------------------------------------------------

    async def find(self, context: RequestContext, request: FindRequest) -> Found:
        """See `MessageService.find`."""
        if self._searching >= self._limits.at_a_time_max:
            raise PenstockError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                f"This broker runs {self._limits.at_a_time_max} searches at a time; try again in a moment.",
            )
        self._searching += 1
        try:
            return await self._find(request)
        finally:
            self._searching -= 1

    async def _find(self, request: FindRequest) -> Found:
        await self._shard.surely_leading()
        found, spent = Found(before=request.before), _Spent(self._limits)
        for number in request.partitions[: self._limits.partitions_max]:
            place = self._require(request.topic, number)
            await self._find_in(place, request, found, spent)
            if found.before is not None or len(found.messages) >= request.limit:
                break
        return found

    async def _find_in(self, place: Partition, request: FindRequest, found: Found, spent: _Spent) -> None:
        """One partition, from `found.before` back; afterwards that is None, and the partition counted as done, when its beginning
        was reached."""
        before = place.high_watermark if found.before is None else min(found.before, place.high_watermark)
        while before > place.log_start and not spent.is_enough and len(found.messages) < request.limit:
            below = before
            window = await self._window(place, below, request.since_ms)
            spent.slots += window.looked
            before = window.before
            if window.extents:
                limit = request.limit - len(found.messages)
                wanted = Wanted(request.key, request.since_ms, place.log_start, below, limit)
                searched = await self._search(place, window.extents, wanted)
                spent.bytes += searched.read_bytes
                spent.records += searched.opened
                self._shard.check_leading()
                found.messages += [_stored(place, match) for match in searched.matches]
                found.scanned_bytes += searched.read_bytes
                found.scanned_messages += searched.messages
                found.unreadable += searched.unreadable
                before = searched.before if searched.stopped else window.before
        if before <= place.log_start:
            found.before = None
            found.done += 1
        else:
            found.before = before

    async def _window(self, place: Partition, before: int, since_ms: int | None) -> Window:
        sizes = self._limits.slice_bytes_max, self._limits.slice_slots_max
        try:
            return await self._runs.ask(place, lambda: place.extents_before(before, since_ms, *sizes))
        except (LogDamagedError, OSError) as error:
            raise self._storage_error(place, error) from error

    async def _search(self, place: Partition, extents: Sequence[Extent], wanted: Wanted) -> Searched:
        bounds = SearchBounds(self._limits.slice_bytes_max, self._limits.slice_records_max)
        async with self._slice_turn:
            cache = self._shard.log.cache
            sources = [(each, cache.get((each.segment.base_index, each.position))) for each in extents]
            try:
                return await self._shard.threads.read(partial(_search_slice, sources, wanted, bounds))
            except (LogDamagedError, OSError) as error:
                raise self._storage_error(place, error) from error


def _stored(place: Partition, match: Match) -> StoredMessage:
    return StoredMessage(
        place.topic,
        place.number,
        match.record,
        match.header,
        match.uncompressed_bytes,
        match.header.leader_epoch - place.epoch_base,
        place.log_start,
        place.high_watermark,
        place.end_offset,
        match.first,
    )


def _read_message(extent: Extent, cached: Payload | None, offset: int) -> Match | None:
    [batch] = _payloads([(extent, cached)])
    return message_at(batch, offset)


def _search_slice(
    sources: Sequence[tuple[Extent, Payload | None]], wanted: Wanted, bounds: SearchBounds
) -> Searched:
    return search_batches(_payloads(sources), wanted, bounds)


def _payloads(sources: Sequence[tuple[Extent, Payload | None]]) -> list[memoryview]:
    """What is not in memory is read, neighbours together."""
    read = iter(read_payloads([extent for extent, cached in sources if cached is None]))
    return [next(read) if cached is None else memoryview(b"".join(cached)) for _, cached in sources]
