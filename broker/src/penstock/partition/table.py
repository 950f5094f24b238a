"""The partitions of this broker's shard, by key and by topic and number."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.catalog.partitions import PartitionState
from penstock.log.truncation import Truncation
from penstock.model.errors import ErrorCode, PenstockError
from penstock.partition.partition import Partition, RunCache


class PartitionTable:
    """Open partitions. `get` is on the hot path."""

    def __init__(self, cache: RunCache) -> None:
        self.cache = cache
        self.by_key: dict[int, Partition] = {}
        self._by_name: dict[tuple[str, int], Partition] = {}

    def open(self, state: PartitionState) -> Partition:
        """Adds a partition (or finds it, when it is open already)."""
        partition = self.by_key.get(state.key)
        if partition is None:
            partition = Partition(state, self.cache)
            self.by_key[state.key] = partition
            self._by_name[(state.topic, state.number)] = partition
        return partition

    def drop(self, key: int) -> Partition | None:
        """Removes a partition and wakes who waits for it."""
        partition = self.by_key.pop(key, None)
        if partition is not None:
            if self._by_name.get((partition.topic, partition.number)) is partition:
                del self._by_name[(partition.topic, partition.number)]
            partition.wake()
        return partition

    def clear(self) -> None:
        """Removes all partitions and wakes who waits for them."""
        for key in list(self.by_key):
            self.drop(key)

    def truncated(self, cut: Truncation) -> list[Partition]:
        """Tells every partition what a truncation took away; returns those that lost batches."""
        touched = [self.by_key[key] for key in cut.ends if key in self.by_key]
        for partition in touched:
            partition.truncated(cut)
        return touched

    def get(self, topic: str, number: int) -> Partition | None:
        """The open partition, or None."""
        return self._by_name.get((topic, number))

    def require(self, topic: str, number: int) -> Partition:
        """Raises PenstockError(UNKNOWN_TOPIC_OR_PARTITION)."""
        partition = self._by_name.get((topic, number))
        if partition is None:
            raise PenstockError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"there is no partition {number} of a topic named {topic}",
            )
        return partition

    def __iter__(self) -> Iterator[Partition]:
        return iter(self.by_key.values())

    def __len__(self) -> int:
        return len(self.by_key)
