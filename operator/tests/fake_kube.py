"""An API server in memory, as far as the operator can tell: `KubeApi` with the real one's answers.

`test_kube_port.py` holds it to the same tests as a real API server. It has no controllers; `fake_controllers` plays
those, on either of the two.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

from penstock_operator.kube_errors import KubeError

Address = tuple[str, str | None, str]  # kind, namespace, name
_CLUSTER_SCOPED = ("CustomResourceDefinition", "Namespace", "Node", "PersistentVolume")


class FakeKube:
    """See `penstock_operator.kube.KubeApi`."""

    def __init__(self) -> None:
        self.objects: dict[Address, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []  # (verb, kind or name), writes only
        self.refuse: dict[tuple[str, str], KubeError] = {}  # (verb, name) -> what to answer
        self._applied: dict[Address, dict[str, Any]] = {}
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self._ports = itertools.count(30_000)
        self._clock = itertools.count(0)

    async def get(
        self, api_version: str, kind: str, namespace: str | None, name: str
    ) -> dict[str, Any] | None:
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    async def list_objects(
        self, api_version: str, kind: str, namespace: str | None, labels: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        return [
            copy.deepcopy(item)
            for (item_kind, item_namespace, _), item in sorted(
                self.objects.items(), key=lambda entry: str(entry[0])
            )
            if item_kind == kind
            and namespace in (None, item_namespace)
            and (labels or {}).items() <= item["metadata"].get("labels", {}).items()
        ]

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        address = _address(manifest)
        self._write("apply", address)
        live = self.objects.get(address)
        if live is None:
            live = self._new(manifest)
        else:
            before = copy.deepcopy(live)
            _remove_left_out(live, self._applied.get(address, {}), manifest)
            _merge(live, manifest)
            self._changed(address, before)
        self._applied[address] = copy.deepcopy(manifest)
        self._allocate_ports(live)
        return copy.deepcopy(live)

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        address = _address(manifest)
        self._write("create", address)
        if address in self.objects:
            raise KubeError(409, "AlreadyExists", f"{address[2]} already exists")
        live = self._new(manifest)
        self._allocate_ports(live)
        return copy.deepcopy(live)

    async def replace(self, manifest: dict[str, Any]) -> dict[str, Any]:
        address = _address(manifest)
        self._write("replace", address)
        live = self._existing(address)
        if manifest["metadata"].get("resourceVersion") not in (None, live["metadata"]["resourceVersion"]):
            raise KubeError(409, "Conflict", "the object has been modified")
        before = copy.deepcopy(live)
        kept = {
            key: live["metadata"][key]
            for key in ("uid", "creationTimestamp", "generation", "resourceVersion")
        }
        live.clear()
        live.update(copy.deepcopy(manifest))
        live["metadata"] |= kept
        self._changed(address, before)
        return copy.deepcopy(live)

    async def merge(
        self, api_version: str, kind: str, namespace: str | None, name: str, patch: dict[str, Any]
    ) -> dict[str, Any]:
        address = (kind, namespace, name)
        self._write("merge", address)
        live = self._existing(address)
        version = patch.get("metadata", {}).get("resourceVersion", live["metadata"]["resourceVersion"])
        if version != live["metadata"]["resourceVersion"]:
            raise KubeError(409, "Conflict", "the object has been modified")
        before = copy.deepcopy(live)
        _merge_patch(live, patch)
        self._changed(address, before)
        return copy.deepcopy(live)

    async def write_status(self, resource: dict[str, Any], status: dict[str, Any]) -> None:
        address = _address(resource)
        self._write("status", address)
        live = self._existing(address)
        if live["metadata"]["uid"] != resource["metadata"]["uid"]:
            raise KubeError(422, "Invalid", "the uid is another one")
        before = copy.deepcopy(live)
        live["status"] = copy.deepcopy(status)
        self._changed(address, before)

    async def write_finalizers(self, resource: dict[str, Any], finalizers: list[str]) -> None:
        address = _address(resource)
        self._write("finalizers", address)
        live = self._existing(address)
        if live["metadata"]["resourceVersion"] != resource["metadata"]["resourceVersion"]:
            raise KubeError(422, "Invalid", "the resource version is another one")
        before = copy.deepcopy(live)
        live["metadata"]["finalizers"] = list(finalizers)
        self._changed(address, before)
        if not finalizers and live["metadata"].get("deletionTimestamp"):
            self._remove(address)

    async def delete(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        name: str,
        uid: str | None = None,
        propagation: str = "Background",
        grace_s: int | None = None,
    ) -> None:
        address = (kind, namespace, name)
        self._write("delete", address)
        live = self.objects.get(address)
        if live is None:
            return
        if uid is not None and live["metadata"]["uid"] != uid:
            raise KubeError(409, "Conflict", "the uid is another one")
        if live["metadata"].get("finalizers"):
            live["metadata"]["deletionTimestamp"] = self._time()
            return
        self._remove(address)

    async def evict(self, namespace: str, pod: str, uid: str) -> None:
        self._write("evict", ("Pod", namespace, pod))
        live = self.objects.get(("Pod", namespace, pod))
        conditions = (live or {}).get("status", {}).get("conditions", [])
        ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
        for (kind, where, name), budget in self.objects.items():
            if kind != "PodDisruptionBudget" or where != namespace or live is None:
                continue
            if not ready and budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
                continue
            selected = budget["spec"]["selector"]["matchLabels"].items()
            if selected <= live["metadata"]["labels"].items():
                if budget.get("status", {}).get("disruptionsAllowed", 0) < 1:
                    self.calls.pop()  # the API server refuses before anything is written
                    raise KubeError(
                        429, "TooManyRequests", f"the disruption budget {name} needs more healthy pods"
                    )
                budget["status"]["disruptionsAllowed"] -= 1
        await self.delete("v1", "Pod", namespace, pod, uid)

    def _write(self, verb: str, address: Address) -> None:
        self.calls.append((verb, f"{address[0]}/{address[2]}"))
        error = self.refuse.get((verb, address[2]))
        if error is not None:
            raise error

    def _new(self, manifest: dict[str, Any]) -> dict[str, Any]:
        live = copy.deepcopy(manifest)
        live["metadata"] |= {
            "uid": f"uid-{next(self._uids)}",
            "creationTimestamp": self._time(),
            "generation": 1,
            "resourceVersion": str(next(self._versions)),
        }
        self.objects[_address(manifest)] = live
        return live

    def _time(self) -> str:
        seconds = next(self._clock)
        return f"2026-11-21T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z"

    def _existing(self, address: Address) -> dict[str, Any]:
        if address not in self.objects:
            raise KubeError(404, "NotFound", f"{address[2]} not found")
        return self.objects[address]

    def _changed(self, address: Address, before: dict[str, Any]) -> None:
        live = self.objects[address]
        if live == before:
            return
        if live.get("spec") != before.get("spec"):
            live["metadata"]["generation"] += 1
        live["metadata"]["resourceVersion"] = str(next(self._versions))

    def _remove(self, address: Address) -> None:
        del self.objects[address]
        self._applied.pop(address, None)

    def _allocate_ports(self, live: dict[str, Any]) -> None:
        if live["kind"] == "Service" and live["spec"].get("type") == "NodePort":
            for port in live["spec"]["ports"]:
                port.setdefault("nodePort", next(self._ports))


def _address(manifest: dict[str, Any]) -> Address:
    metadata = manifest["metadata"]
    namespace = None if manifest["kind"] in _CLUSTER_SCOPED else metadata.get("namespace")
    return manifest["kind"], namespace, metadata["name"]


def _remove_left_out(live: Any, applied: Any, manifest: Any) -> None:
    """Server-side apply takes away what this manager applied before and no longer names."""
    for key, value in applied.items():
        if key not in manifest:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(manifest[key], dict) and isinstance(live.get(key), dict):
            _remove_left_out(live[key], value, manifest[key])


def _merge(live: dict[str, Any], manifest: dict[str, Any]) -> None:
    for key, value in manifest.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            _merge(live[key], value)
        elif key == "ports" and isinstance(live.get(key), list):
            # A Service's ports are merged by number, which keeps the node ports that were allocated.
            old = {port["port"]: port for port in live[key] if "port" in port}
            live[key] = [{**old.get(port.get("port"), {}), **port} for port in copy.deepcopy(value)]
        else:
            live[key] = copy.deepcopy(value)


def _merge_patch(live: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            live.pop(key, None)
        elif isinstance(value, dict):
            _merge_patch(live.setdefault(key, {}), value)
        else:
            live[key] = value
