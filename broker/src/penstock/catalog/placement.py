"""Whether a shard keeps exactly the partitions that the catalog places there.

A topic and its partitions are entries of their own, and in a cluster of several shards they stand in different logs. A
crash may come between them. So whoever begins to lead a shard compares, and opens or drops what is missing or left over.
So far the shard that keeps the catalog keeps every partition.
"""

from __future__ import annotations

from penstock.catalog.partitions import Partitions, PartitionState
from penstock.catalog.topics import Catalog, Topic


def partition_states(topic: Topic, first: int = 0) -> list[PartitionState]:
    """A topic's partitions from number `first` on, as their shards are told of them."""
    return [
        PartitionState(place.key, topic.name, number, topic.topic_id, place.epoch_base)
        for number, place in enumerate(topic.partitions)
        if number >= first
    ]


def misplaced(catalog: Catalog, partitions: Partitions) -> tuple[list[PartitionState], list[int]]:
    """(partitions to be opened in the shard, keys of partitions to be dropped there)."""
    topics = catalog.topics.committed.values()
    wanted = {state.key: state for topic in topics for state in partition_states(topic)}
    kept = partitions.states.committed
    missing = [state for key, state in wanted.items() if key not in kept]
    return missing, [key for key in kept if key not in wanted]
