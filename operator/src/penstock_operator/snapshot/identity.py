"""Which cluster and which shards the volumes belong to: read before anything is made, invented only for new ones.

The same annotations remember that a shard has existed, so that one which lost every volume is not mistaken for a new
one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock_operator.api.names import (
    ANNOTATION_CLUSTER_ID,
    ANNOTATION_SHARD_FORMED,
    ANNOTATION_SHARD_UID,
    LABEL_SHARD,
)
from penstock_operator.desired.identity import Identity
from penstock_operator.snapshot.cluster import parse_count
from penstock_operator.snapshot.shard import formed_with

if TYPE_CHECKING:
    from penstock_operator.snapshot.cluster import ClusterSnapshot


class IdentityConflictError(Exception):
    """Volumes or StatefulSets of one cluster carry different ids; the message says which."""


def find_identity(
    snapshot: ClusterSnapshot, shards: int, new_cluster_id: str, new_shard_uids: dict[int, str]
) -> Identity:
    """The identity that is annotated on StatefulSets and volume claims, completed with new ids where there is none.

    Raises IdentityConflictError when what is there disagrees: then somebody must choose, not we.
    """
    seen: dict[str, dict[str, str]] = {"cluster": {}}  # what -> id -> where it was seen
    for (kind, name), live in snapshot.objects.items():
        if kind == "StatefulSet":
            annotations = live["metadata"].get("annotations", {})
            shard = live["metadata"].get("labels", {}).get(LABEL_SHARD, "0")
            _note(seen, "cluster", annotations.get(ANNOTATION_CLUSTER_ID), f"StatefulSet {name}")
            _note(seen, shard, annotations.get(ANNOTATION_SHARD_UID), f"StatefulSet {name}")
    for claim in snapshot.claims.values():
        where = f"PersistentVolumeClaim {claim.name}"
        _note(seen, "cluster", claim.cluster_id, where)
        _note(seen, str(claim.shard), claim.shard_uid, where)
    for what, ids in seen.items():
        if len(ids) > 1:
            listed = "; ".join(f"{place} has {value}" for value, place in sorted(ids.items()))
            subject = "the cluster" if what == "cluster" else f"shard {what}"
            raise IdentityConflictError(
                f"the volumes do not belong together, {subject} has several ids ({listed}):"
                " delete or rename the claims that are not this cluster's"
            )
    return Identity(
        cluster_id=next(iter(seen["cluster"]), new_cluster_id),
        shard_uids={
            shard: next(iter(seen.get(str(shard), {})), new_shard_uids[shard]) for shard in range(shards)
        },
        formed=_formed(snapshot, shards),
    )


def witness(identity: Identity, snapshot: ClusterSnapshot, replicas: int) -> Identity:
    """The identity, completed with what the brokers say now: a shard with a leader exists, and may be whole."""
    ready = {pod.name for pod in snapshot.pods.values() if pod.ready}
    formed = {
        shard: formed_with(snapshot.shard_view(shard), replicas, ready, identity.formed.get(shard))
        for shard in identity.shard_uids
    }
    known = {shard: count for shard, count in formed.items() if count is not None}
    return msgspec.structs.replace(identity, formed=known)


def _formed(snapshot: ClusterSnapshot, shards: int) -> dict[int, int]:
    """What StatefulSets remember; without them what claims do, which also tell of brokers that have left since. Where they
    differ, the biggest shard counts."""
    formed: dict[int, int] = {}
    marks = [
        (live["metadata"].get("labels", {}).get(LABEL_SHARD, "0"), live["metadata"].get("annotations", {}))
        for (kind, _), live in snapshot.objects.items()
        if kind == "StatefulSet"
    ]
    found = [
        (parse_count(shard), parse_count(marked.get(ANNOTATION_SHARD_FORMED))) for shard, marked in marks
    ]
    remembered = {shard for shard, count in found if count}
    found += [
        (claim.shard, claim.formed) for claim in snapshot.claims.values() if claim.shard not in remembered
    ]
    for shard, count in found:
        if shard is not None and shard < shards and count is not None:
            formed[shard] = max(count, formed.get(shard, 0))
    return formed


def _note(seen: dict[str, dict[str, str]], what: str, value: str | None, place: str) -> None:
    if value:
        seen.setdefault(what, {}).setdefault(value, place)
