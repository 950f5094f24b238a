"""Three brokers are changed under load: restarted one by one, given an image that is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conftest import SHARED_TOPIC
from continuous_load import continuous_load
from kube import condition_of
from resources import CLUSTER, RESTART, message_cluster
from shard import Shard

if TYPE_CHECKING:
    from collections.abc import Callable

    from environment import Environment
    from kube import Kube

    Tell = Callable[[str, object], None]

NO_SUCH_IMAGE = "penstock.invalid/penstock:none"
LOST_SECONDS_MAX = 90


def test_a_rolling_restart_takes_the_leader_last(
    environment: Environment, shard: Shard, record_property: Tell
) -> None:
    """
    1. Under load the cluster is annotated with a restart token.
    2. Each broker is restarted once, the leader last and after it handed over; Events say so.
    """
    leader = shard.leading()["leader"]
    before = {pod: shard.incarnation(pod) for pod in shard.pods}
    told = {event["metadata"]["uid"] for event in _told(shard.kube)}
    with continuous_load(shard.kube, environment.client_image, shard.bootstrap, SHARED_TOPIC) as load:
        shard.kube.run("annotate", CLUSTER, shard.cluster, f"{RESTART}={load.pod.name}", "--overwrite")
        for pod in shard.pods:
            shard.wait_back(pod, before[pod])
        row = shard.wait_whole()
    record_property("load", load.line("rolling restart"))
    events = [event for event in _told(shard.kube) if event["metadata"]["uid"] not in told]
    restarts = [event["message"] for event in events if event["reason"] == "BrokerRestart"]
    assert sorted(message.split()[0] for message in restarts) == shard.pods, restarts
    (handed_over,) = (event["message"] for event in events if event["reason"] == "HandOver")
    assert handed_over.startswith(f"{leader} hands over to "), handed_over
    assert row["leader"] != leader
    made = {pod: shard.kube.get("pod", pod)["metadata"]["creationTimestamp"] for pod in shard.pods}
    assert max(made, key=lambda pod: str(made[pod])) == leader, made


def test_an_image_that_is_not_there_stops_the_roll(
    environment: Environment, shard: Shard, record_property: Tell
) -> None:
    """
    1. Under load the cluster gets an image that nobody has.
    2. One follower cannot start: the cluster is Ready and Degraded, says why, and the other two are left alone.
    3. The image is taken back: whole, and the two were never restarted.
    """
    leader = shard.leading()["leader"]
    before = {pod: shard.incarnation(pod) for pod in shard.pods}
    with continuous_load(shard.kube, environment.client_image, shard.bootstrap, SHARED_TOPIC) as load:
        shard.kube.patch(CLUSTER, shard.cluster, {"spec": {"image": NO_SUCH_IMAGE}})
        said = shard.wait_reason("Degraded", "True", "BrokerStuck")
        assert NO_SUCH_IMAGE in said, said
        assert condition_of(shard.kube.get(CLUSTER, shard.cluster), "Ready")["status"] == "True"
        (stuck,) = (pod for pod in shard.pods if shard.incarnation(pod) != before[pod])
        assert stuck != leader
        shard.wait_reason("Progressing", "True", "RollStopped")
        found = shard.kube.get(CLUSTER, shard.cluster)
        stopped = condition_of(found, "Progressing")["message"]
        assert f"not yet, because {stuck} is away" in stopped, found["status"]
        assert NO_SUCH_IMAGE in stopped, found["status"]
        load.wait_flow()
        shard.kube.patch(CLUSTER, shard.cluster, {"spec": {"image": None}})
        row = shard.wait_whole()
    record_property("load", load.line("image that is not there"))
    assert row["leader"] == leader
    assert {pod for pod in shard.pods if shard.incarnation(pod) == before[pod]} == {*shard.pods} - {stuck}


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


def _told(kube: Kube) -> list[dict[str, Any]]:
    """Events of clusters."""
    return [event for event in kube.items("events") if event["involvedObject"]["kind"] == "MessageCluster"]
