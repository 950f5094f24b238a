"""Passes over MessageClusters against an API server in memory and a broker that answers by the contract."""

from __future__ import annotations

from typing import Any

import pytest

from fake_kube import FakeKube
from harness import Harness, condition, has_reason, is_ready, running
from penstock_operator.kube_errors import KubeError


@pytest.fixture
async def harness() -> Any:
    async with running(FakeKube()) as made:
        yield made


async def ready_cluster(harness: Harness, **spec: Any) -> dict[str, Any]:
    """Create a cluster and bring it to Ready."""
    await harness.create("MessageCluster", "orders", {"mode": "Raft", **spec})
    return await harness.settle("MessageCluster", "orders", is_ready)


def pod_uid(harness: Harness) -> str:
    kube: Any = harness.kube
    pod = kube.objects.get(("Pod", "shop", "orders-0-0"))
    return pod["metadata"]["uid"] if pod else ""


async def test_becomes_ready_with_a_full_status(harness: Harness) -> None:
    cluster = await ready_cluster(harness)
    status = cluster["status"]
    assert status["observedGeneration"] == 1
    assert [entry["type"] for entry in status["conditions"]] == ["Ready", "Progressing", "Degraded", "Paused"]
    assert status["bootstrap"] == {"internal": "orders-bootstrap.shop.svc:9092"}
    assert status["shards"][0]["leader"] == "orders-0-0"
    assert status["replicas"] == 1
    assert condition(cluster, "Ready")["message"] == "1 of 1 brokers are ready"


async def test_a_settled_cluster_is_not_written_again(harness: Harness) -> None:
    await ready_cluster(harness)
    kube: Any = harness.kube
    kube.calls.clear()
    for _ in range(3):
        await harness.turn(("MessageCluster", "orders"))
    assert kube.calls == []
    assert harness.broker.requests == []


async def test_waits_are_said(harness: Harness) -> None:
    await harness.create("MessageCluster", "orders", {"mode": "Raft"})
    harness.broker.not_ready = ["the log is being recovered, 40 %"]
    cluster = await harness.settle("MessageCluster", "orders", has_reason("BrokersNotReady"), passes=3)
    await harness.controllers.step()
    await harness.turn(("MessageCluster", "orders"))
    cluster = await harness.get("MessageCluster", "orders")
    assert "the log is being recovered" in condition(cluster, "Ready")["message"]
    assert condition(cluster, "Progressing")["status"] == "True"


async def test_drift_is_repaired_without_losing_ready(harness: Harness) -> None:
    await ready_cluster(harness)
    await harness.kube.delete("v1", "Service", "shop", "orders-bootstrap")
    await harness.kube.merge(
        "v1", "Service", "shop", "orders-0", {"spec": {"publishNotReadyAddresses": False}}
    )
    await harness.turn(("MessageCluster", "orders"))
    assert await harness.kube.get("v1", "Service", "shop", "orders-bootstrap") is not None
    service = await harness.kube.get("v1", "Service", "shop", "orders-0")
    assert service is not None
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert is_ready(await harness.get("MessageCluster", "orders"))


async def test_dynamic_settings_change_without_a_restart(harness: Harness) -> None:
    await ready_cluster(harness)
    before = pod_uid(harness)
    await harness.edit("MessageCluster", "orders", {"spec": {"config": {"log.retention.ms": 1000}}})
    await harness.settle("MessageCluster", "orders", is_ready)
    assert harness.broker.dynamic == {"log.retention.ms": 1000}
    assert pod_uid(harness) == before
    await harness.edit("MessageCluster", "orders", {"spec": {"config": {"log.retention.ms": None}}})
    await harness.settle("MessageCluster", "orders", is_ready)
    assert harness.broker.dynamic == {}
    assert pod_uid(harness) == before


async def test_static_settings_restart_the_broker_once(harness: Harness) -> None:
    await ready_cluster(harness)
    before = pod_uid(harness)
    await harness.edit("MessageCluster", "orders", {"spec": {"flush": {"policy": "async"}}})
    await harness.turn(("MessageCluster", "orders"))  # applies; the controllers have not seen it yet
    assert pod_uid(harness) == before
    await harness.controllers.step()
    await harness.turn(("MessageCluster", "orders"))
    kube: Any = harness.kube
    assert ("Pod", "shop", "orders-0-0") not in kube.objects
    cluster = await harness.settle("MessageCluster", "orders", is_ready)
    assert [call for call in kube.calls if call[0] == "evict"] == [("evict", "Pod/orders-0-0")]
    events = [item for (kind, _, _), item in kube.objects.items() if kind == "Event"]
    assert any(event["reason"] == "BrokerRestart" and "flush.policy" in event["message"] for event in events)
    assert cluster["status"]["observedGeneration"] == 2


async def test_a_broker_that_cannot_be_asked_is_not_restarted_for_it(harness: Harness) -> None:
    await ready_cluster(harness)
    before = pod_uid(harness)
    await harness.broker.stop()
    await harness.edit("MessageCluster", "orders", {"spec": {"flush": {"policy": "async"}}})
    for _ in range(4):
        await harness.controllers.step()
        await harness.turn(("MessageCluster", "orders"))
    assert pod_uid(harness) == before
    cluster = await harness.get("MessageCluster", "orders")
    assert "cannot be asked" in condition(cluster, "Ready")["message"]


async def test_a_stuck_broker_is_degraded_and_restarted_once_its_configuration_is_mended(
    harness: Harness,
) -> None:
    await harness.create("MessageCluster", "orders", {"mode": "Raft", "config": {"log.segment.bytes": 7}})
    harness.controllers.waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    harness.controllers.ended = {
        "exitCode": 2,
        "message": "Usage: ...\nError: log.segment.bytes is at least 1048576\n",
    }
    cluster = await harness.settle("MessageCluster", "orders", has_reason("BrokerStuck"))
    assert condition(cluster, "Degraded")["status"] == "True"
    assert (
        "exit code 2: Usage: ... Error: log.segment.bytes is at least 1048576"
        in condition(cluster, "Ready")["message"]
    )
    before = pod_uid(harness)
    await harness.edit("MessageCluster", "orders", {"spec": {"config": None}})
    await harness.turn(("MessageCluster", "orders"))
    await harness.controllers.step()
    await harness.turn(("MessageCluster", "orders"))
    harness.controllers.waiting = None
    await harness.controllers.step()
    assert pod_uid(harness) != before
    await harness.settle("MessageCluster", "orders", is_ready)


async def test_paused_is_left_alone(harness: Harness) -> None:
    await ready_cluster(harness)
    await harness.edit(
        "MessageCluster", "orders", {"metadata": {"annotations": {"penstock.io/paused": "true"}}}
    )
    await harness.turn(("MessageCluster", "orders"))
    await harness.kube.delete("v1", "Service", "shop", "orders-bootstrap")
    await harness.turn(("MessageCluster", "orders"))
    assert await harness.kube.get("v1", "Service", "shop", "orders-bootstrap") is None
    cluster = await harness.get("MessageCluster", "orders")
    assert condition(cluster, "Paused")["status"] == "True"
    assert condition(cluster, "Ready")["status"] == "True"
    await harness.edit(
        "MessageCluster", "orders", {"metadata": {"annotations": {"penstock.io/paused": None}}}
    )
    cluster = await harness.settle("MessageCluster", "orders", is_ready)
    assert condition(cluster, "Paused")["status"] == "False"
    assert await harness.kube.get("v1", "Service", "shop", "orders-bootstrap") is not None


async def test_node_port_listener_waits_for_its_port_and_warns(harness: Harness) -> None:
    listeners = [
        {"name": "internal", "port": 9092},
        {"name": "outside", "type": "nodePort", "port": 9094, "advertisedHost": "broker.example.com"},
    ]
    cluster = await ready_cluster(harness, listeners=listeners)
    service = await harness.kube.get("v1", "Service", "shop", "orders-0-0-outside")
    assert service is not None
    port = service["spec"]["ports"][0]["nodePort"]
    assert cluster["status"]["bootstrap"]["outside"] == f"broker.example.com:{port}"
    told = {listener["name"]: listener.get("advertise") for listener in harness.broker.file["listeners"]}
    assert told["outside"] == f"broker.example.com:{port}"
    assert told["internal"] == "orders-0-0.orders-0.shop.svc:9092"
    kube: Any = harness.kube
    warned = [
        item["message"]
        for (kind, _, _), item in kube.objects.items()
        if kind == "Event" and item["type"] == "Warning"
    ]
    assert len([message for message in warned if "listener outside" in message]) == 1
    # The Service goes when the listener goes, and the broker is restarted for it.
    before = pod_uid(harness)
    await harness.edit("MessageCluster", "orders", {"spec": {"listeners": listeners[:1]}})
    await harness.settle("MessageCluster", "orders", is_ready)
    assert await harness.kube.get("v1", "Service", "shop", "orders-0-0-outside") is None
    assert pod_uid(harness) != before


async def test_kept_volumes_are_adopted_by_a_new_cluster_of_the_name(harness: Harness) -> None:
    first = await ready_cluster(harness)
    await harness.kube.delete("penstock.io/v1alpha1", "MessageCluster", "shop", "orders")
    kube: Any = harness.kube
    for address in list(kube.objects):
        if address[0] not in ("PersistentVolumeClaim", "Event"):
            del kube.objects[address]
    second = await ready_cluster(harness)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert second["status"]["clusterId"] == first["status"]["clusterId"]
    assert second["status"]["shards"][0]["uid"] == first["status"]["shards"][0]["uid"]


async def test_volumes_that_do_not_belong_together_stop_everything(harness: Harness) -> None:
    await ready_cluster(harness)
    annotations = {"penstock.io/shard-uid": "another"}
    await harness.kube.merge(
        "v1", "PersistentVolumeClaim", "shop", "data-orders-0-0", {"metadata": {"annotations": annotations}}
    )
    kube: Any = harness.kube
    kube.calls.clear()
    await harness.turn(("MessageCluster", "orders"))
    cluster = await harness.get("MessageCluster", "orders")
    assert condition(cluster, "Ready")["reason"] == "VolumesConflict"
    assert condition(cluster, "Degraded")["status"] == "True"
    assert {verb for verb, _ in kube.calls} == {"status", "create"}  # status and an Event


async def test_growing_storage_expands_claims_and_keeps_the_pod(harness: Harness) -> None:
    await ready_cluster(harness)
    before = pod_uid(harness)
    await harness.edit("MessageCluster", "orders", {"spec": {"storage": {"size": "20Gi"}}})
    await harness.settle("MessageCluster", "orders", is_ready)
    claim = await harness.kube.get("v1", "PersistentVolumeClaim", "shop", "data-orders-0-0")
    assert claim is not None
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert claim["metadata"]["annotations"]["penstock.io/shard-uid"]
    stateful_set = await harness.kube.get("apps/v1", "StatefulSet", "shop", "orders-0")
    assert stateful_set is not None
    template = stateful_set["spec"]["volumeClaimTemplates"][0]
    assert template["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert pod_uid(harness) == before


async def test_a_refused_expansion_is_degraded_with_kubernetes_own_words(harness: Harness) -> None:
    await ready_cluster(harness)
    kube: Any = harness.kube
    message = "only dynamically provisioned pvc can be resized"
    kube.refuse["merge", "data-orders-0-0"] = KubeError(403, "Forbidden", message)
    await harness.edit("MessageCluster", "orders", {"spec": {"storage": {"size": "20Gi"}}})
    cluster = await harness.settle("MessageCluster", "orders", has_reason("RefusedByKubernetes"))
    assert message in condition(cluster, "Degraded")["message"]
    # Everything else still works, a restart too: the user cannot take the size back.
    before = pod_uid(harness)
    await harness.edit("MessageCluster", "orders", {"spec": {"image": "penstock:other"}})
    await harness.settle("MessageCluster", "orders", lambda _: pod_uid(harness) not in ("", before))


async def test_foreign_objects_are_not_taken_over(harness: Harness) -> None:
    await harness.kube.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "orders-bootstrap", "namespace": "shop"},
            "spec": {"ports": [{"port": 1}]},
        }
    )
    await harness.create("MessageCluster", "orders", {"mode": "Raft"})
    cluster = await harness.settle("MessageCluster", "orders", has_reason("NameTaken"))
    assert "Service orders-bootstrap exists" in condition(cluster, "Ready")["message"]
    service = await harness.kube.get("v1", "Service", "shop", "orders-bootstrap")
    assert service is not None
    assert service["spec"] == {"ports": [{"port": 1}]}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [({"listeners": "x"}, "comes from spec.listeners"), ({"no.such.name": 1}, "does not know no.such.name")],
)
async def test_bad_configuration_names_are_degraded(
    harness: Harness, config: dict[str, Any], sentence: str
) -> None:
    await harness.create("MessageCluster", "orders", {"mode": "Raft", "config": config})
    cluster = await harness.settle("MessageCluster", "orders", has_reason("InvalidConfiguration"))
    assert sentence in condition(cluster, "Ready")["message"]


async def test_objects_that_people_labelled_are_not_pruned(harness: Harness) -> None:
    await ready_cluster(harness)
    mine = {"name": "mine", "namespace": "shop", "labels": {"penstock.io/cluster": "orders"}}
    await harness.kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": mine})
    await harness.turn(("MessageCluster", "orders"))
    assert await harness.kube.get("v1", "ConfigMap", "shop", "mine") is not None


async def test_nothing_is_repaired_in_a_namespace_that_goes(harness: Harness) -> None:
    await ready_cluster(harness)
    kube: Any = harness.kube
    message = (
        "services is forbidden: unable to create new content in namespace shop because it is being terminated"
    )
    kube.refuse["apply", "orders-bootstrap"] = KubeError(403, "Forbidden", message)
    await harness.kube.delete("v1", "Service", "shop", "orders-bootstrap")
    kube.calls.clear()
    await harness.turn(("MessageCluster", "orders"))
    assert [verb for verb, _ in kube.calls] == ["apply"]


async def test_an_annotation_restarts(harness: Harness) -> None:
    await ready_cluster(harness)
    before = pod_uid(harness)
    await harness.edit(
        "MessageCluster", "orders", {"metadata": {"annotations": {"penstock.io/restart": "monday"}}}
    )
    await harness.settle("MessageCluster", "orders", lambda _: pod_uid(harness) not in ("", before))
    again = pod_uid(harness)
    for _ in range(3):
        await harness.controllers.step()
        await harness.turn(("MessageCluster", "orders"))
    assert pod_uid(harness) == again
