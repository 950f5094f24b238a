"""A paused resource is left alone, says so, and catches up when the annotation goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_admin import KafkaAdmin
from resources import CLUSTER, PAUSED, TOPIC, bootstrap, message_cluster, outside_listeners, topic

if TYPE_CHECKING:
    from kube import Kube


def test_paused_resources_are_not_reconciled(kube: Kube) -> None:
    """
    1. Cluster and topic are Ready, then both are paused: status says Paused.
    2. Both are edited. Another topic, applied after the edits, becomes Ready; the paused ones have not moved.
    3. The annotations go: both edits arrive.
    """
    kube.apply(
        message_cluster("orders", listeners=outside_listeners(kube), config={"num.partitions": 2}),
        topic("payments", "orders", partitions=2),
    )
    kube.wait_ready(TOPIC, "payments")
    admin = KafkaAdmin(bootstrap(kube, "orders", "outside"))
    pod = kube.get("pod", "orders-0-0")["metadata"]["uid"]
    for kind, name in ((CLUSTER, "orders"), (TOPIC, "payments")):
        kube.run("annotate", kind, name, f"{PAUSED}=true")
        kube.wait_condition(kind, name, "Paused", "True")

    kube.patch(CLUSTER, "orders", {"spec": {"flush": {"policy": "async"}}})
    kube.patch(TOPIC, "payments", {"spec": {"partitions": 4}})
    kube.apply(topic("witness", "orders", partitions=1))
    kube.wait_ready(TOPIC, "witness")
    assert admin.partitions("payments") == 2
    assert kube.get("pod", "orders-0-0")["metadata"]["uid"] == pod

    for kind, name in ((TOPIC, "payments"), (CLUSTER, "orders")):
        kube.run("annotate", kind, name, f"{PAUSED}-")
        kube.wait_condition(kind, name, "Paused", "False")
        kube.wait_ready(kind, name)
    assert admin.partitions("payments") == 4
    assert kube.get("pod", "orders-0-0")["metadata"]["uid"] != pod
