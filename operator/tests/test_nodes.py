"""Looking at nodes and volumes: what is certainly gone, what is not, and what nobody may see."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fake_kube import FakeKube
from penstock_operator.kube_errors import KubeError
from penstock_operator.reconcile.nodes import Nodes
from penstock_operator.snapshot.cluster import ClaimSeen, PodSeen
from plan_world import claim, cluster, desired_of, pod

SINCE = "2026-11-21T08:00:00Z"
DESIRED = desired_of(cluster(replicas=3))
WAITS = pod(DESIRED, 2, ready=False, unschedulable_since=SINCE)
BOUND = msgspec.structs.replace(claim(2), volume="pv-2")


async def world(*hosts: str, affinity: bool = True) -> FakeKube:
    """A volume that can be used on n2 alone, and nodes of these hosts, whose names are others."""
    kube = FakeKube()
    host = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}
    required = {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}}
    spec = {"nodeAffinity": required} if affinity else {}
    await kube.create(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-2"}, "spec": spec}
    )
    for name in hosts:
        metadata = {"name": f"machine-{name}", "labels": {"kubernetes.io/hostname": name}}
        await kube.create({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    return kube


async def lost(kube: FakeKube, seen: PodSeen = WAITS, bound: ClaimSeen = BOUND) -> dict[str, str]:
    return await Nodes(kube).lost_volumes([seen], [bound])


async def test_a_volume_is_lost_when_no_node_is_left_that_it_can_be_used_on() -> None:
    assert await lost(await world("n1")) == {
        "data-orders-0-2": "its volume pv-2 was on node n2, which is gone"
    }
    # The node is known by its label: it may have another name.
    assert await lost(await world("n1", "n2")) == {}


async def test_a_volume_that_can_be_used_elsewhere_is_not_lost_and_one_that_does_not_exist_is() -> None:
    assert await lost(await world("n1", affinity=False)) == {}
    kube = await world("n1", "n2")
    await kube.delete("v1", "PersistentVolume", None, "pv-2")
    assert await lost(kube) == {"data-orders-0-2": "its volume pv-2 is gone"}


@pytest.mark.parametrize(
    ("seen", "bound"),
    [
        (pod(DESIRED, 2), BOUND),  # its pod runs
        (WAITS, claim(2)),  # it was never bound
        (WAITS, msgspec.structs.replace(BOUND, terminating=True)),  # it goes already
        (WAITS, msgspec.structs.replace(BOUND, name="data-orders-0-1")),  # another broker's
    ],
)
async def test_only_volumes_that_a_pod_waits_for_are_looked_at(seen: PodSeen, bound: ClaimSeen) -> None:
    assert await lost(await world(), seen, bound) == {}


async def test_what_may_not_be_seen_is_not_concluded_from(caplog: pytest.LogCaptureFixture) -> None:
    kube: Any = await world()
    nodes = Nodes(kube)
    placed = pod(DESIRED, 0, node="n0")
    assert (await nodes.of([placed]))["n0"].exists is False

    async def forbidden(*_: Any) -> Any:
        raise KubeError(403, "Forbidden", "not for you")

    for verb in ("get", "list_objects"):
        kube = await world()
        setattr(kube, verb, forbidden)
        nodes = Nodes(kube)
        assert await nodes.lost_volumes([WAITS], [BOUND]) == {}
        assert nodes.allowed is False
        assert await nodes.of([placed]) == {}
        assert await nodes.ask() is False
    assert len([record for record in caplog.records if "nodes are not looked at" in record.message]) == 2


async def test_an_api_server_that_is_in_trouble_is_no_answer() -> None:
    kube: Any = await world()

    async def broken(*_: Any) -> Any:
        raise KubeError(500, "InternalError", "trouble")

    kube.get = broken
    with pytest.raises(KubeError):
        await lost(kube)
    with pytest.raises(KubeError):
        await Nodes(kube).of([pod(DESIRED, 0, node="n0")])
