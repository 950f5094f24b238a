"""The Kubernetes API as a small port on plain dicts: the verbs that Penstock needs and no generated models.

The official asynchronous client (`kubernetes.aio`) does credentials, TLS and HTTP; this module knows paths, patch
types and errors. Everything above it is written against `KubeApi`, which a fake in the tests also fulfils.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

from penstock_operator.api.names import API_VERSION, FIELD_MANAGER
from penstock_operator.kube_errors import KubeError

REQUEST_TIMEOUT_S: Final = 30
LIST_PAGE_SIZE: Final = 500
LIST_PAGES_MAX: Final = 1000  # half a million objects of one kind: more is a mistake somewhere

PLURALS: Final = {
    (API_VERSION, "MessageCluster"): "messageclusters",
    (API_VERSION, "Topic"): "topics",
    (API_VERSION, "ConsumerGroup"): "consumergroups",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("v1", "Service"): "services",
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "ServiceAccount"): "serviceaccounts",
    ("v1", "Pod"): "pods",
    ("v1", "PersistentVolumeClaim"): "persistentvolumeclaims",
    ("v1", "Event"): "events",
    ("v1", "Namespace"): "namespaces",
    ("v1", "Node"): "nodes",
    ("v1", "PersistentVolume"): "persistentvolumes",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("coordination.k8s.io/v1", "Lease"): "leases",
    ("rbac.authorization.k8s.io/v1", "Role"): "roles",
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): "rolebindings",
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): "customresourcedefinitions",
}


class KubeApi(Protocol):
    """What Penstock asks of Kubernetes. Every call raises KubeError; "not found" is a value where it is usual."""

    async def get(
        self, api_version: str, kind: str, namespace: str | None, name: str
    ) -> dict[str, Any] | None:
        """The object, or None when there is none."""

    async def list_objects(
        self, api_version: str, kind: str, namespace: str | None, labels: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """All objects of a kind in a namespace, or in all of them."""

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Server-side apply with our field manager, taking over fields that somebody else set."""

    async def merge(
        self, api_version: str, kind: str, namespace: str | None, name: str, patch: dict[str, Any]
    ) -> dict[str, Any]:
        """Change only what the patch names, of an object that is not ours to apply (RFC 7386)."""

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create; KubeError 409 when it exists."""

    async def replace(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Replace the object whose `resourceVersion` the manifest names; KubeError 409 when it changed meanwhile."""

    async def write_status(self, resource: dict[str, Any], status: dict[str, Any]) -> None:
        """Replace the status subresource as a whole."""

    async def write_finalizers(self, resource: dict[str, Any], finalizers: list[str]) -> None:
        """Replace the finalizers, if the object is still at its `resourceVersion`."""

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
        """Delete the object with this uid; one that is gone is deleted already. `grace_s`: 0 waits for nobody's goodbye."""

    async def evict(self, namespace: str, pod: str, uid: str) -> None:
        """Evict one very pod; KubeError 429 when a disruption budget forbids it now."""


class AioKubeApi:
    """`KubeApi` over the official client."""

    def __init__(self, api_client: Any) -> None:
        self._client = api_client

    @classmethod
    async def connect(cls) -> AioKubeApi:
        """Connect as a pod does, or with the user's kubeconfig (KUBECONFIG). Raises KubeError with a sentence."""
        configuration = kubernetes_client.Configuration()
        try:
            kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except kubernetes_config.ConfigException:
            try:
                # The library reads KUBECONFIG when it is imported; we read it now.
                await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
                )
            except (kubernetes_config.ConfigException, OSError, TypeError, KeyError, ValueError) as error:
                # A file that is empty or no kubeconfig makes the library stumble in many ways.
                message = f"no way to the Kubernetes API: neither a pod's service account nor a kubeconfig ({error})"
                raise KubeError(0, "NoCredentials", message) from error
        return cls(kubernetes_client.ApiClient(configuration))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def get(
        self, api_version: str, kind: str, namespace: str | None, name: str
    ) -> dict[str, Any] | None:
        """See `KubeApi`."""
        try:
            return await self._call("GET", _path(api_version, kind, namespace, name))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def list_objects(
        self, api_version: str, kind: str, namespace: str | None, labels: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """See `KubeApi`."""
        query: dict[str, str] = {"limit": str(LIST_PAGE_SIZE)}
        if labels:
            query["labelSelector"] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        items: list[dict[str, Any]] = []
        for _ in range(LIST_PAGES_MAX):
            page = await self._call("GET", _path(api_version, kind, namespace), query=query)
            # Items of a list carry neither kind nor apiVersion, but what reads them expects both.
            items += [{"apiVersion": api_version, "kind": kind, **item} for item in page.get("items") or []]
            token = page["metadata"].get("continue")
            if not token:
                return items
            query["continue"] = token
        raise KubeError(0, "TooMany", f"there are more than {len(items)} objects of kind {kind}")

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """See `KubeApi`."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        path = _object_path(manifest)
        return await self._call(
            "PATCH", path, manifest, query=query, content_type="application/apply-patch+yaml"
        )

    async def merge(
        self, api_version: str, kind: str, namespace: str | None, name: str, patch: dict[str, Any]
    ) -> dict[str, Any]:
        """See `KubeApi`."""
        query = {"fieldManager": FIELD_MANAGER}
        path = _path(api_version, kind, namespace, name)
        return await self._call(
            "PATCH", path, patch, query=query, content_type="application/merge-patch+json"
        )

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """See `KubeApi`."""
        metadata = manifest["metadata"]
        path = _path(manifest["apiVersion"], manifest["kind"], metadata.get("namespace"))
        return await self._call("POST", path, manifest, query={"fieldManager": FIELD_MANAGER})

    async def replace(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """See `KubeApi`."""
        return await self._call(
            "PUT", _object_path(manifest), manifest, query={"fieldManager": FIELD_MANAGER}
        )

    async def write_status(self, resource: dict[str, Any], status: dict[str, Any]) -> None:
        """See `KubeApi`."""
        # The uid guards against a resource of the same name that was made meanwhile.
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": resource["metadata"]["uid"]},
            {"op": "add", "path": "/status", "value": status},
        ]
        await self._json_patch(_object_path(resource) + "/status", patch)

    async def write_finalizers(self, resource: dict[str, Any], finalizers: list[str]) -> None:
        """See `KubeApi`."""
        version = resource["metadata"]["resourceVersion"]
        patch: Any = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}]
        patch.append({"op": "add", "path": "/metadata/finalizers", "value": finalizers})
        await self._json_patch(_object_path(resource), patch)

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
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            await self._call("DELETE", _path(api_version, kind, namespace, name), options)
        except KubeError as error:
            if error.status != 404:
                raise

    async def evict(self, namespace: str, pod: str, uid: str) -> None:
        """See `KubeApi`."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        try:
            await self._call("POST", _path("v1", "Pod", namespace, pod) + "/eviction", eviction)
        except KubeError as error:
            if error.status != 404:
                raise

    async def _json_patch(self, path: str, patch: Any) -> None:
        await self._call(
            "PATCH",
            path,
            patch,
            query={"fieldManager": FIELD_MANAGER},
            content_type="application/json-patch+json",
        )

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self._client.call_api(*request, _request_timeout=REQUEST_TIMEOUT_S)
            raw = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            cause = str(error) or type(error).__name__
            raise KubeError(0, "Unreachable", f"the Kubernetes API does not answer: {cause}") from error
        answer = _decode(raw)
        if not 200 <= response.status < 300:
            reason = str(answer.get("reason") or "Unknown")
            message = str(answer.get("message") or f"{method} {path} was answered with {response.status}")
            raise KubeError(response.status, reason, message)
        return answer


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(raw)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _object_path(manifest: dict[str, Any]) -> str:
    metadata = manifest["metadata"]
    return _path(manifest["apiVersion"], manifest["kind"], metadata.get("namespace"), metadata["name"])


def _path(api_version: str, kind: str, namespace: str | None, name: str | None = None) -> str:
    prefix = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    scope = f"/namespaces/{quote(namespace, safe='')}" if namespace is not None else ""
    path = f"{prefix}{scope}/{PLURALS[api_version, kind]}"
    return path if name is None else f"{path}/{quote(name, safe='')}"
