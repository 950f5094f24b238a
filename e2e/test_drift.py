"""What somebody changes behind the operator's back comes back to the spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_admin import KafkaAdmin
from kube import wait_for
from resources import CLUSTER, TOPIC, bootstrap, message_cluster, outside_listeners, topic

if TYPE_CHECKING:
    from kube import Kube

REPAIR_SECONDS_MAX = 150
"""Kubernetes objects are watched; topics are looked at when the operator comes by, so this is above its resync."""


def test_objects_of_a_cluster_are_repaired(kube: Kube) -> None:
    """
    1. A cluster is Ready.
    2. Its client Service is deleted, its ConfigMap changed, its StatefulSet scaled to nothing.
    3. All three are as before, and a broker runs again on the same volume.
    """
    kube.apply(message_cluster("orders"))
    kube.wait_ready(CLUSTER, "orders")
    cluster_id = kube.broker_admin("orders-0-0", "/v1/cluster")["clusterId"]
    config = kube.get("configmap", "orders-0")["data"]
    (file,) = config
    kube.delete("service", "orders-bootstrap")
    kube.patch("configmap", "orders-0", {"data": {file: "log.segment.bytes: 1\n"}})
    kube.patch("statefulset", "orders-0", {"spec": {"replicas": 0}})
    wait_for("the Service", lambda: kube.find("service", "orders-bootstrap"), seconds=REPAIR_SECONDS_MAX)
    wait_for(
        "the ConfigMap",
        lambda: kube.get("configmap", "orders-0")["data"] == config,
        seconds=REPAIR_SECONDS_MAX,
    )
    wait_for(
        "the StatefulSet",
        lambda: kube.get("statefulset", "orders-0")["spec"]["replicas"] == 1,
        seconds=REPAIR_SECONDS_MAX,
    )
    kube.wait_ready(CLUSTER, "orders")
    assert kube.broker_admin("orders-0-0", "/v1/cluster")["clusterId"] == cluster_id


def test_topics_are_repaired(kube: Kube) -> None:
    """
    1. A topic with a retention of its own.
    2. A Kafka tool changes the retention: it comes back.
    3. A Kafka tool deletes the topic: it is made again.
    """
    kube.apply(
        message_cluster("orders", listeners=outside_listeners(kube)),
        topic("payments", "orders", partitions=2, config={"retention.ms": 3600000}),
    )
    kube.wait_ready(TOPIC, "payments")
    admin = KafkaAdmin(bootstrap(kube, "orders", "outside"))

    admin.alter_topic("payments", "retention.ms", "60000")
    wait_for(
        "the retention to come back",
        lambda: admin.topic_config("payments")["retention.ms"] == "3600000",
        seconds=REPAIR_SECONDS_MAX,
    )
    admin.delete_topic("payments")
    wait_for("the topic to come back", lambda: admin.partitions("payments") == 2, seconds=REPAIR_SECONDS_MAX)
    kube.wait_ready(TOPIC, "payments")
