"""The modes that shards of several brokers have, each a line of `MODES`: the cells of the dozen run in all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resources import message_cluster


@dataclass(frozen=True)
class Mode:
    """`replicas`: how many brokers its shards have here. `scales`: the numbers that a shard is scaled to, one after the
    other; with all of them `min_in_sync` copies are wanted, which is the default. `spec`: what else a MessageCluster of it says. `needs_api_server`: whether somebody leads only while it is there."""

    name: str
    replicas: int
    scales: tuple[int, ...]
    min_in_sync: int
    spec: dict[str, Any] = field(default_factory=dict)
    needs_api_server: bool = False

    def cluster(self, name: str, **spec: Any) -> dict[str, Any]:
        """A MessageCluster of this mode."""
        return message_cluster(name, **{"mode": self.name, "replicas": self.replicas, **self.spec, **spec})


RAFT = Mode("Raft", 3, (1, 3, 5, 3), min_in_sync=2)
MASTER_SLAVE = Mode("MasterSlave", 2, (1, 3, 5, 3), min_in_sync=2, needs_api_server=True)
MODES = (RAFT, MASTER_SLAVE)
