"""What desired state needs to know that is not in the spec.

Random and observed values come in here as arguments, so that building manifests stays a function.
"""

from __future__ import annotations

import msgspec


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What outlives the MessageCluster resource, because it is annotated on StatefulSets and volume claims.

    A shard whose volumes hold another uid than expected is another shard's data, and is never touched. A shard that is
    in `formed` has existed: it is never founded again, even when all its volumes are lost. The number is that of its
    brokers when it was last seen whole, 0 while it has not been.
    """

    cluster_id: str
    shard_uids: dict[int, str]
    formed: dict[int, int] = msgspec.field(default_factory=dict)


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about where the cluster runs."""

    image: str  # of brokers whose spec names none
    operator_namespace: str = "penstock-system"
    node_ports: dict[str, int] = msgspec.field(
        default_factory=dict
    )  # per-broker Service -> port on the nodes
