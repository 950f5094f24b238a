"""A broker whose memory failed: what it computed from the log is not what the others did, and nothing shows it.

The broker is stopped, and a committed position in its last checkpoint is moved, with a checksum that fits. It starts as
after any stop; only the comparison of the replicas' states can find it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from docker_images import docker
from nodes import on_node
from penstock.log.disk import RealDisk
from penstock.log.snapshots import CHECKPOINT_NAME, SNAPSHOT_SUFFIX, SnapshotStore

if TYPE_CHECKING:
    from pathlib import Path

    from kube import Kube

MACHINE = "groups"
OFFSETS, STORED, OFFSET = 3, 2, 0
"""Places in a group's row of a snapshot: its positions; what is stored of one; the offset."""


def spoil(folder: Path) -> None:
    """Moves the first committed position in the checkpoint of a log folder that no broker uses. Raises AssertionError when
    there is none."""
    store = SnapshotStore(RealDisk(folder))
    state = store.load()[MACHINE]
    content = msgspec.msgpack.decode(state.data)
    positions = [group[OFFSETS][0] for group in content["groups"] if group[OFFSETS]]
    assert positions, "the checkpoint has no committed position"
    positions[0][STORED][OFFSET] += 1
    store.save({MACHINE: (state.version, msgspec.msgpack.encode(content))}, store.covered_index)


def spoil_volume(kube: Kube, claim: str, node: str, folder: Path) -> None:
    """The same in the volume of a claim on a node, whose pod is gone; `folder` is an empty one of this machine."""
    there = _checkpoint_folder(kube, claim, node)
    names = on_node(node, f"cd {there} && ls {CHECKPOINT_NAME} *{SNAPSHOT_SUFFIX}").split()
    for name in names:
        docker("cp", f"{node}:{there}/{name}", str(folder / name))
    spoil(folder)
    owner = on_node(node, f"stat -c %u:%g {there}/{CHECKPOINT_NAME}")
    for path in folder.iterdir():
        docker("cp", str(path), f"{node}:{there}/{path.name}")
        on_node(node, f"chown {owner} {there}/{path.name}")


def _checkpoint_folder(kube: Kube, claim: str, node: str) -> str:
    volume = kube.get("pv", kube.get("pvc", claim)["spec"]["volumeName"])["spec"]
    path = (volume.get("hostPath") or volume["local"])["path"]
    found = on_node(node, f"find {path} -name {CHECKPOINT_NAME}").split()
    assert len(found) == 1, f"checkpoints in {path} on {node}: {found}"
    return str(found[0]).rpartition("/")[0]
