"""Things die: a broker under load, an operator in the middle of its work, the operator that leads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from kube import wait_for
from load import LoadPod
from resources import CLUSTER, GROUP, TOPIC, bootstrap, consumer_group, message_cluster, topic

if TYPE_CHECKING:
    from conftest import Operator
    from environment import Environment
    from kube import Kube

MESSAGES = 20_000
RATE = 2_500.0
TAKEOVER_SECONDS_MAX = 20


@pytest.mark.smoke
def test_a_broker_killed_under_load_loses_nothing(environment: Environment, kube: Kube) -> None:
    """
    1. A pod produces at acks=all.
    2. In the middle its broker's pod is deleted by force.
    3. Everything acknowledged is read back, in order, once.
    4. The cluster is Ready again, with another pod.
    """
    kube.apply(message_cluster("orders"), topic("payments", "orders", partitions=4))
    kube.wait_ready(TOPIC, "payments")
    before = kube.get("pod", "orders-0-0")["metadata"]["uid"]
    load = LoadPod.start(
        kube, environment.client_image, bootstrap(kube, "orders"), "payments", MESSAGES, rate=RATE
    )
    killed_ms = 0
    for line in load.follow():
        if not killed_ms and line.get("progress", {}).get("acked", 0) > MESSAGES // 3:
            killed_ms = time.time_ns() // 1_000_000
            kube.run("delete", "pod", "orders-0-0", "--grace-period=0", "--force")
    assert killed_ms, "the load ended before the broker could be killed"
    report = load.ended()
    verdict = report.interrupted(killed_ms)
    print(verdict.line("broker killed"), report.client_errors)
    assert verdict.good, verdict
    assert (verdict.acked, verdict.duplicated) == (MESSAGES, 0), verdict
    assert verdict.recovered_ms is not None, "nothing was interrupted"
    kube.wait_ready(CLUSTER, "orders")
    assert kube.get("pod", "orders-0-0")["metadata"]["uid"] != before


def test_an_operator_killed_in_the_middle_of_a_create(operator: Operator, kube: Kube) -> None:
    """
    1. Apply a cluster, topics and a group.
    2. As soon as the StatefulSet is there, kill every operator.
    3. Their successors finish: all Ready, each object once, one volume.
    """
    kube.apply(
        message_cluster("orders"),
        *(topic(f"topic-{number}", "orders", partitions=number) for number in (1, 2, 3)),
        consumer_group("billing", "orders", ["topic-1", "topic-2"]),
    )
    wait_for("the StatefulSet", lambda: kube.find("statefulset", "orders-0"), seconds=30)
    operator.kill(*operator.pods())
    kube.wait_ready(CLUSTER, "orders")
    for number in (1, 2, 3):
        assert kube.wait_ready(TOPIC, f"topic-{number}")["status"]["partitions"] == number
    kube.wait_ready(GROUP, "billing")
    assert [pod["metadata"]["name"] for pod in kube.items("pods")] == ["orders-0-0"]
    assert len(kube.items("persistentvolumeclaims")) == 1
    operator.wait_available()


def test_another_operator_takes_over_within_20_seconds(operator: Operator, kube: Kube) -> None:
    """
    1. Two operators; a cluster is Ready.
    2. The leading one is killed without a goodbye, and a topic is applied at once.
    3. Within 20 s another one leads and has made the topic.
    """
    operator.wait_available()
    kube.apply(message_cluster("orders"))
    kube.wait_ready(CLUSTER, "orders")
    leader, holder = operator.leading_pod(), operator.leader()
    operator.kill(leader)
    killed = time.monotonic()
    kube.apply(topic("late", "orders"))
    kube.wait_ready(TOPIC, "late", seconds=TAKEOVER_SECONDS_MAX)
    took = time.monotonic() - killed
    assert operator.leader() != holder
    assert took < TAKEOVER_SECONDS_MAX
    operator.wait_available()
