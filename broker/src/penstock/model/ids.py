"""Numbers that must not be mixed up.

An `Offset` counts messages of one partition; a `LogIndex` counts entries of a shard's commit log; an `Epoch` numbers
leaderships; a `PartitionKey` names a partition inside its shard and is never reused.
"""

from __future__ import annotations

from typing import NewType

Offset = NewType("Offset", int)
LogIndex = NewType("LogIndex", int)
Epoch = NewType("Epoch", int)
NodeId = NewType("NodeId", int)
PartitionKey = NewType("PartitionKey", int)

NODES_PER_SHARD = 100


def node_id(shard: int, ordinal: int) -> NodeId:
    """Kafka's node id of a broker: shard x 100 + ordinal."""
    return NodeId(shard * NODES_PER_SHARD + ordinal)
