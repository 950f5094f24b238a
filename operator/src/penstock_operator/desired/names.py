"""Names and labels of everything that a MessageCluster becomes.

Shard `s` of cluster `orders` is the StatefulSet `orders-s`; its brokers are the pods `orders-s-0`, `orders-s-1`, ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from penstock_operator.api.cluster import REPLICAS_MAX
from penstock_operator.api.names import API_VERSION, LABEL_CLUSTER, LABEL_ROLE, LABEL_SHARD, MESSAGE_CLUSTER

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster

APP_NAME: Final = "penstock"
MANAGED_BY: Final = "penstock-operator"
DATA_VOLUME: Final = "data"
# Values of the role label, in both modes.
ROLE_LEADER: Final = "leader"
ROLE_FOLLOWER: Final = "follower"
ROLE_LEARNER: Final = "learner"  # it catches up and does not count as a copy yet


def shard_name(cluster: str, shard: int) -> str:
    """The StatefulSet and the headless Service of a shard."""
    return f"{cluster}-{shard}"


def lease_name(cluster: str, shard: int) -> str:
    """Mode MasterSlave: the Lease that names a shard's master. Its founding broker makes it, nobody else ever does."""
    return shard_name(cluster, shard)


def pod_name(cluster: str, shard: int, ordinal: int) -> str:
    """A broker: its pod, and its name in the cluster."""
    return f"{cluster}-{shard}-{ordinal}"


def claim_name(pod: str) -> str:
    """The PersistentVolumeClaim that the StatefulSet makes for a pod."""
    return f"{DATA_VOLUME}-{pod}"


def bootstrap_name(cluster: str) -> str:
    """The Service that clients inside Kubernetes start from."""
    return f"{cluster}-bootstrap"


def leader_name(cluster: str) -> str:
    """The Service that leads to the brokers that lead a shard."""
    return f"{cluster}-leader"


def broker_name(cluster: str) -> str:
    """The brokers' ServiceAccount, its Role and its RoleBinding, and the NetworkPolicy; never just the cluster's name, which may be `default`."""
    return f"{cluster}-broker"


def node_port_name(pod: str, listener: str) -> str:
    """The Service that leads from outside to one listener of one broker."""
    return f"{pod}-{listener}"


def pod_names(cluster: MessageCluster) -> list[tuple[int, int, str]]:
    """(shard, ordinal, pod) of every broker that the spec asks for."""
    return [
        (shard, ordinal, pod_name(cluster.metadata.name, shard, ordinal))
        for shard in range(cluster.spec.shards)
        for ordinal in range(cluster.spec.replicas)
    ]


def is_broker(cluster: MessageCluster, pod: str) -> bool:
    """Whether a pod of this name can be a broker of the cluster, of as many as it may ever have per shard."""
    shards, ordinals = range(cluster.spec.shards), range(REPLICAS_MAX)
    return any(
        pod == pod_name(cluster.metadata.name, shard, ordinal) for shard in shards for ordinal in ordinals
    )


def labels(cluster: str) -> dict[str, str]:
    """Labels of every object of a cluster."""
    return {
        "app.kubernetes.io/name": APP_NAME,
        "app.kubernetes.io/instance": cluster,
        "app.kubernetes.io/component": "broker",
        "app.kubernetes.io/managed-by": MANAGED_BY,
        LABEL_CLUSTER: cluster,
    }


def cluster_selector(cluster: str) -> dict[str, str]:
    """What selects all brokers of a cluster. Selectors cannot be changed later, so they hold the least."""
    return {"app.kubernetes.io/name": APP_NAME, LABEL_CLUSTER: cluster}


def shard_selector(cluster: str, shard: int) -> dict[str, str]:
    """What selects the brokers of one shard."""
    return {**cluster_selector(cluster), LABEL_SHARD: str(shard)}


def leader_selector(cluster: str) -> dict[str, str]:
    """What selects the leaders of all shards; the label is the operator's (see `plan.roles`)."""
    return {**cluster_selector(cluster), LABEL_ROLE: ROLE_LEADER}


def owner_reference(cluster: MessageCluster) -> dict[str, Any]:
    """Makes Kubernetes delete the object when the MessageCluster goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": MESSAGE_CLUSTER,
        "name": cluster.metadata.name,
        "uid": cluster.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def object_metadata(cluster: MessageCluster, name: str) -> dict[str, Any]:
    """Metadata of an object that belongs to the cluster."""
    return {
        "name": name,
        "namespace": cluster.metadata.namespace,
        "labels": labels(cluster.metadata.name),
        "ownerReferences": [owner_reference(cluster)],
    }
