"""`KubeApi` with a span for each call that a traced pass makes. Only an operator that traces has it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from penstock_operator.tracing import names

if TYPE_CHECKING:
    from penstock_operator.kube import KubeApi
    from penstock_operator.tracing.spans import Spans


class TracedKube:
    """See `KubeApi`; `kube` does the work."""

    def __init__(self, kube: KubeApi, spans: Spans) -> None:
        self._kube = kube
        self._spans = spans

    async def get(
        self, api_version: str, kind: str, namespace: str | None, name: str
    ) -> dict[str, Any] | None:
        """See `KubeApi`."""
        with self._call("get", kind, namespace, name):
            return await self._kube.get(api_version, kind, namespace, name)

    async def list_objects(
        self, api_version: str, kind: str, namespace: str | None, labels: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """See `KubeApi`."""
        with self._call("list", kind, namespace):
            return await self._kube.list_objects(api_version, kind, namespace, labels)

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """See `KubeApi`."""
        with self._write("apply", manifest):
            return await self._kube.apply(manifest)

    async def merge(
        self, api_version: str, kind: str, namespace: str | None, name: str, patch: dict[str, Any]
    ) -> dict[str, Any]:
        """See `KubeApi`."""
        with self._call("merge", kind, namespace, name):
            return await self._kube.merge(api_version, kind, namespace, name, patch)

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """See `KubeApi`."""
        with self._write("create", manifest):
            return await self._kube.create(manifest)

    async def replace(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """See `KubeApi`."""
        with self._write("replace", manifest):
            return await self._kube.replace(manifest)

    async def write_status(self, resource: dict[str, Any], status: dict[str, Any]) -> None:
        """See `KubeApi`."""
        with self._write("write status of", resource):
            await self._kube.write_status(resource, status)

    async def write_finalizers(self, resource: dict[str, Any], finalizers: list[str]) -> None:
        """See `KubeApi`."""
        with self._write("write finalizers of", resource):
            await self._kube.write_finalizers(resource, finalizers)

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
        """See `KubeApi`."""
        with self._call("delete", kind, namespace, name):
            await self._kube.delete(api_version, kind, namespace, name, uid, propagation, grace_s)

    async def evict(self, namespace: str, pod: str, uid: str) -> None:
        """See `KubeApi`."""
        with self._call("evict", "Pod", namespace, pod):
            await self._kube.evict(namespace, pod, uid)

    def _write(self, verb: str, manifest: dict[str, Any]) -> AbstractContextManager[None]:
        metadata = manifest["metadata"]
        return self._call(verb, manifest["kind"], metadata.get("namespace"), metadata["name"])

    def _call(
        self, verb: str, kind: str, namespace: str | None, name: str | None = None
    ) -> AbstractContextManager[None]:
        told = {names.NAMESPACE: namespace, names.NAME: name}
        known = {key: value for key, value in told.items() if value is not None}
        return self._spans.call(f"{verb} {kind}", {names.VERB: verb, names.KIND: kind, **known})
