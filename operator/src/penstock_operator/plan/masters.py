"""Mode MasterSlave in plan and status: whose a Lease is, why nobody leads by it, and what may be lost since somebody does.

The brokers decide by the Lease who leads. Here that is told, in their own sentences where they have one; and the Lease is
marked with the cluster that it belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock_operator.desired import names
from penstock_operator.plan.actions import AdoptLease
from penstock_operator.snapshot.lease import Loss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.desired.identity import Identity
    from penstock_operator.plan.shards import ShardState
    from penstock_operator.snapshot.broker import ElectionReport
    from penstock_operator.snapshot.cluster import ClusterSnapshot
    from penstock_operator.snapshot.lease import LeaseSeen

_SHOWN: Final = {"Leader": "Master", "Follower": "Slave"}
# Brokers' reasons why they may not take over a Lease that is free.
_NOT_ENTITLED: Final = frozenset({"NotInSync", "DataLossNotAllowed", "LagTooLarge"})
_OLDER: Final = "LeaseOlder"
_UNAVAILABLE: Final = "LeaseUnavailable"


class MasterTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why a shard has no master and will not get one by itself. `reason` is a condition's."""

    reason: str
    message: str


def shown_role(mode: str, role: str) -> str:
    """A member's role as people know it in this mode."""
    return role if mode == "Raft" else _SHOWN.get(role, role)


def adopt_leases(cluster: MessageCluster, identity: Identity, snapshot: ClusterSnapshot) -> list[AdoptLease]:
    """Labels for the Leases that brokers of these shards made; and an owner for those that are to go with the cluster.

    A Lease says who holds everything that volumes hold, so it goes when they do: where they are kept, a cluster that is made
    again under the same name could not lead its shards without it.
    """
    actions = []
    wanted = names.labels(cluster.metadata.name)
    owner = names.owner_reference(cluster)
    for shard, lease in snapshot.leases.items():
        if lease.problem is not None or lease.shard_uid != identity.shard_uids[shard]:
            continue  # somebody else's, as far as can be told
        others = [each for each in lease.owners if each.get("uid") != owner["uid"]]
        owned = len(others) < len(lease.owners)
        goes_along = cluster.spec.storage.delete_claim
        if wanted.items() <= lease.labels.items() and owned == goes_along:
            continue
        actions.append(
            AdoptLease(
                why=f"Lease {lease.name} is marked as what it is to {cluster.metadata.name}",
                name=lease.name,
                version=lease.version,
                labels=wanted,
                owners=[*others, owner] if goes_along else others,
            )
        )
    return actions


def master_troubles(
    cluster: MessageCluster, identity: Identity, states: Mapping[int, ShardState], snapshot: ClusterSnapshot
) -> list[MasterTrouble]:
    """What is wrong with the shards' Leases, or with those who could take them over."""
    if cluster.spec.mode == "Raft":
        return []
    found = (_trouble(cluster, identity, state, snapshot) for state in states.values())
    return [trouble for trouble in found if trouble is not None]


def _trouble(
    cluster: MessageCluster, identity: Identity, state: ShardState, snapshot: ClusterSnapshot
) -> MasterTrouble | None:
    shard, lease = state.view.id, snapshot.leases.get(state.view.id)
    named = f"Lease {names.lease_name(cluster.metadata.name, shard)}"
    if lease is None:
        if shard not in identity.formed:
            return None  # whoever founds the shard makes it
        epoch = state.view.newest_epoch
        last = f"in epoch {epoch}" if epoch else "when its last master wrote it"
        return MasterTrouble(
            reason="LeaseMissing",
            message=f"{named} of shard {shard} is gone, and one that is gone is never taken for a free one: bring it back as it was {last}",
        )
    if lease.problem is not None:
        message = f"{named} of shard {shard} cannot be read: {lease.problem}; bring it back as a broker wrote it last"
        return MasterTrouble(reason="LeaseUnreadable", message=message)
    if lease.shard_uid != identity.shard_uids[shard]:
        return MasterTrouble(
            reason="LeaseOfAnotherShard",
            message=f"{named} belongs to shard {lease.shard_uid}, and the volumes are those of shard {identity.shard_uids[shard]}: bring"
            " back the volumes of the other one, or delete the Lease if that shard is never to come back",
        )
    if lease.epoch < state.view.newest_epoch:
        return MasterTrouble(
            reason=_OLDER,
            message=f"{named} is of epoch {lease.epoch}, older than epoch {state.view.newest_epoch}, which brokers of shard {shard} know: it"
            " was restored from a backup or changed by hand, and nobody takes over by it; bring the newer one back",
        )
    return None if state.serves else _nobody_may(state, snapshot)


def _nobody_may(state: ShardState, snapshot: ClusterSnapshot) -> MasterTrouble | None:
    """Why none of the brokers that answer takes the Lease over, if waiting longer does not help."""
    said = _elections(state, snapshot)
    reasons = {election.reason for election in said.values()}
    told = "; ".join(f"{name}: {election.sentence}" for name, election in said.items())
    message = f"shard {state.view.id} has no master: {told}"
    if reasons and reasons <= _NOT_ENTITLED:
        return MasterTrouble(reason="NobodyInSync", message=message)
    if _UNAVAILABLE in reasons:
        return MasterTrouble(reason=_UNAVAILABLE, message=message)
    return None


def why_no_master(state: ShardState, snapshot: ClusterSnapshot) -> list[str]:
    """What the brokers that answer say of the election, each sentence once."""
    sentences = [f"{name}: {each.sentence}" for name, each in _elections(state, snapshot).items()]
    return list(dict.fromkeys(sentences))


def _elections(state: ShardState, snapshot: ClusterSnapshot) -> dict[str, ElectionReport]:
    """By broker; of those that say why they do not lead."""
    reports = {name: snapshot.brokers.get(name) for name in state.expected}
    return {
        name: report.election
        for name, report in reports.items()
        if report is not None and report.election is not None and report.election.sentence
    }


def lease_row(lease: LeaseSeen) -> dict[str, Any]:
    """The Lease in status, without what changes with each renewal."""
    return {
        "name": lease.name,
        "holder": lease.pod_name if lease.holder else "",
        "epoch": lease.epoch,
        "inSync": lease.in_sync,
        **({"released": lease.released} if lease.released is not None else {}),
    }


def newest_loss(
    state: ShardState, snapshot: ClusterSnapshot, before: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """What may be lost since the newest takeover at which something may have been: as the Lease or a broker says, or as
    status said last. One takeover tells of it once; what came before stays true but is not told any more."""
    lease = snapshot.leases.get(state.view.id)
    known = [
        Loss(epoch=election.loss_epoch, message=election.loss)
        for report in snapshot.brokers.values()
        if (election := report.election) is not None and election.loss
    ]
    if lease is not None and lease.loss is not None:
        known.append(lease.loss)
    if before is not None:
        known.append(msgspec.convert(before, Loss))
    newest = max(known, key=lambda loss: loss.epoch, default=None)
    return None if newest is None else msgspec.to_builtins(newest)
