"""The StatefulSet of a shard: its pods, their volumes, and the marks that say what a pod was started from.

`OnDelete` and `Parallel`: the operator restarts brokers itself, one at a time, when the shard can spare one, and a pod
that cannot start never holds up its siblings (kubernetes/kubernetes#67250).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock_operator.api.names import (
    ADMIN_LISTENER,
    ADMIN_PORT,
    ANNOTATION_CLUSTER_ID,
    ANNOTATION_CONFIG_HASH,
    ANNOTATION_NODE_PORTS,
    ANNOTATION_RESTART,
    ANNOTATION_RESTART_HASH,
    ANNOTATION_SHARD_FORMED,
    ANNOTATION_SHARD_REPLICAS,
    ANNOTATION_SHARD_UID,
    HTTP_LISTENER,
    LABEL_SHARD,
    PEER_LISTENER,
    PEER_PORT,
)
from penstock_operator.desired import addresses, broker_config, names
from penstock_operator.desired.hashing import content_hash

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster, Mode
    from penstock_operator.desired.identity import Environment, Identity

BIND_ADDRESS: Final = "0.0.0.0"
USER_ID: Final = 10001  # the image's user; the volume's group, so that it can write
CONFIG_FOLDER: Final = "/etc/penstock"
TRACING_FOLDER: Final = "/etc/penstock-tracing"
TRACING_KEY: Final = "headers"  # of the Secret that spec.tracing names
DATA_MOUNT: Final = "/var/lib/penstock"
DATA_FOLDER: Final = f"{DATA_MOUNT}/data"  # below the mount, whose root may hold a lost+found
POD_UID: Final = "POD_UID"
# Kubernetes fills in the pod's name; everything that differs between brokers is in their files.
ARGUMENTS: Final = ["broker", "--data", DATA_FOLDER, "--config", f"{CONFIG_FOLDER}/$(POD_NAME).yaml"]
# Kubelet makes it in every container; what stands in it when the container ends is told in the pod's status.
TERMINATION_MESSAGE_FILE: Final = "/dev/termination-log"
SECRET_MODE: Final = 0o440  # for the broker's user by its group, and for nobody else
TEMPORARY_SIZE: Final = "64Mi"
TERMINATION_GRACE_SECONDS: Final = 60  # hand over, flush and close; a broker needs far less
START_SECONDS_MAX: Final = 600  # until the loop of a starting broker turns


def stateful_set(
    cluster: MessageCluster, identity: Identity, environment: Environment, shard: int
) -> dict[str, Any]:
    """The StatefulSet of one shard. Needs the node ports of all nodePort listeners (see `addresses`)."""
    name = cluster.metadata.name
    metadata = names.object_metadata(cluster, names.shard_name(name, shard))
    metadata["labels"] |= {LABEL_SHARD: str(shard)}
    metadata["annotations"] = _memory(cluster, identity, shard)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {
            "serviceName": names.shard_name(name, shard),
            "replicas": cluster.spec.replicas,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": names.shard_selector(name, shard)},
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Delete" if cluster.spec.storage.delete_claim else "Retain",
                "whenScaled": "Retain",
            },
            "template": pod_template(cluster, identity, environment, shard),
            "volumeClaimTemplates": [_claim_template(cluster, identity, shard)],
        },
    }


def shard_settings(cluster: MessageCluster, identity: Identity, shard: int) -> dict[str, Any]:
    """The settings of a shard's brokers, by name."""
    peers = addresses.peers(cluster, shard)
    found = broker_config.settings(cluster.spec, peers, identity.formed.get(shard, 0))
    if tracing_secret(cluster) is not None:
        found[broker_config.TRACING_HEADERS] = f"{TRACING_FOLDER}/{TRACING_KEY}"
    return found


def tracing_secret(cluster: MessageCluster) -> str | None:
    """The Secret with what brokers send along to the collector; None: they send nothing along."""
    return cluster.spec.tracing.headers_secret if cluster.spec.tracing is not None else None


def lease_place(cluster: MessageCluster, shard: int, pod: str) -> dict[str, Any]:
    """Mode MasterSlave: the shard's Lease, and by which words in it and in the pod's status a broker is known."""
    if cluster.spec.mode == "Raft":
        return {}
    return {
        "lease.name": names.lease_name(cluster.metadata.name, shard),
        "pod.name": pod,
        "pod.uid": f"$({POD_UID})",  # the broker reads it from its environment, because no file can know it
        "termination.message.file": TERMINATION_MESSAGE_FILE,
    }


def pod_listeners(
    cluster: MessageCluster, environment: Environment, shard: int, pod: str
) -> list[dict[str, Any]]:
    """What one broker binds, and what it tells its clients."""
    told = addresses.advertised(cluster, environment, shard, pod)
    return broker_config.listeners(cluster.spec, lambda _, port: f"{BIND_ADDRESS}:{port}", told)


def pod_template(
    cluster: MessageCluster, identity: Identity, environment: Environment, shard: int
) -> dict[str, Any]:
    """The pods of a shard."""
    spec = cluster.spec
    own_labels = {**names.labels(cluster.metadata.name), LABEL_SHARD: str(shard)}
    return {
        "metadata": {
            "labels": {**spec.pod.labels, **own_labels},
            "annotations": {
                **spec.pod.annotations,
                ANNOTATION_RESTART_HASH: restart_hash(cluster, environment),
                ANNOTATION_NODE_PORTS: _node_ports(cluster, environment, shard),
                ANNOTATION_CONFIG_HASH: content_hash(shard_settings(cluster, identity, shard)),
            },
        },
        "spec": {
            "serviceAccountName": names.broker_name(cluster.metadata.name),
            "automountServiceAccountToken": spec.mode != "Raft",
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "fsGroup": USER_ID,
                # Changing the group of every file of a big volume at each start would take minutes.
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "affinity": _affinity(cluster.metadata.name, shard),
            **_placement(cluster),
            "containers": [_container(cluster, environment)],
            "volumes": [
                {"name": "config", "configMap": {"name": names.shard_name(cluster.metadata.name, shard)}},
                {"name": "tmp", "emptyDir": {"sizeLimit": TEMPORARY_SIZE}},
                *_tracing_volumes(cluster),
            ],
        },
    }


def restart_hash(cluster: MessageCluster, environment: Environment) -> str:
    """Changes exactly when all running brokers must be restarted whatever their settings are.

    Neither labels nor the operator's version nor whether the shard was formed are in it: they need no restart. Nor is how
    many brokers there are, so the ports of each stand beside it (`own_node_ports`).
    """
    secret = tracing_secret(cluster)
    return content_hash(
        {
            "image": cluster.spec.image or environment.image,
            "arguments": ARGUMENTS,
            "listeners": msgspec.to_builtins([cluster.spec.listeners, cluster.spec.http]),
            "ports": {},  # as it was where there were none: their brokers are not restarted for another operator
            "resources": msgspec.to_builtins(cluster.spec.resources),
            "placement": _placement(cluster),
            "token": cluster.metadata.annotations.get(ANNOTATION_RESTART, ""),
            # A running pod gets no other volume; what is in the Secret reaches it without a restart.
            **({} if secret is None else {"tracing": secret}),
        }
    )


def _node_ports(cluster: MessageCluster, environment: Environment, shard: int) -> str:
    ports = addresses.shard_node_ports(cluster, environment, shard)
    return " ".join(f"{service}={port}" for service, port in ports.items())


def own_node_ports(annotation: str, pod: str) -> set[str]:
    """What such an annotation says of one broker's ports: it tells its clients of them from its start on."""
    return {item for item in annotation.split() if item.startswith(f"{pod}-")}


def _identity_annotations(identity: Identity, shard: int) -> dict[str, str]:
    return {ANNOTATION_CLUSTER_ID: identity.cluster_id, ANNOTATION_SHARD_UID: identity.shard_uids[shard]}


def _memory(cluster: MessageCluster, identity: Identity, shard: int) -> dict[str, str]:
    """What must be known of the shard even when its volumes are gone."""
    memory = {
        **_identity_annotations(identity, shard),
        ANNOTATION_SHARD_REPLICAS: str(cluster.spec.replicas),
    }
    if shard in identity.formed:
        memory[ANNOTATION_SHARD_FORMED] = str(identity.formed[shard])
    return memory


def _claim_template(cluster: MessageCluster, identity: Identity, shard: int) -> dict[str, Any]:
    storage = cluster.spec.storage
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(storage.size)}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names.DATA_VOLUME,
            "labels": {**names.labels(cluster.metadata.name), LABEL_SHARD: str(shard)},
            "annotations": _identity_annotations(identity, shard),
        },
        "spec": spec,
    }


def _container(cluster: MessageCluster, environment: Environment) -> dict[str, Any]:
    spec = cluster.spec
    ports = [
        *({"name": listener.name, "containerPort": listener.port} for listener in spec.listeners),
        {"name": HTTP_LISTENER, "containerPort": spec.http.port},
        {"name": ADMIN_LISTENER, "containerPort": ADMIN_PORT},
        {"name": PEER_LISTENER, "containerPort": PEER_PORT},
    ]
    return {
        "name": "broker",
        "image": spec.image or environment.image,
        "args": ARGUMENTS,
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            *_own_uid(spec.mode),
        ],
        "ports": [{**port, "protocol": "TCP"} for port in ports],
        "resources": msgspec.to_builtins(spec.resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        # What a broker says before it ends with an error is then in the pod's status, and so in the cluster's. In mode
        # MasterSlave that is so until it has written down who it is.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "startupProbe": _probe("/healthz", period=1, failures=START_SECONDS_MAX),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "volumeMounts": [
            {"name": names.DATA_VOLUME, "mountPath": DATA_MOUNT},
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            *(
                {"name": volume["name"], "mountPath": TRACING_FOLDER, "readOnly": True}
                for volume in _tracing_volumes(cluster)
            ),
        ],
    }


def _tracing_volumes(cluster: MessageCluster) -> list[dict[str, Any]]:
    """The Secret as a file. Where it is missing, pods start all the same: brokers serve without sending spans and say so in
    their log, and Kubernetes would leave it at a pod that waits."""
    secret = tracing_secret(cluster)
    if secret is None:
        return []
    items = [{"key": TRACING_KEY, "path": TRACING_KEY}]
    content = {"secretName": secret, "items": items, "defaultMode": SECRET_MODE, "optional": True}
    return [{"name": "tracing", "secret": content}]


def _own_uid(mode: Mode) -> list[dict[str, Any]]:
    """A pod's uid, for brokers that say in a Lease who they are."""
    if mode == "Raft":
        return []
    return [{"name": POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]


def _placement(cluster: MessageCluster) -> dict[str, Any]:
    pod = cluster.spec.pod
    placement: dict[str, Any] = {}
    if pod.node_selector:
        placement["nodeSelector"] = pod.node_selector
    if pod.tolerations:
        placement["tolerations"] = msgspec.to_builtins(pod.tolerations)
    if pod.topology_spread_constraints:
        placement["topologySpreadConstraints"] = pod.topology_spread_constraints
    if pod.priority_class_name is not None:
        placement["priorityClassName"] = pod.priority_class_name
    return placement


def _affinity(cluster: str, shard: int) -> dict[str, Any]:
    """Brokers of a shard prefer different nodes; on a small cluster they still run."""
    term = {
        "labelSelector": {"matchLabels": names.shard_selector(cluster, shard)},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]
        }
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": ADMIN_LISTENER},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
