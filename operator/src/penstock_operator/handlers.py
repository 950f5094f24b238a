"""kopf as the watch layer: its events only wake objects in our queue.

With nothing but `on.event` handlers kopf writes neither finalizers nor annotations on anything, and an event that is
lost costs no more than the time to the next resync.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import kopf

from penstock_operator.api.names import API_VERSION, GROUP, LABEL_CLUSTER, VERSION

if TYPE_CHECKING:
    from penstock_operator.engine import Engine

RESOURCES: Final = ("messageclusters", "topics", "consumergroups")
CHILDREN: Final = (
    ("apps", "v1", "statefulsets"),
    ("", "v1", "services"),
    ("", "v1", "configmaps"),
    ("", "v1", "serviceaccounts"),
    ("", "v1", "pods"),
    ("", "v1", "persistentvolumeclaims"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "networkpolicies"),
    ("rbac.authorization.k8s.io", "v1", "roles"),
    ("rbac.authorization.k8s.io", "v1", "rolebindings"),
    ("coordination.k8s.io", "v1", "leases"),
)
# A watch that the server ends on time is renewed; one that says nothing for longer is dead (see `settings`).
WATCH_SERVER_TIMEOUT_S: Final = 300
WATCH_CLIENT_TIMEOUT_S: Final = 330
WATCH_CONNECT_TIMEOUT_S: Final = 30
LIST_CHUNK: Final = 500


def settings() -> kopf.OperatorSettings:
    """kopf's settings: it watches, and does nothing else."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = WATCH_SERVER_TIMEOUT_S
    chosen.watching.client_timeout = WATCH_CLIENT_TIMEOUT_S
    chosen.watching.connect_timeout = WATCH_CONNECT_TIMEOUT_S
    chosen.watching.chunk_size = LIST_CHUNK
    # Only what carries our label is sent to us: not every pod of the Kubernetes cluster.
    for _, _, plural in CHILDREN:
        chosen.watching.label_selectors[plural] = LABEL_CLUSTER
    chosen.persistence.finalizer = f"{GROUP}/unused"
    return chosen


def registry(engine: Engine, *, nodes: bool) -> kopf.OperatorRegistry:
    """Handlers that feed an engine; with `nodes`, which not every operator may watch, also with those."""
    handlers = kopf.OperatorRegistry()

    async def login(**kwargs: Any) -> Any:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            return kopf.login_with_service_account(**kwargs)
        return kopf.login_with_kubeconfig(**kwargs)

    async def resource_event(event: Any, resource: Any, **_: Any) -> None:
        # Items of a first list do not say their kind.
        seen = {"apiVersion": API_VERSION, **event["object"], "kind": resource.kind}
        engine.resource_seen(seen, gone=event["type"] == "DELETED")

    async def child_event(event: Any, resource: Any, **_: Any) -> None:
        engine.child_seen({**event["object"], "kind": resource.kind}, gone=event["type"] == "DELETED")

    async def node_event(event: Any, **_: Any) -> None:
        engine.node_seen(event["object"], gone=event["type"] == "DELETED")

    kopf.on.login(registry=handlers)(login)
    for plural in RESOURCES:
        kopf.on.event(GROUP, VERSION, plural, registry=handlers)(resource_event)
    for group, version, plural in CHILDREN:
        kopf.on.event(group, version, plural, registry=handlers)(child_event)
    if nodes:
        kopf.on.event("", "v1", "nodes", registry=handlers)(node_event)
    return handlers
