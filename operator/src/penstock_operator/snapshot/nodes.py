"""Nodes that brokers run on, and whether what was on them is gone.

A node that does not answer may come back, with everything on it still running: that is no reason to take anything away.
A node is gone when its Node object is, or when somebody marked it with the taint by which Kubernetes itself is told that a
machine is off and stays off.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

OUT_OF_SERVICE_TAINT: Final = "node.kubernetes.io/out-of-service"
HOST_LABEL: Final = "kubernetes.io/hostname"


class NodeSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One node, looked at by name."""

    name: str
    exists: bool = True
    cordoned: bool = False  # no new pod comes here; usually a drain follows
    ready: bool = True  # whether its kubelet is known to be well
    out_of_service: bool = False  # somebody vouches that the machine is off

    @property
    def is_gone(self) -> bool:
        """Whether nothing can run there any more."""
        return not self.exists or (self.out_of_service and not self.ready)

    @property
    def trouble(self) -> str | None:
        """A part of a sentence about the node; None when it is well and takes pods."""
        if not self.exists:
            return f"node {self.name} is gone"
        if self.is_gone:
            return f"node {self.name} is out of service"
        if not self.ready:
            return f"node {self.name} does not answer"
        return f"node {self.name} is cordoned" if self.cordoned else None


def parse_node(name: str, node: dict[str, Any] | None) -> NodeSeen:
    """A Node as the API server returns it; None: there is none of this name."""
    if node is None:
        return NodeSeen(name=name, exists=False, ready=False)
    spec, status = node.get("spec", {}), node.get("status", {})
    conditions = {condition["type"]: condition.get("status") for condition in status.get("conditions", [])}
    return NodeSeen(
        name=name,
        cordoned=bool(spec.get("unschedulable", False)),
        # A node that has not reported yet is not known to be down.
        ready=conditions.get("Ready", "True") == "True",
        out_of_service=any(taint.get("key") == OUT_OF_SERVICE_TAINT for taint in spec.get("taints") or []),
    )


def hosts_of_volume(volume: dict[str, Any]) -> list[str]:
    """The hosts that a PersistentVolume can be used on, where it is bound to some by name; none where it is not, or where that
    is not certain."""
    required = volume.get("spec", {}).get("nodeAffinity", {}).get("required", {})
    hosts: set[str] = set()
    for term in required.get("nodeSelectorTerms") or []:
        named = [
            value
            for expression in term.get("matchExpressions") or []
            if expression.get("key") == HOST_LABEL and expression.get("operator") == "In"
            for value in expression.get("values") or []
        ]
        if not named:
            return []  # this alternative allows other hosts
        hosts.update(named)
    return sorted(hosts)
