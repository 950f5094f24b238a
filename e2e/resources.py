"""The three resources as scenarios write them: short to say, and always with a namespace-local name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kube import Kube

API = "penstock.io/v1alpha1"
CLUSTER = "messageclusters.penstock.io"
TOPIC = "topics.penstock.io"
GROUP = "consumergroups.penstock.io"
PAUSED = "penstock.io/paused"
RESTART = "penstock.io/restart"
HAND_OVER = "penstock.io/hand-over"
STORAGE = "1Gi"


def message_cluster(name: str, **spec: Any) -> dict[str, Any]:
    """A MessageCluster, of one broker unless `replicas` says otherwise."""
    content = {"mode": "Raft", "replicas": 1, "storage": {"size": STORAGE}, **spec}
    return {"apiVersion": API, "kind": "MessageCluster", "metadata": {"name": name}, "spec": content}


def outside_listeners(kube: Kube) -> list[dict[str, Any]]:
    """An internal listener, and one that the host reaches through a port of the node."""
    return [
        {"name": "internal", "type": "internal", "protocol": "kafka", "port": 9092},
        {
            "name": "outside",
            "type": "nodePort",
            "protocol": "kafka",
            "port": 9094,
            "advertisedHost": node_address(kube),
        },
    ]


def node_address(kube: Kube) -> str:
    """The address of the first node, which the host can reach."""
    addresses = kube.items("nodes")[0]["status"]["addresses"]
    return next(str(address["address"]) for address in addresses if address["type"] == "InternalIP")


def topic(name: str, cluster: str, **spec: Any) -> dict[str, Any]:
    """A Topic; its name on the wire is the resource's unless `topicName` says otherwise."""
    content = {"clusterRef": {"name": cluster}, **spec}
    return {"apiVersion": API, "kind": "Topic", "metadata": {"name": name}, "spec": content}


def consumer_group(name: str, cluster: str, topics: list[str], **spec: Any) -> dict[str, Any]:
    """A ConsumerGroup of mode stream."""
    content = {"clusterRef": {"name": cluster}, "topics": topics, **spec}
    return {"apiVersion": API, "kind": "ConsumerGroup", "metadata": {"name": name}, "spec": content}


def bootstrap(kube: Kube, cluster: str, listener: str = "internal") -> str:
    """A listener's bootstrap address as status gives it."""
    return str(kube.get(CLUSTER, cluster)["status"]["bootstrap"][listener])
