"""Look at everything that belongs to one MessageCluster, in Kubernetes and in its brokers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from penstock_operator.api.names import LABEL_CLUSTER
from penstock_operator.desired import names
from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError
from penstock_operator.snapshot.broker import (
    BrokerReport,
    ClusterReport,
    parse_cluster,
    parse_election,
    parse_settings,
)
from penstock_operator.snapshot.cluster import ClusterSnapshot, PodSeen, parse_claim, parse_pod
from penstock_operator.snapshot.lease import LEASE_API, LEASE_KIND, LeaseSeen, parse_lease

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.kube import KubeApi
    from penstock_operator.reconcile.cluster import Brokers
    from penstock_operator.reconcile.nodes import Nodes

OWNED: Final = (
    ("apps/v1", "StatefulSet"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)
# Of mode MasterSlave alone: the rights of its brokers.
RIGHTS: Final = (("rbac.authorization.k8s.io/v1", "Role"), ("rbac.authorization.k8s.io/v1", "RoleBinding"))


class ClusterBroker(Protocol):
    """What the pass over a cluster asks a broker. Raises AdminError and AdminUnreachableError."""

    async def not_ready(self) -> list[str]:
        """The broker's reasons why it is not ready."""

    async def cluster(self) -> Any:
        """`GET /v1/cluster`."""

    async def broker(self) -> Any:
        """`GET /v1/broker`."""

    async def settings(self) -> Any:
        """`GET /v1/config`."""

    async def patch_settings(self, settings: dict[str, Any]) -> None:
        """Change dynamic settings."""

    async def hand_over(self, to: str) -> None:
        """Give the leadership of the broker's shard to another member."""

    async def resize(self, replicas: int) -> None:
        """Tell the broker's shard how many brokers it should have."""

    async def trust(self, shard_uid: str) -> None:
        """Have the shard go on from this broker's copy."""


async def observe(
    kube: KubeApi, brokers: Brokers, nodes: Nodes, cluster: MessageCluster, now: str
) -> ClusterSnapshot:
    """One consistent enough look; a broker that cannot be asked is reported as unknown, not as an error."""
    namespace, name = cluster.metadata.namespace, cluster.metadata.name
    selector = {LABEL_CLUSTER: name}
    with_lease = cluster.spec.mode == "MasterSlave"
    owned_kinds = (*OWNED, *RIGHTS) if with_lease else OWNED
    listed = await asyncio.gather(
        *(kube.list_objects(api_version, kind, namespace, selector) for api_version, kind in owned_kinds),
        kube.list_objects("v1", "Pod", namespace, selector),
        kube.list_objects("v1", "PersistentVolumeClaim", namespace, selector),
    )
    *owned, pods, claims = listed
    objects = {(item["kind"], item["metadata"]["name"]): item for items in owned for item in items}
    await _add_foreign(kube, cluster, objects)
    # Not only those that the spec asks for: a shard that is to shrink still has its other brokers.
    found = [pod for pod in map(parse_pod, pods) if names.is_broker(cluster, pod.name)]
    kept = [parse_claim(claim) for claim in claims]
    reports, places, lost = await asyncio.gather(
        asyncio.gather(*(_ask(brokers, pod, with_lease) for pod in found)),
        nodes.of(found),
        nodes.lost_volumes(found, kept),
    )
    # After the brokers: who leads has written there before, and no epoch that they know is newer than the Lease's.
    leases = await _leases(kube, cluster) if with_lease else {}
    return ClusterSnapshot(
        objects=objects,
        pods={pod.name: pod for pod in found},
        claims={claim.name: claim for claim in kept},
        brokers={pod.name: report for pod, report in zip(found, reports, strict=True)},
        nodes=places,
        lost_volumes=lost,
        leases=leases,
        now=now,
    )


async def _leases(kube: KubeApi, cluster: MessageCluster) -> dict[int, LeaseSeen]:
    """The Leases of a cluster's shards that there are, looked up by name: a broker makes them, without our labels."""
    namespace, shards = cluster.metadata.namespace, range(cluster.spec.shards)
    found = await asyncio.gather(
        *(
            kube.get(LEASE_API, LEASE_KIND, namespace, names.lease_name(cluster.metadata.name, shard))
            for shard in shards
        )
    )
    return {
        shard: parse_lease(lease) for shard, lease in zip(shards, found, strict=True) if lease is not None
    }


async def _add_foreign(
    kube: KubeApi, cluster: MessageCluster, objects: dict[tuple[str, str], dict[str, Any]]
) -> None:
    """Objects that have a name we need but not our label: the plan must not take them over unseen.

    Only names that were not found by label are looked up, so a settled cluster costs nothing here.
    """
    shards = [names.shard_name(cluster.metadata.name, shard) for shard in range(cluster.spec.shards)]
    wanted = [
        *(("apps/v1", "StatefulSet", shard) for shard in shards),
        *(("v1", "Service", shard) for shard in shards),
        *(("v1", "ConfigMap", shard) for shard in shards),
        ("v1", "Service", names.bootstrap_name(cluster.metadata.name)),
        ("v1", "Service", names.leader_name(cluster.metadata.name)),
        ("v1", "ServiceAccount", names.broker_name(cluster.metadata.name)),
    ]
    if cluster.spec.mode == "MasterSlave":
        wanted += [
            (api_version, kind, names.broker_name(cluster.metadata.name)) for api_version, kind in RIGHTS
        ]
    for api_version, kind, name in wanted:
        if (kind, name) not in objects:
            live = await kube.get(api_version, kind, cluster.metadata.namespace, name)
            if live is not None:
                objects[kind, name] = live


async def _ask(brokers: Brokers, pod: PodSeen, with_lease: bool) -> BrokerReport:
    if pod.address is None or pod.terminating:
        return BrokerReport(unknown="it has no address yet" if pod.address is None else "it is stopping")
    broker = brokers.at(pod.address)
    try:
        not_ready = await broker.not_ready()
        election = parse_election(await broker.broker()) if with_lease else None
        if not_ready:
            return BrokerReport(not_ready=not_ready, cluster=await _ask_cluster(broker), election=election)
        return BrokerReport(
            cluster=parse_cluster(await broker.cluster()),
            settings=parse_settings(await broker.settings()),
            election=election,
        )
    except (AdminError, AdminUnreachableError, ValueError) as error:
        return BrokerReport(unknown=str(error))


async def _ask_cluster(broker: ClusterBroker) -> ClusterReport | None:
    """What a broker that is not ready knows of the cluster; it need not know anything."""
    try:
        return parse_cluster(await broker.cluster())
    except (AdminError, AdminUnreachableError, ValueError):
        return None
