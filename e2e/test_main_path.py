"""Three resources are applied, and messages flow: from a pod, and from the host through a port of the node."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import environment as penstock
from kafka_load import KafkaLoad, LoadPlan
from kube import wait_for
from load import run_load
from penstock.testing.ledger import Ledger
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
    from environment import Environment
    from kube import Kube

MESSAGES = 2_000
QUICKSTART_MESSAGES = 500


@pytest.mark.smoke
def test_messages_flow_inside_and_from_outside(environment: Environment, kube: Kube) -> None:
    """
    1. Apply a cluster with an internal and a nodePort listener, a topic and a group; each becomes Ready.
    2. `kubectl get` shows the columns that answer "is it well, who leads, which mode".
    3. A pod produces and consumes through the internal address of the status.
    4. The host produces and consumes through the outside address of the status.
    5. The group reports its lag within 10 s.
    6. A warning Event says that a listener has no authentication.
    """
    kube.apply(
        message_cluster("orders", listeners=outside_listeners(kube)),
        topic("payments", "orders", topicName="payments.v1", partitions=3, config={"retention.ms": 86400000}),
        consumer_group("billing", "orders", ["payments.v1"], start={"at": "earliest"}),
    )
    cluster = kube.wait_ready(CLUSTER, "orders")
    found = kube.wait_ready(TOPIC, "payments")
    kube.wait_ready(GROUP, "billing")
    assert found["status"]["partitions"] == 3
    assert found["status"]["topicId"]
    member = cluster["status"]["shards"][0]["members"][0]
    assert (member["name"], member["role"]) == ("orders-0-0", "Leader")

    table = kube.run("get", "mc,topic,cg")
    for words in (("orders", "True", "Raft", "orders-0-0"), ("payments", "True"), ("billing", "True")):
        row = next(line for line in table.splitlines() if f"/{words[0]} " in line)
        assert set(words[1:]) <= set(row.split()), table

    inside = run_load(kube, environment.client_image, bootstrap(kube, "orders"), "payments.v1", MESSAGES)
    assert (inside.acked, inside.duplicated) == (MESSAGES, 0)

    ledger = Ledger()
    plan = LoadPlan(bootstrap(kube, "orders", "outside"), "payments.v1", "host", MESSAGES)
    load = KafkaLoad(plan, ledger, lambda: time.monotonic_ns() // 1_000_000)
    load.produce()
    load.consume()
    verdict = ledger.judge()
    assert verdict.good, verdict
    assert verdict.acked == MESSAGES

    wait_for(
        "the group's lag",
        lambda: kube.get(GROUP, "billing")["status"].get("lag") == 2 * MESSAGES,
        seconds=10,
        last_seen=lambda: str(kube.get(GROUP, "billing")["status"]),
    )
    wait_for(
        "a warning about the open listener",
        lambda: any(
            event["type"] == "Warning" and "authentication" in event["message"]
            for event in kube.items("events")
            if event["involvedObject"]["name"] == "orders"
        ),
        seconds=20,
    )


def test_the_example_of_the_readme_works(environment: Environment, kube: Kube) -> None:
    """
    1. `kubectl apply -f examples/quickstart.yaml`.
    2. `kubectl wait --for=condition=Ready` for all of them.
    3. Messages flow.
    """
    kube.run("apply", "-f", str(penstock.ROOT / "examples" / "quickstart.yaml"))
    kube.run(
        "wait", "--for=condition=Ready", "mc/quickstart", "topic/orders", "cg/billing", "--timeout=90s", seconds=100
    )  # fmt: skip
    run_load(kube, environment.client_image, bootstrap(kube, "quickstart"), "orders", QUICKSTART_MESSAGES)
