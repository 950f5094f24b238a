"""The replicated state of groups against a plain model, its snapshots, and its decisions about age."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from groups_harness import subscription
from penstock.groups.commands import (
    GroupDeclared,
    GroupDeleted,
    GroupGeneration,
    GroupMemberReplaced,
    GroupOffsets,
    GroupOffsetsDeleted,
    MemberRecord,
    OffsetEntry,
)
from penstock.groups.expiry import decide_expired
from penstock.groups.machine import (
    OFFSETS_PER_COMMAND_MAX,
    GroupsMachine,
    StoredOffset,
    offsets_committed,
    offsets_deleted,
)
from penstock.groups.states import GroupState
from penstock.model.commands import Command

GROUPS = st.sampled_from(["g", "h"])
PARTITIONS = st.tuples(st.sampled_from(["t", "u"]), st.integers(0, 1))


def member(
    member_id: str = "m", instance: str | None = None, topics: tuple[str, ...] = (), assigned: bytes = b""
) -> MemberRecord:
    return MemberRecord(
        member_id, instance, "c", "/h", 10_000, 60_000, (("range", subscription(*topics)),), assigned
    )


def generation(group: str = "g", time_ms: int = 0, *members: MemberRecord) -> GroupGeneration:
    leader = members[0].member_id if members else ""
    return GroupGeneration(group, time_ms, 1, "consumer", "range" if members else "", leader, members)


def offsets(
    group: str = "g", time_ms: int = 0, *partitions: tuple[str, int], expire_ms: int = -1
) -> GroupOffsets:
    return GroupOffsets(group, time_ms, tuple(OffsetEntry(t, p, 5) for t, p in partitions), expire_ms)


class Model:
    """What the machine must be equivalent to."""

    def __init__(self) -> None:
        self.offsets: dict[tuple[str, str, int], int] = {}
        self.generations: dict[str, GroupGeneration] = {}
        self.declared: dict[str, GroupDeclared] = {}

    def run(self, command: Command) -> None:
        match command:
            case GroupOffsets(group=group, offsets=entries):
                self.offsets.update({(group, e.topic, e.partition): e.offset for e in entries})
            case GroupOffsetsDeleted(group=group, partitions=partitions):
                for topic, partition in partitions:
                    self.offsets.pop((group, topic, partition), None)
            case GroupGeneration(group=group):
                self.generations[group] = command
            case GroupDeclared(group=group):
                self.declared[group] = command
            case GroupDeleted(group=group):
                self.generations.pop(group, None)
                self.declared.pop(group, None)
                self.offsets = {key: offset for key, offset in self.offsets.items() if key[0] != group}
            case _:
                raise AssertionError(command)


class MachineLife(RuleBasedStateMachine):
    """A leader stages, commits, loses leadership and restarts from snapshots; a follower only applies."""

    def __init__(self) -> None:
        super().__init__()
        self.leader = GroupsMachine()
        self.follower = GroupsMachine()
        self.log: list[tuple[int, Command]] = []
        self.committed: list[Command] = []
        self.index = 0

    def append(self, command: Command) -> None:
        self.index += 1
        self.leader.stage(self.index, command)
        self.log.append((self.index, command))

    @rule(group=GROUPS, keys=st.lists(PARTITIONS, min_size=1, max_size=3), offset=st.integers(0, 100))
    def commit_offsets(self, group: str, keys: list[tuple[str, int]], offset: int) -> None:
        self.append(GroupOffsets(group, 0, tuple(OffsetEntry(t, p, offset) for t, p in keys)))

    @rule(group=GROUPS, keys=st.lists(PARTITIONS, max_size=3))
    def delete_offsets(self, group: str, keys: list[tuple[str, int]]) -> None:
        self.append(GroupOffsetsDeleted(group, 0, tuple(keys)))

    @rule(group=GROUPS, number=st.integers(0, 9))
    def complete(self, group: str, number: int) -> None:
        self.append(msgspec.structs.replace(generation(group), generation=number))

    @rule(group=GROUPS)
    def declare(self, group: str) -> None:
        self.append(GroupDeclared(group, 0, "stream", ("t",), "latest"))

    @rule(group=GROUPS)
    def delete(self, group: str) -> None:
        self.append(GroupDeleted(group, 0))

    @rule(topic=st.sampled_from(["t", "u"]))
    def delete_topic(self, topic: str) -> None:
        for command in self.leader.topic_deleted(topic, 0):
            self.append(command)
        assert not [key for key in self.model(deepest=True).offsets if key[1] == topic]

    @precondition(lambda self: self.log)
    @rule()
    def apply(self) -> None:
        index, command = self.log.pop(0)
        self.leader.apply(index, command)
        self.follower.apply(index, command)
        self.committed.append(command)

    @rule()
    def step_down(self) -> None:
        self.leader.drop_staged()
        self.log.clear()

    @rule()
    def restart_from_a_snapshot(self) -> None:
        data = self.follower.snapshot()
        assert data == self.leader.snapshot()
        self.follower = GroupsMachine()
        self.follower.restore(data)
        assert self.follower.snapshot() == data

    def model(self, *, deepest: bool) -> Model:
        model = Model()
        for command in self.committed:
            model.run(command)
        if deepest:
            for _, command in self.log:
                model.run(command)
        return model

    @invariant()
    def machines_are_as_the_models(self) -> None:
        for machine, model in (
            (self.leader, self.model(deepest=True)),
            (self.follower, self.model(deepest=False)),
        ):
            seen = {}
            for group in ("g", "h"):
                for (topic, partition), stored in machine.offsets(group):
                    seen[group, topic, partition] = stored.offset
                assert machine.generation(group) == model.generations.get(group)
                assert machine.declared(group) == model.declared.get(group)
                known = {key[0] for key in model.offsets} | set(model.generations) | set(model.declared)
                assert machine.exists(group) == (group in known)
            assert seen == model.offsets
            assert set(machine.names()) == known
            assert machine.count >= len(set(model.generations))


TestMachineLife = MachineLife.TestCase
TestMachineLife.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_offsets_keep_epoch_note_and_times() -> None:
    machine = GroupsMachine()
    machine.apply(1, GroupOffsets("g", 7, (OffsetEntry("t", 0, 5, 3, "note"),), expire_ms=99))
    assert machine.offset("g", "t", 0) == StoredOffset(5, 3, "note", 7, 99)
    assert machine.offset("g", "t", 1) is None
    assert machine.offset("x", "t", 0) is None


def test_replaced_static_member_keeps_assignment_and_leadership() -> None:
    machine = GroupsMachine()
    machine.apply(1, generation("g", 0, member("a-1", "a", assigned=b"A"), member("b-1", "b", assigned=b"B")))
    machine.apply(2, GroupMemberReplaced("g", 0, member("a-2", "a", assigned=b"ignored")))
    record = machine.generation("g")
    assert record is not None
    assert record.leader == "a-2"
    assert [(m.member_id, m.assignment) for m in record.members] == [("a-2", b"A"), ("b-1", b"B")]
    # A group or an instance that the log does not know stays unknown.
    machine.apply(3, GroupMemberReplaced("x", 0, member("a-3", "a")))
    machine.apply(4, GroupMemberReplaced("g", 0, member("c-1", "c")))
    assert machine.generation("x") is None
    assert machine.generation("g") == record


def test_commands_survive_the_log() -> None:
    commands: list[Command] = [
        offsets("g", 1, ("t", 0)),
        generation("g", 2, member("m", "i", ("t",), b"A")),
        GroupMemberReplaced("g", 3, member("n", "i")),
        GroupDeclared("g", 4, "stream", ("t",), None, 5, None),
        GroupDeleted("g", 6),
        GroupOffsetsDeleted("g", 7, (("t", 0),)),
    ]
    union = (
        GroupOffsets
        | GroupGeneration
        | GroupMemberReplaced
        | GroupDeclared
        | GroupDeleted
        | GroupOffsetsDeleted
    )
    assert {type(command) for command in commands} == set(GroupsMachine.commands)
    for command in commands:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(command), type=union) == command


def test_snapshot_of_a_later_release_is_refused_with_a_sentence() -> None:
    data = msgspec.msgpack.encode({"version": 2, "groups": "something else"})
    with pytest.raises(ValueError, match="version 2, this release reads up to 1"):
        GroupsMachine().restore(data)


def test_snapshot_holds_nothing_that_is_only_staged() -> None:
    machine = GroupsMachine()
    machine.apply(1, offsets("g", 0, ("t", 0)))
    before = machine.snapshot()
    machine.stage(2, offsets("g", 0, ("t", 1)))
    machine.stage(3, GroupDeleted("g", 0))
    assert machine.snapshot() == before


def test_dropped_overlay_leaves_nothing_behind() -> None:
    machine = GroupsMachine()
    machine.stage(1, offsets("g", 0, ("t", 0)))
    machine.stage(2, generation("h"))
    assert machine.count == 1
    machine.drop_staged()
    assert (machine.count, machine.names(), machine.topic_deleted("t", 0)) == (0, [], [])


def test_foreign_command_is_a_fault_of_ours() -> None:
    class Foreign(Command, frozen=True, tag="foreign"):
        pass

    with pytest.raises(AssertionError, match="Foreign"):
        GroupsMachine().apply(1, Foreign())


def test_commands_are_of_bounded_size() -> None:
    entries = [OffsetEntry("t", p, 0) for p in range(OFFSETS_PER_COMMAND_MAX + 1)]
    assert [len(c.offsets) for c in offsets_committed("g", 0, entries) if isinstance(c, GroupOffsets)] == [
        OFFSETS_PER_COMMAND_MAX,
        1,
    ]
    keys = [(e.topic, e.partition) for e in entries]
    assert len(offsets_deleted("g", keys, 0)) == 2
    assert offsets_deleted("g", [], 0) == []


# --- expiry (KIP-211) -----------------------------------------------------------------------------------

RETENTION = 1_000


def expired(
    machine: GroupsMachine, now_ms: int, state: GroupState = GroupState.EMPTY, retention: int = RETENTION
) -> object:
    commands = decide_expired(machine, "g", now_ms, retention, state)
    if commands and isinstance(commands[0], GroupDeleted):
        return "group"
    return [p for c in commands if isinstance(c, GroupOffsetsDeleted) for p in c.partitions]


def machine_of(*commands: Command) -> GroupsMachine:
    machine = GroupsMachine()
    for index, command in enumerate(commands):
        machine.apply(index, command)
    return machine


def test_simple_groups_positions_expire_by_the_commit() -> None:
    machine = machine_of(offsets("g", 0, ("t", 0)), offsets("g", 500, ("t", 1)))
    assert expired(machine, 999) == []
    assert expired(machine, 1_000) == [("t", 0)]
    assert expired(machine, 1_500) == "group"


def test_empty_groups_positions_expire_after_the_last_member_left() -> None:
    machine = machine_of(offsets("g", 0, ("t", 0)), generation("g", 5_000))
    assert expired(machine, 5_999) == []
    assert expired(machine, 6_000) == "group"


def test_empty_group_without_positions_is_deleted() -> None:
    assert expired(machine_of(generation("g", 5_000)), 5_000) == "group"
    assert expired(machine_of(), 5_000) == []


def test_stable_groups_positions_expire_where_nobody_subscribes() -> None:
    machine = machine_of(
        offsets("g", 0, ("t", 0), ("u", 0), ("v", 0)),
        generation("g", 0, member("m", None, ("t",)), member("n", None, ("u",))),
    )
    assert expired(machine, 1_000, GroupState.STABLE) == [("v", 0)]
    assert expired(machine, 999, GroupState.STABLE) == []


@pytest.mark.parametrize("state", [GroupState.PREPARING_REBALANCE, GroupState.COMPLETING_REBALANCE])
def test_nothing_expires_during_a_rebalance(state: GroupState) -> None:
    assert expired(machine_of(offsets("g", 0, ("t", 0))), 9_999, state) == []


def test_nothing_expires_where_subscriptions_cannot_be_read() -> None:
    broken = msgspec.structs.replace(member(), protocols=(("range", b"\x00"),))
    machine = machine_of(offsets("g", 0, ("t", 0)), generation("g", 0, broken))
    assert expired(machine, 9_999, GroupState.STABLE) == []
    other_type = msgspec.structs.replace(generation("g", 0, member()), protocol_type="connect")
    assert expired(machine_of(offsets("g", 0, ("t", 0)), other_type), 9_999, GroupState.STABLE) == []


def test_time_that_the_client_asked_for_holds() -> None:
    machine = machine_of(offsets("g", 0, ("t", 0), expire_ms=50), offsets("g", 0, ("t", 1), expire_ms=9_999))
    assert expired(machine, 50) == [("t", 0)]
    assert expired(machine, 5_000) == [("t", 0)]
    assert expired(machine, 9_999) == "group"


def test_negative_retention_keeps_for_ever() -> None:
    assert expired(machine_of(offsets("g", 0, ("t", 0))), 10**15, retention=-1) == []


def test_declared_topics_do_not_expire_and_declared_groups_are_not_deleted() -> None:
    machine = machine_of(
        offsets("g", 0, ("t", 0), ("u", 0)), GroupDeclared("g", 0, "stream", ("t",), "latest")
    )
    assert expired(machine, 9_999) == [("u", 0)]
    assert expired(machine_of(GroupDeclared("g", 0, "stream", ("t",), "latest")), 9_999) == []
