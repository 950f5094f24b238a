"""A shard is scaled under load: one broker, three, five, three again, with `kubectl scale` and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from continuous_load import STOPPED_MS_MAX, continuous_load
from kube import condition_of, wait_for
from replicas_compared import compare
from resources import CLUSTER, TOPIC, message_cluster, topic
from shard import Shard

if TYPE_CHECKING:
    from collections.abc import Callable

    from environment import Environment
    from kube import Kube

    Tell = Callable[[str, object], None]

LEFT_SECONDS_MAX = 60.0
SAID_SECONDS_MAX = 30.0
GOES_LEADS = "penstock.io/hand-over=0=orders-0-4"


def test_a_shard_is_scaled_from_one_to_three_to_five_and_back_to_three(
    environment: Environment, kube: Kube, record_property: Tell
) -> None:
    """
    1. Under load a cluster of one broker is scaled to three, to five, and back to three while a broker that goes leads.
    2. Nobody who stays is restarted; two pods go and their claims stay; Events tell of it.
    3. Scaled to five once more, the volumes of before come back, catch up and count.
    """
    kube.apply(message_cluster("orders"), topic("payments", "orders", partitions=4))
    kube.wait_ready(TOPIC, "payments")
    one, three, five = (Shard(kube, "orders", replicas) for replicas in (1, 3, 5))
    assert _min_in_sync(kube) == 1
    with continuous_load(kube, environment.client_image, one.bootstrap, "payments", STOPPED_MS_MAX) as load:
        before = {pod: three.incarnation(pod) for pod in one.pods}
        kube.run("scale", CLUSTER, "orders", "--replicas=3")
        three.wait_whole()
        wait_for("two copies to be wanted", lambda: _min_in_sync(kube) == 2, seconds=SAID_SECONDS_MAX)
        before |= {pod: three.incarnation(pod) for pod in three.pods[1:]}
        kube.run("scale", CLUSTER, "orders", "--replicas=5")
        five.wait_whole()
        kube.run("annotate", CLUSTER, "orders", GOES_LEADS)
        wait_for(
            "a broker that goes to lead",
            lambda: five.leading()["leader"] == "orders-0-4",
            seconds=SAID_SECONDS_MAX,
        )
        load.wait_flow()
        kube.run("scale", CLUSTER, "orders", "--replicas=3")
        for pod in five.pods[3:]:
            kube.wait_gone("pod", pod, seconds=LEFT_SECONDS_MAX)
        three.wait_whole()
        load.wait_flow()
    record_property("load", load.line("1-3-5-3"))
    assert {pod: three.incarnation(pod) for pod in three.pods} == before, "nobody is restarted for others"
    claims = {pod: five.claim(pod) for pod in five.pods[3:]}
    assert all(claims.values()), "volumes are kept"
    record_property("replicas", compare(kube, three.pods))
    reasons = [event["reason"] for event in kube.items("events")]
    assert {"Scaling", "BrokersLeft"} <= set(reasons), reasons

    kube.run("scale", CLUSTER, "orders", "--replicas=5")
    five.wait_whole()
    assert {pod: five.claim(pod) for pod in five.pods[3:]} == claims
    record_property("replicas", compare(kube, five.pods))


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


def _min_in_sync(kube: Kube) -> int:
    rows: list[dict[str, Any]] = kube.broker_admin("orders-0-0", "/v1/config")["config"]
    return next(int(row["value"]) for row in rows if row["name"] == "min.insync.replicas")
