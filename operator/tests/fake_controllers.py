"""What a Kubernetes cluster does beside its API server, as far as brokers need it: the StatefulSet controller makes
pods and claims, the kubelet reports them. Written against `KubeApi`, so that it runs on the fake and on the real one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from penstock_operator.kube import KubeApi
from penstock_operator.kube_errors import KubeError


class FakeControllers:
    """`step` brings pods and claims to what StatefulSets say; `ready` is what the kubelet will say of them.

    The pod of ordinal n has the address 127.0.0.(n + 1). `started` is called when a pod was made, `probe` says whether
    its broker is ready.
    """

    def __init__(
        self,
        kube: KubeApi,
        namespace: str,
        started: Callable[[str], Awaitable[None]],
        probe: Callable[[str], bool],
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._started = started
        self._probe = probe
        self.ready = True
        self.away: set[str] = set()  # pods that are not ready though the others are
        self.waiting: dict[str, str] | None = None  # e.g. {"reason": "CrashLoopBackOff", "message": "..."}
        self.ended: dict[str, Any] | None = None  # how the broker last ended
        self.endings: dict[str, dict[str, Any]] = {}  # the same, of one pod's
        self.enabled = True
        self.missing_image = ""  # nobody has this one
        self.places: dict[str, str] = {}  # pod -> node that its next incarnation is placed on
        self.unscheduled: dict[str, str] = {}  # pod -> since when no node takes it

    async def step(self) -> None:
        """One round of all controllers."""
        if not self.enabled:
            return
        for stateful_set in await self._kube.list_objects("apps/v1", "StatefulSet", self._namespace):
            status = {
                **stateful_set.get("status", {}),
                "observedGeneration": stateful_set["metadata"]["generation"],
            }
            status.setdefault("replicas", 0)
            if status != stateful_set.get("status"):
                await self._kube.write_status(stateful_set, status)
            await self._scale_down(stateful_set)
            for ordinal in range(stateful_set["spec"]["replicas"]):
                try:
                    await self._replica(stateful_set, f"{stateful_set['metadata']['name']}-{ordinal}")
                except KubeError as error:
                    # The operator works at the same time; what it evicted meanwhile is seen in the next round.
                    if error.status not in (404, 409):
                        raise

        for budget in await self._kube.list_objects("policy/v1", "PodDisruptionBudget", self._namespace):
            await self._budget(budget)

    async def _scale_down(self, stateful_set: dict[str, Any]) -> None:
        """Pods of the highest ordinals go; their claims stay."""
        name, replicas = stateful_set["metadata"]["name"], stateful_set["spec"]["replicas"]
        for pod in await self._kube.list_objects("v1", "Pod", self._namespace):
            base, _, ordinal = pod["metadata"]["name"].rpartition("-")
            if base == name and int(ordinal) >= replicas:
                metadata = pod["metadata"]
                await self._kube.delete("v1", "Pod", self._namespace, metadata["name"], metadata["uid"])

    async def _budget(self, budget: dict[str, Any]) -> None:
        """How many pods may be evicted; evictions are refused until this was said of the present budget."""
        spec = budget["spec"]
        labels = spec["selector"]["matchLabels"]
        pods = await self._kube.list_objects("v1", "Pod", self._namespace, labels)
        sets = await self._kube.list_objects("apps/v1", "StatefulSet", self._namespace)
        expected = sum(
            item["spec"]["replicas"]
            for item in sets
            if labels.items() <= item["spec"]["template"]["metadata"]["labels"].items()
        )
        healthy = len([pod for pod in pods if is_ready(pod)])
        # There may be no StatefulSet yet.
        desired = max(0, spec.get("minAvailable", expected - spec.get("maxUnavailable", 0)))
        status = {
            "observedGeneration": budget["metadata"]["generation"],
            "disruptionsAllowed": max(0, healthy - desired),
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
        }
        if budget.get("status") != status:
            await self._kube.write_status(budget, status)

    async def _replica(self, stateful_set: dict[str, Any], name: str) -> None:
        for template in stateful_set["spec"]["volumeClaimTemplates"]:
            claim = f"{template['metadata']['name']}-{name}"
            if await self._kube.get("v1", "PersistentVolumeClaim", self._namespace, claim) is None:
                metadata = {**template["metadata"], "name": claim, "namespace": self._namespace}
                manifest = {
                    **template,
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": metadata,
                }
                manifest.pop("status", None)
                await self._kube.create(manifest)
        pod = await self._kube.get("v1", "Pod", self._namespace, name)
        if pod is None:
            template = stateful_set["spec"]["template"]
            labels = {**template["metadata"]["labels"], "statefulset.kubernetes.io/pod-name": name}
            metadata = {**template["metadata"], "labels": labels, "name": name, "namespace": self._namespace}
            metadata.pop("creationTimestamp", None)
            manifest = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": metadata,
                "spec": self._pod_spec(template, name),
            }
            pod = await self._kube.create(manifest)
            await self._started(name)
        status = self._pod_status(name, pod["spec"]["containers"][0]["image"])
        if {key: pod.get("status", {}).get(key) for key in status} != status:
            await self._kube.write_status(pod, {**pod.get("status", {}), **status})

    def _pod_spec(self, template: dict[str, Any], name: str) -> dict[str, Any]:
        spec = dict(template["spec"])
        if name in self.places and name not in self.unscheduled:
            spec["nodeName"] = self.places[name]
        volume = {"name": "data", "emptyDir": {}}
        spec["volumes"] = [*(v for v in spec.get("volumes", []) if v["name"] != "data"), volume]
        return spec

    def _pod_status(self, name: str, image: str) -> dict[str, Any]:
        if name in self.unscheduled:
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "volume node affinity conflict",
                "lastTransitionTime": self.unscheduled[name],
            }
            return {"phase": "Pending", "conditions": [condition]}
        waiting = self.waiting
        if image == self.missing_image:
            waiting = {"reason": "ImagePullBackOff", "message": f"nobody has {image}"}
        ready = self.ready and waiting is None and name not in self.away and self._probe(name)
        address = f"127.0.0.{int(name.rpartition('-')[2]) + 1}"
        state: dict[str, Any] = {"running": {}} if waiting is None else {"waiting": waiting}
        container = {
            "name": "broker",
            "ready": ready,
            "restartCount": 0,
            "image": "",
            "imageID": "",
            "state": state,
        }
        ended = self.endings.get(name, self.ended)
        if ended is not None:
            container["lastState"] = {"terminated": ended}
        return {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [container],
        }


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether the kubelet says that the pod is ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
