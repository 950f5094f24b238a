"""Mode MasterSlave on a real API server: what a broker may do with its Role and what not, the release of a Lease by the version that
was read, and what the watch on Leases tells. Controllers and brokers are played by fakes; the Lease is written by the brokers'
own code, with the rights that the operator gave them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from harness import condition, eventually, fake_shard, is_ready
from lease_world import EARLIER, HOLDER, LEASE, record
from penstock.replication.master_lease import (
    ANYBODY,
    Conflict,
    HolderIdentity,
    LeaseRecord,
    Release,
    Stored,
    Unavailable,
    Unknown,
)
from penstock.runtime.lease_kube import KubeAccess, KubeLease
from penstock_operator.kube import AioKubeApi
from penstock_operator.kube_errors import KubeError
from penstock_operator.plan.actions import ReleaseLease
from penstock_operator.reconcile.act import release_lease
from test_operator_kube import Live, kube, kubeconfig_of_the_chart, namespace, operator, server
from test_operator_kube_upkeep import events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kube_apiserver import KubeApiServer

__all__ = ["kube", "namespace", "server"]
pytestmark = pytest.mark.kube

CLUSTER = ("MessageCluster", "orders")
TIMEOUT_MS = 20_000
REASON = "the container of orders-0-0 that held it has ended with exit code 137"
RELEASE_S = 10.0
"""From kubelet's word until the Lease is free, on a machine that does much else; idle it is a tenth of a second."""


@asynccontextmanager
async def with_the_charts_rights(
    server: KubeApiServer, namespace: str, folder: Path, helm: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AioKubeApi]:
    rights = kubeconfig_of_the_chart(server, namespace, folder, helm)
    monkeypatch.setenv("KUBECONFIG", str(rights))
    restricted = await AioKubeApi.connect()
    try:
        yield restricted
    finally:
        await restricted.close()


def token_of_brokers(server: KubeApiServer, namespace: str) -> str:
    """What kubelet mounts in the brokers' pods."""
    done = server.kubectl("-n", namespace, "create", "token", "orders-broker")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def broker_store(server: KubeApiServer, namespace: str, folder: Path, name: str = "orders-0") -> KubeLease:
    """The Lease as a broker opens it."""
    (folder / "token").write_text(token_of_brokers(server, namespace))
    access = KubeAccess(server.url, folder / "token", server.ca_file, namespace)
    return KubeLease(access, name, TIMEOUT_MS)


async def two_brokers(live: Live, kube: AioKubeApi, **spec: Any) -> LeaseRecord:
    """A cluster that runs, and the Lease that its first broker would have made: not written yet."""
    await live.create(*CLUSTER, {"mode": "MasterSlave", "replicas": 2, **spec})
    # The fakes lead without a Lease, which real brokers never do.
    found = await live.until(*CLUSTER, is_ready, "the cluster")
    return record(
        shard_uid=found["status"]["shards"][0]["uid"], identity=await identity(kube, live, 0), epoch=1
    )


async def identity(kube: AioKubeApi, live: Live, ordinal: int) -> HolderIdentity:
    pod = await kube.get("v1", "Pod", live.namespace, f"orders-0-{ordinal}")
    assert pod is not None
    return HolderIdentity(
        member=ordinal + 1, ordinal=ordinal, pod_name=f"orders-0-{ordinal}", pod_uid=pod["metadata"]["uid"]
    )


async def test_brokers_may_read_and_write_their_lease_and_nothing_else(
    kube: AioKubeApi,
    namespace: str,
    server: KubeApiServer,
    helm: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also that an operator with no more than the chart's rights may give them these."""
    async with (
        with_the_charts_rights(server, namespace, tmp_path, helm, monkeypatch) as restricted,
        fake_shard(2) as shard,
        operator(restricted, namespace, shard) as live,
    ):
        live.kube = kube
        live.controllers = live.fake_controllers(kube)
        first = await two_brokers(live, kube)
        assert "forbidden" not in caplog.text
        store = broker_store(server, namespace, tmp_path)
        other = broker_store(server, namespace, tmp_path, "orders-1")
        try:
            created = await store.create(first)
            assert isinstance(created, Stored), created
            seen = await store.read()
            assert isinstance(seen, LeaseRecord)
            assert isinstance(await store.compare_and_swap(first, seen.version), Stored | Conflict)
            # Another shard's: a name cannot be asked for when it is made, but it can when it is read and written.
            read = await other.read()
            assert isinstance(read, Unavailable)
            assert "403" in read.why
            swapped = await other.compare_and_swap(first, seen.version)
            assert isinstance(swapped, Unknown)
            assert "403" in swapped.why
        finally:
            await store.close()
            await other.close()
        content = yaml.safe_load(server.kubeconfig.read_text())
        content["users"][0]["user"] = {"token": token_of_brokers(server, namespace)}
        path = tmp_path / "broker.kubeconfig"
        path.write_text(yaml.safe_dump(content))
        monkeypatch.setenv("KUBECONFIG", str(path))
        broker = await AioKubeApi.connect()
        try:
            for asked in (
                broker.delete(*LEASE, namespace, "orders-0"),
                broker.list_objects(*LEASE, namespace),
                broker.list_objects("v1", "Pod", namespace),
                broker.get("v1", "Pod", namespace, "orders-0-0"),
                broker.get("v1", "ConfigMap", namespace, "orders-0"),
                broker.get("rbac.authorization.k8s.io/v1", "Role", namespace, "orders-broker"),
                broker.get(*LEASE, "default", "orders-0"),
            ):
                with pytest.raises(KubeError, match="forbidden"):
                    await asked
        finally:
            await broker.close()


async def marked(kube: AioKubeApi, live: Live) -> None:
    """Nothing tells of a Lease that has no labels; the next look gives it some."""
    await live.edit(*CLUSTER, {"metadata": {"annotations": {"look": "now"}}})

    async def labelled() -> bool:
        found = await kube.get(*LEASE, live.namespace, "orders-0")
        return (
            found is not None and found["metadata"].get("labels", {}).get("penstock.io/cluster") == "orders"
        )

    await eventually(labelled, "the Lease is marked")


async def kept(store: KubeLease) -> LeaseRecord:
    found = await store.read()
    assert isinstance(found, LeaseRecord), found
    return found


async def release_after_a_kill(live: Live, store: KubeLease) -> LeaseRecord:
    """Kubelet tells that the master's container ended, and that the next one runs already; the Lease as it is released then."""
    live.controllers.endings["orders-0-0"] = {"exitCode": 137, "message": HOLDER}
    loop = asyncio.get_running_loop()
    told_at = loop.time()
    await live.controllers.step()

    async def released() -> LeaseRecord | None:
        found = await kept(store)
        return found if found.released is not None else None

    found: LeaseRecord = await eventually(released, "the release")
    took = loop.time() - told_at
    print(f"released {took * 1000:.0f} ms after kubelet's word")
    assert took < RELEASE_S
    return found


async def test_the_lease_of_a_killed_master_is_released_at_once_and_only_as_it_was_read(
    kube: AioKubeApi,
    namespace: str,
    server: KubeApiServer,
    helm: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        with_the_charts_rights(server, namespace, tmp_path, helm, monkeypatch) as restricted,
        fake_shard(2) as shard,
        operator(restricted, namespace, shard) as live,
    ):
        live.kube = kube
        live.controllers = live.fake_controllers(kube)
        first = await two_brokers(live, kube)
        store = broker_store(server, namespace, tmp_path)
        try:
            assert isinstance(await store.create(first), Stored)
            await marked(kube, live)
            before = await kept(store)
            assert before.released is None
            found = await release_after_a_kill(live, store)
            assert found.released == Release(REASON, ANYBODY)
            # What was written with the old version does not count any more: the dead master's last renewal, say.
            assert await store.compare_and_swap(first, before.version) == Conflict()
            second = await identity(kube, live, 1)
            taken = record(shard_uid=first.shard_uid, holder=EARLIER, identity=second, epoch=2, transitions=1)
            assert isinstance(await store.compare_and_swap(taken, found.version), Stored)
            shard.lead("orders-0-1")
            cluster = await live.until(*CLUSTER, tells_of_the_second, "the new master in status")
            roles = [member["role"] for member in cluster["status"]["shards"][0]["members"]]
            assert roles == ["Slave", "Master"]
            (sentence,) = await events(kube, namespace, "LeaseReleased")
            assert sentence == f"Lease orders-0 of epoch 1 is released because {REASON}"

            # A release that was decided before somebody else wrote.
            late = ReleaseLease(why="late", name="orders-0", version=before.version, reason="late")
            with pytest.raises(KubeError) as caught:
                await release_lease(late, namespace, restricted)
            assert caught.value.status == 409
            assert (await kept(store)).released is None
        finally:
            await store.close()


def tells_of_the_second(cluster: dict[str, Any]) -> bool:
    row = cluster["status"]["shards"][0]
    held = {"name": "orders-0", "holder": "orders-0-1", "epoch": 2, "inSync": 2}
    return row.get("lease") == held and row["leader"] == "orders-0-1"


async def test_a_lease_goes_with_the_volumes_and_one_that_is_gone_is_told_at_once(
    kube: AioKubeApi, namespace: str, server: KubeApiServer, tmp_path: Path
) -> None:
    async with fake_shard(2) as shard, operator(kube, namespace, shard) as live:
        first = await two_brokers(live, kube, storage={"deleteClaim": True})
        store = broker_store(server, namespace, tmp_path)
        try:
            assert isinstance(await store.create(first), Stored)
            await live.edit(*CLUSTER, {"metadata": {"annotations": {"look": "now"}}})
            uid = (await live.get(*CLUSTER))["metadata"]["uid"]

            async def owners() -> list[str]:
                found = await kube.get(*LEASE, namespace, "orders-0")
                assert found is not None
                return [owner["uid"] for owner in found["metadata"].get("ownerReferences", [])]

            async def owned() -> bool:
                return await owners() == [uid]

            async def left() -> bool:
                return await owners() == []

            await eventually(owned, "the Lease is owned")
            await live.edit(*CLUSTER, {"spec": {"storage": {"deleteClaim": False}}})
            await eventually(left, "the Lease is kept like the volumes")
            await live.until(
                *CLUSTER,
                lambda found: condition(found, "Progressing")["reason"] == "Settled",
                "nothing is left to do",
            )
            # The rights that brokers have go with the cluster in any case.
            for kind in ("Role", "RoleBinding"):
                found = await kube.get("rbac.authorization.k8s.io/v1", kind, namespace, "orders-broker")
                assert found is not None
                assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == [uid]

            await kube.delete(*LEASE, namespace, "orders-0")
            cluster = await live.until(
                *CLUSTER, lambda found: condition(found, "Degraded")["reason"] == "LeaseMissing", "the loss"
            )
            assert "is never taken for a free one" in condition(cluster, "Degraded")["message"]
        finally:
            await store.close()
