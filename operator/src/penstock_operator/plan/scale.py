"""Another number of brokers: they join before they count, and leave before they are deleted.

The leader of a shard is told how many brokers there should be, and changes the members by itself, one step at a time. What
is decided here is when to tell it, and how many brokers run meanwhile: more at once, fewer only when the leader says that
those of the highest ordinals are members no more, and the brokers that stay know it too, because one that does not would
still need their votes. A leader that cannot be asked changes nothing. The same decisions serve pods and the processes of
`penstock up`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock_operator.api.cluster import REPLICAS_MAX
from penstock_operator.desired import names
from penstock_operator.desired.broker_config import min_in_sync_wanted
from penstock_operator.plan.actions import DeleteObject, ForgetClaim, ResizeShard
from penstock_operator.plan.words import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.desired.identity import Identity
    from penstock_operator.plan.actions import Action
    from penstock_operator.snapshot.broker import ClusterReport
    from penstock_operator.snapshot.cluster import ClusterSnapshot
    from penstock_operator.snapshot.shard import ShardView


class ScaleStep(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for one shard's number of brokers, and what there is to say of it."""

    action: ResizeShard | None = None
    under_way: str | None = None  # sentence about a step that is being done, or waited for
    refused: str | None = None  # sentence about one that is not done before a person changes something


def as_built(cluster: MessageCluster, replicas: int) -> MessageCluster:
    """The cluster with as many brokers as run meanwhile; what else follows from their number is as the spec says."""
    if replicas == cluster.spec.replicas:
        return cluster
    spec = msgspec.structs.replace(
        cluster.spec, replicas=replicas, min_in_sync=min_in_sync_wanted(cluster.spec)
    )
    return msgspec.structs.replace(cluster, spec=spec)


def brokers_to_run(cluster: MessageCluster, identity: Identity, snapshot: ClusterSnapshot) -> int:
    """How many brokers each shard of a cluster has for now; never fewer than it has while one that goes may count."""
    wanted = cluster.spec.replicas
    # Without a StatefulSet, what the volumes say that the shard had.
    held = snapshot.asked_replicas() or max(identity.formed.values(), default=0)
    if held <= wanted:
        return wanted
    reports = snapshot.reports()
    all_left = all(
        have_left(snapshot.shard_view(shard), reports, _staying(cluster, shard))
        for shard in range(cluster.spec.shards)
    )
    return wanted if all_left else min(held, REPLICAS_MAX)


def have_left(view: ShardView, reports: Mapping[str, ClusterReport], stay: Collection[str]) -> bool:
    """Whether nobody counts on other brokers than those that stay: not the leader, and none of the others that answer,
    which have to be most of them."""
    if not view.from_leader or view.leader not in stay or view.replicas != len(stay) or view.leaving:
        return False
    counted = [
        {member.name for member in shard.members}
        for name, report in reports.items()
        for shard in report.shards
        if name in stay and shard.id == view.id
    ]
    return 2 * len(counted) > len(stay) and all(each <= set(stay) for each in counted)


def scale_shard(view: ShardView, wanted: int, held: int, copies: int | None = None) -> ScaleStep:
    """The next step of one shard towards `wanted` brokers, while `held` run. `copies` have to stay in sync among those that
    stay, None: its leader's majorities decide alone."""
    subject = f"shard {view.id} goes {'down' if max(held, view.replicas) > wanted else 'up'} to {counted(wanted, 'broker')}"
    if view.leader is None or not view.from_leader:
        who = f"{view.leader}, which leads, can be asked" if view.leader else "it has a leader"
        return ScaleStep(under_way=f"{subject} once {who}") if held > wanted else ScaleStep()
    if view.replicas == wanted:
        if view.leaving_refused:
            return ScaleStep(refused=f"{subject}, but {view.leaving}")
        if view.leaving:
            return ScaleStep(under_way=f"{subject}: {view.leaving}")
        if held > wanted:
            return ScaleStep(under_way=f"{subject}: those that go have left, not all that stay know it yet")
        return ScaleStep()
    if not view.resizable:
        if not view.replicas and held <= wanted:
            return ScaleStep()  # its brokers are of a release that learns of others when it is restarted
        return ScaleStep(
            under_way=f"{subject} when all its brokers are there and of a release that can change their number"
        )  # where their files say another number, they are restarted meanwhile
    lacking = _lacks_copies(view, wanted, copies)
    if lacking is not None:
        return ScaleStep(under_way=f"{subject} once {lacking}")
    why = f"{subject}, not {view.replicas} as {view.leader} was told before, because replicas says so"
    return ScaleStep(action=ResizeShard(why=why, pod=view.leader, replicas=wanted))


def _lacks_copies(view: ShardView, wanted: int, copies: int | None) -> str | None:
    """What has to be before brokers leave, or None. Those of the highest ordinals leave."""
    if copies is None or wanted >= view.replicas:
        return None
    stay = [voter.name for voter in view.voters if voter.in_sync and _ordinal(voter.name) < wanted]
    if len(stay) >= copies:
        return None
    held = " and ".join(stay) or "none"
    return f"{counted(copies, 'copy', 'copies')} of those that stay are in sync, as minInSync asks for; now {held} is"


def _ordinal(pod: str) -> int:
    return int(pod.rpartition("-")[2])


def claims_left_behind(
    cluster: MessageCluster, identity: Identity, snapshot: ClusterSnapshot, built: int
) -> list[Action]:
    """What to do about the volumes of brokers that have left: they hold no full copy any more, and go if the spec says so.

    Nothing is done while a broker runs on one, or while it is not certain that none will.
    """
    actions: list[Action] = []
    reports = snapshot.reports()
    for shard in identity.formed:
        stay = _staying(cluster, shard)
        if built != cluster.spec.replicas or not have_left(snapshot.shard_view(shard), reports, stay):
            continue
        # By name, because people may put our labels on claims of their own.
        gone = (
            names.pod_name(cluster.metadata.name, shard, ordinal)
            for ordinal in range(cluster.spec.replicas, REPLICAS_MAX)
        )
        for claim in map(
            snapshot.claims.get, [names.claim_name(pod) for pod in gone if pod not in snapshot.pods]
        ):
            if claim is None or claim.terminating:
                continue
            if cluster.spec.storage.delete_claim:
                why = f"claim {claim.name} is deleted because its broker has left shard {shard} and deleteClaim says so"
                actions.append(
                    DeleteObject(
                        why=why,
                        api_version="v1",
                        kind="PersistentVolumeClaim",
                        name=claim.name,
                        uid=claim.uid,
                    )
                )
            elif claim.formed is not None:
                why = f"claim {claim.name} is kept, but holds no full copy any more: its broker has left shard {shard}"
                actions.append(ForgetClaim(why=why, name=claim.name))
    return actions


def _staying(cluster: MessageCluster, shard: int) -> list[str]:
    return [pod for pod_shard, _, pod in names.pod_names(cluster) if pod_shard == shard]
