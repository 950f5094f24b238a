"""Resources in memory, for the same reconcilers that work on Kubernetes.

The store gives each resource what the API server would: uid, generation, age, and a deletion that waits for finalizers.
What a status must remember over restarts (carried out resets, settings that were made) goes to a file.
"""

from __future__ import annotations

import copy
import logging
import os
import uuid
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock_operator.api.names import MESSAGE_CLUSTER, TOPIC
from penstock_operator.local.files import NAMESPACE, Identity
from penstock_operator.plan.dependents import Claimant
from penstock_operator.reconcile.ports import Key, Note

logger = logging.getLogger(__name__)

REMEMBERED: Final = ("reset", "config")


class LocalStore:
    """`ports.ResourceStore` in memory."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._remembered = _recall(memory)
        self._resources: dict[Identity, dict[str, Any]] = {}
        self._made = 0
        self.notes: list[tuple[Identity, Note]] = []  # for the view, which takes them out

    def update(self, wanted: dict[Identity, dict[str, Any]]) -> list[Identity]:
        """Take over what the files say; returns what changed, came or is to go."""
        changed = []
        for identity, resource in wanted.items():
            if self._put(identity, resource):
                changed.append(identity)
        for identity in [identity for identity in self._resources if identity not in wanted]:
            metadata = self._resources[identity]["metadata"]
            if metadata.get("finalizers"):
                metadata.setdefault("deletionTimestamp", "now")
            else:
                del self._resources[identity]
            changed.append(identity)
        return changed

    def all(self) -> dict[Identity, dict[str, Any]]:
        """Every resource with its status."""
        return self._resources

    async def get(self, key: Key) -> dict[str, Any] | None:
        """See `ports.ResourceStore`."""
        return copy.deepcopy(self._resources.get((key.kind, key.name)))

    def claimants(self, kind: str, namespace: str) -> list[Claimant]:
        """See `ports.ResourceStore`."""
        name_field = "topicName" if kind == TOPIC else "groupName"
        return [
            Claimant(
                name=resource["metadata"]["name"],
                uid=resource["metadata"]["uid"],
                created=resource["metadata"]["creationTimestamp"],
                cluster=resource["spec"]["clusterRef"]["name"],
                wire_name=resource["spec"].get(name_field) or resource["metadata"]["name"],
            )
            for identity, resource in self._resources.items()
            if identity[0] == kind
        ]

    async def write_status(self, resource: dict[str, Any], status: dict[str, Any]) -> None:
        """See `ports.ResourceStore`."""
        identity = _identity(resource)
        live = self._resources.get(identity)
        if live is None:
            return
        live["status"] = copy.deepcopy(status)
        kept = {name: status[name] for name in REMEMBERED if status.get(name)}
        name = "/".join(identity)
        if identity[0] != MESSAGE_CLUSTER and self._remembered.get(name, {}) != kept:
            self._remembered[name] = kept
            _remember(self._memory, self._remembered)

    async def write_finalizers(self, resource: dict[str, Any], finalizers: list[str]) -> None:
        """See `ports.ResourceStore`."""
        live = self._resources.get(_identity(resource))
        if live is None:
            return
        live["metadata"]["finalizers"] = list(finalizers)
        if not finalizers and live["metadata"].get("deletionTimestamp"):
            del self._resources[_identity(resource)]

    async def tell(self, resource: dict[str, Any], note: Note) -> None:
        """See `ports.ResourceStore`."""
        self.notes.append((_identity(resource), note))

    def _put(self, identity: Identity, resource: dict[str, Any]) -> bool:
        live = self._resources.get(identity)
        annotations = resource["metadata"].get("annotations", {})
        if live is None:
            self._made += 1
            metadata = {
                "name": identity[1],
                "namespace": NAMESPACE,
                "uid": str(uuid.uuid4()),
                "generation": 1,
                # Text order is age: the files' order decides who owns a name.
                "creationTimestamp": f"{self._made:012}",
                "annotations": annotations,
                "finalizers": [],
            }
            status = copy.deepcopy(self._remembered.get("/".join(identity), {}))
            self._resources[identity] = {**copy.deepcopy(resource), "metadata": metadata, "status": status}
            return True
        live["metadata"].pop("deletionTimestamp", None)
        if live["spec"] == resource["spec"] and live["metadata"]["annotations"] == annotations:
            return False
        live["spec"] = copy.deepcopy(resource["spec"])
        live["metadata"]["annotations"] = annotations
        live["metadata"]["generation"] += 1
        return True


def _identity(resource: dict[str, Any]) -> Identity:
    return resource["kind"], resource["metadata"]["name"]


def _recall(path: Path) -> dict[str, dict[str, Any]]:
    """What an earlier run remembered; a file that is not understood is set aside, not fatal."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        logger.warning(
            "what an earlier run remembered is not understood and left out",
            extra={"file": str(path), "why": str(error)},
        )
        return {}


def _remember(path: Path, content: dict[str, dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(content))
    os.replace(temporary, path)
