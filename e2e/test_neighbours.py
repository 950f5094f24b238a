"""One operator serves clusters in several namespaces, and they know nothing of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_admin import KafkaAdmin
from load import run_load
from resources import CLUSTER, TOPIC, bootstrap, message_cluster, outside_listeners, topic

if TYPE_CHECKING:
    from environment import Environment
    from kube import Kube

MESSAGES = 300


def test_two_clusters_of_one_name_in_two_namespaces(
    environment: Environment, kube: Kube, neighbour: Kube
) -> None:
    """
    1. The same cluster and topic in two namespaces; messages in the first only.
    2. They have different ids, and the second has none of the first's messages.
    3. The first is deleted; the second still serves.
    """
    for namespace in (kube, neighbour):
        namespace.apply(
            message_cluster("orders", listeners=outside_listeners(kube)), topic("payments", "orders")
        )
    for namespace in (kube, neighbour):
        namespace.wait_ready(TOPIC, "payments")
    run_load(kube, environment.client_image, bootstrap(kube, "orders"), "payments", MESSAGES)
    first, second = (
        namespace.broker_admin("orders-0-0", "/v1/cluster")["clusterId"] for namespace in (kube, neighbour)
    )
    assert first != second
    topics = neighbour.broker_admin("orders-0-0", "/v1/topics")["topics"]
    assert [found["messages"] for found in topics if found["name"] == "payments"] == [0]

    kube.delete(CLUSTER, "orders")
    kube.wait_gone("pod", "orders-0-0")
    run_load(neighbour, environment.client_image, bootstrap(neighbour, "orders"), "payments", MESSAGES)
    assert KafkaAdmin(bootstrap(neighbour, "orders", "outside")).partitions("payments") == 1


def test_two_topics_that_claim_one_name(kube: Kube) -> None:
    """
    1. Two Topics with the same `topicName`.
    2. The older one has it; the other is not Ready, with reason Conflict, and names the owner.
    3. The older one is deleted: the other takes its place.
    """
    kube.apply(message_cluster("orders"), topic("older", "orders", topicName="shared"))
    kube.wait_ready(TOPIC, "older")
    kube.apply(topic("younger", "orders", topicName="shared"))
    found = kube.wait_condition(TOPIC, "younger", "Ready", "False", reason="Conflict")
    message = next(c["message"] for c in found["status"]["conditions"] if c["type"] == "Ready")
    assert "older" in message
    kube.delete(TOPIC, "older")
    kube.wait_ready(TOPIC, "younger")
