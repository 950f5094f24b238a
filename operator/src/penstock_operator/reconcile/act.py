"""Carry out one action of a plan. Every action is safe to repeat: it names a uid, or applies, or sets a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock_operator.api.names import ANNOTATION_ROLE_EPOCH, ANNOTATION_SHARD_FORMED, LABEL_ROLE
from penstock_operator.kube_errors import KubeError
from penstock_operator.plan.actions import (
    Action,
    AdoptLease,
    AnnotateClaim,
    ApplyObject,
    DeleteObject,
    ExpandClaim,
    ForgetClaim,
    ForgetPod,
    GiveUpClaim,
    HandOver,
    LabelRole,
    PatchSettings,
    RecreateStatefulSet,
    ReleaseLease,
    ResizeShard,
    RestartBroker,
    TrustMember,
)
from penstock_operator.snapshot.lease import ANNOTATION_RELEASED, LEASE_API, LEASE_KIND

if TYPE_CHECKING:
    from penstock_operator.kube import KubeApi
    from penstock_operator.reconcile.cluster import Brokers
    from penstock_operator.reconcile.observe import ClusterBroker
    from penstock_operator.snapshot.cluster import ClusterSnapshot


async def act(
    action: Action, namespace: str, kube: KubeApi, brokers: Brokers, snapshot: ClusterSnapshot
) -> None:
    """Do it. Raises KubeError, AdminError or AdminUnreachableError."""
    match action:
        case ApplyObject():
            await kube.apply(action.manifest)
        case DeleteObject():
            await kube.delete(action.api_version, action.kind, namespace, action.name, action.uid)
        case RecreateStatefulSet():
            await kube.delete("apps/v1", "StatefulSet", namespace, action.name, action.uid, "Orphan")
        case ExpandClaim() | AnnotateClaim() | ForgetClaim() | GiveUpClaim():
            await _claim(action, namespace, kube)
        case LabelRole():
            await _label(action, namespace, kube)
        case AdoptLease():
            await _adopt(action, namespace, kube)
        case PatchSettings():
            await _broker(action.pod, brokers, snapshot).patch_settings(action.settings)
        case HandOver():
            await _broker(action.pod, brokers, snapshot).hand_over(action.to)
        case ResizeShard():
            await _broker(action.pod, brokers, snapshot).resize(action.replicas)
        case TrustMember():
            await _broker(action.pod, brokers, snapshot).trust(action.shard_uid)
        case ForgetPod():
            await kube.delete("v1", "Pod", namespace, action.pod, action.uid, grace_s=0)
        case RestartBroker():
            await kube.evict(namespace, action.pod, action.uid)
        case _:
            raise AssertionError(f"no way to carry out {type(action).__name__}")


async def _adopt(action: AdoptLease, namespace: str, kube: KubeApi) -> None:
    """A Lease that was written meanwhile, as its holder does all the time, or that is gone, is looked at again."""
    try:
        await _write_lease(
            action, {"labels": action.labels, "ownerReferences": action.owners}, namespace, kube
        )
    except KubeError as error:
        if error.status not in (404, 409):
            raise


async def release_lease(action: ReleaseLease, namespace: str, kube: KubeApi) -> None:
    """Say that its holder has ended. Raises KubeError: 409 when the Lease changed since it was read, 404 when it is gone."""
    await _write_lease(action, {"annotations": {ANNOTATION_RELEASED: action.reason}}, namespace, kube)


async def _write_lease(
    action: AdoptLease | ReleaseLease, metadata: dict[str, Any], namespace: str, kube: KubeApi
) -> None:
    patch = {"metadata": {"resourceVersion": action.version, **metadata}}
    await kube.merge(LEASE_API, LEASE_KIND, namespace, action.name, patch)


async def _claim(
    action: ExpandClaim | AnnotateClaim | ForgetClaim | GiveUpClaim, namespace: str, kube: KubeApi
) -> None:
    """Claims are made by the StatefulSet, so they are patched: applying would claim fields that are not ours."""
    claim = ("v1", "PersistentVolumeClaim", namespace, action.name)
    match action:
        case ExpandClaim():
            await kube.merge(*claim, {"spec": {"resources": {"requests": {"storage": action.size}}}})
        case AnnotateClaim():
            await kube.merge(*claim, {"metadata": {"annotations": action.annotations}})
        case ForgetClaim():
            await kube.merge(*claim, {"metadata": {"annotations": {ANNOTATION_SHARD_FORMED: None}}})
        case GiveUpClaim():
            await kube.delete(*claim, action.uid)


async def _label(action: LabelRole, namespace: str, kube: KubeApi) -> None:
    """A role and its epoch in one write; a pod that changed meanwhile, or is another one, is a conflict (409)."""
    metadata = {
        "resourceVersion": action.version,
        "labels": {LABEL_ROLE: action.role},
        "annotations": {ANNOTATION_ROLE_EPOCH: str(action.epoch)},
    }
    try:
        await kube.merge("v1", "Pod", namespace, action.pod, {"metadata": metadata})
    except KubeError as error:
        if error.status != 404:  # a pod that is gone needs no label
            raise


def _broker(pod: str, brokers: Brokers, snapshot: ClusterSnapshot) -> ClusterBroker:
    address = snapshot.pods[pod].address
    assert address is not None  # the broker was asked there
    return brokers.at(address)
