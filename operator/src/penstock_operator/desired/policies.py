"""What limits the brokers: their account, disruptions of them, and who may reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from penstock_operator.api.names import ADMIN_PORT, PEER_PORT
from penstock_operator.desired import names

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.desired.identity import Environment, Identity

LEASE_GROUP: Final = "coordination.k8s.io"
RBAC_GROUP: Final = "rbac.authorization.k8s.io"


def service_account(cluster: MessageCluster) -> dict[str, Any]:
    """An account without a token: brokers do not talk to the API server, but for those of mode MasterSlave, whose pods ask
    for one (`lease_role` has its rights)."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": names.object_metadata(cluster, names.broker_name(cluster.metadata.name)),
        "automountServiceAccountToken": False,
    }


def lease_role(cluster: MessageCluster) -> dict[str, Any] | None:
    """What brokers of mode MasterSlave may do: read and write their shards' Leases, and nothing else. To make one cannot be
    limited to a name, because the name is not part of what is authorized then."""
    if cluster.spec.mode == "Raft":
        return None
    leases = [names.lease_name(cluster.metadata.name, shard) for shard in range(cluster.spec.shards)]
    of_leases = {"apiGroups": [LEASE_GROUP], "resources": ["leases"]}
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "Role",
        "metadata": names.object_metadata(cluster, names.broker_name(cluster.metadata.name)),
        "rules": [
            {**of_leases, "verbs": ["create"]},
            {**of_leases, "resourceNames": leases, "verbs": ["get", "patch"]},
        ],
    }


def lease_role_binding(cluster: MessageCluster) -> dict[str, Any] | None:
    """Gives the brokers' account their Role."""
    if cluster.spec.mode == "Raft":
        return None
    name = names.broker_name(cluster.metadata.name)
    subject = {"kind": "ServiceAccount", "name": name, "namespace": cluster.metadata.namespace}
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": names.object_metadata(cluster, name),
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role", "name": name},
        "subjects": [subject],
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
