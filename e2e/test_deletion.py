"""Deleting: what is to be kept is kept, what is to go goes, and nothing hangs when its keeper is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_admin import KafkaAdmin
from kube import wait_for
from load import run_load
from resources import (
    CLUSTER,
    GROUP,
    TOPIC,
    bootstrap,
    consumer_group,
    message_cluster,
    outside_listeners,
    topic,
)

if TYPE_CHECKING:
    from conftest import Operator
    from environment import Environment
    from kube import Kube

MESSAGES = 500


def test_topics_and_groups_go_or_stay_by_their_reclaim_policy(kube: Kube) -> None:
    """
    1. Two topics and two groups, one of each to be kept and one to be deleted.
    2. All four resources are deleted.
    3. The broker still has those to be kept, and only those.
    """
    kube.apply(
        message_cluster("orders", listeners=outside_listeners(kube)),
        topic("kept", "orders", reclaimPolicy="Retain"),
        topic("dropped", "orders", reclaimPolicy="Delete"),
        consumer_group("readers", "orders", ["kept"], reclaimPolicy="Retain"),
        consumer_group("leavers", "orders", ["kept"], reclaimPolicy="Delete"),
    )
    for kind, name in ((TOPIC, "kept"), (TOPIC, "dropped"), (GROUP, "readers"), (GROUP, "leavers")):
        kube.wait_ready(kind, name)
    for kind, name in ((GROUP, "readers"), (GROUP, "leavers"), (TOPIC, "kept"), (TOPIC, "dropped")):
        kube.delete(kind, name)
    topics = KafkaAdmin(bootstrap(kube, "orders", "outside")).topics()
    assert "kept" in topics
    assert "dropped" not in topics
    groups = {group["name"] for group in kube.broker_admin("orders-0-0", "/v1/groups")["groups"]}
    assert "readers" in groups
    assert "leavers" not in groups


def test_a_cluster_comes_back_on_its_kept_volumes(environment: Environment, kube: Kube) -> None:
    """
    1. A cluster with messages; its id is noted.
    2. It is deleted: brokers and Services go, the volume stays, topics and groups do not hang.
    3. It is made again under the same name: same id, every message is there.
    """
    manifests = (message_cluster("orders"), topic("payments", "orders", partitions=3, reclaimPolicy="Delete"))
    kube.apply(*manifests)
    kube.wait_ready(TOPIC, "payments")
    run_load(
        kube,
        environment.client_image,
        bootstrap(kube, "orders"),
        "payments",
        MESSAGES,
        run="kept",
        phase="produce",
    )
    cluster_id = kube.broker_admin("orders-0-0", "/v1/cluster")["clusterId"]

    kube.delete(CLUSTER, "orders")
    kube.wait_gone("pod", "orders-0-0")
    kube.wait_gone("service", "orders-bootstrap")
    assert len(kube.items("persistentvolumeclaims")) == 1
    kube.delete(TOPIC, "payments")  # its broker is gone, so there is nothing to wait for

    kube.apply(*manifests)
    kube.wait_ready(CLUSTER, "orders")
    kube.wait_ready(TOPIC, "payments")
    assert kube.broker_admin("orders-0-0", "/v1/cluster")["clusterId"] == cluster_id
    run_load(
        kube,
        environment.client_image,
        bootstrap(kube, "orders"),
        "payments",
        MESSAGES,
        run="kept",
        phase="consume",
    )


def test_volumes_go_where_the_spec_says_so(kube: Kube) -> None:
    """
    1. A cluster with `storage.deleteClaim: true`.
    2. It is deleted: its volume goes with it.
    """
    kube.apply(message_cluster("fleeting", storage={"size": "1Gi", "deleteClaim": True}))
    kube.wait_ready(CLUSTER, "fleeting")
    assert len(kube.items("persistentvolumeclaims")) == 1
    kube.delete(CLUSTER, "fleeting")
    wait_for("the volume to go", lambda: not kube.items("persistentvolumeclaims"), seconds=90)


def test_a_namespace_deleted_while_the_operator_is_down(operator: Operator, kube: Kube) -> None:
    """
    1. A cluster, a topic and a group, the latter two with `reclaimPolicy: Delete`.
    2. The operator is scaled to nothing; the namespace is deleted.
    3. The operator returns: the namespace comes to its end.
    """
    kube.apply(
        message_cluster("orders"),
        topic("payments", "orders", reclaimPolicy="Delete"),
        consumer_group("billing", "orders", ["payments"], reclaimPolicy="Delete"),
    )
    kube.wait_ready(GROUP, "billing")
    operator.scale(0)
    try:
        kube.run("delete", "namespace", kube.namespace, "--wait=false")
    finally:
        operator.scale(2)
    kube.wait_gone("namespace", kube.namespace)
