"""What limits the brokers: their account, disruptions of them, and who may reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock_operator.api.names import ADMIN_PORT, PEER_PORT
from penstock_operator.desired import names

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.desired.identity import Environment, Identity


def service_account(cluster: MessageCluster) -> dict[str, Any]:
    """An account without rights and without a token: a broker does not talk to the API server."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": names.object_metadata(cluster, names.broker_name(cluster.metadata.name)),
        "automountServiceAccountToken": False,
    }


def disruption_budget(cluster: MessageCluster, identity: Identity, shard: int) -> dict[str, Any] | None:
    """One broker of a shard at a time; none for a single broker, because then no node could ever be drained.

    While a shard grows, its new brokers are not ready before they were sent what the old ones hold: only the old ones count.
    """
    replicas, whole = cluster.spec.replicas, identity.formed.get(shard, 0)
    if replicas == 1 or whole == 1:
        return None
    grows = 1 < whole < replicas
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.object_metadata(cluster, names.shard_name(cluster.metadata.name, shard)),
        "spec": {
            **({"minAvailable": whole - 1} if grows else {"maxUnavailable": 1}),
            # A broker that is not ready serves nobody: it may go, or three that cannot start could never be mended.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.shard_selector(cluster.metadata.name, shard)},
        },
    }


def network_policy(cluster: MessageCluster, environment: Environment) -> dict[str, Any] | None:
    """Clients reach the listeners and the data API; the admin port is for the operator and for whom the spec names."""
    policy = cluster.spec.network_policy
    if not policy.enabled:
        return None
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": environment.operator_namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": names.MANAGED_BY}},
    }
    open_ports = [*(listener.port for listener in cluster.spec.listeners), cluster.spec.http.port]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": names.object_metadata(cluster, names.broker_name(cluster.metadata.name)),
        "spec": {
            "podSelector": {"matchLabels": names.cluster_selector(cluster.metadata.name)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": [{"protocol": "TCP", "port": port} for port in open_ports]},
                {"ports": [{"protocol": "TCP", "port": ADMIN_PORT}], "from": [operator, *policy.admin_from]},
            ],
        },
    }


def peer_policy(cluster: MessageCluster, shard: int) -> dict[str, Any] | None:
    """The brokers of a shard reach each other, and nobody else reaches the port between them. They reach each other's
    admin port too: one that does not lead passes requests on to the leader's."""
    if not cluster.spec.network_policy.enabled:
        return None
    selector = {"matchLabels": names.shard_selector(cluster.metadata.name, shard)}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": names.object_metadata(cluster, names.shard_name(cluster.metadata.name, shard)),
        "spec": {
            "podSelector": selector,
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "ports": [{"protocol": "TCP", "port": port} for port in (PEER_PORT, ADMIN_PORT)],
                    "from": [{"podSelector": selector}],
                }
            ],
        },
    }
