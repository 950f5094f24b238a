"""Carry out one action of a plan. Every action is safe to repeat: it names a uid, or applies, or sets a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_operator.api.names import ANNOTATION_SHARD_FORMED
from penstock_operator.plan.actions import (
    Action,
    AnnotateClaim,
    ApplyObject,
    DeleteObject,
    ExpandClaim,
    ForgetClaim,
    HandOver,
    PatchSettings,
    RecreateStatefulSet,
    ResizeShard,
    RestartBroker,
    TrustMember,
)

if TYPE_CHECKING:
    from penstock_operator.kube import KubeApi
    from penstock_operator.reconcile.cluster import Brokers
    from penstock_operator.reconcile.observe import ClusterBroker
    from penstock_operator.snapshot.cluster import ClusterSnapshot


async def act(
    action: Action, namespace: str, kube: KubeApi, brokers: Brokers, snapshot: ClusterSnapshot
) -> None:
    """Do it. Raises KubeError, AdminError or AdminUnreachableError."""
    # Claims are made by the StatefulSet, so they are patched: applying would claim fields that are not ours.
    claim = ("v1", "PersistentVolumeClaim", namespace)
    match action:
        case ApplyObject():
            await kube.apply(action.manifest)
        case DeleteObject():
            await kube.delete(action.api_version, action.kind, namespace, action.name, action.uid)
        case RecreateStatefulSet():
            await kube.delete("apps/v1", "StatefulSet", namespace, action.name, action.uid, "Orphan")
        case ExpandClaim():
            await kube.merge(
                *claim, action.name, {"spec": {"resources": {"requests": {"storage": action.size}}}}
            )
        case AnnotateClaim():
            await kube.merge(*claim, action.name, {"metadata": {"annotations": action.annotations}})
        case ForgetClaim():
            await kube.merge(
                *claim, action.name, {"metadata": {"annotations": {ANNOTATION_SHARD_FORMED: None}}}
            )
        case PatchSettings():
            await _broker(action.pod, brokers, snapshot).patch_settings(action.settings)
        case HandOver():
            await _broker(action.pod, brokers, snapshot).hand_over(action.to)
        case ResizeShard():
            await _broker(action.pod, brokers, snapshot).resize(action.replicas)
        case TrustMember():
            await _broker(action.pod, brokers, snapshot).trust(action.shard_uid)
        case RestartBroker():
            await kube.evict(namespace, action.pod, action.uid)
        case _:
            raise AssertionError(f"no way to carry out {type(action).__name__}")


def _broker(pod: str, brokers: Brokers, snapshot: ClusterSnapshot) -> ClusterBroker:
    address = snapshot.pods[pod].address
    assert address is not None  # the broker was asked there
    return brokers.at(address)
