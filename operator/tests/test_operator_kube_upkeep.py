"""Labels, hand-overs, evictions and lost nodes on a real API server: its selectors, its budgets, its rights, its graceful
deletion. Controllers and brokers are played by fakes, as in `test_operator_kube`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from harness import condition, eventually, fake_shard, is_ready
from penstock_operator.kube import AioKubeApi
from penstock_operator.kube_errors import KubeError
from test_operator_kube import Live, kube, kubeconfig_of_the_chart, namespace, operator, server

if TYPE_CHECKING:
    from pathlib import Path

    from kube_apiserver import KubeApiServer

__all__ = ["kube", "namespace", "server"]
pytestmark = pytest.mark.kube

CLUSTER = ("MessageCluster", "orders")
PODS = ["orders-0-0", "orders-0-1", "orders-0-2"]
FOLLOW_S = 10.0
"""From an election until the labels say so, on a machine that does much else; idle it is two seconds at most."""


async def whole(live: Live, **spec: Any) -> None:
    await live.create(*CLUSTER, {"mode": "Raft", "replicas": 3, **spec})
    await live.until(*CLUSTER, is_ready, "the cluster")


async def events(kube: AioKubeApi, namespace: str, reason: str) -> list[str]:
    found = await kube.list_objects("v1", "Event", namespace)
    return [event["message"] for event in found if event["reason"] == reason]


async def test_labels_and_service_follow_a_failover_that_no_object_shows(
    kube: AioKubeApi, namespace: str, server: KubeApiServer
) -> None:
    async with fake_shard(3) as shard, operator(kube, namespace, shard) as live:
        await whole(live)
        service = await kube.get("v1", "Service", namespace, "orders-leader")
        assert service is not None
        selector = service["spec"]["selector"]

        async def led_to() -> list[str]:
            return [
                pod["metadata"]["name"] for pod in await kube.list_objects("v1", "Pod", namespace, selector)
            ]

        async def leads(name: str) -> bool:
            return await led_to() == [name]

        await eventually(lambda: leads("orders-0-0"), "the first leader's label")
        loop = asyncio.get_running_loop()
        # Nothing but the brokers knows of these: no pod changes, and the next resync is half a minute away.
        for name in ("orders-0-2", "orders-0-1"):
            shard.lead(name)
            elected = loop.time()
            await eventually(lambda name=name: leads(name), f"the label of {name}")  # type: ignore[misc]
            assert loop.time() - elected < FOLLOW_S
        shown = server.kubectl("-n", namespace, "get", "pods", "-L", "penstock.io/role", "--no-headers")
        assert [line.split()[-1] for line in shown.stdout.splitlines()] == ["follower", "leader", "follower"]
        sentence = "orders-0-1 leads shard 0 in epoch 3, after orders-0-2"

        async def told() -> bool:
            return sentence in await events(kube, namespace, "LeaderElected")

        await eventually(told, "the Event")
        # The bootstrap Service still leads to all.
        bootstrap = await kube.get("v1", "Service", namespace, "orders-bootstrap")
        assert bootstrap is not None
        assert len(await kube.list_objects("v1", "Pod", namespace, bootstrap["spec"]["selector"])) == 3


async def test_a_hand_over_is_wished_by_kubectl_and_answered_in_status(
    kube: AioKubeApi, namespace: str, server: KubeApiServer
) -> None:
    def annotate(value: str) -> None:
        wish = ("annotate", "mc", "orders", f"penstock.io/hand-over={value}", "--overwrite")
        done = server.kubectl("-n", namespace, *wish)
        assert done.returncode == 0, done.stderr

    def answered(outcome: str) -> Any:
        return lambda found: found["status"].get("handOver", {}).get("outcome") == outcome

    async with fake_shard(3) as shard, operator(kube, namespace, shard) as live:
        await whole(live)
        annotate("0=orders-0-2")
        found = await live.until(*CLUSTER, answered("Done"), "the answer")
        assert shard.hand_overs == [("orders-0-0", "orders-0-2")]
        # What the API server kept of it, by the schema.
        assert found["status"]["handOver"]["value"] == "0=orders-0-2"
        shard.brokers["orders-0-1"].in_sync, shard.brokers["orders-0-1"].lag_bytes = False, 700
        annotate("0=orders-0-1")
        found = await live.until(*CLUSTER, answered("Refused"), "the refusal")
        sentence = "orders-0-2 does not hand over to orders-0-1: orders-0-1 is not in sync, 700 bytes behind"
        assert found["status"]["handOver"]["message"] == sentence
        # Status is written before the Event.
        told = await eventually(lambda: events(kube, namespace, "HandOverRefused"), "the Event")
        assert told == [sentence]
        assert len(shard.hand_overs) == 1


async def test_the_budget_lets_one_ready_broker_go_and_any_that_is_not_ready(
    kube: AioKubeApi, namespace: str, server: KubeApiServer
) -> None:
    async with fake_shard(3) as shard, operator(kube, namespace, shard) as live:
        await whole(live)
        await live.controllers.step()
        uids = {}
        for name in PODS:
            pod = await kube.get("v1", "Pod", namespace, name)
            assert pod is not None
            uids[name] = pod["metadata"]["uid"]
        await kube.evict(namespace, "orders-0-1", uids["orders-0-1"])
        with pytest.raises(KubeError) as caught:
            await kube.evict(namespace, "orders-0-2", uids["orders-0-2"])
        assert caught.value.status == 429
        await live.until(*CLUSTER, is_ready, "the broker is back")
        live.controllers.away = {"orders-0-2"}
        await live.controllers.step()
        await live.controllers.step()
        await kube.evict(namespace, "orders-0-2", uids["orders-0-2"])


async def test_an_operator_with_the_charts_rights_leaves_a_cordoned_node_and_replaces_what_a_lost_one_took(
    kube: AioKubeApi,
    namespace: str,
    server: KubeApiServer,
    helm: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    nodes = [f"{namespace}-w{ordinal}" for ordinal in range(3)]
    for name in nodes:
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name}}
        await kube.create({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    rights = kubeconfig_of_the_chart(server, namespace, tmp_path, helm, "--set", "readNodes=always")
    monkeypatch.setenv("KUBECONFIG", str(rights))
    restricted = await AioKubeApi.connect()
    try:
        async with fake_shard(3) as shard, operator(restricted, namespace, shard) as live:
            live.kube = kube  # what people and controllers do, they do with their own rights
            live.controllers = live.fake_controllers(kube)
            live.controllers.places = dict(zip(PODS, nodes, strict=True))
            await whole(live, storage={"replaceLost": True})

            # The watch on nodes tells of it, long before the next resync.
            assert server.kubectl("cordon", nodes[0]).returncode == 0
            await live.until(*CLUSTER, lambda _: bool(shard.hand_overs), "the hand-over")
            assert shard.hand_overs == [("orders-0-0", "orders-0-1")]
            # It is told when the pass ends, which is after the broker was asked.
            (why,) = await eventually(lambda: events(kube, namespace, "HandOver"), "the Event")
            assert why.endswith(f"because node {nodes[0]} is cordoned, which a drain may follow")

            # The machine goes, with a volume that is only there; nobody is left to end the pod.
            await bind_claim(kube, namespace, "orders-0-0", nodes[0])
            await shard.brokers["orders-0-0"].stop()
            shard.brokers["orders-0-0"].in_sync = False
            live.controllers.away = {"orders-0-0"}
            await live.controllers.step()
            deleted = server.kubectl("-n", namespace, "delete", "pod", "orders-0-0", "--wait=false")
            assert deleted.returncode == 0, deleted.stderr
            stuck = await kube.get("v1", "Pod", namespace, "orders-0-0")
            assert stuck is not None
            assert stuck["metadata"]["deletionTimestamp"]
            live.controllers.unscheduled = {"orders-0-0": "2026-01-01T00:00:00Z"}
            await kube.delete("v1", "Node", None, nodes[0])

            async def replaced() -> bool:
                pod = await kube.get("v1", "Pod", namespace, "orders-0-0")
                return pod is None or pod["metadata"]["uid"] != stuck["metadata"]["uid"]

            await eventually(replaced, "the pod is forgotten")

            async def given_up(_: Any = None) -> bool:
                # The controller that lets a claim go is missing here.
                claim = await kube.get("v1", "PersistentVolumeClaim", namespace, "data-orders-0-0")
                return claim is None or claim["metadata"].get("deletionTimestamp") is not None

            async def controllers_and_claim() -> bool:
                await live.controllers.step()
                return await given_up()

            await eventually(controllers_and_claim, "the claim is given up")
            assert await events(kube, namespace, "BrokerReplaced") == [
                f"orders-0-0 is replaced because node {nodes[0]} is gone"
            ]
            found = await live.get(*CLUSTER)
            assert condition(found, "Ready")["status"] == "True", "two of three serve all along"
            assert "nodes are not looked at" not in caplog.text
    finally:
        await restricted.close()
        for name in nodes:
            await kube.delete("v1", "Node", None, name)


async def bind_claim(kube: AioKubeApi, namespace: str, pod: str, node: str) -> None:
    """What a provisioner of local volumes does."""
    claim = f"data-{pod}"
    host = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{pod}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "local": {"path": "/data"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            "claimRef": {"namespace": namespace, "name": claim},
        },
    }
    await kube.create(volume)
    patch = {"spec": {"volumeName": f"{namespace}-{pod}"}}
    await kube.merge("v1", "PersistentVolumeClaim", namespace, claim, patch)
