"""The feature level rises when everybody who could read the log knows more, and what a newer log says stops a broker."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping

import msgspec
import pytest

from penstock.log.errors import ReleaseTooOldError
from penstock.log.snapshots import Snapshot
from penstock.model.commands import Command
from penstock.raft.configuration import ChangeKind, Configuration
from penstock.replication.announcing import announcement_of, due_announcements
from penstock.replication.features import FEATURE_LEVEL, HTTP_ANNOUNCED_LEVEL, level_to_raise, why_too_old
from penstock.replication.members import (
    FeatureLevelRaised,
    MemberAnnounced,
    MemberChanged,
    Members,
)
from penstock.runtime.command_codec import CommandCodec
from penstock.runtime.links import Links
from penstock.session.peer_connection import Greeting
from penstock.testing.simulated_disk import SimulatedDisk
from penstock.testing.simulated_shard import ManualClock, SimulatedShard

HTTP = {"admin": "127.0.0.1:8081"}


def greeting(member: int, level: int) -> Greeting:
    return Greeting(
        cluster_id="c",
        shard_id=0,
        shard_uid="s",
        ordinal=member - 1,
        member=member,
        storage_id=str(uuid.UUID(int=member << 65)),
        name=f"b{member}",
        release="test",
        feature_level=level,
        founded=True,
        listeners={"kafka": "h:1"},
        http=HTTP,
    )


def shard_of(levels: Mapping[int, int], level: int = 1) -> Members:
    """Voters that announced these levels."""
    members = Members()
    commands: list[Command] = [MemberChanged(ChangeKind.VOTER, member) for member in levels]
    commands += [
        MemberAnnounced(announcement_of(greeting(member, known), level)) for member, known in levels.items()
    ]
    for index, command in enumerate([*commands, FeatureLevelRaised(level)], 1):
        members.apply(index, command)
    return members


def due(members: Members, *present: Greeting, in_log: Configuration | None = None) -> list[Command]:
    wanted = {item.ordinal for item in members.configured()}
    return due_announcements(members, in_log or members.configuration, present, wanted)


# --- when it rises --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("announced", "connected", "level", "raised"),
    [
        ({1: 2, 2: 2, 3: 2}, {1: 2, 2: 2, 3: 2}, 1, 2),
        ({1: 2, 2: 2, 3: 1}, {1: 2, 2: 2, 3: 2}, 1, None),  # It has not announced yet what it knows now.
        ({1: 2, 2: 2, 3: 2}, {1: 2, 2: 2, 3: 1}, 1, None),  # It went back to the release before.
        ({1: 2, 2: 2, 3: 2}, {1: 2, 2: 2}, 1, None),  # It may just be going back.
        ({1: 2, 2: 2}, {1: 2, 2: 2, 3: 2}, 1, None),  # It was added and has said nothing yet.
        ({1: 3, 2: 4, 3: 3}, {1: 3, 2: 4, 3: 3}, 1, 3),
        ({1: 2, 2: 2, 3: 2}, {1: 2, 2: 2, 3: 2}, 2, None),
        ({1: 2, 2: 2, 3: 2}, {1: 2, 2: 2, 3: 2}, 3, None),
    ],
)
def test_the_level_that_all_members_know(
    announced: dict[int, int], connected: dict[int, int], level: int, raised: int | None
) -> None:
    assert level_to_raise([1, 2, 3], announced, connected, level) == raised


def test_a_shard_without_members_has_no_level_to_raise() -> None:
    assert level_to_raise([], {}, {}, 0) is None


def test_the_last_member_to_be_upgraded_raises_the_level_once() -> None:
    members = shard_of({1: 2, 2: 2, 3: 1})
    others = greeting(1, 2), greeting(2, 2)
    assert due(members, *others, greeting(3, 1)) == []
    upgraded = due(members, *others, greeting(3, 2))
    assert [type(command) for command in upgraded] == [MemberAnnounced]
    members.apply(20, upgraded[0])
    raised = due(members, *others, greeting(3, 2))
    assert raised == [FeatureLevelRaised(2)]
    members.stage(21, raised[0])
    assert due(members, *others, greeting(3, 2)) == [], "one that is on its way is not appended again"


def test_a_member_that_is_being_added_or_removed_counts_as_well() -> None:
    members = shard_of({1: 2, 2: 2})
    present = greeting(1, 2), greeting(2, 2)
    assert due(members, *present, in_log=Configuration((1, 2), (3,))) == []
    assert due(members, present[0], in_log=Configuration((1,))) == [], "the removal may come to nothing"
    assert due(members, *present) == [FeatureLevelRaised(2)]


def test_a_place_that_is_to_be_taken_counts_as_well() -> None:
    members = shard_of({1: 2, 2: 2})
    present = greeting(1, 2), greeting(2, 2)
    assert due_announcements(members, members.configuration, present, {0, 1, 2}) == []
    assert due_announcements(members, members.configuration, present, {0, 1}) == [FeatureLevelRaised(2)]


def test_what_older_members_do_not_know_is_announced_with_the_level_that_has_it() -> None:
    members = shard_of({1: 2}, level=HTTP_ANNOUNCED_LEVEL - 1)
    assert members.configured()[0].http == {}
    members.apply(9, FeatureLevelRaised(HTTP_ANNOUNCED_LEVEL))
    [command] = due(members, greeting(1, 2))
    assert isinstance(command, MemberAnnounced)
    assert command.announcement.http == HTTP


def test_a_stranger_is_neither_announced_nor_asked() -> None:
    assert due(shard_of({1: 2}, level=2), greeting(1, 2), greeting(7, 1)) == []


# --- what a release does not know -----------------------------------------------------------------


def test_who_knows_less_than_the_shard_uses_is_named() -> None:
    assert why_too_old("b1", 2, 2) is None
    sentence = why_too_old("b1", 1, 2)
    assert sentence == "the shard uses feature level 2, the release of b1 knows 1: upgrade it"


def test_a_command_of_a_newer_release_is_told_from_damage() -> None:
    codec = CommandCodec([Members()])
    with pytest.raises(ReleaseTooOldError, match=r"does not know .*: upgrade Penstock"):
        codec.decode(msgspec.msgpack.encode({"k": "members.split"}))


async def lone_shard() -> SimulatedShard:
    shard = SimulatedShard(SimulatedDisk(0), random.Random(0), ManualClock())
    await shard.lead()
    return shard


async def test_a_lone_broker_uses_all_that_it_knows() -> None:
    shard = await lone_shard()
    members = shard.shard.machines.members
    while members.level < FEATURE_LEVEL:
        shard.member.tick()
        await shard.settle()
    assert [item.ordinal for item in members.configured()] == [0]


async def test_a_command_is_not_appended_below_its_level() -> None:
    class Later(Command, frozen=True, tag="test.later"):
        feature_level = FEATURE_LEVEL + 1

    shard = await lone_shard()
    with pytest.raises(AssertionError, match=r"Later in a shard of level \d"):
        shard.shard.append_commands([Later()])


async def test_a_broker_ends_when_the_shard_rises_above_it() -> None:
    shard = await lone_shard()
    shard.shard.append_commands([FeatureLevelRaised(FEATURE_LEVEL + 1)])
    with pytest.raises(
        ReleaseTooOldError, match=f"feature level {FEATURE_LEVEL + 1}, the release of this broker"
    ):
        await shard.settle()


async def test_a_broker_does_not_start_on_the_state_of_a_shard_above_it() -> None:
    shard = await lone_shard()
    newer = shard_of({1: FEATURE_LEVEL + 1}, level=FEATURE_LEVEL + 1)
    with pytest.raises(ReleaseTooOldError, match="upgrade it"):
        shard.shard.machines.restore({"members": Snapshot("members", 1, 5, newer.snapshot())})


async def test_a_broker_that_is_kept_out_can_say_why() -> None:
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    callbacks = {"on_joined": nothing, "on_left": nothing, "on_gone": nothing, "on_frame": nothing}
    newer = msgspec.structs.replace(greeting(1, FEATURE_LEVEL + 1), shard_level=FEATURE_LEVEL + 1)
    inside = Links({}, lambda: newer, **callbacks)
    outside = Links({0: await inside.listen("127.0.0.1", 0)}, lambda: greeting(2, FEATURE_LEVEL), **callbacks)
    outside.dial()
    while not outside.refused:  # noqa: ASYNC110 (nothing is called back)
        await asyncio.sleep(0)
    (sentence,) = outside.refused.values()
    assert (
        f"the shard uses feature level {FEATURE_LEVEL + 1}, the release of b2 knows {FEATURE_LEVEL}"
        in sentence
    )
    await outside.close()
    await inside.close()
