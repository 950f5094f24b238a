"""Who leads which shard, as far as brokers tell between two passes: so that a failover wakes its cluster within seconds.

Kubernetes does not tell of an election: no object changes. Listing everything every second would, at the API server's
cost; one small question to one broker of each shard costs the API server nothing. This module holds what is known from
the watch (where brokers are) and from answers (the newest epoch of each shard), and says whom to ask next; it draws no
conclusions: a pass looks for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock_operator.api.names import LABEL_CLUSTER, LABEL_SHARD, MESSAGE_CLUSTER
from penstock_operator.reconcile.ports import Key
from penstock_operator.snapshot.cluster import parse_pod
from penstock_operator.snapshot.shard import shard_view

if TYPE_CHECKING:
    from penstock_operator.snapshot.broker import ClusterReport

BROKERS_MAX: Final = 50_000  # brokers beyond this are found by resyncs alone

ShardKey = tuple[Key, int]


class Question(msgspec.Struct, frozen=True):
    """Brokers of one shard to ask until one answers: (pod, address), in this order."""

    shard: ShardKey
    brokers: list[tuple[str, str]]


class _Shard:
    def __init__(self) -> None:
        self.pods: dict[str, tuple[str | None, str | None]] = {}  # pod -> address, node
        self.leader: str | None = None
        self.epoch = 0
        self.turn = 0


class Leaders:
    """Brokers by shard and the leader that each shard was last said to have."""

    def __init__(self) -> None:
        self._shards: dict[ShardKey, _Shard] = {}
        self._brokers = 0

    def pod_seen(self, pod: dict[str, Any], *, gone: bool) -> None:
        """A broker's pod appeared, changed or went. People may put the cluster's label on pods of their own."""
        metadata = pod["metadata"]
        if LABEL_SHARD not in metadata["labels"]:
            return
        cluster = Key(MESSAGE_CLUSTER, metadata["namespace"], metadata["labels"][LABEL_CLUSTER])
        seen = parse_pod(pod)
        key = (cluster, seen.shard)
        if gone:
            self._drop(key, seen.name)
            return
        shard = self._shards.get(key)
        if shard is None or seen.name not in shard.pods:
            if self._brokers >= BROKERS_MAX:
                return
            shard = self._shards.setdefault(key, _Shard())
            self._brokers += 1
        shard.pods[seen.name] = (None if seen.terminating else seen.address, seen.node)

    def on_node(self, node: str) -> set[Key]:
        """Clusters with a broker on a node."""
        return {
            cluster
            for (cluster, _), shard in self._shards.items()
            if any(place == node for _, place in shard.pods.values())
        }

    def questions(self) -> list[Question]:
        """Whom to ask now: of each shard that can have a failover one broker, another one than last time."""
        asked = []
        for key, shard in self._shards.items():
            if len(shard.pods) < 2:
                continue
            shard.turn += 1
            # The leader is asked last: one that was cut off, or hangs, is the last to know.
            others = sorted(name for name, (address, _) in shard.pods.items() if address is not None)
            turned = [others[(shard.turn + index) % len(others)] for index in range(len(others))]
            order = sorted(turned, key=lambda name: name == shard.leader)
            brokers = [(name, address) for name in order if (address := shard.pods[name][0]) is not None]
            if brokers:
                asked.append(Question(key, brokers))
        return asked

    def answered(self, key: ShardKey, speaker: str, report: ClusterReport) -> bool:
        """Whether an answer is news: a leader of a newer epoch than was heard of."""
        shard = self._shards.get(key)
        view = shard_view(key[1], {speaker: report})
        if shard is None or view.leader is None or view.epoch <= shard.epoch:
            return False
        shard.leader, shard.epoch = view.leader, view.epoch
        return True

    def _drop(self, key: ShardKey, pod: str) -> None:
        shard = self._shards.get(key)
        if shard is None or shard.pods.pop(pod, None) is None:
            return
        self._brokers -= 1
        if not shard.pods:
            del self._shards[key]  # who comes after it may begin with epoch 1
