"""What the leader writes about the members that are there: what they say of themselves, and the level that all know."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from penstock.model.commands import Command
from penstock.raft.configuration import Configuration
from penstock.replication.features import HTTP_ANNOUNCED_LEVEL, level_to_raise
from penstock.replication.members import Announcement, FeatureLevelRaised, MemberAnnounced, Members
from penstock.session.peer_connection import Greeting


def due_announcements(
    members: Members, in_log: Configuration, present: Sequence[Greeting], wanted: AbstractSet[int]
) -> list[Command]:
    """What the log lacks. `present` are this broker and those that it is connected to; `in_log` is the configuration as of
    the log's end, which may be ahead of the committed one; `wanted` are the shard's places, by ordinal."""
    configured = [greeting for greeting in present if greeting.member in members.configuration]
    said = [announcement_of(greeting, members.level) for greeting in configured]
    commands: list[Command] = [
        MemberAnnounced(item) for item in said if members.announcements.get(item.member) != item
    ]
    if wanted - {item.ordinal for item in members.configured()}:
        return commands  # Whoever takes the place that is left may know less.
    level = level_to_raise(
        (*in_log.members, *members.configuration.members),
        {item.member: item.feature_level for item in members.configured()},
        {greeting.member: greeting.feature_level for greeting in configured},
        members.newest_level,
    )
    if level is not None:
        commands.append(FeatureLevelRaised(level))
    return commands


def announcement_of(greeting: Greeting, level: int) -> Announcement:
    """As a shard of that feature level announces it: an older release would drop what it does not know, and its state would
    differ from the others'."""
    return Announcement(
        member=greeting.member,
        ordinal=greeting.ordinal,
        storage_id=greeting.storage_id,
        name=greeting.name,
        release=greeting.release,
        listeners=greeting.listeners,
        peer=greeting.peer,
        feature_level=greeting.feature_level,
        http=greeting.http if level >= HTTP_ANNOUNCED_LEVEL else {},
    )
