"""What a leader changes about its members: each rule by example, then any history of losses against a whole group."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.raft.configuration import Change as ConfigurationChange
from penstock.raft.configuration import ChangeKind, Configuration
from penstock.replication.leaving import Demand, GiveLead, next_departure
from penstock.replication.membership import (
    PROMOTION_LAG_ENTRIES_MAX,
    Change,
    Peer,
    Roster,
    Standing,
    Step,
    next_change,
)

LAST = 10_000
UP, DOWN = Standing(LAST, True), Standing(LAST, False)


def roster(
    voters: Mapping[int, int],
    learners: Mapping[int, int | None] | None = None,
    peers: Mapping[int, int] | None = None,
    standings: Mapping[int, Standing] | None = None,
    replicas: int = 3,
) -> Roster:
    """Member 10 leads. `voters`, `learners` and `peers` map members to ordinals; a learner without one has not announced
    itself. Who is not in `standings` is up and has everything."""
    learners = learners or {}
    known = {**voters, **{member: ordinal for member, ordinal in learners.items() if ordinal is not None}}
    others = [member for member in (*voters, *learners) if member != 10]
    return Roster(
        own=10,
        voters=tuple(voters),
        learners=tuple(learners),
        ordinals=known,
        peers=[Peer(ordinal, member, f"b{ordinal}") for member, ordinal in (peers or {}).items()],
        standings=dict.fromkeys(others, UP) | dict(standings or {}),
        last_index=LAST,
        wanted=set(range(replicas)),
    )


WHOLE = {10: 0, 11: 1, 12: 2}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(roster(WHOLE, peers={11: 1, 12: 2}), None, id="nothing is wrong"),
        pytest.param(
            roster({10: 0}, peers={22: 2, 21: 1}),
            Change(Step.ADD_LEARNER, 21, "b1 joins as broker 1"),
            id="strangers join by ordinal",
        ),
        pytest.param(roster({10: 0}, peers={24: 4}), None, id="a place that is not wanted"),
        pytest.param(
            roster({10: 0}, {21: 1}, {21: 1, 22: 2}),
            Change(Step.PROMOTE, 21, "broker 1 has caught up"),
            id="promoting goes before adding",
        ),
        pytest.param(
            roster({10: 0}, {21: 1}, {21: 1, 22: 2}, {21: Standing(0, True)}),
            Change(Step.ADD_LEARNER, 22, "b2 joins as broker 2"),
            id="who is behind keeps nobody else waiting",
        ),
        pytest.param(
            roster({10: 0}, {21: 1}, {21: 1}, {21: Standing(LAST - PROMOTION_LAG_ENTRIES_MAX, True)}),
            Change(Step.PROMOTE, 21, "broker 1 has caught up"),
            id="close enough",
        ),
        pytest.param(
            roster({10: 0}, {21: 1}, {21: 1}, {21: Standing(LAST - PROMOTION_LAG_ENTRIES_MAX - 1, True)}),
            None,
            id="not close enough",
        ),
        pytest.param(roster({10: 0}, {21: 1}, {}, {21: DOWN}), None, id="a learner that is away"),
        pytest.param(roster({10: 0}, {21: 1}, {21: 1}, {21: DOWN}), None, id="a learner that says nothing"),
        pytest.param(
            msgspec.structs.replace(roster({10: 0}, {21: 1}, {21: 1}), standings={}),
            None,
            id="a learner of which nothing is known",
        ),
        pytest.param(
            msgspec.structs.replace(
                roster({10: 0}, {21: 1}, {21: 1}, {21: Standing(0, True)}),
                last_index=PROMOTION_LAG_ENTRIES_MAX,
            ),
            None,
            id="a learner that has acknowledged nothing, of a short log",
        ),
        pytest.param(
            roster({10: 0}, {21: None}, {21: 1}),
            None,
            id="a learner that has yet to say whose place it takes",
        ),
        pytest.param(
            roster({10: 0}, {21: None}, {22: 1}),
            Change(Step.REMOVE, 21, "it left before it had said whose place it takes"),
            id="a learner that will never say",
        ),
        pytest.param(
            roster(WHOLE, peers={11: 1, 22: 2}, standings={12: DOWN}),
            Change(Step.ADD_LEARNER, 22, "b2 joins as broker 2"),
            id="new storage learns beside the old",
        ),
        pytest.param(
            roster(WHOLE, {22: 2}, {11: 1, 22: 2}, {12: DOWN, 22: Standing(0, True)}),
            None,
            id="the old one stays until the new one has caught up",
        ),
        pytest.param(
            roster(WHOLE, {22: 2}, {11: 1, 22: 2}, {12: DOWN}),
            Change(Step.REMOVE, 12, "broker 2 came back with new storage, which has caught up"),
            id="then it goes",
        ),
        pytest.param(
            roster({10: 0, 11: 1}, {22: 2}, {11: 1, 22: 2}),
            Change(Step.PROMOTE, 22, "broker 2 has caught up"),
            id="and the new one takes its place",
        ),
        pytest.param(
            roster(WHOLE, {22: 2}, {22: 2}, {11: DOWN, 12: DOWN}),
            None,
            id="nobody goes where those who stay have no majority",
        ),
        pytest.param(
            roster({10: 0, 11: 1}, {21: 1}, {21: 1}, {11: DOWN}),
            Change(Step.REMOVE, 11, "broker 1 came back with new storage, which has caught up"),
            id="the leader alone is a majority of itself",
        ),
        pytest.param(
            roster({10: 0, 11: 1, 12: 2}, {20: 0}, {11: 1, 12: 2, 20: 0}),
            None,
            id="the leader does not remove itself",
        ),
        pytest.param(
            roster(WHOLE, {22: 2}, {11: 1, 32: 2}, {12: DOWN, 22: DOWN}),
            Change(Step.REMOVE, 22, "broker 2 is there with other storage"),
            id="a learner whose storage was lost makes room",
        ),
        pytest.param(
            roster(WHOLE, {22: 2}, {11: 1, 12: 2}, {22: DOWN}),
            Change(Step.REMOVE, 22, "broker 2 is there with other storage"),
            id="a learner is not needed when the volume before it is found again",
        ),
        pytest.param(
            roster(WHOLE, {22: 2}, {11: 1, 12: 2}),
            Change(Step.REMOVE, 22, "broker 2 is there with other storage"),
            id="nor is who was there before removed for it, however lately it was heard",
        ),
        pytest.param(
            roster(WHOLE, {20: 0}, {11: 1, 12: 2}, {20: DOWN}),
            Change(Step.REMOVE, 20, "broker 0 is there with other storage"),
            id="a learner in the leader's own place",
        ),
        pytest.param(
            roster(
                {10: 0, 11: 1, 12: 2, 13: 3, 14: 4},
                {23: 3, 24: 4},
                {11: 1, 12: 2, 23: 3, 24: 4},
                {13: DOWN, 14: DOWN},
                replicas=5,
            ),
            Change(Step.REMOVE, 13, "broker 3 came back with new storage, which has caught up"),
            id="of two, one after the other",
        ),
    ],
)
def test_each_rule(given: Roster, expected: Change | None) -> None:
    assert next_change(given) == expected


# --- any history ----------------------------------------------------------------------------------

KINDS = {
    Step.ADD_LEARNER: ChangeKind.LEARNER,
    Step.PROMOTE: ChangeKind.VOTER,
    Step.REMOVE: ChangeKind.REMOVE,
}
# Add, announce, promote for each broker; remove, and clear what was left behind.
STEPS_MAX = 40


class Broker:
    """One place: the storage that is in it now, those that were in it before, and whether it runs."""

    def __init__(self, ordinal: int, storage: int) -> None:
        self.ordinal = ordinal
        self.storage = storage
        self.kept: list[int] = []
        self.up = True


class TheGroup(RuleBasedStateMachine):
    """Brokers stop, fall behind, lose their volumes and get them back, and there should be more or fewer of them, while
    whoever leads asks for the next change.

    Every change that a leader may propose is committed at once; without a majority of running voters nobody leads.
    """

    @initialize(replicas=st.sampled_from([1, 2, 3, 3, 5]), whole=st.booleans())
    def found(self, replicas: int, whole: bool) -> None:
        self.storages = itertools.count(1)
        self.brokers = [Broker(ordinal, next(self.storages)) for ordinal in range(replicas)]
        self.wanted = replicas
        self.leader = self.brokers[0]
        self.configuration = Configuration((self.leader.storage,))
        self.announced = {self.leader.storage: 0}
        self.last_index = 1
        # What each storage holds of the log.
        self.match = {self.leader.storage: 1}
        if whole:
            self.be_well()

    # --- what is so ------------------------------------------------------------------------------

    def runs(self, member: int) -> bool:
        return any(broker.up and broker.storage == member for broker in self.brokers)

    def has_majority(self, configuration: Configuration) -> bool:
        running = sum(self.runs(voter) for voter in configuration.voters)
        return running >= len(configuration.voters) // 2 + 1

    def elect(self) -> bool:
        """A running voter with everything leads, if there is one and a majority to elect it."""
        if not self.has_majority(self.configuration):
            return False
        if not self.leader.up or self.leader.storage not in self.configuration.voters:
            voters = [each for each in self.brokers if each.up and each.storage in self.configuration.voters]
            self.leader = max(voters, key=lambda each: self.match[each.storage])
        self.match[self.leader.storage] = self.last_index
        return True

    def replicate(self) -> None:
        """Enough voters hold everything; the others, and learners, may lag."""
        for voter in self.configuration.voters:
            if self.runs(voter):
                self.match[voter] = self.last_index

    def announce(self) -> None:
        """The leader writes down what connected members say of themselves."""
        for broker in self.brokers:
            if broker.up and broker.storage in self.configuration.members:
                self.announced[broker.storage] = broker.ordinal

    def roster(self) -> Roster:
        peers = [each for each in self.brokers if each.up and each is not self.leader]
        members = [each for each in self.configuration.members if each != self.leader.storage]
        return Roster(
            own=self.leader.storage,
            voters=self.configuration.voters,
            learners=self.configuration.learners,
            ordinals={m: o for m, o in self.announced.items() if m in self.configuration.members},
            peers=[Peer(each.ordinal, each.storage, f"b{each.ordinal}") for each in peers],
            standings={each: Standing(self.match.get(each, 0), self.runs(each)) for each in members},
            last_index=self.last_index,
            wanted=set(range(self.wanted)),
        )

    def in_sync(self) -> set[int]:
        voters = self.configuration.voters
        return {each for each in voters if self.runs(each) and self.match.get(each) == self.last_index}

    def next_change(self) -> Change | None:
        """A hand-over of a leader that goes is made at once."""
        change = next_change(self.roster())
        if change is not None:
            return change
        step = next_departure(self.roster(), self.in_sync(), Demand())
        if isinstance(step, GiveLead):
            assert step.member in self.in_sync()
            self.leader = next(each for each in self.brokers if each.storage == step.member)
            return self.next_change()
        if isinstance(step, Change):
            rest = self.in_sync() - {step.member}
            assert 2 * len(rest) > len(self.configuration.voters) - 1, f"{step} leaves no majority in sync"
            assert step.member not in rest
            assert self.announced[step.member] >= self.wanted
            return step
        return None

    def make(self, change: Change) -> None:
        """Raises ChangeError for more than one voter at a time."""
        assert change.reason
        assert self.has_majority(self.configuration)
        before = self.configuration
        change_of_raft = ConfigurationChange(KINDS[change.step], change.member)
        self.configuration = before.changed([change_of_raft])
        assert self.configuration != before, "a change that changes nothing would be made for ever"
        assert self.has_majority(self.configuration), f"{change} leaves no majority that runs"
        if change.step is Step.PROMOTE:
            assert self.match[change.member] >= self.last_index - PROMOTION_LAG_ENTRIES_MAX
        self.last_index += 1
        self.replicate()

    # --- what happens ----------------------------------------------------------------------------

    @rule(turns=st.integers(1, 3), announce=st.booleans())
    def lead(self, turns: int, announce: bool) -> None:
        """A leader's turns. What a new member says of itself may be written down in time or not."""
        for _ in range(turns):
            if not self.elect():
                return
            if announce:
                self.announce()
            change = self.next_change()
            if change is not None:
                self.make(change)

    @rule(number=st.integers(0, 4))
    def stop(self, number: int) -> None:
        self.brokers[number % len(self.brokers)].up = False

    @rule(number=st.integers(0, 4))
    def start(self, number: int) -> None:
        self.brokers[number % len(self.brokers)].up = True

    def may_lose(self, storage: int) -> bool:
        """A majority of the voters must still have their storage: what comes after that is not this machine's."""
        there = {each.storage for each in self.brokers} - {storage}
        left = sum(voter in there for voter in self.configuration.voters)
        return left >= len(self.configuration.voters) // 2 + 1

    @rule(number=st.integers(0, 4))
    def lose_the_volume(self, number: int) -> None:
        broker = self.brokers[number % len(self.brokers)]
        if self.may_lose(broker.storage):
            broker.kept.append(broker.storage)
            broker.storage = next(self.storages)

    @rule(number=st.integers(0, 4))
    def find_the_volume_again(self, number: int) -> None:
        """One that is no member any more is a stranger like any other."""
        broker = self.brokers[number % len(self.brokers)]
        if broker.kept and self.may_lose(broker.storage):
            broker.storage = broker.kept.pop()

    @rule(entries=st.sampled_from([1, PROMOTION_LAG_ENTRIES_MAX, PROMOTION_LAG_ENTRIES_MAX + 1]))
    def write(self, entries: int) -> None:
        if self.elect():
            self.last_index += entries
            self.replicate()

    @rule(number=st.integers(0, 4))
    def catch_up(self, number: int) -> None:
        broker = self.brokers[number % len(self.brokers)]
        if broker.up and broker.storage in self.configuration.members and self.elect():
            self.match[broker.storage] = self.last_index

    @rule(number=st.integers(0, 4))
    def hand_over(self, number: int) -> None:
        broker = self.brokers[number % len(self.brokers)]
        if broker.up and broker.storage in self.configuration.voters and self.elect():
            self.leader = broker
            self.match[broker.storage] = self.last_index

    @rule(replicas=st.sampled_from([1, 3, 5]))
    def resize(self, replicas: int) -> None:
        """There should be so many brokers; places that are not wanted may still have one."""
        self.wanted = replicas
        for ordinal in range(len(self.brokers), replicas):
            self.brokers.append(Broker(ordinal, next(self.storages)))

    @rule()
    def be_well(self) -> None:
        """With every broker there, the group becomes what was wished for, and then rests."""
        for broker in self.brokers:
            broker.up = True
        assert self.elect()
        for _ in range(STEPS_MAX):
            self.announce()
            for member in filter(self.runs, self.configuration.members):
                self.match[member] = self.last_index
            change = self.next_change()
            if change is None:
                break
            self.make(change)
        places = self.brokers[: self.wanted]
        assert self.configuration == Configuration(tuple(sorted(each.storage for each in places)))

    @invariant()
    def there_is_at_most_one_voter_to_a_place(self) -> None:
        if hasattr(self, "configuration"):
            places = [self.announced[voter] for voter in self.configuration.voters]
            assert len(places) == len(set(places))

    def teardown(self) -> None:
        if hasattr(self, "brokers"):
            self.be_well()


TheGroup.TestCase.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
test_every_history_ends_with_one_voter_to_each_place = TheGroup.TestCase


def test_a_learner_that_leads_takes_its_place() -> None:
    """Whoever is named from outside may hold less than the entry that promoted it."""
    led = roster({11: 1, 12: 2}, {10: 0}, peers={11: 1, 12: 2})
    assert next_change(led) == Change(Step.PROMOTE, 10, "broker 0 has caught up")


def test_where_no_majority_counts_the_last_copy_admits_others() -> None:
    """Both others have forgotten, and came back as others: who they were before is removed although nobody else answers."""
    voters, gone = {10: 0, 11: 1, 12: 2}, Standing(0, False)
    given = roster(voters, {21: 1, 22: 2}, {21: 1, 22: 2}, {11: gone, 12: gone})
    assert next_change(given) is None
    change = next_change(msgspec.structs.replace(given, elects=False))
    assert change is not None
    assert (change.step, change.member) == (Step.REMOVE, 11)
