"""Resources, clusters and users on Kubernetes: the ports of the reconcilers over `KubeApi`."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from penstock_operator.api.names import (
    ADMIN_PORT,
    ANNOTATION_TRACEPARENT,
    API_VERSION,
    CONSUMER_GROUP,
    FIELD_MANAGER,
    LABEL_CLUSTER,
    MESSAGE_CLUSTER,
    TOPIC,
)
from penstock_operator.broker_admin import HttpBrokerAdmin
from penstock_operator.kube_errors import KubeError
from penstock_operator.leader_admin import LeaderAdmin
from penstock_operator.plan.dependents import Claimant
from penstock_operator.reconcile.ports import ClusterState, Key, Note
from penstock_operator.snapshot.cluster import parse_pod
from penstock_operator.tracing.current import current_pass

if TYPE_CHECKING:
    import aiohttp

    from penstock_operator.kube import KubeApi

logger = logging.getLogger(__name__)

CATALOG_SHARD: Final = 0  # the shard that knows all topics and groups
CLUSTER_CACHE_S: Final = 2.0  # topics and groups of one cluster ask where it is all at once
CLUSTER_CACHE_MAX: Final = 1000
EVENT_NAME_PREFIX_MAX: Final = 200  # the longest resource name and a number would not fit
EVENT_MESSAGE_MAX: Final = 1024  # Kubernetes' own limit


def rfc3339_now() -> str:
    """The time, as conditions and Events have it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Directory:
    """Which Topics and ConsumerGroups there are and what they claim, kept current by the watch."""

    def __init__(self) -> None:
        self._claimants: dict[Key, Claimant] = {}

    def put(self, resource: dict[str, Any]) -> None:
        """A resource was seen."""
        metadata, spec = resource["metadata"], resource.get("spec", {})
        name_field = "topicName" if resource["kind"] == TOPIC else "groupName"
        key = Key(resource["kind"], metadata["namespace"], metadata["name"])
        self._claimants[key] = Claimant(
            name=metadata["name"],
            uid=metadata["uid"],
            created=metadata.get("creationTimestamp", ""),
            cluster=(spec.get("clusterRef") or {}).get("name", ""),
            wire_name=spec.get(name_field) or metadata["name"],
        )

    def drop(self, key: Key) -> Claimant | None:
        """A resource is gone; returns what it claimed."""
        return self._claimants.pop(key, None)

    def claimants(self, kind: str, namespace: str) -> list[Claimant]:
        """All of a kind in a namespace."""
        return [
            claimant
            for key, claimant in self._claimants.items()
            if key.kind == kind and key.namespace == namespace
        ]

    def of_cluster(self, namespace: str, cluster: str) -> list[Key]:
        """Topics and groups of a cluster."""
        return [
            key
            for key, claimant in self._claimants.items()
            if key.namespace == namespace
            and claimant.cluster == cluster
            and key.kind in (TOPIC, CONSUMER_GROUP)
        ]


class KubeStore:
    """`ports.ResourceStore` on Kubernetes."""

    def __init__(self, kube: KubeApi, directory: Directory) -> None:
        self._kube = kube
        self._directory = directory

    async def get(self, key: Key) -> dict[str, Any] | None:
        """See `ports.ResourceStore`."""
        resource = await self._kube.get(API_VERSION, key.kind, key.namespace, key.name)
        if resource is None:
            # A watch that was interrupted does not report what was deleted meanwhile.
            self._directory.drop(key)
        return resource

    def claimants(self, kind: str, namespace: str) -> list[Claimant]:
        """See `ports.ResourceStore`."""
        return self._directory.claimants(kind, namespace)

    async def write_status(self, resource: dict[str, Any], status: dict[str, Any]) -> None:
        """See `ports.ResourceStore`. A resource that is gone needs no status."""
        known = {key: value for key, value in status.items() if value is not None}
        try:
            await self._kube.write_status(resource, known)
        except KubeError as error:
            if error.status != 404:
                raise

    async def write_finalizers(self, resource: dict[str, Any], finalizers: list[str]) -> None:
        """See `ports.ResourceStore`. A resource that is gone needs no finalizers."""
        try:
            await self._kube.write_finalizers(resource, finalizers)
        except KubeError as error:
            if error.status != 404:
                raise

    async def tell(self, resource: dict[str, Any], note: Note) -> None:
        """An Event. One that cannot be written (the namespace is being deleted) is only logged."""
        metadata = resource["metadata"]
        now = rfc3339_now()
        traceparent = current_pass().traceparent
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name'][:EVENT_NAME_PREFIX_MAX]}.{time.time_ns():x}",
                "namespace": metadata["namespace"],
                **({"annotations": {ANNOTATION_TRACEPARENT: traceparent}} if traceparent else {}),
            },
            "involvedObject": {
                "apiVersion": resource["apiVersion"],
                "kind": resource["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "type": note.type,
            "reason": note.reason,
            "message": note.message[:EVENT_MESSAGE_MAX],
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._kube.create(event)
        except KubeError as error:
            logger.info("event not written", extra={"why": str(error), "event": note.message})


class HttpBrokers:
    """Brokers by their pods' addresses, all on one port."""

    def __init__(self, session: aiohttp.ClientSession, port: int = ADMIN_PORT) -> None:
        self._session = session
        self._port = port

    def at(self, address: str) -> HttpBrokerAdmin:
        """The admin API of the broker with this pod address."""
        host = f"[{address}]" if ":" in address else address
        return HttpBrokerAdmin(self._session, f"http://{host}:{self._port}")


class KubeClusters:
    """`ports.Clusters` on Kubernetes: a cluster is ready for its topics when brokers of shard 0 are."""

    def __init__(self, kube: KubeApi, brokers: HttpBrokers, clock: Callable[[], float]) -> None:
        self._kube = kube
        self._brokers = brokers
        self._clock = clock
        self._cache: dict[tuple[str, str], tuple[float, ClusterState]] = {}

    def forget(self, namespace: str, name: str) -> None:
        """Something about the cluster changed."""
        self._cache.pop((namespace, name), None)

    async def find(self, namespace: str, name: str) -> ClusterState:
        """See `ports.Clusters`."""
        cached = self._cache.get((namespace, name))
        if cached is not None and self._clock() - cached[0] < CLUSTER_CACHE_S:
            return cached[1]
        state = await self._look(namespace, name)
        if len(self._cache) >= CLUSTER_CACHE_MAX:
            self._cache.clear()
        self._cache[namespace, name] = (self._clock(), state)
        return state

    async def _look(self, namespace: str, name: str) -> ClusterState:
        cluster = await self._kube.get(API_VERSION, MESSAGE_CLUSTER, namespace, name)
        if cluster is None:
            message = f"there is no MessageCluster {name} in namespace {namespace}: create it, or correct clusterRef"
            return ClusterState(state="Missing", message=message)
        if cluster["metadata"].get("deletionTimestamp") is not None:
            return ClusterState(state="Leaving", message=f"MessageCluster {name} is being deleted")
        pods = [
            parse_pod(pod)
            for pod in await self._kube.list_objects("v1", "Pod", namespace, {LABEL_CLUSTER: name})
        ]
        usable = {
            pod.name: self._brokers.at(pod.address)
            for pod in sorted(pods, key=lambda pod: pod.name)
            if pod.ready and pod.shard == CATALOG_SHARD and pod.address
        }
        if not usable:
            return ClusterState(state="NotReady", message=f"no broker of MessageCluster {name} is ready yet")
        shards = cluster.get("status", {}).get("shards") or [{}]
        admin = LeaderAdmin(usable, shards[CATALOG_SHARD].get("leader"), CATALOG_SHARD)
        return ClusterState(state="Ready", message="ready", admin=admin)
