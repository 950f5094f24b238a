"""Which number of brokers a shard really gets: growing is done, shrinking is refused until members can be taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock_operator.api.cluster import REPLICAS_MAX

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster


def settle_replicas(cluster: MessageCluster, held: int) -> tuple[MessageCluster, str | None]:
    """The cluster as it is built, and the sentence why that is not what its spec says.

    `held` is the number of brokers that its shards have already, or had when they were last seen. Stopping one of them
    without taking it out of the membership would bring the others nearer to losing their majority.
    """
    asked, held = cluster.spec.replicas, min(held, REPLICAS_MAX)
    if asked >= held:
        return cluster, None
    kept = msgspec.structs.replace(cluster, spec=msgspec.structs.replace(cluster.spec, replicas=held))
    return kept, (
        f"replicas stays {held}: going down to {asked} would take brokers out of a shard, which is not available"
        f" in this release, so write replicas: {held}"
    )
