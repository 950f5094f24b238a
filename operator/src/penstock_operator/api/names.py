"""Names that the resources, the manifests and the tools share.

One place, so that a label in a selector and the label on a pod cannot drift apart.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "penstock.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "penstock"

MESSAGE_CLUSTER: Final = "MessageCluster"
TOPIC: Final = "Topic"
CONSUMER_GROUP: Final = "ConsumerGroup"
KINDS: Final = (MESSAGE_CLUSTER, TOPIC, CONSUMER_GROUP)

FIELD_MANAGER: Final = "penstock-operator"

# Labels.
LABEL_CLUSTER: Final = f"{GROUP}/cluster"
LABEL_SHARD: Final = f"{GROUP}/shard"
LABEL_ROLE: Final = f"{GROUP}/role"
LABEL_LISTENER: Final = f"{GROUP}/listener"
LABEL_POD_NAME: Final = "statefulset.kubernetes.io/pod-name"

# Annotations that people set.
ANNOTATION_PAUSED: Final = f"{GROUP}/paused"
ANNOTATION_RESTART: Final = f"{GROUP}/restart"
ANNOTATION_TRUST: Final = f"{GROUP}/trust-member"
ANNOTATION_HAND_OVER: Final = f"{GROUP}/hand-over"

# Set by people on resources, and by the operator on pods and Events.
ANNOTATION_TRACEPARENT: Final = f"{GROUP}/traceparent"

# Annotations that the operator sets.
ANNOTATION_CLUSTER_ID: Final = f"{GROUP}/cluster-id"
ANNOTATION_SHARD_UID: Final = f"{GROUP}/shard-uid"
ANNOTATION_SHARD_FORMED: Final = f"{GROUP}/shard-formed"
ANNOTATION_SHARD_REPLICAS: Final = f"{GROUP}/shard-replicas"
ANNOTATION_ROLE_EPOCH: Final = f"{GROUP}/role-epoch"
ANNOTATION_APPLIED: Final = f"{GROUP}/applied-hash"
ANNOTATION_RESTART_HASH: Final = f"{GROUP}/restart-hash"
ANNOTATION_NODE_PORTS: Final = f"{GROUP}/node-ports"
ANNOTATION_CONFIG_HASH: Final = f"{GROUP}/config-hash"

FINALIZER_TOPIC: Final = f"{GROUP}/topic"
FINALIZER_GROUP: Final = f"{GROUP}/consumer-group"

ADMIN_PORT: Final = 8081
PEER_PORT: Final = 9093
HTTP_PORT_DEFAULT: Final = 8080
KAFKA_PORT_DEFAULT: Final = 9092

# Listeners that every broker has besides those of the spec; no listener of the spec has one of these names.
HTTP_LISTENER: Final = "http"
ADMIN_LISTENER: Final = "admin"
PEER_LISTENER: Final = "peer"
