"""The pass over one Lease of mode MasterSlave: released at once when its holder is proved to have ended.

It is a pass of its own, because every moment counts here: the pass over the cluster asks brokers, one of which has just
ended and others of which may hang. Whatever changed meanwhile makes the write fail, and then everything is read anew.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from penstock_operator.api.names import LABEL_CLUSTER, LABEL_SHARD, MESSAGE_CLUSTER
from penstock_operator.desired import names
from penstock_operator.kube_errors import KubeError
from penstock_operator.plan.release import plan_release
from penstock_operator.reconcile.act import release_lease
from penstock_operator.reconcile.dependents import is_paused
from penstock_operator.reconcile.ports import Again, Key, Note, ResourceStore
from penstock_operator.snapshot.cluster import parse_count, parse_pod
from penstock_operator.snapshot.endings import endings
from penstock_operator.snapshot.lease import LEASE_API, LEASE_KIND, parse_lease
from penstock_operator.tracing.current import current_pass

if TYPE_CHECKING:
    from penstock_operator.kube import KubeApi

logger = logging.getLogger(__name__)

NOT_FOUND: Final = 404


def lease_of(pod: dict[str, Any]) -> Key | None:
    """The Lease to look at because of this pod: one whose holder may have been a container of it that has ended."""
    metadata = pod["metadata"]
    labels = metadata.get("labels", {})
    shard = parse_count(labels.get(LABEL_SHARD))
    if shard is None or not any(ended.holder for ended in endings(pod)):
        return None
    return Key(LEASE_KIND, metadata["namespace"], names.lease_name(labels.get(LABEL_CLUSTER, ""), shard))


class LeaseReconciler:
    """Releases Leases; holds no state of its own between passes."""

    def __init__(self, kube: KubeApi, store: ResourceStore) -> None:
        self._kube = kube
        self._store = store

    async def reconcile(self, key: Key) -> Again:
        """One pass. Raises KubeError, also where the Lease changed since it was read (409)."""
        found = await self._kube.get(LEASE_API, LEASE_KIND, key.namespace, key.name)
        if found is None:
            return Again()
        lease = parse_lease(found)
        # After the Lease: what is read now of its holder was so, or more so, when it was read there.
        pod = await self._pod(key, lease.pod_name)
        decision = plan_release(lease, None if pod is None else parse_pod(pod))
        if isinstance(decision, str):
            logger.debug("the Lease is not released", extra={"object": str(key), "why": decision})
            current_pass().ends("Settled", decision, settled=True)
            return Again()
        cluster = await self._cluster(key, pod)
        if cluster is None:
            return Again()
        logger.info("acting", extra={"object": str(key), "why": decision.why})
        current_pass().acts(type(decision).__name__, decision.why)
        try:
            await release_lease(decision, key.namespace, self._kube)
        except KubeError as error:
            if error.status != NOT_FOUND:
                raise
            return Again()
        current_pass().ends("Acted", decision.why, settled=True)
        await self._store.tell(cluster, Note(type="Normal", reason="LeaseReleased", message=decision.why))
        return Again()

    async def _pod(self, key: Key, name: str) -> dict[str, Any] | None:
        return await self._kube.get("v1", "Pod", key.namespace, name) if name else None

    async def _cluster(self, key: Key, pod: dict[str, Any] | None) -> dict[str, Any] | None:
        """The MessageCluster whose Lease it is; None for one that is not to be touched."""
        if pod is None or lease_of(pod) != key:
            return None  # not a broker of the shard that the Lease is named after
        name = pod["metadata"]["labels"][LABEL_CLUSTER]
        cluster = await self._store.get(Key(MESSAGE_CLUSTER, key.namespace, name))
        if cluster is None or is_paused(cluster) or cluster["metadata"].get("deletionTimestamp") is not None:
            return None
        return cluster
