"""What desired state needs to know that is not in the spec.

Random and observed values come in here as arguments, so that building manifests stays a function.
"""

from __future__ import annotations

import msgspec


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Ids that outlive the MessageCluster resource: they are annotated on the volumes.

    A shard whose volumes hold another uid than expected is another shard's data, and is never touched.
    """

    cluster_id: str
    shard_uids: dict[int, str]


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about where the cluster runs."""

    image: str  # of brokers whose spec names none
    operator_namespace: str = "penstock-system"
    node_ports: dict[str, int] = msgspec.field(
        default_factory=dict
    )  # per-broker Service -> port on the nodes
