"""Look at the nodes and volumes that brokers depend on, where the operator may.

Both are objects of the whole Kubernetes cluster. An operator that has rights in some namespaces alone may not read them:
it says so once and does without, which means that it neither hands over before a drain nor replaces what was lost with a
node. What it was not allowed to see stays unknown, and nothing is concluded from it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from penstock_operator.desired.names import claim_name
from penstock_operator.kube_errors import KubeError
from penstock_operator.snapshot.nodes import HOST_LABEL, NodeSeen, hosts_of_volume, parse_node

if TYPE_CHECKING:
    from penstock_operator.kube import KubeApi
    from penstock_operator.snapshot.cluster import ClaimSeen, PodSeen

logger = logging.getLogger(__name__)

FORBIDDEN = 403


class Nodes:
    """Nodes as they are now. `allowed` turns false at the first refusal and stays so."""

    def __init__(self, kube: KubeApi) -> None:
        self._kube = kube
        self.allowed = True

    async def ask(self) -> bool:
        """Whether nodes may be read and watched."""
        await self._try(self._kube.list_objects("v1", "Node", None))
        return self.allowed

    async def of(self, pods: list[PodSeen]) -> dict[str, NodeSeen]:
        """The nodes of these pods by name; empty when they may not be read."""
        names = sorted({pod.node for pod in pods if pod.node is not None})
        if not self.allowed:
            return {}
        found = await asyncio.gather(*(self._try(self._kube.get("v1", "Node", None, name)) for name in names))
        return {name: parse_node(name, *answer) for name, answer in zip(names, found, strict=True) if answer}

    async def lost_volumes(self, pods: list[PodSeen], claims: list[ClaimSeen]) -> dict[str, str]:
        """Claims of pods that no node takes, whose volume is certainly gone -> a part of a sentence why."""
        waiting = {claim_name(pod.name) for pod in pods if pod.unschedulable_since is not None}
        lost = {}
        for claim in claims:
            if self.allowed and claim.name in waiting and claim.volume and not claim.terminating:
                why = await self._lost(claim.volume)
                if why is not None:
                    lost[claim.name] = why
        return lost

    async def _lost(self, name: str) -> str | None:
        answer = await self._try(self._kube.get("v1", "PersistentVolume", None, name))
        if answer is None:
            return None
        (volume,) = answer
        if volume is None:
            return f"its volume {name} is gone"
        hosts = hosts_of_volume(volume)
        for host in hosts:
            nodes = await self._try(self._kube.list_objects("v1", "Node", None, {HOST_LABEL: host}))
            if nodes is None or nodes[0]:
                return None
        listed = " and ".join(hosts)
        return f"its volume {name} was on node {listed}, which is gone" if hosts else None

    async def _try(self, asking: Any) -> tuple[Any] | None:
        """What is answered, in a tuple because the answer may be None; None when it is forbidden."""
        try:
            return (await asking,)
        except KubeError as error:
            if error.status != FORBIDDEN:
                raise
            if self.allowed:
                self.allowed = False
                logger.warning(
                    "nodes are not looked at: the operator neither hands over before a drain nor replaces what was lost"
                    " with a node; let it read nodes (the chart's readNodes) if it should",
                    extra={"why": error.message},
                )
            return None
