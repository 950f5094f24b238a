"""The whole operator on a real API server: kopf's watch, the queue, server-side apply, CRDs. Controllers and broker are
played by fakes, because there is no kubelet here; on kind there is one (`e2e/`)."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from fake_broker import FakeShard
from harness import Harness, condition, eventually, fake_shard, has_reason, is_ready
from penstock_operator.api.names import API_VERSION
from penstock_operator.desired.identity import Environment
from penstock_operator.engine import Engine
from penstock_operator.kube import AioKubeApi
from penstock_operator.kube_errors import KubeError
from penstock_operator.kube_store import HttpBrokers
from penstock_operator.leader import LeaderElection
from penstock_operator.run import _end, _work, check_definitions
from penstock_operator.settings import OperatorSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from kube_apiserver import KubeApiServer

pytestmark = pytest.mark.kube
_NAMESPACES = itertools.count(1)


@pytest.fixture(scope="module")
def server(kube_apiserver: KubeApiServer) -> KubeApiServer:
    """The API server with our CRDs."""
    from test_api_rules import CRDS

    for arguments in (
        ("apply", "--server-side", "-f", str(CRDS)),
        ("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS)),
    ):
        done = kube_apiserver.kubectl(*arguments)
        assert done.returncode == 0, done.stderr
    return kube_apiserver


def settings(namespace: str) -> OperatorSettings:
    return OperatorSettings(
        namespaces=[namespace],
        image="penstock:test",
        own_namespace=namespace,
        lease_name="penstock-operator",
        identity="test",
        resync_s=30.0,
        health_host="127.0.0.1",
        health_port=0,
    )


class Live(Harness):
    """The harness, but with the operator itself running; only the controllers are stepped."""

    async def until(self, kind: str, name: str, check: Callable[[dict[str, Any]], bool], what: str) -> Any:
        async def look() -> Any:
            await self.controllers.step()
            found = await self.kube.get("penstock.io/v1alpha1", kind, self.namespace, name)
            return found if found is not None and check(found) else None

        return await eventually(look, what)


@asynccontextmanager
async def operator(kube: AioKubeApi, namespace: str, shard: FakeShard) -> AsyncIterator[Live]:
    async with aiohttp.ClientSession() as session:
        loop = asyncio.get_running_loop()
        engine = Engine(
            kube,
            HttpBrokers(session, shard.brokers["orders-0-0"].port),
            Environment(image="penstock:test"),
            clock=loop.time,
            random=lambda: 0.5,
        )
        work = asyncio.create_task(_work(settings(namespace), engine))
        try:
            live = Live(kube, namespace, shard, engine)
            yield live
            if work.done():
                work.result()
        finally:
            await _end(work)


@pytest.fixture
async def kube(server: KubeApiServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    connected = await AioKubeApi.connect()
    yield connected
    await connected.close()


@pytest.fixture
async def namespace(kube: AioKubeApi) -> str:
    name = f"shop-{next(_NAMESPACES)}"
    await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture
async def shard() -> Any:
    async with fake_shard(1) as made:
        yield made


async def test_cluster_topic_and_group_become_ready(
    kube: AioKubeApi, namespace: str, shard: FakeShard, server: KubeApiServer
) -> None:
    async with operator(kube, namespace, shard) as live:
        # All at once and in the wrong order, as people apply them.
        reference = {"clusterRef": {"name": "orders"}}
        await live.create("ConsumerGroup", "billing", {**reference, "topics": ["payments"]})
        await live.create("Topic", "payments", {**reference, "partitions": 3})
        await live.create("MessageCluster", "orders", {"mode": "Raft"})
        cluster = await live.until("MessageCluster", "orders", is_ready, "the cluster")
        topic = await live.until("Topic", "payments", is_ready, "the topic")
        group = await live.until("ConsumerGroup", "billing", is_ready, "the group")
        assert topic["status"]["partitions"] == 3
        assert topic["status"]["shards"] == [0]
        assert group["status"]["state"] == "Empty"
        # The watch stores nothing on our objects.
        for resource in (cluster, topic, group):
            assert "finalizers" not in resource["metadata"]
            assert "annotations" not in resource["metadata"]
        for command, words in (
            ("mc", ("Raft", "True", "orders-0-0")),
            ("topic", ("orders", "3", "True")),
            ("cg", ("orders", "Empty", "True")),
        ):
            shown = server.kubectl("-n", namespace, "get", command)
            assert shown.returncode == 0, shown.stderr
            assert all(word in shown.stdout for word in words), shown.stdout
        shown = server.kubectl("-n", namespace, "get", "penstock")
        assert shown.stdout.count("\n") > 6, shown.stdout


async def test_a_queue_group_is_declared_and_shows_its_messages(
    kube: AioKubeApi, namespace: str, shard: FakeShard, server: KubeApiServer
) -> None:
    async with operator(kube, namespace, shard) as live:
        reference = {"clusterRef": {"name": "orders"}}
        await live.create("MessageCluster", "orders", {"mode": "Raft"})
        await live.create("Topic", "payments", reference)
        queue = {"mode": "queue", "lease": {"duration": "1m"}, "retry": {"backoff": {"initial": "500ms"}}}
        await live.create("ConsumerGroup", "billing", {**reference, "topics": ["payments"], **queue})
        await live.until("ConsumerGroup", "billing", is_ready, "the group")
        [(name, declaration)] = shard.declarations
        assert (name, declaration["lease"]["durationMs"]) == ("billing", 60_000)
        assert declaration["retry"]["backoff"]["initialMs"] == 500

        shard.groups["billing"]["queue"] |= {"inFlight": 7, "deadLetters": 2, "oldestMessageAgeMs": 125_000}
        await live.until(
            "ConsumerGroup",
            "billing",
            lambda group: group["status"].get("oldestMessageAge") == "2m",
            "what is in flight",
        )
        shown = server.kubectl("-n", namespace, "get", "cg", "-o", "wide").stdout
        header, row = shown.splitlines()
        assert header.split() == [
            *("NAME", "CLUSTER", "GROUP", "STATE", "MEMBERS", "LAG", "READY", "REASON", "AGE"),
            *("MODE", "IN", "FLIGHT", "DEAD", "LETTERS", "OLDEST"),
        ]
        assert row.split()[-4:] == ["queue", "7", "2", "2m"]

        # Nothing waiting leaves no age behind.
        shard.groups["billing"]["queue"] |= {"inFlight": 0, "oldestMessageAgeMs": None}
        await live.until(
            "ConsumerGroup",
            "billing",
            lambda group: "oldestMessageAge" not in group["status"],
            "that nothing is left",
        )
        # Scaling goes through the same checks.
        refused = server.kubectl("-n", namespace, "scale", "mc", "orders", "--replicas=2")
        assert "mode Raft needs an odd number of brokers" in refused.stderr


async def test_three_brokers_form_and_roll_and_one_is_left_when_scaled_down(
    kube: AioKubeApi, namespace: str, server: KubeApiServer
) -> None:
    async with fake_shard(3) as shard, operator(kube, namespace, shard) as live:
        await live.create("MessageCluster", "orders", {"mode": "Raft", "replicas": 3})
        cluster = await live.until("MessageCluster", "orders", is_ready, "the cluster")
        assert [row["inSync"] for row in cluster["status"]["shards"][0]["members"]] == [True] * 3
        budget = await kube.get("policy/v1", "PodDisruptionBudget", namespace, "orders-0")
        assert budget is not None
        assert budget["spec"]["maxUnavailable"] == 1
        annotations = {"penstock.io/restart": "monday"}
        await live.edit("MessageCluster", "orders", {"metadata": {"annotations": annotations}})
        await live.until("MessageCluster", "orders", lambda _: bool(shard.hand_overs), "the hand-over")
        assert shard.hand_overs == [("orders-0-0", "orders-0-1")]

        def rolled(found: dict[str, Any]) -> bool:
            return is_ready(found) and condition(found, "Progressing")["status"] == "False"

        cluster = await live.until("MessageCluster", "orders", rolled, "the roll")
        assert cluster["status"]["shards"][0]["leader"] == "orders-0-1"
        restarts = [
            event["message"].split(" ", 1)[0]
            for event in await kube.list_objects("v1", "Event", namespace)
            if event["reason"] == "BrokerRestart"
        ]
        assert sorted(restarts) == ["orders-0-0", "orders-0-1", "orders-0-2"]
        scaled = server.kubectl("-n", namespace, "scale", "mc", "orders", "--replicas=1")
        assert scaled.returncode == 0, scaled.stderr

        def alone(found: dict[str, Any]) -> bool:
            members = found["status"]["shards"][0]["members"]
            return rolled(found) and found["status"]["replicas"] == len(members) == 1

        cluster = await live.until("MessageCluster", "orders", alone, "one broker")
        assert shard.resizes == [1]
        assert cluster["status"]["shards"][0]["leader"] == "orders-0-0"
        reasons = {event["reason"] for event in await kube.list_objects("v1", "Event", namespace)}
        assert {"Scaling", "BrokersLeft"} <= reasons
        shown = server.kubectl("-n", namespace, "get", "mc", "orders", "--subresource=scale", "-o", "json")
        assert shown.returncode == 0, shown.stderr
        scale = json.loads(shown.stdout)
        assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)
        # Where fewer copies were left than the cluster asks for, the API server refuses.
        await live.edit("MessageCluster", "orders", {"spec": {"replicas": 3, "minInSync": 2}})
        refused = server.kubectl("-n", namespace, "scale", "mc", "orders", "--replicas=1")
        assert "minInSync is above replicas" in refused.stderr


async def test_a_shard_that_lost_its_quorum_goes_on_from_a_trusted_member(
    kube: AioKubeApi, namespace: str, server: KubeApiServer
) -> None:
    async with fake_shard(3) as shard, operator(kube, namespace, shard) as live:
        await live.create("MessageCluster", "orders", {"mode": "Raft", "replicas": 3})
        await live.until("MessageCluster", "orders", is_ready, "the cluster")
        for broker in shard.brokers.values():
            broker.not_ready = ["the shard has no leader now"]
        shard.lead("")
        await live.until("MessageCluster", "orders", has_reason("NoLeader"), "the loss")
        wish = ("-n", namespace, "annotate", "mc", "orders", "penstock.io/trust-member=orders-0-2")
        annotated = server.kubectl(*wish)
        assert annotated.returncode == 0, annotated.stderr
        await live.until("MessageCluster", "orders", lambda _: bool(shard.trusts), "the trust")
        for broker in shard.brokers.values():
            broker.not_ready = []

        def told(found: dict[str, Any]) -> bool:
            return is_ready(found) and condition(found, "UncleanRecovery")["status"] == "True"

        cluster = await live.until("MessageCluster", "orders", told, "the recovery")
        # What the API server kept of it, by the schema.
        assert cluster["status"]["shards"][0]["recovery"] == shard.recovery
        assert cluster["status"]["trustMember"]["outcome"] == "Done"
        assert "behind entry 120 may be gone" in condition(cluster, "UncleanRecovery")["message"]
        reasons = {event["reason"] for event in await kube.list_objects("v1", "Event", namespace)}
        assert {"TrustMember", "UncleanRecovery"} <= reasons
        assert shard.trusts == ["orders-0-2"]


async def test_edits_and_drift_are_seen_by_the_watch(
    kube: AioKubeApi, namespace: str, shard: FakeShard
) -> None:
    async with operator(kube, namespace, shard) as live:
        await live.create("MessageCluster", "orders", {"mode": "Raft"})
        await live.create("Topic", "payments", {"clusterRef": {"name": "orders"}})
        await live.until("Topic", "payments", is_ready, "the topic")
        await live.edit("Topic", "payments", {"spec": {"partitions": 5, "config": {"retention.ms": 1000}}})
        await live.until(
            "Topic",
            "payments",
            lambda topic: is_ready(topic) and topic["status"]["partitions"] == 5,
            "more partitions",
        )
        assert shard.topics["payments"]["config"] == {"retention.ms": "1000"}
        await kube.delete("v1", "Service", namespace, "orders-bootstrap")

        async def repaired() -> Any:
            return await kube.get("v1", "Service", namespace, "orders-bootstrap")

        await eventually(repaired, "the Service is made again")


async def test_delete_policy_and_a_cluster_that_is_gone(
    kube: AioKubeApi, namespace: str, shard: FakeShard
) -> None:
    async with operator(kube, namespace, shard) as live:
        await live.create("MessageCluster", "orders", {"mode": "Raft"})
        reference = {"clusterRef": {"name": "orders"}, "reclaimPolicy": "Delete"}
        await live.create("Topic", "first", reference)
        await live.create("Topic", "second", reference)
        await live.until("Topic", "first", is_ready, "the first topic")
        await live.until("Topic", "second", is_ready, "the second topic")

        async def gone(kind: str, name: str) -> bool:
            return await kube.get("penstock.io/v1alpha1", kind, namespace, name) is None

        await kube.delete("penstock.io/v1alpha1", "Topic", namespace, "first")
        await eventually(lambda: gone("Topic", "first"), "the first topic is gone")
        assert shard.topics.keys() == {"second"}
        await kube.delete("penstock.io/v1alpha1", "MessageCluster", namespace, "orders")
        await live.until("Topic", "second", has_reason("ClusterNotFound"), "the cluster is missed")
        await kube.delete("penstock.io/v1alpha1", "Topic", namespace, "second")
        await eventually(lambda: gone("Topic", "second"), "the second topic is gone")
        assert shard.topics.keys() == {"second"}


async def test_conflict_passes_to_the_next_when_the_owner_goes(
    kube: AioKubeApi, namespace: str, shard: FakeShard
) -> None:
    async with operator(kube, namespace, shard) as live:
        await live.create("MessageCluster", "orders", {"mode": "Raft"})
        spec = {"clusterRef": {"name": "orders"}, "topicName": "payments.v1"}
        await live.create("Topic", "a-first", spec)
        await live.create("Topic", "b-second", spec)
        await live.until("Topic", "a-first", is_ready, "the owner")
        second = await live.until("Topic", "b-second", has_reason("Conflict"), "the other")
        assert "Topic a-first" in condition(second, "Ready")["message"]
        await kube.delete("penstock.io/v1alpha1", "Topic", namespace, "a-first")
        await live.until("Topic", "b-second", is_ready, "the heir")


def kubeconfig_of_the_chart(
    server: KubeApiServer, namespace: str, folder: Path, helm: str, *settings: str
) -> Path:
    """A kubeconfig that may do what the chart's Roles allow in one namespace, and nothing else."""
    from test_chart import rendered

    watched = ("--set", f"watchNamespaces={{{namespace}}}")
    documents = rendered(helm, "--namespace", namespace, *watched, *settings)
    rights = [item for item in documents if item["kind"] != "Deployment"]
    done = server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rights))
    assert done.returncode == 0, done.stderr
    token = server.kubectl("-n", namespace, "create", "token", "penstock-operator")
    assert token.returncode == 0, token.stderr
    content = yaml.safe_load(server.kubeconfig.read_text())
    content["users"][0]["user"] = {"token": token.stdout.strip()}
    path = folder / "operator.kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


async def test_the_charts_rights_are_enough(
    kube: AioKubeApi,
    namespace: str,
    shard: FakeShard,
    server: KubeApiServer,
    helm: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig_of_the_chart(server, namespace, tmp_path, helm)))
    restricted = await AioKubeApi.connect()
    try:
        with pytest.raises(KubeError, match="forbidden"):
            await restricted.list_objects("v1", "ConfigMap", "kube-system")
        await check_definitions(restricted)
        async with operator(restricted, namespace, shard) as live:
            live.kube = kube  # what people and controllers do, they do with their own rights
            live.controllers = live.fake_controllers(kube)
            listeners = [{"name": "in", "port": 9092}, {"name": "out", "type": "nodePort", "port": 9094}]
            spec = {"mode": "Raft", "listeners": listeners, "networkPolicy": {"enabled": True}}
            await live.create("MessageCluster", "orders", spec)
            reference = {"clusterRef": {"name": "orders"}, "reclaimPolicy": "Delete"}
            await live.create("Topic", "payments", reference)
            await live.create("ConsumerGroup", "billing", {**reference, "topics": ["payments"]})
            await live.until("ConsumerGroup", "billing", is_ready, "the group")
            # Apply over a change, prune, evict, write and release finalizers.
            await live.edit(
                "MessageCluster",
                "orders",
                {"spec": {"listeners": listeners[:1], "networkPolicy": {"enabled": False}}},
            )
            await live.until("MessageCluster", "orders", is_ready, "the edit")

            async def gone() -> bool:
                return await kube.get(API_VERSION, "Topic", namespace, "payments") is None

            await kube.delete(API_VERSION, "Topic", namespace, "payments")
            await eventually(gone, "the topic is gone")
        election = LeaderElection(
            restricted, namespace, "penstock-operator", "me", asyncio.get_running_loop().time
        )
        await election.acquire()
        assert await election._try()
        events = await kube.list_objects("v1", "Event", namespace)
        assert {"TopicReady", "GroupReady", "BrokerRestart"} <= {event["reason"] for event in events}
        assert "forbidden" not in caplog.text
    finally:
        await restricted.close()


async def start_process(server: KubeApiServer, namespace: str, identity: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig), "POD_NAME": identity}
    return await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "penstock_operator.main",
            "--image",
            "penstock:test",
            "--namespace",
            namespace,
        ),
        *(
            "--own-namespace",
            namespace,
            "--health-host",
            "127.0.0.1",
            "--health-port",
            "0",
            "--log-format",
            "text",
        ),
        env=environment,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def holder(kube: AioKubeApi, namespace: str) -> str:
    lease = await kube.get("coordination.k8s.io/v1", "Lease", namespace, "penstock-operator")
    return str(lease["spec"].get("holderIdentity", "")) if lease else ""


async def test_the_next_operator_takes_over(kube: AioKubeApi, namespace: str, server: KubeApiServer) -> None:
    loop = asyncio.get_running_loop()
    processes = []

    async def leads(identity: str) -> bool:
        return (await holder(kube, namespace)).startswith(identity)

    try:
        processes.append(await start_process(server, namespace, "first"))
        await eventually(lambda: leads("first"), "the first leads")
        processes.append(await start_process(server, namespace, "second"))
        # A clean stop hands over at once.
        processes[0].send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(processes[0].wait(), 20) == 0
        await eventually(lambda: leads("second"), "the second leads")
        processes.append(await start_process(server, namespace, "third"))
        await eventually(lambda: leads("second"), "the second still leads")
        # After a kill the Lease has to run out.
        killed_at = loop.time()
        processes[1].kill()
        await eventually(lambda: leads("third"), "the third leads")
        assert loop.time() - killed_at < 20
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
