"""How each shard stands: whether it serves, who is away, and whether it is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock_operator.desired import names
from penstock_operator.snapshot.shard import LEARNER, ShardView

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.desired.identity import Identity
    from penstock_operator.snapshot.broker import BrokerReport
    from penstock_operator.snapshot.cluster import ClusterSnapshot, PodSeen


class ShardState(msgspec.Struct, frozen=True, kw_only=True):
    """One shard."""

    view: ShardView
    expected: list[str]  # brokers that the spec asks for
    serves: bool  # whether it has a leader that runs
    was_whole: bool  # whether all expected brokers were in sync together once
    away: list[str]  # sentences about expected brokers that do not count now
    lost: str | None  # sentence: the shard has existed and no volume of it is left


def shard_states(
    cluster: MessageCluster, identity: Identity, snapshot: ClusterSnapshot
) -> dict[int, ShardState]:
    """All shards of a cluster."""
    return {shard: _shard_state(cluster, identity, snapshot, shard) for shard in range(cluster.spec.shards)}


def _shard_state(
    cluster: MessageCluster, identity: Identity, snapshot: ClusterSnapshot, shard: int
) -> ShardState:
    view = snapshot.shard_view(shard)
    expected = [name for pod_shard, _, name in names.pod_names(cluster) if pod_shard == shard]
    away = {name: _broker_trouble(name, snapshot) or _member_trouble(view, name) for name in expected}
    leader = snapshot.pods.get(view.leader) if view.leader is not None else None
    return ShardState(
        view=view,
        expected=expected,
        serves=leader is not None and _runs(leader, snapshot.brokers.get(leader.name)),
        was_whole=identity.formed.get(shard, 0) >= len(expected),
        away=[sentence for sentence in away.values() if sentence is not None],
        lost=_lost(identity, snapshot, view, expected),
    )


def _runs(pod: PodSeen, report: BrokerReport | None) -> bool:
    return pod.ready and not pod.terminating and not (report is not None and report.not_ready)


def _broker_trouble(name: str, snapshot: ClusterSnapshot) -> str | None:
    """Why a broker does not run, in Kubernetes' words or its own."""
    pod, report = snapshot.pods.get(name), snapshot.brokers.get(name)
    if pod is None:
        return f"{name} does not exist yet"
    node = snapshot.node_of(pod)
    place = node.trouble if node is not None else None
    if pod.terminating:
        return f"{name} is stopping" + (f", and {place}" if place else "")
    if report is not None and report.not_ready:
        return f"{name} is not ready: {'; '.join(report.not_ready)}"
    if not pod.ready:
        return f"{name} is not ready: {place if node is not None and not node.ready else pod.trouble}"
    if report is not None and report.unknown is not None:
        return f"{name} cannot be asked: {report.unknown}"
    return None


def _member_trouble(view: ShardView, name: str) -> str | None:
    """Why a broker that runs does not count as a copy; only the leader knows."""
    if not view.from_leader:
        return None
    member = view.member(name)
    if member is None:
        return f"{name} is not yet a member of shard {view.id}"
    if member.role == LEARNER:
        return f"{name} is catching up, {member.lag_bytes} bytes behind"
    return None if member.in_sync else f"{name} is not in sync, {member.lag_bytes} bytes behind"


def _lost(identity: Identity, snapshot: ClusterSnapshot, view: ShardView, expected: list[str]) -> str | None:
    """A shard that has existed is lost when no claim is left that held it, or when all its brokers are empty."""
    if view.id not in identity.formed or view.leader is not None:
        return None
    # A claim that Kubernetes made anew does not carry the mark of one that held a full copy.
    kept = any(claim.shard == view.id and claim.formed is not None for claim in snapshot.claims.values())
    # Brokers that are about to leave may hold it too.
    asked = {*expected, *(pod.name for pod in snapshot.pods.values() if pod.shard == view.id)}
    if kept and not all(_is_empty(snapshot.brokers.get(name), view.id) for name in asked):
        return None
    claims = ", ".join(names.claim_name(pod) for pod in expected)
    return (
        f"shard {view.id} has lost every volume that held its data and is not made anew in silence: bring the volumes of"
        f" {claims} back, or delete this MessageCluster with its claims and create it again to begin with an empty shard"
    )


def _is_empty(report: BrokerReport | None, shard: int) -> bool:
    """Whether a broker says that it never took part in an epoch: only one whose folder was empty has none."""
    if report is None or report.cluster is None:
        return False
    return any(known.id == shard and known.epoch == 0 for known in report.cluster.shards)
