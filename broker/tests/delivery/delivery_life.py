"""A Hypothesis machine that lives in a `World`: it chooses what happens, the world checks it."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from delivery_world import PARTITIONS, World
from penstock.delivery.deciding import Receipt

# Mostly one partition, so that what happens there has to do with what happened before.
PARTITION = st.sampled_from([0, 0, 0, PARTITIONS - 1])
DURATIONS = st.sampled_from([200, 5_000])
CHANCES = st.sampled_from([0.0, 0.999])
COMMITS = st.sampled_from([100, 0, 1, 0])
WHICH = st.lists(st.integers(0, 7), min_size=1, max_size=5)


class QueueLife(RuleBasedStateMachine):
    """Each rule ends with some commits, so that short lives come as far as long ones."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def chosen(self, partition: int, which: list[int]) -> list[Receipt]:
        """Receipts of the partition, the newest ones first."""
        receipts = [receipt for place, receipt in self.world.receipts if place == partition]
        return [receipts[-1 - number % len(receipts)] for number in which] if receipts else []

    @rule(partition=PARTITION, count=st.integers(1, 6))
    def produce(self, partition: int, count: int) -> None:
        self.world.produce(partition, count)

    @rule(partition=PARTITION, count=st.integers(1, 8), duration_ms=DURATIONS, commits=COMMITS)
    def lease(self, partition: int, count: int, duration_ms: int, commits: int) -> None:
        self.world.produce(partition, 2)
        self.world.lease(partition, count, duration_ms)
        self.world.commit(commits)

    @rule(partition=PARTITION, which=WHICH, commits=COMMITS)
    def acknowledge(self, partition: int, which: list[int], commits: int) -> None:
        self.world.acknowledge(partition, self.chosen(partition, which))
        self.world.commit(commits)

    @rule(partition=PARTITION, which=WHICH, commits=COMMITS)
    def release(self, partition: int, which: list[int], commits: int) -> None:
        self.world.release(partition, self.chosen(partition, which))
        self.world.commit(commits)

    @rule(
        partition=PARTITION,
        which=WHICH,
        duration_ms=DURATIONS,
        commits=COMMITS,
        elapsed_ms=st.sampled_from([0, 300]),
    )
    def extend(
        self, partition: int, which: list[int], duration_ms: int, commits: int, elapsed_ms: int
    ) -> None:
        self.world.extend(partition, self.chosen(partition, which), duration_ms)
        self.world.commit(commits)
        # About the time at which it would have ended.
        self.world.true_ms += elapsed_ms
        self.world.expire(partition, 0.0)
        self.world.commit(commits)

    @rule(
        partition=PARTITION,
        which=WHICH,
        chance=CHANCES,
        retry=st.booleans(),
        apart=st.booleans(),
        delay_ms=st.sampled_from([None, None, 0, 400]),
        commits=COMMITS,
    )
    def reject(
        self,
        partition: int,
        which: list[int],
        chance: float,
        retry: bool,
        apart: bool,
        delay_ms: int | None,
        commits: int,
    ) -> None:
        for numbers in [[number] for number in which] if apart else [which]:
            self.world.reject(partition, self.chosen(partition, numbers), chance, retry, delay_ms)
        self.world.commit(commits)

    @rule(elapsed_ms=st.sampled_from([0, 100, 300, 5_000]), chance=CHANCES, commits=COMMITS)
    def wait_and_expire(self, elapsed_ms: int, chance: float, commits: int) -> None:
        self.world.true_ms += elapsed_ms
        for partition in range(PARTITIONS):
            self.world.expire(partition, chance)
        self.world.commit(commits)

    @rule(count=st.integers(1, 3), bury=st.booleans(), commits=COMMITS)
    def write_dead_letters(self, count: int, bury: bool, commits: int) -> None:
        self.world.write_dead_letters(count, bury=bury)
        self.world.commit(commits)

    @rule(count=st.integers(1, 3))
    def commit(self, count: int) -> None:
        self.world.commit(count)

    @rule(
        kept=st.integers(0, 2),
        skew_ms=st.sampled_from([100_000, 0, -100_000]),
        same=st.booleans(),
        amid=st.sampled_from(["release", "lease", "nothing"]),
        which=WHICH,
    )
    def change_leader(self, kept: int, skew_ms: int, same: bool, amid: str, which: list[int]) -> None:
        if amid == "release":
            self.world.release(0, self.chosen(0, which))
        elif amid == "lease":
            self.world.lease(0, 3, 1_000)
        self.world.change_leader(kept, skew_ms, same=same)
        for partition in range(PARTITIONS):
            self.world.expire(partition, 0.0)

    @rule(
        kind=st.sampled_from(["reseed", "start", "position"]),
        partition=PARTITION,
        offset=st.integers(0, 20),
        commits=COMMITS,
    )
    def something_rare(self, kind: str, partition: int, offset: int, commits: int) -> None:
        match kind:
            case "reseed":
                self.world.reseed_follower()
            case "start":
                self.world.move_start(partition, self.world.starts[partition] + offset % 7)
            case _:
                self.world.set_position(partition, offset)
        self.world.commit(commits)

    @invariant()
    def replicas_are_as_the_models(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if self.world.sound:
            self.world.drain()
