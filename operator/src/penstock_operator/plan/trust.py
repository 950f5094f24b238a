"""The annotation `penstock.io/trust-member`: a shard that lost its quorum for good goes on from one broker's copy.

It can lose acknowledged messages, so nothing here decides that it has to be: a person names the broker. A value is
carried out or refused once, and status remembers which. Left in place, it must not act again when a quorum is missing
for a moment, months later; who wants it twice removes it in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock_operator.api.names import ANNOTATION_TRUST
from penstock_operator.desired import names
from penstock_operator.plan.actions import TrustAnswer, TrustMember

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.desired.identity import Identity
    from penstock_operator.plan.shards import ShardState
    from penstock_operator.snapshot.broker import RecoveryReport
    from penstock_operator.snapshot.cluster import ClusterSnapshot


class TrustStep(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about the annotation, and what there is to say of it."""

    action: TrustMember | None = None
    answer: TrustAnswer | None = None


def plan_trust(
    cluster: MessageCluster, identity: Identity, states: dict[int, ShardState], snapshot: ClusterSnapshot
) -> TrustStep:
    """The step for the annotation as it is now; without one, nothing is remembered either."""
    pod = cluster.metadata.annotations.get(ANNOTATION_TRUST, "")
    before = cluster.status.trust_member
    if not pod:
        return TrustStep()
    if before is not None and before.pod == pod:
        return TrustStep(answer=TrustAnswer(pod=pod, outcome=before.outcome, message=before.message))
    # One that is about to leave may hold the best copy.
    seen = snapshot.pods.get(pod)
    shard = None if seen is None else seen.shard
    state = next(
        (state for state in states.values() if pod in state.expected or state.view.id == shard), None
    )
    if state is None:
        known = ", ".join(name for each in states.values() for name in each.expected)
        return _refused(pod, f"there is no broker {pod} to trust: name one of {known}")
    recovery = state.view.recovery
    if recovery is not None and recovery.broker == pod and recovery.generation > _known(cluster, state):
        # It was asked, and nobody was left to write that down.
        return TrustStep(answer=TrustAnswer(pod=pod, outcome="Done", message=what_may_be_gone(pod, recovery)))
    if cluster.spec.mode != "Raft":
        return _refused(pod, _not_by_lease(pod, cluster, state.view.id))
    if state.serves:
        return _refused(
            pod, f"{pod} is not trusted: {state.view.leader} leads shard {state.view.id}, nothing is lost"
        )
    report = snapshot.brokers.get(pod)
    if report is None or report.cluster is None:
        why = "it does not run" if report is None else report.unknown or "; ".join(report.not_ready)
        message = f"{pod} is trusted once it can be asked: {why}"
        return TrustStep(answer=TrustAnswer(pod=pod, outcome="Waiting", message=message))
    why = f"shard {state.view.id} goes on from the copy of {pod} alone because {ANNOTATION_TRUST} says so"
    return TrustStep(action=TrustMember(why=why, pod=pod, shard_uid=identity.shard_uids[state.view.id]))


def _not_by_lease(pod: str, cluster: MessageCluster, shard: int) -> str:
    """Mode MasterSlave: a broker that the Lease does not name may not lead, whoever wishes it."""
    lease = names.lease_name(cluster.metadata.name, shard)
    return (
        f"{pod} is not trusted: in mode MasterSlave only a broker leads that Lease {lease} names as in sync, so bring one of those back;"
        " who would rather lose messages than wait writes replication: async with failover.allowDataLoss: true beforehand"
    )


def what_may_be_gone(subject: str, recovery: RecoveryReport) -> str:
    """The sentence for people; `subject` is the shard or the broker whose copy it was."""
    return (
        f"{subject}: recovery {recovery.generation} went on from the copy of {recovery.broker}, which ended with entry"
        f" {recovery.last_index} of epoch {recovery.last_epoch} and knew {recovery.commit_index} entries to be committed;"
        f" what was acknowledged behind entry {recovery.last_index} may be gone"
    )


def _known(cluster: MessageCluster, state: ShardState) -> int:
    """The recovery of the shard that status told of before; 0 for none."""
    rows = [row.recovery for row in cluster.status.shards if row.id == state.view.id]
    return max((recovery.generation for recovery in rows if recovery is not None), default=0)


def _refused(pod: str, message: str) -> TrustStep:
    return TrustStep(answer=TrustAnswer(pod=pod, outcome="Refused", message=message))
