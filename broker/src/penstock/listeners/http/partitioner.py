"""Which partition a message goes to: its own, its key's, or the next one in turn.

A key goes where Kafka's own producer would send it (murmur2 over the key's bytes), so that HTTP and Kafka producers
agree. Messages without a key stick to one partition until its batch was sent, then move on: full batches, and over
time an even spread (the idea of KIP-480). How many partitions a topic has is asked of the catalog and believed for a
short while, because asking for every message would cost more than the message.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock.codec.murmur2 import partition_for_key
from penstock.listeners.http.limits import (
    METADATA_ATTEMPTS_MAX,
    METADATA_RETRY_SECONDS,
    PARTITION_COUNT_SECONDS,
    PARTITION_COUNTS_MAX,
)
from penstock.listeners.http.problems import refuse_error
from penstock.model.errors import ErrorCode, PenstockError

if TYPE_CHECKING:
    from penstock.service.api import TopicService
    from penstock.service.context import RequestContext


class Partitioner:
    """Partition counts with an age, and where keyless messages of each topic go at the moment."""

    def __init__(self, topics: TopicService) -> None:
        self._topics = topics
        self._counts: dict[str, tuple[int, float]] = {}
        self._sticky: dict[str, int] = {}

    async def partitions(self, context: RequestContext, topic: str, now: float) -> int:
        """The topic's number of partitions, at most a short while old at loop time `now`; makes the topic where
        that is configured. Raises PenstockError."""
        known = self._counts.get(topic)
        if known is not None and now - known[1] < PARTITION_COUNT_SECONDS:
            return known[0]
        count = await self._ask(context, topic)
        if len(self._counts) >= PARTITION_COUNTS_MAX:
            self._counts.clear()
            self._sticky.clear()
        self._counts[topic] = (count, now)
        return count

    async def _ask(self, context: RequestContext, topic: str) -> int:
        for attempt in range(1, METADATA_ATTEMPTS_MAX + 1):
            metadata = await self._topics.metadata(context, [topic], allow_auto_create=True)
            found = metadata.topics[0]
            if found.error is ErrorCode.NONE and found.partitions:
                break
            if found.error not in (ErrorCode.NONE, ErrorCode.LEADER_NOT_AVAILABLE):
                break
            # Another client's first message is making the topic at this moment; Kafka's clients ask again, too.
            if attempt < METADATA_ATTEMPTS_MAX:
                await asyncio.sleep(METADATA_RETRY_SECONDS)
        refuse_error(found.error, found.message, f"The topic {topic!r} is not ready; try again in a moment.")
        if not found.partitions:
            raise PenstockError(ErrorCode.LEADER_NOT_AVAILABLE, f"The topic {topic!r} has no partitions yet.")
        return len(found.partitions)

    def choose(self, topic: str, partitions: int, key: bytes | None, wanted: int | None) -> int:
        """The partition of one message. A wanted one that the topic does not have is refused."""
        if wanted is not None:
            if wanted >= partitions:
                raise PenstockError(
                    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                    f"The topic {topic!r} has {partitions} partitions, 0 to {partitions - 1}; there is no {wanted}.",
                )
            return wanted
        if key is not None:
            return partition_for_key(key, partitions)
        return self._sticky.get(topic, 0) % partitions

    def move_on(self, topic: str) -> None:
        """A batch of keyless messages was sent: the next ones go to the next partition."""
        if topic in self._counts:
            self._sticky[topic] = self._sticky.get(topic, 0) + 1

    def forget(self, topic: str) -> None:
        """The topic is not what it was: ask again."""
        self._counts.pop(topic, None)
