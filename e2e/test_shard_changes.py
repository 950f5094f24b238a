"""A shard that lost everything: it is said, and a person decides. Changes of shards that serve are among the cells
(`test_cells_changes.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resources import CLUSTER, message_cluster
from shard import Shard

if TYPE_CHECKING:
    from kube import Kube

LOST_SECONDS_MAX = 90


def test_a_shard_that_lost_every_volume_is_not_made_anew_in_silence(kube: Kube) -> None:
    """
    1. Three brokers are whole; then all pods and volumes are taken away.
    2. The cluster is not Ready with reason ShardLost, and says what to do.
    3. That is done, cluster and claims are deleted and the cluster is applied again: an empty shard.
    """
    manifest = message_cluster("orders", replicas=3)
    kube.apply(manifest)
    kube.wait_ready(CLUSTER, "orders")
    shard = Shard(kube, "orders")
    uid = shard.wait_whole()["uid"]
    for pod in shard.pods:
        kube.run("delete", "pvc", f"data-{pod}", "--wait=false")
    shard.delete_pods(*shard.pods, by_force=True)
    said = shard.wait_reason("Ready", "False", "ShardLost")
    assert "delete this MessageCluster with its claims" in said, said

    kube.delete(CLUSTER, "orders")
    for pod in shard.pods:
        kube.wait_gone("pod", pod)
        kube.delete("pvc", f"data-{pod}")
    kube.apply(manifest)
    kube.wait_ready(CLUSTER, "orders", seconds=LOST_SECONDS_MAX)
    assert shard.wait_whole()["uid"] != uid
