"""Every resource can be edited; an edit restarts a broker only when it must, and loses nothing."""

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
    from environment import Environment
    from kube import Kube

MESSAGES = 400


def _broker(kube: Kube, pod: str = "orders-0-0") -> tuple[str, int]:
    """Identity of a broker's process: the pod's UID and its restarts."""
    found = kube.get("pod", pod)
    return found["metadata"]["uid"], found["status"]["containerStatuses"][0]["restartCount"]


def test_topic_gets_more_partitions_and_other_settings(kube: Kube) -> None:
    """
    1. A topic with two partitions and a retention.
    2. Partitions to five, another retention, one setting more: the broker has them, status says so.
    3. A setting taken out of the spec is back at its default.
    """
    kube.apply(
        message_cluster("orders", listeners=outside_listeners(kube)),
        topic("payments", "orders", partitions=2, config={"retention.ms": 3600000}),
    )
    kube.wait_ready(TOPIC, "payments")
    admin = KafkaAdmin(bootstrap(kube, "orders", "outside"))
    assert admin.partitions("payments") == 2
    default_size = admin.topic_config("payments")["max.message.bytes"]

    change = {"partitions": 5, "config": {"retention.ms": 7200000, "max.message.bytes": 65536}}
    kube.patch(TOPIC, "payments", {"spec": change})
    assert kube.wait_ready(TOPIC, "payments")["status"]["partitions"] == 5
    assert admin.partitions("payments") == 5
    config = admin.topic_config("payments")
    assert (config["retention.ms"], config["max.message.bytes"]) == ("7200000", "65536")

    kube.patch(TOPIC, "payments", {"spec": {"config": {"max.message.bytes": None}}})
    kube.wait_ready(TOPIC, "payments")
    config = admin.topic_config("payments")
    assert (config["retention.ms"], config["max.message.bytes"]) == ("7200000", default_size)


def test_an_edit_that_needs_no_restart_makes_none(kube: Kube) -> None:
    """
    1. A cluster is Ready.
    2. A dynamic broker setting changes: the broker has it, from a dynamic source.
    3. The broker's process is still the same one.
    """
    kube.apply(message_cluster("orders", config={"num.partitions": 2}))
    kube.wait_ready(CLUSTER, "orders")
    process = _broker(kube)
    kube.patch(CLUSTER, "orders", {"spec": {"config": {"num.partitions": 7}}})
    kube.wait_ready(CLUSTER, "orders")
    assert "7" in str(_setting(kube, "num.partitions"))
    assert _broker(kube) == process


def test_an_edit_that_needs_a_restart_makes_exactly_one(environment: Environment, kube: Kube) -> None:
    """
    1. A cluster with messages in it.
    2. A static setting changes: one restart, then Ready for the new generation.
    3. The setting is in force, and every message is still there.
    """
    kube.apply(message_cluster("orders"), topic("payments", "orders", partitions=2))
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
    process = _broker(kube)

    kube.patch(CLUSTER, "orders", {"spec": {"flush": {"policy": "async"}}})
    kube.wait_ready(CLUSTER, "orders")
    assert "async" in str(_setting(kube, "flush.policy"))
    restarted = _broker(kube)
    assert restarted != process
    run_load(
        kube,
        environment.client_image,
        bootstrap(kube, "orders"),
        "payments",
        MESSAGES,
        run="kept",
        phase="consume",
    )
    assert _broker(kube) == restarted


def test_group_is_reset_by_a_token_once(environment: Environment, kube: Kube) -> None:
    """
    1. A group that has read everything.
    2. A reset to earliest with a token: its offsets are at 0.
    3. It reads on; the same token does nothing any more.
    4. Another token resets again; another topic is declared.
    """
    kube.apply(
        message_cluster("orders", listeners=outside_listeners(kube)),
        topic("payments", "orders", partitions=1),
        topic("refunds", "orders", partitions=1),
        consumer_group("billing", "orders", ["payments"]),
    )
    kube.wait_ready(GROUP, "billing")
    kube.wait_ready(TOPIC, "refunds")
    run_load(kube, environment.client_image, bootstrap(kube, "orders"), "payments", MESSAGES, phase="produce")
    admin = KafkaAdmin(bootstrap(kube, "orders", "outside"))
    admin.commit("billing", "payments", {0: MESSAGES})

    kube.patch(GROUP, "billing", {"spec": {"reset": {"at": "earliest", "token": "first"}}})
    kube.wait_ready(GROUP, "billing")
    assert admin.committed("billing")[("payments", 0)] == 0

    admin.commit("billing", "payments", {0: 100})
    kube.patch(GROUP, "billing", {"spec": {"topics": ["payments", "refunds"]}})
    kube.wait_ready(GROUP, "billing")
    committed = admin.committed("billing")
    assert committed[("payments", 0)] == 100
    assert ("refunds", 0) in committed

    kube.patch(GROUP, "billing", {"spec": {"reset": {"at": "latest", "token": "second"}}})
    kube.wait_ready(GROUP, "billing")
    assert admin.committed("billing")[("payments", 0)] == MESSAGES
    wait_for("no lag", lambda: kube.get(GROUP, "billing")["status"].get("lag") == 0, seconds=10)


def _setting(kube: Kube, name: str) -> object:
    """What the broker says about one of its settings, whatever the answer's outer shape is."""
    table = kube.broker_admin("orders-0-0", "/v1/config")
    entries = table.get("config", table)
    if isinstance(entries, dict):
        return entries[name]
    return next(entry for entry in entries if entry["name"] == name)
