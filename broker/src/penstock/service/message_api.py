"""Looking at single messages, as the admin API does: one by its offset, or those of a key. Kept beside `api`, because no data path asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from penstock.codec.records import Record
from penstock.model.record_batch import BatchHeader
from penstock.service.context import RequestContext


class StoredMessage(msgspec.Struct, frozen=True):
    """One record where it stands. `header` is its batch's, whose records have `uncompressed_bytes`; `epoch` is the shard's leadership
    that appended it. The partition's bounds are as of the answer: offsets below `high_watermark` are committed. `first` is the batch's
    first record, which decides about its trace; a search leaves it out."""

    topic: str
    partition: int
    record: Record
    header: BatchHeader
    uncompressed_bytes: int
    epoch: int
    log_start: int
    high_watermark: int
    end_offset: int
    first: Record | None = None

    @property
    def committed(self) -> bool:
        """Whether it survives the loss of a minority, and consumers are given it."""
        return self.record.offset < self.high_watermark


class FindRequest(msgspec.Struct, frozen=True):
    """Committed messages of `key`, newest first within a partition, as new as `since_ms`. `partitions` are searched in that order;
    the first of them below offset `before`, where that is given."""

    topic: str
    partitions: Sequence[int]
    key: bytes
    limit: int
    since_ms: int | None = None
    before: int | None = None


class Found(msgspec.Struct):
    """What was found so far: the first `done` partitions were searched to their beginning, the next one down to offset `before`.
    `scanned_messages` were looked at, in `scanned_bytes` of decompressed batches; `unreadable` batches were passed over."""

    messages: list[StoredMessage] = []
    done: int = 0
    before: int | None = None
    scanned_bytes: int = 0
    scanned_messages: int = 0
    unreadable: int = 0


class MessageService(Protocol):
    """Single messages of partitions that this broker leads."""

    def partition_count(self, topic: str) -> int:
        """Raises PenstockError(UNKNOWN_TOPIC_OR_PARTITION)."""
        ...

    async def get(self, context: RequestContext, topic: str, partition: int, offset: int) -> StoredMessage:
        """One message, committed or not yet. Raises PenstockError: UNKNOWN_TOPIC_OR_PARTITION, OFFSET_OUT_OF_RANGE,
        CORRUPT_MESSAGE, NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR."""
        ...

    async def find(self, context: RequestContext, request: FindRequest) -> Found:
        """As much of a search as one request may cost. Raises PenstockError, as `get`, and THROTTLING_QUOTA_EXCEEDED."""
        ...
