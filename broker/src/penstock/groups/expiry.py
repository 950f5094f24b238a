"""Which positions are too old to keep (KIP-211), one group at a time.

A group that is empty keeps its positions for the retention time after its last member left or after the commit,
whichever was later; one with members keeps those of topics it subscribes to. A client may have asked for an own time
(OffsetCommit up to version 4). What a declared group was declared for does not expire, because declaring it anew would
start it elsewhere. An empty group without anything left is deleted.
"""

from __future__ import annotations

from penstock.groups.commands import GroupDeleted, GroupGeneration
from penstock.groups.consumer_protocol import subscribed_topics
from penstock.groups.machine import GroupsMachine, StoredOffset, TopicPartition, offsets_deleted
from penstock.groups.states import GroupState
from penstock.model.commands import Command


def decide_expired(
    machine: GroupsMachine, group: str, now_ms: int, retention_ms: int, state: GroupState
) -> list[Command]:
    """The commands that expire what is too old in one group, whose live state is `state` (Empty when the coordinator
    has no member of it). A negative retention keeps everything that has no time of its own. While a rebalance is under
    way nothing expires, because subscriptions are about to change."""
    if state not in (GroupState.EMPTY, GroupState.STABLE):
        return []
    generation = machine.generation(group)
    has_members = state is GroupState.STABLE or (generation is not None and bool(generation.members))
    expired = _expired(machine, group, now_ms, retention_ms)
    remaining = sum(1 for _ in machine.offsets(group)) - len(expired)
    if remaining == 0 and not has_members and machine.declared(group) is None and machine.exists(group):
        return [GroupDeleted(group, now_ms)]
    return offsets_deleted(group, expired, now_ms)


def _expired(machine: GroupsMachine, group: str, now_ms: int, retention_ms: int) -> list[TopicPartition]:
    generation = machine.generation(group)
    members_left_ms = generation.time_ms if generation is not None and not generation.members else 0
    candidates = [
        partition
        for partition, stored in machine.offsets(group)
        if now_ms >= _end_ms(stored, members_left_ms, retention_ms, now_ms)
    ]
    if not candidates:
        return []
    declared = machine.declared(group)
    kept = set(declared.topics) if declared is not None else set()
    if generation is not None and generation.members:
        subscribed = subscriptions(generation)
        if subscribed is None:
            return []
        kept |= subscribed
    return [partition for partition in candidates if partition[0] not in kept]


def _end_ms(stored: StoredOffset, members_left_ms: int, retention_ms: int, now_ms: int) -> int:
    if stored.expire_ms >= 0:
        return stored.expire_ms
    if retention_ms < 0:
        return now_ms + 1
    return max(stored.commit_ms, members_left_ms) + retention_ms


def subscriptions(generation: GroupGeneration) -> frozenset[str] | None:
    """Every topic that a member of this generation subscribes to, None when that cannot be known."""
    topics: set[str] = set()
    for member in generation.members:
        metadata = next((data for name, data in member.protocols if name == generation.protocol), b"")
        known = subscribed_topics(generation.protocol_type, metadata)
        if known is None:
            return None
        topics |= known
    return frozenset(topics)
