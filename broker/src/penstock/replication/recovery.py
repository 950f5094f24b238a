"""The way out of a quorum that is lost for good: one member that is left is trusted, and goes on alone.

A person names the member. It keeps its log whole, what is not known to be committed as well: whether the others had
acknowledged that is just what nobody can tell any more, and to drop it could lose what a client was promised. It skips
epochs that the lost members may have used, and writes as its first change that everybody else is dropped. From there on
the shard is of another generation: whoever was in it before and was not admitted since is refused, and its copy is left
as it is, because it may be the only one of what is lost here.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from penstock.raft.configuration import Configuration

# Elections of which a member that was cut off may not know. Clients must never see an epoch twice.
EPOCHS_SKIPPED = 10_000


class Recovery(msgspec.Struct, frozen=True, rename="camel"):
    """The shard went on from one member's copy. `generation` counts recoveries; `lineage` is a UUID made for this one, so
    that two members trusted at once are never taken for one shard. The copy ended with entry `last_index` of epoch
    `last_epoch`; it knew entries up to `commit_index` to be committed. What was acknowledged behind `last_index` may be
    gone. The shard goes on in epochs above `epoch`; `time_ms` is the wall clock."""

    generation: int
    lineage: str
    member: int
    broker: str
    epoch: int
    last_index: int
    last_epoch: int
    commit_index: int
    time_ms: int


class Copy(msgspec.Struct, frozen=True):
    """What a member knows of itself when it is to be trusted. `state_index`: its state is as of this entry, which the log
    does not reach while it is being seeded. `answering`: other members that are connected now."""

    shard_uid: str
    storage_id: str
    name: str
    member: int
    configuration: Configuration
    last_index: int
    state_index: int
    answering: Collection[int]


def wrong_copy(own: Copy, shard_uid: str, storage_id: str) -> str | None:
    """Why this is not the copy that is meant, as a sentence, or None."""
    if shard_uid != own.shard_uid:
        return f"{own.name} belongs to shard {own.shard_uid}, not {shard_uid}"
    if storage_id != own.storage_id:
        return f"the storage of {own.name} is {own.storage_id}, not {storage_id}: it was replaced, or another broker is meant"
    return None


def refuse_trust(own: Copy) -> str | None:
    """Why this member must not go on alone, as a sentence, or None."""
    voters = own.configuration.voters
    if not voters or not own.last_index:
        return f"{own.name} holds nothing of the shard: trust a broker whose storage has its log"
    if own.member not in voters:
        return f"{own.name} has forgotten what it held, or never held all of it, and does not vote: trust a broker that does"
    if own.last_index < own.state_index:
        return (
            f"{own.name} is being sent the shard's log and does not hold all of it: trust a broker that does"
        )
    answering = 1 + sum(1 for voter in voters if voter != own.member and voter in own.answering)
    if answering > len(voters) // 2:
        return (
            f"{answering} of the shard's {len(voters)} voters are there, which is a majority: nothing is lost, and they"
            " elect a leader by themselves"
        )
    return None


def continues(generation: int, epoch: int) -> tuple[int, int]:
    """(generation, epoch) of the recovery of a shard that is of `generation`, for a member that knows `epoch`."""
    return generation + 1, epoch + EPOCHS_SKIPPED
