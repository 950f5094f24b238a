"""Releases as passes: from the pod's event to the write, which happens at the Lease's version or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fake_kube import FakeKube
from harness import Harness, condition, eventually, has_reason, is_ready, running
from lease_world import EARLIER, manifest, pod, record, terminated
from penstock.replication.master_lease import HolderIdentity
from penstock_operator.kube_errors import KubeError
from penstock_operator.reconcile.leases import lease_of
from penstock_operator.reconcile.ports import Key

CLUSTER = ("MessageCluster", "orders")
LEASE = Key("Lease", "shop", "orders-0")
ENDED = {"state": {"running": {}}, "lastState": terminated()}
SENTENCE = "Lease orders-0 of epoch 7 is released because the container of orders-0-0 that held it has ended with exit code 137"


@pytest.fixture
async def harness() -> Any:
    async with running(FakeKube(), replicas=2) as made:
        await made.create("MessageCluster", "orders", {"mode": "MasterSlave", "replicas": 2})
        await made.kube.create(manifest(record(identity=_identity("uid-3"))))
        created = await made.kube.create({"apiVersion": "v1", **pod(**ENDED)})
        assert created["metadata"]["uid"] == "uid-3"
        yield made


def _identity(uid: str) -> HolderIdentity:

    return HolderIdentity(member=1, ordinal=0, pod_name="orders-0-0", pod_uid=uid)


def lease(harness: Harness) -> dict[str, Any]:
    kube: Any = harness.kube
    found: dict[str, Any] = kube.objects["Lease", "shop", "orders-0"]
    return found


def why_released(harness: Harness) -> str | None:
    released: str | None = lease(harness)["metadata"]["annotations"].get("penstock.io/lease-released")
    return released


def events(harness: Harness) -> list[tuple[str, str]]:
    kube: Any = harness.kube
    found = [item for (kind, _, _), item in kube.objects.items() if kind == "Event"]
    return [(item["reason"], item["message"]) for item in found]


async def test_the_lease_of_a_container_that_ended_is_released_once_and_told_once(harness: Harness) -> None:
    kube: Any = harness.kube
    kube.calls.clear()
    for _ in range(3):
        await harness.engine._reconcile(LEASE)
    assert why_released(harness) == "the container of orders-0-0 that held it has ended with exit code 137"
    assert events(harness) == [("LeaseReleased", SENTENCE)]
    assert [call for call in kube.calls if call[0] != "create"] == [("merge", "Lease/orders-0")]
    # Nothing else of it was touched.
    wanted = manifest(record(identity=_identity("uid-3")))
    del lease(harness)["metadata"]["annotations"]["penstock.io/lease-released"]
    assert lease(harness)["metadata"]["annotations"] == wanted["metadata"]["annotations"]
    assert lease(harness)["spec"] == wanted["spec"]


async def test_a_lease_that_changed_since_it_was_read_is_not_written_and_judged_anew(
    harness: Harness,
) -> None:
    kube: Any = harness.kube
    look = kube.get

    async def overtaken(api_version: str, kind: str, namespace: str | None, name: str) -> Any:
        found = await look(api_version, kind, namespace, name)
        if kind == "Pod":  # between the two reads and the write another broker takes the Lease over
            await kube.merge(
                "coordination.k8s.io/v1", "Lease", "shop", "orders-0", {"spec": {"holderIdentity": EARLIER}}
            )
        return found

    kube.get = overtaken
    with pytest.raises(KubeError) as caught:
        await harness.engine._reconcile(LEASE)
    assert caught.value.status == 409
    assert (why_released(harness), events(harness)) == (None, [])
    # The pass is repeated, and finds that what ended does not hold it any more.
    await harness.engine._reconcile(LEASE)
    assert (why_released(harness), events(harness)) == (None, [])


async def test_a_lease_that_is_removed_in_between_is_no_error(harness: Harness) -> None:
    kube: Any = harness.kube
    kube.refuse[("merge", "orders-0")] = KubeError(404, "NotFound", "it is gone")
    await harness.engine._reconcile(LEASE)
    assert events(harness) == []
    await kube.delete("coordination.k8s.io/v1", "Lease", "shop", "orders-0")
    await harness.engine._reconcile(LEASE)


async def test_the_pod_is_read_after_the_lease_and_live(harness: Harness) -> None:
    kube: Any = harness.kube
    read, look = [], kube.get

    async def noted(api_version: str, kind: str, namespace: str | None, name: str) -> Any:
        read.append(kind)
        return await look(api_version, kind, namespace, name)

    kube.get = noted
    await harness.engine._reconcile(LEASE)
    assert read[:2] == ["Lease", "Pod"]


async def test_what_is_not_to_be_reconciled_is_not_released(harness: Harness) -> None:
    kube: Any = harness.kube
    cluster = kube.objects["MessageCluster", "shop", "orders"]["metadata"]
    stranger = kube.objects["Pod", "shop", "orders-0-0"]["metadata"]["labels"]
    for change, undo in (
        (
            lambda: cluster.update(annotations={"penstock.io/paused": "true"}),
            lambda: cluster.pop("annotations"),
        ),
        (
            lambda: cluster.update(deletionTimestamp="2026-11-21T08:00:00Z"),
            lambda: cluster.pop("deletionTimestamp"),
        ),
        # A pod that is no broker of this shard.
        (
            lambda: stranger.update({"penstock.io/shard": "1"}),
            lambda: stranger.update({"penstock.io/shard": "0"}),
        ),
        (
            lambda: stranger.pop("penstock.io/cluster"),
            lambda: stranger.update({"penstock.io/cluster": "orders"}),
        ),
    ):
        change()
        await harness.engine._reconcile(LEASE)
        assert why_released(harness) is None
        undo()
    await kube.delete("penstock.io/v1alpha1", "MessageCluster", "shop", "orders")
    await harness.engine._reconcile(LEASE)
    assert why_released(harness) is None


async def test_an_event_of_the_pod_leads_to_the_release_without_waiting_for_brokers(harness: Harness) -> None:
    """The pass over the cluster hangs, as it does when brokers do not answer; the release does not wait for it."""
    kube: Any = harness.kube
    hang = asyncio.Event()
    reconcile = harness.engine._cluster_reconciler.reconcile

    async def hanging(key: Key) -> Any:
        await hang.wait()
        return await reconcile(key)

    async def released() -> bool:
        return why_released(harness) is not None

    harness.engine._cluster_reconciler.reconcile = hanging  # type: ignore[method-assign]
    workers = asyncio.create_task(harness.engine.queue.run())
    try:
        harness.engine.child_seen(kube.objects["Pod", "shop", "orders-0-0"])
        await eventually(released, "the release")
    finally:
        hang.set()
        workers.cancel()
        await asyncio.wait([workers])


def test_only_pods_whose_containers_say_who_they_were_are_looked_at() -> None:
    assert lease_of(pod(**ENDED)) == LEASE
    assert lease_of(pod(state=terminated())) == LEASE
    assert lease_of(pod(state={"running": {}})) is None
    assert lease_of(pod(state=terminated("out of memory"))) is None
    unlabelled = pod(**ENDED)
    del unlabelled["metadata"]["labels"]["penstock.io/shard"]
    assert lease_of(unlabelled) is None


async def test_renewals_wake_nobody_and_a_new_holder_wakes_the_cluster_and_the_lease(
    harness: Harness,
) -> None:
    kube: Any = harness.kube
    labels = {"penstock.io/cluster": "orders"}
    woken: list[str] = []
    harness.engine.queue.wake = lambda key, after_s=0.0: woken.append(key.kind)  # type: ignore[method-assign]

    async def seen(patch: dict[str, Any]) -> list[str]:
        woken.clear()
        found = await kube.merge("coordination.k8s.io/v1", "Lease", "shop", "orders-0", patch)
        harness.engine.child_seen({**found, "kind": "Lease"})
        return sorted(woken)

    assert await seen({"metadata": {"labels": labels}}) == ["Lease", "MessageCluster"]
    assert await seen({"spec": {"renewTime": "2026-11-21T08:00:02.000000Z"}}) == []
    assert await seen({"metadata": {"annotations": {"penstock.io/lease-renewals": "9"}}}) == []
    assert await seen({"spec": {"holderIdentity": EARLIER}}) == ["Lease", "MessageCluster"]
    woken.clear()
    harness.engine.child_seen({**lease(harness), "kind": "Lease"}, gone=True)
    assert woken == ["MessageCluster"]


async def test_a_settled_cluster_of_masters_is_not_written_again() -> None:
    async with running(FakeKube(), replicas=2) as harness:
        kube: Any = harness.kube
        await harness.create(*CLUSTER, {"mode": "MasterSlave", "replicas": 2})
        await harness.settle(*CLUSTER, is_ready)
        uid = kube.objects["Pod", "shop", "orders-0-0"]["metadata"]["uid"]
        shard_uid = kube.objects["MessageCluster", "shop", "orders"]["status"]["shards"][0]["uid"]
        await kube.create(manifest(record(identity=_identity(uid), shard_uid=shard_uid, epoch=1)))
        # Its holder writes it all the time, so the operator may come too late; that holds nothing else up.
        kube.refuse[("merge", "orders-0")] = KubeError(409, "Conflict", "the object has been modified")
        await harness.turn(CLUSTER)
        assert "labels" not in lease(harness)["metadata"]
        kube.refuse.clear()
        await harness.turn(CLUSTER)
        assert lease(harness)["metadata"]["labels"]["penstock.io/cluster"] == "orders"
        kube.calls.clear()
        for _ in range(3):
            await harness.turn(CLUSTER)
        assert kube.calls == []
        assert harness.shard.requests == []


async def test_clusters_in_mode_raft_have_nothing_to_do_with_leases() -> None:
    async with running(FakeKube(), replicas=1) as harness:
        kube: Any = harness.kube
        looked, look = set(), kube.get

        async def noted(api_version: str, kind: str, namespace: str | None, name: str) -> Any:
            looked.add(kind)
            return await look(api_version, kind, namespace, name)

        kube.get = noted
        await harness.create(*CLUSTER, {"mode": "Raft"})
        await harness.settle(*CLUSTER, is_ready)
        assert "Lease" not in looked
        assert not {kind for kind, _, _ in kube.objects} & {"Lease", "Role", "RoleBinding"}


async def test_a_role_of_ours_that_is_somebody_elses_stops_the_cluster() -> None:
    async with running(FakeKube(), replicas=2) as harness:
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": []}
        await harness.kube.create({**role, "metadata": {"name": "orders-broker", "namespace": "shop"}})
        await harness.create(*CLUSTER, {"mode": "MasterSlave", "replicas": 2})
        found = await harness.settle(*CLUSTER, has_reason("NameTaken"))
        assert "Role orders-broker exists and is not this cluster's" in condition(found, "Ready")["message"]
