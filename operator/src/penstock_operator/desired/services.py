"""Services: one headless per shard for the brokers' names, one to all brokers and one to the leaders for clients inside, one
per broker for those outside.

The admin port is in none of them: the operator talks to pods directly. The brokers' own port is in the headless one
alone, which no client is sent to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock_operator.api.names import (
    HTTP_LISTENER,
    LABEL_LISTENER,
    LABEL_POD_NAME,
    PEER_LISTENER,
    PEER_PORT,
)
from penstock_operator.desired import names

if TYPE_CHECKING:
    from penstock_operator.api.cluster import Listener, MessageCluster


def headless_service(cluster: MessageCluster, shard: int) -> dict[str, Any]:
    """Gives every broker a host name, ready or not, so that brokers and the starting operator find it."""
    spec = cluster.spec
    return _service(
        cluster,
        names.shard_name(cluster.metadata.name, shard),
        {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": names.shard_selector(cluster.metadata.name, shard),
            "ports": [
                *map(_listener_port, spec.listeners),
                _http_port(cluster),
                _port(PEER_LISTENER, PEER_PORT),
            ],
        },
    )


def bootstrap_service(cluster: MessageCluster) -> dict[str, Any]:
    """The address that clients inside Kubernetes start from; it leads to ready brokers only."""
    internal = [listener for listener in cluster.spec.listeners if listener.type == "internal"]
    return _service(
        cluster,
        names.bootstrap_name(cluster.metadata.name),
        {
            "type": "ClusterIP",
            "selector": names.cluster_selector(cluster.metadata.name),
            "ports": [*map(_listener_port, internal), _http_port(cluster)],
        },
    )


def leader_service(cluster: MessageCluster) -> dict[str, Any]:
    """Leads to the leaders alone, for who must not be sent on by a follower. It follows the label, which follows the epoch:
    for a moment after a failover it leads nowhere or to a broker that does not lead any more, and that one says so."""
    bootstrap = bootstrap_service(cluster)
    spec = {**bootstrap["spec"], "selector": names.leader_selector(cluster.metadata.name)}
    return _service(cluster, names.leader_name(cluster.metadata.name), spec)


def node_port_services(cluster: MessageCluster) -> list[dict[str, Any]]:
    """For every nodePort listener a Service per broker, because Kafka clients must reach each one by itself."""
    services = []
    for listener in cluster.spec.listeners:
        if listener.type != "nodePort":
            continue
        for shard, _, pod in names.pod_names(cluster):
            service = _service(
                cluster,
                names.node_port_name(pod, listener.name),
                {
                    "type": "NodePort",
                    "publishNotReadyAddresses": True,
                    "selector": {**names.shard_selector(cluster.metadata.name, shard), LABEL_POD_NAME: pod},
                    "ports": [_listener_port(listener)],
                },
            )
            service["metadata"]["labels"] |= {LABEL_LISTENER: listener.name}
            services.append(service)
    return services


def _service(cluster: MessageCluster, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.object_metadata(cluster, name),
        "spec": spec,
    }


def _listener_port(listener: Listener) -> dict[str, Any]:
    return _port(listener.name, listener.port)


def _http_port(cluster: MessageCluster) -> dict[str, Any]:
    return _port(HTTP_LISTENER, cluster.spec.http.port)


def _port(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
