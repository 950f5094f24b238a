"""The operator without its watch: reconcilers, queue, and what wakes what.

`handlers` feeds it from kopf's watches, `main` gives it clocks and connections; tests drive it directly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock_operator.api.names import (
    API_VERSION,
    CONSUMER_GROUP,
    KINDS,
    LABEL_CLUSTER,
    MESSAGE_CLUSTER,
    TOPIC,
)
from penstock_operator.desired.identity import Environment
from penstock_operator.kube import KubeApi
from penstock_operator.kube_store import Directory, HttpBrokers, KubeClusters, KubeStore, rfc3339_now
from penstock_operator.leader_watch import LeaderWatch
from penstock_operator.reconcile.cluster import ClusterReconciler
from penstock_operator.reconcile.dependents import Dependent, reconcile_dependent
from penstock_operator.reconcile.group import GroupDependent
from penstock_operator.reconcile.leaders import Leaders
from penstock_operator.reconcile.leases import LeaseReconciler, lease_of
from penstock_operator.reconcile.nodes import Nodes
from penstock_operator.reconcile.ports import RESYNC_DEFAULT_S, Again, Key
from penstock_operator.reconcile.queue import COALESCE_S, WorkQueue
from penstock_operator.reconcile.topic import TopicDependent
from penstock_operator.snapshot.lease import LEASE_KIND, parse_lease
from penstock_operator.snapshot.nodes import NodeSeen, parse_node
from penstock_operator.tracing.current import current_pass
from penstock_operator.tracing.restarts import Restarts
from penstock_operator.tracing.traceparent import parent_of

if TYPE_CHECKING:
    from penstock_operator.tracing.spans import Spans

logger = logging.getLogger(__name__)


class Engine:
    """All reconcilers behind one queue. One engine works at a time (see `leader`). `spans` are of an operator that traces."""

    def __init__(
        self,
        kube: KubeApi,
        brokers: HttpBrokers,
        environment: Environment,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        resync_s: float = RESYNC_DEFAULT_S,
        spans: Spans | None = None,
    ) -> None:
        self._kube = kube
        self._spans = spans
        self._directory = Directory()
        self._store = KubeStore(kube, self._directory)
        self._clusters = KubeClusters(kube, brokers, clock)
        self.nodes = Nodes(kube)
        self._node_states: dict[str, NodeSeen] = {}
        self._leaders = Leaders()
        self._cluster_reconciler = ClusterReconciler(
            kube,
            self._store,
            brokers,
            self.nodes,
            environment,
            rfc3339_now,
            resync_s=resync_s,
            restarts=Restarts() if spans is not None else None,
        )
        self._dependents: dict[str, Dependent] = {
            TOPIC: TopicDependent(resync_s),
            CONSUMER_GROUP: GroupDependent(),
        }
        self._lease_reconciler = LeaseReconciler(kube, self._store)
        self._seen: dict[Key, Any] = {}
        self.queue = (
            WorkQueue(self._reconcile, random)
            if spans is None
            else WorkQueue(self._reconcile, random, spans.pass_over)
        )
        self.leader_watch = LeaderWatch(
            self._leaders, brokers, lambda cluster: self._wake(cluster, "a shard has another leader")
        )

    async def start(self, namespaces: list[str]) -> None:
        """List everything once: who claims which name must be known before the first pass. No names: all namespaces."""
        scopes: list[str | None] = [*namespaces] or [None]
        for kind in KINDS:
            for namespace in scopes:
                for resource in await self._kube.list_objects(API_VERSION, kind, namespace):
                    self.resource_seen(resource, gone=False)

    def resource_seen(self, resource: dict[str, Any], *, gone: bool) -> None:
        """One of our resources appeared, changed or went."""
        metadata = resource["metadata"]
        key = Key(resource["kind"], metadata["namespace"], metadata["name"])
        if gone:
            self._gone(key)
            return
        if key.kind != MESSAGE_CLUSTER:
            self._directory.put(resource)
        # Our own status writes come back as events; they are no reason to look again.
        digest = (
            metadata["uid"],
            metadata.get("generation"),
            metadata.get("annotations"),
            metadata.get("finalizers"),
            metadata.get("deletionTimestamp"),
        )
        if self._seen.get(key) == digest:
            return
        self._seen[key] = digest
        if self._spans is not None:
            self._spans.wakes.belongs(key, parent_of(resource))
        self._wake(key, f"{key.kind} {key.name} changed")
        if key.kind == MESSAGE_CLUSTER:
            self._wake_dependents(key.namespace, key.name, f"MessageCluster {key.name} changed")

    def child_seen(self, child: dict[str, Any], *, gone: bool = False) -> None:
        """An object that belongs to a cluster appeared, changed or went."""
        metadata = child["metadata"]
        cluster = metadata.get("labels", {}).get(LABEL_CLUSTER)
        if not cluster:
            return
        if child.get("kind") == LEASE_KIND and not self._is_news_of_lease(child, gone=gone):
            return
        trigger = f"{child.get('kind')} {metadata['name']} {'went' if gone else 'changed'}"
        self._wake(Key(MESSAGE_CLUSTER, metadata["namespace"], cluster), trigger)
        if child.get("kind") == "Pod":
            self._leaders.pod_seen(child, gone=gone)
            lease = lease_of(child)
            if lease is not None and not gone:
                self._wake(lease, trigger, after_s=0.0)
            # A broker that came or went is what its topics and groups wait for.
            self._wake_dependents(metadata["namespace"], cluster, trigger)

    def _is_news_of_lease(self, lease: dict[str, Any], *, gone: bool) -> bool:
        """Whether there is more to it than that its holder renewed it, which it does every few seconds."""
        metadata = lease["metadata"]
        key = Key(LEASE_KIND, metadata["namespace"], metadata["name"])
        if gone:
            self._seen.pop(key, None)
            return True
        gist = parse_lease(lease).gist
        if self._seen.get(key) == gist:
            return False
        self._seen[key] = gist
        # A claim that was carried out late may name a holder that has ended meanwhile.
        self._wake(key, f"{LEASE_KIND} {key.name} changed")
        return True

    def node_seen(self, node: dict[str, Any], *, gone: bool) -> None:
        """A node appeared, changed or went: what brokers on it have to know of it wakes their clusters."""
        name = node["metadata"]["name"]
        seen = parse_node(name, None if gone else node)
        if self._node_states.get(name, NodeSeen(name=name)) == seen:
            return
        if seen == NodeSeen(name=name) or gone:
            self._node_states.pop(name, None)  # as nodes usually are
        else:
            self._node_states[name] = seen
        for cluster in self._leaders.on_node(name):
            self._wake(cluster, f"Node {name} {'went' if gone else 'changed'}")

    def _wake(self, key: Key, trigger: str, after_s: float = COALESCE_S) -> None:
        if self._spans is not None:
            self._spans.wakes.woken(key, trigger)
        self.queue.wake(key, after_s)

    def _gone(self, key: Key) -> None:
        self.queue.forget(key)
        if self._spans is not None:
            self._spans.wakes.forget(key)
        self._seen.pop(key, None)
        if key.kind == MESSAGE_CLUSTER:
            self._wake_dependents(key.namespace, key.name, f"MessageCluster {key.name} went")
            return
        claim = self._directory.drop(key)
        if claim is None:
            return
        for rival in self._directory.claimants(key.kind, key.namespace):
            if rival.wire_name == claim.wire_name and rival.cluster == claim.cluster:
                self._wake(Key(key.kind, key.namespace, rival.name), f"{key.kind} {key.name} went")

    def _wake_dependents(self, namespace: str, cluster: str, trigger: str) -> None:
        self._clusters.forget(namespace, cluster)
        for key in self._directory.of_cluster(namespace, cluster):
            self._wake(key, trigger)

    async def _reconcile(self, key: Key) -> Again:
        try:
            return await self._pass(key)
        except BaseException as error:
            current_pass().fails(error)
            raise

    async def _pass(self, key: Key) -> Again:
        if key.kind == MESSAGE_CLUSTER:
            return await self._cluster_reconciler.reconcile(key)
        if key.kind == LEASE_KIND:
            return await self._lease_reconciler.reconcile(key)
        dependent = self._dependents[key.kind]
        return await reconcile_dependent(key, dependent, self._store, self._clusters, rfc3339_now)
