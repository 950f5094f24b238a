"""Lives in which two of three volumes are lost and the third broker is trusted: its copy goes on, and nothing else does."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from penstock.codec.entry import parse_entry_header
from penstock.model.errors import PenstockError
from penstock.replication.recovery import Recovery
from penstock.testing.simulated_cluster.broker import SimulatedBroker
from penstock.testing.simulated_cluster.checks import Checks
from penstock.testing.simulated_cluster.ending import check_end, is_settled
from penstock.testing.simulated_cluster.recording import recorded
from penstock.testing.simulated_cluster.shapes import Shape
from penstock.testing.simulated_cluster.world import World

SHAPE = Shape(
    brokers=3,
    sync=True,
    grows=False,
    producers=2,
    idempotent=1,
    partitions=2,
    trims=False,
    segment_bytes=8192,
    power_cycle_at_end=False,
)
SEEDS = range(12)
SECONDS_MAX = 40.0
POSITIONS_MAX = 10_000

Entries = list[tuple[int, int]]


class Life(World):
    """Three brokers and their clients, and nothing happens but what a test does."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, [], SHAPE)
        self.dice = random.Random(f"recovery {seed}")
        self.begin()
        self.until(lambda: self.clients.keys and all(len(voters_of(b)) == 3 for b in self.brokers))

    def until(self, condition: Callable[[], object]) -> None:
        deadline = self.agenda.now + SECONDS_MAX
        while not condition():
            assert self.agenda.now < deadline, self._standing()
            self._run_until(self.agenda.now + 0.05)

    def run(self, seconds: float) -> None:
        self._run_until(self.agenda.now + seconds)

    def trust(self, broker: SimulatedBroker) -> Recovery | PenstockError:
        """Asks as an operator does, and lets the broker start anew."""
        answers: list[Recovery | PenstockError] = []
        assert broker.loop is not None
        meta, loop = broker.member.replica.meta, broker.loop

        async def ask() -> None:
            try:
                answer = await broker.member.recoveries.trust(str(meta.shard_uid), str(meta.storage_id), 0)
            except PenstockError as error:
                answers.append(error)
            else:
                answers.append(answer)

        with loop.running():
            loop.create_task(ask())
        self.until(lambda: answers)
        return answers[0]


class Recovered(Life):
    """One life up to the trust. What comes of clients that were told of what is gone is judged by nobody: the judge of the
    new generation begins with the trusted copy."""

    def __init__(self, seed: int) -> None:
        self.trusted: SimulatedBroker | None = None
        self.judged_anew = False
        # Brokers whose history is another one than the judge's, and those of them that served nevertheless.
        self.apart: list[SimulatedBroker] = []
        self.served: set[int] = set()
        super().__init__(seed)
        self.run(self.dice.uniform(0.5, 2.0))
        self.trusted, *self.lost = self.dice.sample(self.brokers, 3)
        if self.dice.random() < 0.5:
            # It has missed what the others committed meanwhile, or keeps what it could not commit alone.
            self.block(self._around(self.trusted), 100)
            self.run(self.dice.uniform(0.2, 3.0))
        self.old_disks = [broker.disk for broker in self.lost]
        for broker in self.lost:
            broker.crash(power=self.dice.random() < 0.5, announced=True)
        self.network.heal()
        self.run(2.5)

    def _around(self, broker: SimulatedBroker) -> list[tuple[int, int]]:
        others = [each.ordinal for each in self.brokers if each is not broker]
        return [pair for n in others for pair in ((n, broker.ordinal), (broker.ordinal, n))]

    def _start(self, broker: SimulatedBroker) -> None:
        meta = broker.folder.load_meta() if broker is self.trusted else None
        if meta is not None and meta.recovery is not None and not self.judged_anew:
            self.judge_anew()
        super()._start(broker)

    def turned(self, broker: SimulatedBroker) -> None:
        if broker not in self.apart:
            super().turned(broker)
        elif broker.shard.leading:
            self.served.add(broker.ordinal)

    def judge_anew(self) -> None:
        self.judged_anew = True
        self.checks = self.clients.checks = Checks()
        self.clients.ends = {}
        # Any that was committed before may be the group's now.
        positions = self.clients.positions
        positions.update({number: (-1, set(range(POSITIONS_MAX))) for number in range(SHAPE.partitions)})

    def come_back_empty(self) -> None:
        for broker in self.lost:
            broker.replace_volume()
            broker.formed = True
            self._start(broker)

    def finish(self) -> None:
        """Clients have gone on for a while; then everything is alike, and what was written since is there."""
        self.run(2.0)
        self.clients.stopped = True
        self.until(lambda: is_settled(self))
        check_end(self)


def voters_of(broker: SimulatedBroker) -> Sequence[int]:
    return broker.shard.machines.members.configuration.voters


def entries_of(broker: SimulatedBroker, last: int) -> Entries:
    """(epoch, checksum) of the entries that its log holds up to `last`."""
    data = memoryview(b"".join(broker.shard.log.entries(broker.shard.log.first_index, last).read()))
    found: Entries = []
    position = 0
    while position < len(data):
        header = parse_entry_header(data, position)
        found.append((header.epoch, header.crc))
        position += header.size_bytes
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_the_history_goes_on_from_the_trusted_copy(seed: int) -> None:
    world = Recovered(seed)
    with recorded(world):
        trusted, old = world.trusted, world.checks
        held = entries_of(trusted, trusted.shard.log.next_index - 1)
        loop = trusted.loop
        recovery = world.trust(trusted)
        assert isinstance(recovery, Recovery), recovery
        crash = world.dice.random() < 0.5
        if crash:  # At a moment between the answer and the first entries of the new epoch.
            world.run(world.dice.uniform(0, 0.3))
            world.crash(trusted, power=True, announced=True, back_after=0.1)
        world.until(lambda: trusted.up and trusted.loop is not loop and trusted.shard.leading)
        world.until(lambda: trusted.member.recoveries.pending is None)
        assert trusted.shard.epoch > recovery.epoch > max(epoch for epoch, _ in old.committed)
        # Its copy is whole, uncommitted end and all, and what it knew to be committed is what had been committed.
        assert recovery.last_index == len(held)
        assert entries_of(trusted, len(held)) == held
        known = recovery.commit_index
        assert held[:known] == old.committed[:known]
        world.come_back_empty()
        for _ in range(3):  # Also while the log is being sent, and before its end was read.
            world.run(world.dice.uniform(0, 0.4))
            world.crash(world.dice.choice(world.brokers), power=True, announced=True, back_after=0.1)
        world.until(lambda: any(b.up and len(voters_of(b)) == 3 for b in world.brokers))
        world.finish()
        assert not any(broker.member.meta.left_behind for broker in world.brokers)
        assert world.checks.committed[: len(held)] == held
        for broker in world.brokers:
            assert broker.member.recoveries.lineage == (1, recovery.lineage)


@pytest.mark.parametrize("seed", range(4))
def test_whoever_was_given_up_and_comes_back_changes_nothing(seed: int) -> None:
    world = Recovered(seed)
    with recorded(world):
        trusted, (gone, returns) = world.trusted, world.lost
        loop = trusted.loop
        assert isinstance(world.trust(trusted), Recovery)
        world.until(lambda: trusted.up and trusted.loop is not loop and trusted.shard.leading)
        # Both come back as they were: together they are a majority of what they know.
        world.apart = [gone, returns]
        for broker in world.apart:
            world._start(broker)
        world.until(lambda: not gone.up and not returns.up)
        for broker in (gone, returns):
            meta = broker.folder.load_meta()
            assert meta is not None
            assert "from before it was recovered without it" in meta.left_behind
            assert broker.disk is world.old_disks[world.lost.index(broker)], "nothing was thrown away"
        assert trusted.shard.leading
        assert not world.served
        world.apart.clear()
        world.come_back_empty()
        world.until(lambda: len(voters_of(trusted)) == 3)
        for broker in (gone, returns):
            meta = broker.folder.load_meta()
            assert meta is not None
            assert meta.joined == trusted.member.recoveries.lineage, "kept before anything of the log"
        world.finish()


def test_two_that_were_trusted_apart_never_become_one() -> None:
    world = Recovered(1)
    with recorded(world):
        one, (other, _) = world.trusted, world.lost
        loops = {one.ordinal: one.loop}
        assert isinstance(world.trust(one), Recovery)
        world.until(lambda: one.up and one.loop is not loops[one.ordinal] and one.shard.leading)
        ends = one.shard.log.next_index
        world.block(world._around(one), 100)
        # From here on there are two histories, and no judge of both.
        world.apart = [one, other]
        world.clients.stopped = True
        world._start(other)
        world.run(2.5)
        loop = other.loop
        answer = world.trust(other)
        assert isinstance(answer, Recovery), answer
        world.until(lambda: other.up and other.loop is not loop and other.shard.leading)
        world.network.heal()
        world.until(lambda: one.member.recoveries.split and other.member.recoveries.split)
        world.run(5.0)
        for broker, peer in ((one, other), (other, one)):
            (reason,) = broker.member.not_ready_reasons()
            assert "were both trusted" in reason
            assert peer.member.own_member not in broker.member.recoveries.configuration()
        assert one.shard.log.next_index >= ends


def test_it_is_refused_while_a_majority_is_there() -> None:
    life = Life(3)
    with recorded(life):
        for broker in life.brokers:
            answer = life.trust(broker)
            assert isinstance(answer, PenstockError)
            assert (
                "3 of the shard's 3 voters are there, which is a majority: nothing is lost" in answer.sentence
            )
            meta = broker.folder.load_meta()
            assert meta is not None
            assert meta.recovery is None
