"""Three Apache Kafka nodes as one cluster: each is broker and controller, topics have replication factor 3."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from penstock.testing.apache_kafka import ApacheKafka, free_ports, new_kafka_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NODES = 3


class KafkaTrio:
    """Starts with the context and is killed at its end; data stays below `folder`."""

    def __init__(self, folder: Path, prefix: Sequence[str] = ()) -> None:
        cluster_id, ports = new_kafka_id(), [free_ports() for _ in range(NODES)]
        voters = ",".join(f"{node}@127.0.0.1:{ports[node - 1][1]}" for node in range(1, NODES + 1))
        self.nodes = [
            ApacheKafka(
                folder / f"node-{node}",
                prefix=prefix,
                cluster_id=cluster_id,
                ports=ports[node - 1],
                config={
                    "node.id": node,
                    "controller.quorum.voters": voters,
                    "default.replication.factor": NODES,
                    "offsets.topic.replication.factor": NODES,
                    "min.insync.replicas": 2,
                },
            )
            for node in range(1, NODES + 1)
        ]
        self._stack = ExitStack()

    @property
    def kafka(self) -> str:
        """Bootstrap addresses of all nodes."""
        return ",".join(node.kafka for node in self.nodes)

    def __enter__(self) -> Self:
        for node in self.nodes:
            self._stack.callback(node.kill)
            node.begin()
        for node in self.nodes:
            node.wait_serving()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cpu_seconds(self) -> float:
        """What all nodes have used."""
        return sum(node.usage().cpu_s for node in self.nodes)

    def resident_bytes(self) -> int:
        """What all nodes hold in memory."""
        return sum(node.usage().resident_bytes for node in self.nodes)
