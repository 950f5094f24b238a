"""One shard as all its brokers together describe it.

Brokers may disagree for a moment: one that was cut off still names an old leader. The highest epoch that names a leader
is the newest truth, and of those who know it the leader itself knows best who is in sync.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from penstock_operator.snapshot.broker import MemberReport, RecoveryReport

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from penstock_operator.snapshot.broker import ClusterReport, ShardReport

LEARNER: Final = "Learner"  # a member that holds a growing copy and has no vote yet
UNKNOWN: Final = "Unknown"


class ShardView(msgspec.Struct, frozen=True, kw_only=True):
    """A shard's leader and members, as far as they are known."""

    id: int
    leader: str | None = None
    epoch: int = 0
    members: list[MemberReport] = msgspec.field(default_factory=list)
    from_leader: bool = (
        False  # whether the leader itself said so; only then `in_sync` and `lag_bytes` are exact
    )
    recovery: RecoveryReport | None = None  # the newest that any broker knows of
    newest_epoch: int = 0  # that any broker knows of; above `epoch` while its leader is not known
    replicas: int = 0  # brokers that it is to have; 0: its release does not say
    resizable: bool = False  # whether it can be told another number
    leaving: str = ""  # what comes next while more are members
    leaving_refused: bool = False  # whether somebody has to change what is asked for first

    def member(self, name: str) -> MemberReport | None:
        """The member of this name."""
        return next((member for member in self.members if member.name == name), None)

    @property
    def voters(self) -> list[MemberReport]:
        """The members that a majority is counted of."""
        return [member for member in self.members if member.role != LEARNER]


def shard_view(shard: int, reports: Mapping[str, ClusterReport]) -> ShardView:
    """What brokers (by name) say about a shard, as one."""
    said = [
        (speaker, report)
        for speaker, cluster in sorted(reports.items())
        for report in cluster.shards
        if report.id == shard
    ]
    if not said:
        return ShardView(id=shard)
    speaker, best = max(said, key=_weight)
    leader = best.leader or None
    recoveries = [report.recovery for _, report in said if report.recovery is not None]
    return ShardView(
        id=shard,
        leader=leader,
        epoch=best.epoch,
        members=best.members,
        from_leader=leader is not None and speaker == leader,
        newest_epoch=max(report.epoch for _, report in said),
        recovery=max(recoveries, key=lambda recovery: recovery.generation, default=None),
        replicas=best.replicas,
        resizable=best.resizable,
        leaving=best.leaving,
        leaving_refused=best.leaving_refused,
    )


def formed_with(view: ShardView, replicas: int, ready: Collection[str], before: int | None) -> int | None:
    """What to remember of a shard: None before it is known to exist, then its brokers when it was last seen whole.

    A shard with a leader exists; one is whole whose `replicas` brokers all vote, are in sync, and are `ready`, which
    is seen a moment later. `before` is what was remembered so far.
    """
    if view.leader is None:
        return before
    counted = [voter for voter in view.voters if voter.in_sync and voter.name in ready]
    whole = view.from_leader and len(counted) == len(view.voters) == replicas
    return replicas if whole else before or 0


def _weight(said: tuple[str, ShardReport]) -> tuple[bool, int, bool]:
    speaker, report = said
    return bool(report.leader), report.epoch, speaker == report.leader
