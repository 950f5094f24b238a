"""Volumes that can be full: a file system of its own on each worker, for brokers that name its StorageClass.

The default StorageClass hands out folders of one large disk. Here the kernel refuses as it does on any full disk.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nodes import on_node, workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from environment import Environment

STORAGE_CLASS = "penstock-e2e-small"
SIZE = "512Mi"
"""The least that a MessageCluster may ask for."""
MOUNT = "/mnt/penstock-e2e-small"
BALLAST = f"{MOUNT}/somebody-else"


@contextmanager
def small_volumes(ready: Environment, name: str) -> Iterator[None]:
    """A volume on each worker inside, whose names begin with `name`; afterwards they go with all that is on them."""
    nodes = workers(ready)
    ready.kube.apply(_storage_class(), *(_volume(name, node) for node in nodes))
    try:
        for node in nodes:
            size = SIZE.removesuffix("i").lower()
            on_node(node, f"mkdir -p {MOUNT} && mount -t tmpfs -o size={size},mode=0777 tmpfs {MOUNT}")
        yield
    finally:
        for node in nodes:
            # Brokers may still hold it: it goes with the last of them.
            on_node(node, f"umount -l {MOUNT} || true")
            ready.kube.run("delete", "pv", _volume_name(name, node), "--ignore-not-found", "--wait=false")


@contextmanager
def full(node: str) -> Iterator[None]:
    """Somebody else takes all the room that is left on that worker's volume, and gives it back."""
    # dd ends with an error: that there is no room is what it is for.
    on_node(node, f"dd if=/dev/zero of={BALLAST} bs=64k 2>/dev/null || true")
    try:
        yield
    finally:
        on_node(node, f"rm {BALLAST}")


def _volume_name(name: str, node: str) -> str:
    return f"{name}-{node}"


def _storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _volume(name: str, node: str) -> dict[str, Any]:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _volume_name(name, node)},
        "spec": {
            "capacity": {"storage": SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": MOUNT},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
