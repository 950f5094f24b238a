"""The members' state machine: one fold for leader, follower and replay, whatever is staged, dropped and restored between."""

from __future__ import annotations

import uuid

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.model.commands import Command
from penstock.raft.configuration import ChangeError, ChangeKind, Configuration
from penstock.replication.members import (
    Announcement,
    FeatureLevelRaised,
    LeadershipBegan,
    MemberAnnounced,
    MemberChanged,
    Members,
    member_id,
)

MEMBERS = range(1, 6)


def announcement(member: int, ordinal: int, name: str = "") -> Announcement:
    return Announcement(member, ordinal, f"storage-{member}", name or f"b{ordinal}", "test", {"kafka": "h:1"})


def folded(*commands: Command) -> Members:
    members = Members()
    for index, command in enumerate(commands, 1):
        members.apply(index, command)
    return members


# --- against a simple model -----------------------------------------------------------------------


class Model:
    """What the shard knows after some commands, in dicts and lists."""

    def __init__(self) -> None:
        self.voters: set[int] = set()
        self.learners: set[int] = set()
        self.announced: dict[int, Announcement] = {}
        self.level = 0
        self.clock_ms = 0

    def apply(self, command: Command) -> None:
        match command:
            case MemberChanged(change=kind, member=member):
                self.voters.discard(member)
                self.learners.discard(member)
                if kind is ChangeKind.VOTER:
                    self.voters.add(member)
                if kind is ChangeKind.LEARNER:
                    self.learners.add(member)
                members = self.voters | self.learners
                self.announced = {key: item for key, item in self.announced.items() if key in members}
            case MemberAnnounced(announcement=item):
                self.announced[item.member] = item
            case FeatureLevelRaised(level=level):
                self.level = max(self.level, level)
            case LeadershipBegan(time_ms=time_ms):
                self.clock_ms = max(self.clock_ms, time_ms)


def state(members: Members | Model) -> object:
    if isinstance(members, Model):
        configuration = Configuration(tuple(sorted(members.voters)), tuple(sorted(members.learners)))
        announced = members.announced
    else:
        configuration, announced = members.configuration, members.announcements.committed
    return configuration, announced, members.level, members.clock_ms


OTHERWISE: list[Command] = [
    MemberChanged(ChangeKind.LEARNER, 8),
    MemberAnnounced(announcement(8, 8)),
    LeadershipBegan(8, 1_000),
    FeatureLevelRaised(9),
]


class TheShard(RuleBasedStateMachine):
    """A leader that stages what it appends, and a follower that only applies what is committed."""

    @initialize()
    def found(self) -> None:
        self.leader, self.follower, self.model = Members(), Members(), Model()
        self.log: list[Command] = []
        self.committed = 0
        self.append(MemberChanged(ChangeKind.VOTER, 1))
        self.commit(1)

    def append(self, command: Command) -> None:
        self.log.append(command)
        self.leader.stage(len(self.log), command)

    @rule(member=st.sampled_from(MEMBERS), ordinal=st.integers(0, 2), name=st.sampled_from("ab"))
    def announce(self, member: int, ordinal: int, name: str) -> None:
        self.append(MemberAnnounced(announcement(member, ordinal, name)))

    @rule(level=st.integers(0, 3))
    def raise_level(self, level: int) -> None:
        self.append(FeatureLevelRaised(level))

    @rule(member=st.sampled_from(MEMBERS), time_ms=st.integers(0, 100))
    def lead(self, member: int, time_ms: int) -> None:
        self.append(LeadershipBegan(member, time_ms))

    @rule(
        kind=st.sampled_from([ChangeKind.VOTER, ChangeKind.LEARNER, ChangeKind.REMOVE]),
        member=st.sampled_from(MEMBERS),
    )
    def change(self, kind: ChangeKind, member: int) -> None:
        """As the leader does: a change is proposed once everything before it is committed."""
        self.commit(len(self.log))
        voters = {*self.model.voters} - {member} | ({member} if kind is ChangeKind.VOTER else set())
        if voters:
            self.append(MemberChanged(kind, member))

    @rule(count=st.integers(1, 4))
    def commit(self, count: int) -> None:
        for command in self.log[self.committed : self.committed + count]:
            self.committed += 1
            self.leader.apply(self.committed, command)
            self.follower.apply(self.committed, command)
            self.model.apply(command)

    @rule()
    def step_down(self) -> None:
        """What was not committed is cut off, and somebody else's entries come instead."""
        del self.log[self.committed :]
        self.leader.drop_staged()

    @rule()
    def change_leaders(self) -> None:
        """The follower leads with everything that is in its log."""
        self.leader.drop_staged()
        self.leader, self.follower = self.follower, self.leader
        for index, command in enumerate(self.log[self.committed :], self.committed + 1):
            self.leader.stage(index, command)

    @rule()
    def start_over(self) -> None:
        """The follower is made anew from the leader's snapshot, over whatever it held."""
        for index, command in enumerate(OTHERWISE, 1):
            self.follower.stage(index, command)
            self.follower.apply(index, command)
        self.follower.stage(9, MemberAnnounced(announcement(9, 9)))
        self.follower.restore(self.leader.snapshot())

    @precondition(lambda self: self.log)
    @invariant()
    def everybody_knows_what_is_committed(self) -> None:
        assert state(self.leader) == state(self.model)
        assert state(self.follower) == state(self.model)
        assert self.follower.announcements.staged_count == 0

    @precondition(lambda self: self.log)
    @invariant()
    def the_leader_decides_on_what_it_has_appended(self) -> None:
        staged = {
            command.announcement.member: command.announcement
            for command in self.log[self.committed :]
            if isinstance(command, MemberAnnounced)
        }
        deepest = {**self.model.announced, **staged}
        assert dict(self.leader.announcements.items()) == deepest
        assert self.leader.announcements.staged_count == len(staged)


TheShard.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, derandomize=True, database=None
)
test_leader_follower_and_model_agree = TheShard.TestCase


# --- examples -------------------------------------------------------------------------------------


def test_a_shard_without_a_configuration_is_not_founded() -> None:
    assert not Members().founded
    assert folded(MemberChanged(ChangeKind.VOTER, 1)).founded


def test_members_are_listed_by_ordinal_once_they_have_announced_themselves() -> None:
    members = folded(
        MemberChanged(ChangeKind.VOTER, 5),
        MemberChanged(ChangeKind.VOTER, 4),
        MemberChanged(ChangeKind.LEARNER, 3),
        MemberAnnounced(announcement(4, 1)),
        MemberAnnounced(announcement(5, 0)),
    )
    assert [item.member for item in members.configured()] == [5, 4]


def test_who_leaves_is_forgotten_and_comes_back_as_a_stranger() -> None:
    members = folded(
        MemberChanged(ChangeKind.VOTER, 1),
        MemberChanged(ChangeKind.VOTER, 2),
        MemberAnnounced(announcement(2, 1)),
        MemberChanged(ChangeKind.REMOVE, 2),
    )
    assert members.configured() == []
    members.apply(5, MemberChanged(ChangeKind.LEARNER, 2))
    assert members.configured() == []


def test_a_staged_change_of_the_members_is_not_believed_before_it_is_committed() -> None:
    members = folded(MemberChanged(ChangeKind.VOTER, 1))
    members.stage(2, MemberChanged(ChangeKind.VOTER, 2))
    assert members.configuration == Configuration((1,))
    members.apply(2, MemberChanged(ChangeKind.VOTER, 2))
    assert members.configuration == Configuration((1, 2))


def test_a_change_that_cannot_be_is_refused_and_changes_nothing() -> None:
    members = folded(MemberChanged(ChangeKind.VOTER, 1), MemberAnnounced(announcement(1, 0)))
    before = members.snapshot()
    with pytest.raises(ChangeError, match="no voter"):
        members.apply(3, MemberChanged(ChangeKind.REMOVE, 1))
    assert members.snapshot() == before


def test_time_and_level_never_go_back() -> None:
    members = folded(
        LeadershipBegan(1, 500),
        LeadershipBegan(2, 400),
        FeatureLevelRaised(2),
        FeatureLevelRaised(1),
    )
    assert (members.clock_ms, members.level) == (500, 2)


def test_a_level_that_is_appended_counts_for_decisions_until_it_is_dropped() -> None:
    members = folded(FeatureLevelRaised(1))
    members.stage(2, FeatureLevelRaised(2))
    assert (members.level, members.newest_level) == (1, 2)
    members.drop_staged()
    assert (members.level, members.newest_level) == (1, 1)
    members.stage(2, FeatureLevelRaised(2))
    members.apply(2, FeatureLevelRaised(2))
    members.drop_staged()
    assert (members.level, members.newest_level) == (2, 2)


def test_a_command_of_another_machine_is_a_bug() -> None:
    class Stray(Command, frozen=True, tag="test.stray"):
        pass

    with pytest.raises(TypeError, match="the members do not know Stray"):
        Members().apply(1, Stray())


def test_a_frozen_snapshot_does_not_see_what_comes_later() -> None:
    members = folded(MemberChanged(ChangeKind.VOTER, 1), MemberAnnounced(announcement(1, 0, "before")))
    before, frozen = members.snapshot(), members.freeze()
    members.apply(3, MemberAnnounced(announcement(1, 0, "after")))
    members.apply(4, MemberChanged(ChangeKind.VOTER, 2))
    members.apply(5, LeadershipBegan(1, 9))
    assert frozen() == before != members.snapshot()


def test_a_snapshot_of_a_later_release_is_read_and_one_of_an_earlier_release_gets_defaults() -> None:
    members = folded(MemberChanged(ChangeKind.VOTER, 1), MemberAnnounced(announcement(1, 0)))
    content = msgspec.msgpack.decode(members.snapshot())
    content["announcements"][0]["zone"] = "a"
    restored = Members()
    restored.restore(msgspec.msgpack.encode({**content, "regions": []}))
    assert state(restored) == state(members)
    for optional in ("peer", "http", "feature_level"):
        content["announcements"][0].pop(optional, None)
    restored.restore(
        msgspec.msgpack.encode({key: content[key] for key in ("configuration", "announcements")})
    )
    assert restored.configured() == [announcement(1, 0)]
    assert (restored.level, restored.clock_ms) == (0, 0)


@given(st.uuids(), st.uuids())
def test_a_members_number_is_its_storages_and_never_nobodys(one: uuid.UUID, two: uuid.UUID) -> None:
    assert 0 < member_id(one) < 2**63
    assert (member_id(one) == member_id(two)) == (one.int >> 65 == two.int >> 65)


def test_a_storage_of_zeros_is_somebody() -> None:
    assert member_id(uuid.UUID(int=0)) == member_id(uuid.UUID(int=2**65 - 1)) == 1
    assert Announcement(1, 0, "", "", "", {}).feature_level == 1
