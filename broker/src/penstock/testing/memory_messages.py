"""`MessageService` over topics in memory, for tests of the HTTP listeners and the command line."""

from __future__ import annotations

from penstock.model.errors import ErrorCode, PenstockError
from penstock.model.record_batch import parse_header
from penstock.partition.searching import Match, SearchBounds, Wanted, message_at, search_batches
from penstock.service.context import RequestContext
from penstock.service.message_api import FindRequest, Found, StoredMessage
from penstock.testing.memory_topics import MemoryPartition, MemoryTopics


class MemoryMessages:
    """Each request searches `batches_per_request` batches at most, so that a few messages make several requests. `uncommitted`
    messages at the end of each partition count as not committed."""

    def __init__(self, topics: MemoryTopics) -> None:
        self.topics = topics
        self.batches_per_request = 1000
        self.uncommitted = 0

    def partition_count(self, topic: str) -> int:
        """Raises PenstockError for a topic that there is not."""
        return len(self.topics.get(topic).partitions)

    def _partition(self, topic: str, number: int) -> MemoryPartition:
        if number >= self.partition_count(topic):
            raise PenstockError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"There is no partition {number} of {topic!r}."
            )
        return self.topics.get(topic).partitions[number]

    async def get(self, context: RequestContext, topic: str, partition: int, offset: int) -> StoredMessage:
        """One message."""
        kept = self._partition(topic, partition)
        if offset < kept.log_start:
            raise PenstockError(
                ErrorCode.OFFSET_OUT_OF_RANGE, f"Offset {offset} is gone: the log starts at {kept.log_start}."
            )
        for batch in kept.batches:
            if offset <= parse_header(batch).last_offset:
                found = message_at(memoryview(batch), offset)
                assert found is not None
                return self._stored(topic, partition, found)
        raise PenstockError(ErrorCode.OFFSET_OUT_OF_RANGE, f"Offset {offset} is not written yet.")

    async def find(self, context: RequestContext, request: FindRequest) -> Found:
        """So many batches of one partition."""
        number = request.partitions[0]
        kept = self._partition(request.topic, number)
        before = kept.high_watermark if request.before is None else request.before
        batches = [
            memoryview(batch) for batch in reversed(kept.batches) if parse_header(batch).base_offset < before
        ]
        wanted = Wanted(request.key, request.since_ms, kept.log_start, before, request.limit)
        searched = search_batches(batches[: self.batches_per_request], wanted, SearchBounds(2**40, 2**40))
        messages = [self._stored(request.topic, number, match) for match in searched.matches]
        found = Found(messages, scanned_bytes=searched.read_bytes, scanned_messages=searched.messages)
        if batches and searched.before > kept.log_start:
            found.before = searched.before
        else:
            found.done = 1
        return found

    def _stored(self, topic: str, number: int, match: Match) -> StoredMessage:
        kept = self.topics.get(topic).partitions[number]
        end = kept.high_watermark
        return StoredMessage(
            topic,
            number,
            match.record,
            match.header,
            match.uncompressed_bytes,
            3,
            kept.log_start,
            end - self.uncommitted,
            end,
            match.first,
        )
