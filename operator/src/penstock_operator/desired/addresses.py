"""Where brokers are found: by each other, by clients inside Kubernetes, and through the nodes' ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock_operator.api.names import PEER_PORT
from penstock_operator.desired import names

if TYPE_CHECKING:
    from penstock_operator.api.cluster import Listener, MessageCluster
    from penstock_operator.desired.identity import Environment

# The broker reads it from its environment: no file can know the node that its pod will get.
NODE_ADDRESS: Final = "$(HOST_IP)"


def pod_host(cluster: MessageCluster, shard: int, pod: str) -> str:
    """A broker's own host name, which stays the same wherever its pod runs."""
    return f"{pod}.{names.shard_name(cluster.metadata.name, shard)}.{cluster.metadata.namespace}.svc"


def peers(cluster: MessageCluster, shard: int) -> dict[int, str]:
    """Ordinal to address of every broker of a shard, as brokers find each other."""
    return {
        ordinal: f"{pod_host(cluster, shard, pod)}:{PEER_PORT}"
        for pod_shard, ordinal, pod in names.pod_names(cluster)
        if pod_shard == shard
    }


def advertised(cluster: MessageCluster, environment: Environment, shard: int, pod: str) -> dict[str, str]:
    """Listener to address that one broker tells its clients; without node ports that are not known yet."""
    addresses = {}
    for listener in cluster.spec.listeners:
        if listener.type == "internal":
            addresses[listener.name] = f"{pod_host(cluster, shard, pod)}:{listener.port}"
            continue
        port = environment.node_ports.get(names.node_port_name(pod, listener.name))
        if port is not None:
            addresses[listener.name] = f"{listener.advertised_host or NODE_ADDRESS}:{port}"
    return addresses


def shard_node_ports(cluster: MessageCluster, environment: Environment, shard: int) -> dict[str, int | None]:
    """Per-broker Services of a shard's nodePort listeners, with the port on the nodes where it is known."""
    services = [
        names.node_port_name(pod, listener.name)
        for listener in cluster.spec.listeners
        if listener.type == "nodePort"
        for pod_shard, _, pod in names.pod_names(cluster)
        if pod_shard == shard
    ]
    return {service: environment.node_ports.get(service) for service in services}


def missing_node_ports(cluster: MessageCluster, environment: Environment) -> list[str]:
    """Per-broker Services whose port on the nodes is not known yet; brokers cannot advertise it before."""
    return [
        service
        for shard in range(cluster.spec.shards)
        for service, port in shard_node_ports(cluster, environment, shard).items()
        if port is None
    ]


def bootstrap(cluster: MessageCluster, environment: Environment) -> dict[str, str]:
    """Where clients start, per listener, as far as it follows from the spec and the node ports."""
    metadata = cluster.metadata
    addresses = {}
    for listener in cluster.spec.listeners:
        if listener.type == "internal":
            host = f"{names.bootstrap_name(metadata.name)}.{metadata.namespace}.svc"
            addresses[listener.name] = f"{host}:{listener.port}"
        elif listener.advertised_host is not None:
            told = [
                advertised(cluster, environment, shard, pod).get(listener.name)
                for shard, _, pod in names.pod_names(cluster)
            ]
            addresses[listener.name] = ",".join(address for address in told if address)
    return {name: address for name, address in addresses.items() if address}


def is_known_to_brokers_only(listener: Listener) -> bool:
    """Whether only the brokers can say where clients start: they advertise the nodes that they run on."""
    return listener.type == "nodePort" and listener.advertised_host is None
