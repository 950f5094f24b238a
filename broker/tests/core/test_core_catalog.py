"""The catalog: what it refuses and with which sentence, and that staging, applying and replaying come to the same."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.catalog.partitions import (
    OPENED_PER_COMMAND_MAX,
    STARTS_PER_COMMAND_MAX,
    LogStartsMoved,
    Partitions,
    PartitionsDropped,
    PartitionsOpened,
    PartitionState,
    opened,
    starts_moved,
)
from penstock.catalog.placement import misplaced, partition_states
from penstock.catalog.topics import (
    Catalog,
    ClusterConfigured,
    TopicConfigured,
    TopicDeleted,
    check_topic_name,
)
from penstock.model.commands import Command
from penstock.model.errors import ErrorCode, PenstockError

NAMES = ("orders", "a.b", "a_b", "a-b", "__internal", "x")


def topic_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def create(catalog: Catalog, name: str, index: int, partitions: int = 2, *, staged: bool = False) -> Command:
    command = catalog.decide_create(name, topic_id(index), partitions, {}, 1000)
    (catalog.stage if staged else catalog.apply)(index, command)
    return command


def refusal(question: Any, *arguments: Any) -> PenstockError:
    with pytest.raises(PenstockError) as caught:
        question(*arguments)
    return caught.value


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is not a topic name"),
        (".", "is not a topic name"),
        ("..", "is not a topic name"),
        ("a" * 250, "at most 249 characters, this one has 250"),
        ("a b", "letters, digits, '.', '_' and '-'"),
        ("a\n", "letters, digits"),
        ("ä", "letters, digits"),
        ("a/b", "letters, digits"),
    ],
)
def test_a_bad_name_is_refused_with_a_sentence(name: str, words: str) -> None:
    error = refusal(check_topic_name, name)
    assert error.code is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert words in error.sentence


def test_names_that_kafka_accepts_are_accepted() -> None:
    for name in ("a", "A.b_c-9", "...", "a" * 249):
        check_topic_name(name)


@pytest.mark.parametrize("staged", [True, False])
def test_a_taken_name_is_refused_also_while_it_is_uncommitted(staged: bool) -> None:
    catalog = Catalog()
    create(catalog, "orders", 1, staged=staged)
    error = refusal(catalog.decide_create, "orders", topic_id(2), 1, {}, 0)
    assert (error.code, error.sentence) == (ErrorCode.TOPIC_ALREADY_EXISTS, "topic orders exists already")


@pytest.mark.parametrize("staged", [True, False])
def test_names_that_collide_in_metrics_are_refused_until_the_other_is_gone(staged: bool) -> None:
    catalog = Catalog()
    create(catalog, "a.b", 1, staged=staged)
    error = refusal(catalog.decide_create, "a_b", topic_id(2), 1, {}, 0)
    assert error.code is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert "a_b collides with a.b" in error.sentence
    (catalog.stage if staged else catalog.apply)(2, TopicDeleted("a.b"))
    create(catalog, "a_b", 3)


def test_a_topic_only_grows() -> None:
    catalog = Catalog()
    create(catalog, "orders", 1, 3)
    for count in (3, 2, 0, -1):
        error = refusal(catalog.decide_grow, "orders", count)
        assert error.code is ErrorCode.INVALID_PARTITIONS
        assert "has 3 partitions" in error.sentence
    assert refusal(catalog.decide_grow, "other", 5).code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    added = catalog.decide_grow("orders", 5)
    assert [place.key for place in added.partitions] == [1, 2, 3, 4, 5]


def test_keys_are_never_used_again() -> None:
    catalog = Catalog()
    create(catalog, "orders", 1, 3)
    catalog.apply(2, TopicDeleted("orders"))
    restored = Catalog()
    restored.restore(catalog.snapshot())
    for each in (catalog, restored):
        assert [
            place.key for place in each.decide_create("orders", topic_id(9), 1, {}, 0).topic.partitions
        ] == [4]


def test_an_unknown_topic_is_refused_by_name() -> None:
    assert refusal(Catalog().require, "orders").sentence == "there is no topic named orders"


# --- the fold: staged then applied, applied alone, restored from a snapshot ------------------------------------------


class World:
    """A leader that stages before it applies; a replica that only applies; both fed the same commands."""

    def __init__(self) -> None:
        self.leader = (Catalog(), Partitions())
        self.replica = (Catalog(), Partitions())
        self.log: list[Command] = []
        self.applied = 0
        self.ids = 0

    def propose(self, *commands: Command) -> None:
        for command in commands:
            self.log.append(command)
            self.machine(self.leader, command).stage(len(self.log), command)

    @staticmethod
    def machine(machines: tuple[Catalog, Partitions], command: Command) -> Catalog | Partitions:
        return machines[0] if isinstance(command, machines[0].commands) else machines[1]

    def commit(self, count: int) -> None:
        for command in self.log[self.applied : self.applied + count]:
            self.applied += 1
            for machines in (self.leader, self.replica):
                self.machine(machines, command).apply(self.applied, command)

    def act(self, chance: random.Random) -> None:
        catalog, partitions = self.leader
        name = chance.choice(NAMES)
        action = chance.randrange(7)
        try:
            if action <= 1:
                self.ids += 1
                created = catalog.decide_create(name, topic_id(self.ids), chance.randint(1, 3), {}, 0)
                self.propose(created, *opened(partition_states(created.topic)))
            elif action == 2:
                keys = tuple(place.key for place in catalog.require(name).partitions)
                self.propose(TopicDeleted(name), PartitionsDropped(keys))
            elif action == 3:
                topic = catalog.require(name)
                added = catalog.decide_grow(name, len(topic.partitions) + chance.randint(0, 2))
                grown = type(topic)(name, topic.topic_id, added.partitions, {})
                self.propose(added, *opened(partition_states(grown, len(topic.partitions))))
            elif action == 4:
                catalog.require(name)
                self.propose(TopicConfigured(name, {"retention.ms": str(chance.randint(1, 9))}))
            elif action == 5:
                self.propose(ClusterConfigured({"num.partitions": str(chance.randint(1, 9))}))
            else:
                starts = {key: chance.randint(0, 99) for key, _ in partitions.states.items()}
                self.propose(*starts_moved(starts))
        except PenstockError:
            pass

    def check(self) -> None:
        for leader, replica in zip(self.leader, self.replica, strict=True):
            assert leader.snapshot() == replica.snapshot()
            restored = type(leader)()
            restored.restore(leader.snapshot())
            assert restored.snapshot() == leader.snapshot()
        catalog = self.leader[0]
        assert {
            topic.topic_id: name for name, topic in catalog.topics.committed.items()
        } == catalog.topic_names.committed


@given(st.integers(0, 2**32))
def test_staging_then_applying_is_the_same_as_applying(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    for _ in range(chance.randint(1, 40)):
        world.act(chance)
        if chance.random() < 0.4:
            world.commit(chance.randint(1, 5))
            world.check()
    world.commit(len(world.log))
    world.check()
    catalog, partitions = world.leader
    assert not catalog.topics.staged_count
    assert not partitions.states.staged_count
    assert misplaced(catalog, partitions) == ([], [])


@given(st.integers(0, 2**32))
def test_a_log_that_ends_anywhere_is_repaired(seed: int) -> None:
    """A crash may come between the commands of one change."""
    chance = random.Random(seed)
    world = World()
    for _ in range(20):
        world.act(chance)
    world.commit(chance.randint(0, len(world.log)))
    for machine in world.leader:
        machine.drop_staged()
    catalog, partitions = world.leader
    missing, surplus = misplaced(catalog, partitions)
    for command in [*opened(missing), PartitionsDropped(tuple(surplus))]:
        partitions.apply(1000, command)
    assert misplaced(catalog, partitions) == ([], [])
    kept = {(state.topic, state.number): state.key for state in partitions.states.committed.values()}
    assert kept == {
        (topic.name, number): place.key
        for topic in catalog.topics.committed.values()
        for number, place in enumerate(topic.partitions)
    }


def test_starts_only_go_up_and_unknown_partitions_are_left_out() -> None:
    partitions = Partitions()
    partitions.apply(1, PartitionsOpened((PartitionState(1, "t", 0, topic_id(1)),)))
    partitions.apply(2, LogStartsMoved({1: 10, 7: 3}))
    partitions.apply(3, LogStartsMoved({1: 4}))
    assert {key: state.log_start for key, state in partitions.states.committed.items()} == {1: 10}


def test_large_changes_become_commands_of_bounded_size() -> None:
    states = [PartitionState(key, "t", key, topic_id(1)) for key in range(OPENED_PER_COMMAND_MAX * 2 + 1)]
    assert [len(command.partitions) for command in opened(states)] == [1000, 1000, 1]  # type: ignore[attr-defined]
    moves = starts_moved(dict.fromkeys(range(STARTS_PER_COMMAND_MAX + 5), 1))
    assert [len(command.starts) for command in moves] == [STARTS_PER_COMMAND_MAX, 5]  # type: ignore[attr-defined]
    assert opened([]) == starts_moved({}) == []
