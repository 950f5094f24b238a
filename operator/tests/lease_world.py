"""A shard's Lease as its brokers write it in Kubernetes, and pods whose containers ended, for tests of what the operator makes
of them."""

from __future__ import annotations

from typing import Any

from penstock.replication.master_lease import HolderIdentity, LeaseRecord, Release, stamped
from penstock.runtime.lease_manifest import lease_to_manifest

LEASE = ("coordination.k8s.io/v1", "Lease")
HOLDER = "6a1f0d1e-58a7-4f5e-9a51-0d6c2a1b7e10"
EARLIER = "11111111-58a7-4f5e-9a51-0d6c2a1b7e10"
WALL_US = 1_790_000_000_000_000


def record(**changes: Any) -> LeaseRecord:
    """orders-0-0 holds the Lease; brokers 1 and 2 may take it over."""
    fields: dict[str, Any] = {
        "shard_uid": "shard-uid",
        "holder": HOLDER,
        "identity": HolderIdentity(member=1, ordinal=0, pod_name="orders-0-0", pod_uid="pod-0"),
        "epoch": 7,
        "in_sync": frozenset({1, 2}),
        "duration_ms": 6000,
        **changes,
    }
    return LeaseRecord(**fields)


def released(reason: str) -> Release:
    return Release(reason)


def manifest(written: LeaseRecord | None = None, namespace: str = "shop") -> dict[str, Any]:
    """The object as a broker creates it."""
    return lease_to_manifest("orders-0", namespace, stamped(written or record(), 0, WALL_US))


def live(written: LeaseRecord | None = None, **annotations: str | None) -> dict[str, Any]:
    """The object as the API server returns it; annotations by their last part, None takes one away."""
    found = manifest(written)
    found["metadata"] |= {"resourceVersion": "41", "uid": "lease-uid"}
    for key, value in annotations.items():
        name = f"penstock.io/lease-{key.replace('_', '-')}"
        if value is None:
            found["metadata"]["annotations"].pop(name)
        else:
            found["metadata"]["annotations"][name] = value
    return found


def terminated(message: str = HOLDER, code: int = 137) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": "Error", "message": message}}


def pod(uid: str = "pod-0", name: str = "orders-0-0", **container: Any) -> dict[str, Any]:
    """A broker's pod; `container` is its state and lastState."""
    status = {"name": "broker", "restartCount": 1, **container}
    labels = {"penstock.io/cluster": "orders", "penstock.io/shard": "0"}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "labels": labels},
        "spec": {},
        "status": {"containerStatuses": [status]},
    }
