"""A shard that cannot be scaled as somebody wishes says why. Scaling under load is among the cells (`test_cells_changes.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kube import condition_of
from resources import CLUSTER, TOPIC, message_cluster, topic
from shard import Shard

if TYPE_CHECKING:
    from kube import Kube

LEFT_SECONDS_MAX = 60.0


def test_a_step_that_a_topic_forbids_waits_and_says_so(kube: Kube) -> None:
    """
    1. Of three brokers, a topic needs two copies for its writes. `replicas: 1` leaves two members and says why.
    2. The topic needs one copy: the second broker leaves, too.
    """
    kube.apply(message_cluster("orders", replicas=3))
    shard = Shard(kube, "orders")
    shard.wait_whole()
    kube.apply(topic("payments", "orders", config={"min.insync.replicas": 2}))
    kube.wait_ready(TOPIC, "payments")
    kube.run("scale", CLUSTER, "orders", "--replicas=1")
    said = shard.wait_reason("Degraded", "True", "ScaleDownRefused")
    assert "topic payments has min.insync.replicas=2" in said, said
    assert condition_of(kube.get(CLUSTER, "orders"), "Ready")["status"] == "True"
    assert len(shard.leading()["members"]) == 2
    kube.patch(TOPIC, "payments", {"spec": {"config": {"min.insync.replicas": 1}}})
    for pod in shard.pods[1:]:
        kube.wait_gone("pod", pod, seconds=LEFT_SECONDS_MAX)
    Shard(kube, "orders", 1).wait_whole()
