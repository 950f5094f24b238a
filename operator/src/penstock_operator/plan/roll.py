"""Which broker of a shard to restart next, if any: one at a time, followers first, the leader after a hand-over.

The question is always whether the shard can spare the broker now. It is answered from what its leader says: every other
voter is in sync and runs, and they suffice without the one that goes: in mode Raft they are a majority, in mode MasterSlave
as many as `minInSync` asks for. A broker that no process runs in any more is
missed by nobody. The same decision serves pods and the processes of `penstock up`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock_operator.plan.words import counted
from penstock_operator.snapshot.shard import LEARNER

if TYPE_CHECKING:
    from penstock_operator.snapshot.shard import ShardView


class RollBroker(msgspec.Struct, frozen=True, kw_only=True):
    """A broker of the shard as a roll sees it."""

    name: str
    reason: str | None  # sentence why it must be restarted; None when it need not be
    well: bool  # whether it runs and is ready
    idle: bool  # whether no process runs in it
    trouble: str | None = None  # why it is not well, where somebody says so
    leaving: bool = False  # whether its node is cordoned, so that it would not lead for long


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """Restart this broker now."""

    name: str
    why: str


class GiveUpLeadership(msgspec.Struct, frozen=True, kw_only=True):
    """Have the leader hand over to another broker, before it is restarted."""

    leader: str
    to: str
    why: str


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Something must be restarted, but not now."""

    why: str


Step = Restart | GiveUpLeadership | Hold


def next_step(view: ShardView, brokers: list[RollBroker], copies: int | None = None) -> Step | None:
    """What to do now; None when no broker must be restarted. `copies` have to stay in sync, None: a majority does."""
    stale = sorted(
        (broker for broker in brokers if broker.reason is not None),
        # What serves nobody goes first, the leader last.
        key=lambda broker: (not broker.idle, broker.name == view.leader, broker.well, broker.name),
    )
    held: Hold | None = None
    for broker in stale:
        refusal = None if broker.idle else cannot_spare(view, broker, brokers, copies)
        if refusal is not None:
            held = held or Hold(why=f"{broker.reason}; not yet, because {refusal}")
            continue
        assert broker.reason is not None  # that is why it is in the list
        heir = _heir(view, broker, brokers)
        if heir is None:
            return Restart(name=broker.name, why=broker.reason)
        why = f"{broker.name} hands over to {heir} first: {broker.reason}"
        return GiveUpLeadership(leader=broker.name, to=heir, why=why)
    return held


def cannot_spare(
    view: ShardView, going: RollBroker, brokers: list[RollBroker], copies: int | None = None
) -> str | None:
    """Why the shard cannot do without a broker now, or None when it can."""
    if len(brokers) == 1:
        return None  # nobody could take over, now or later
    if view.leader is None:
        return f"shard {view.id} has no leader"
    if not view.from_leader:
        return f"{view.leader}, which leads, cannot be asked who is in sync"
    member = view.member(going.name)
    if member is None:
        return None  # nothing depends on it yet
    if going.well and (member.role == LEARNER or not member.in_sync):
        return f"{going.name} is still catching up"
    if member.role == LEARNER:
        return None
    well = {broker.name for broker in brokers if broker.well}
    troubles = {broker.name: f" ({broker.trouble})" for broker in brokers if broker.trouble}
    others = [voter for voter in view.voters if voter.name != going.name]
    for other in others:
        if other.name not in well:
            return f"{other.name} is away{troubles.get(other.name, '')}"
        if not other.in_sync:
            return f"{other.name} is not in sync"
    if copies is not None and len(others) < copies:
        return f"only {counted(len(others), 'copy', 'copies')} would be left of the {copies} that minInSync asks for: lower it meanwhile"
    if copies is None and others and 2 * len(others) <= len(view.voters):
        return f"{' and '.join(voter.name for voter in view.voters)} are a majority only together"
    return None


def _heir(view: ShardView, broker: RollBroker, brokers: list[RollBroker]) -> str | None:
    """Who leads when this leader goes: one that stays where it is, that needs no restart itself, that is the least behind."""
    if broker.name != view.leader or broker.idle:
        return None
    fresh = {other.name for other in brokers if other.reason is None}
    heirs = [voter for voter in view.voters if voter.name != broker.name and voter.in_sync]
    leaving = {other.name for other in brokers if other.leaving}
    best = min(
        heirs,
        key=lambda voter: (voter.name in leaving, voter.name not in fresh, voter.lag_bytes, voter.name),
        default=None,
    )
    return best.name if best is not None else None
