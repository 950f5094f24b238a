"""What the simulator found in the members' driver, each as the shortest scene that shows it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock.codec.records import BatchOptions, Record, build_batch
from penstock.model.errors import ErrorCode
from penstock.raft.messages import Heartbeat, TimeoutNow
from penstock.service.api import ProduceBatches
from penstock.testing.simulated_cluster.broker import CAPACITY_BYTES, CONTEXT, SimulatedBroker
from penstock.testing.simulated_cluster.faults import Shape
from penstock.testing.simulated_cluster.network import Socket
from penstock.testing.simulated_cluster.world import World

SHAPE = Shape(
    brokers=3,
    sync=True,
    grows=False,
    producers=0,
    idempotent=0,
    partitions=1,
    trims=False,
    segment_bytes=4096,
    power_cycle_at_end=False,
)
SECONDS_MAX = 20.0


class Scene(World):
    """Three brokers, and nothing happens but what a test does."""

    def __init__(self) -> None:
        super().__init__(0, [], SHAPE)
        self.begin()
        self.until(lambda: self.leader is not None and len(self.leader.member.in_sync_members()) == 3)

    @property
    def leader(self) -> SimulatedBroker | None:
        return next((broker for broker in self.brokers if broker.up and broker.shard.leading), None)

    def until(self, condition: Callable[[], object], step: float = 0.01) -> None:
        deadline = self.agenda.now + SECONDS_MAX
        while not condition():
            assert self.agenda.now < deadline, "it did not come to that"
            self.agenda.run_until(self.agenda.now + step)
            if self.violation is not None:
                raise self.violation

    def pass_time(self, seconds: float) -> None:
        end = self.agenda.now + seconds
        self.until(lambda: self.agenda.now >= end)

    def produce(self, broker: SimulatedBroker, count: int, size: int = 100) -> list[ErrorCode]:
        """Begins to write; the list fills as answers come."""
        answers: list[ErrorCode] = []
        assert broker.loop is not None
        with broker.loop.running():
            for _ in range(count):
                batch = build_batch([Record(value=bytes(size), timestamp=1)], 0, BatchOptions())
                item = ProduceBatches("t", 0, memoryview(bytes(batch)))
                future = broker.data.produce(CONTEXT, [item], -1, 5000)
                future.add_done_callback(lambda done: answers.append(done.result()[0].error))  # type: ignore[attr-defined]
        return answers


@pytest.fixture
def scene() -> Scene:
    found = Scene()
    found.until(lambda: found.clients.keys)
    found.clients.stopped = True
    return found


def test_a_leader_that_is_deposed_in_the_turn_of_an_append_knows_of_it(scene: Scene) -> None:
    """Otherwise its log holds an entry that its core knows nothing of, and refuses what the next leader sends."""
    leader = scene.leader
    assert leader is not None
    assert leader.loop is not None
    replica = leader.member.replica
    other = next(broker for broker in scene.brokers if broker is not leader).member.own_member
    answers = scene.produce(leader, 1)
    with leader.loop.running():
        replica.step(Heartbeat(replica.own_member, other, replica.core.epoch + 1, 0))
    assert not leader.shard.leading
    assert replica.core.last_index == leader.shard.log.next_index - 1
    scene.until(lambda: answers)
    assert answers == [ErrorCode.NOT_LEADER_OR_FOLLOWER]


def test_nobody_serves_while_it_hands_over(scene: Scene) -> None:
    """Also not when the first entry of its epoch is committed only then."""
    leader = scene.leader
    assert leader is not None
    others = [broker for broker in scene.brokers if broker is not leader]
    next_leader, third = others
    scene.crash(leader, power=False, announced=True, back_after=5)
    scene.until(lambda: any(broker.member.replica.is_leader for broker in others), step=0.0001)
    if third.member.replica.is_leader:
        next_leader, third = third, next_leader
    replica = next_leader.member.replica
    assert not next_leader.shard.leading
    assert next_leader.loop is not None
    with next_leader.loop.running():
        assert replica.hand_over(leader_of(scene, leader)) is None
    scene.until(lambda: replica._began_index <= next_leader.shard.commit_index)
    scene.pass_time(0.2)
    assert not next_leader.shard.leading
    # Nobody took it over, so it serves after all.
    scene.until(lambda: next_leader.shard.leading)


def leader_of(scene: Scene, broker: SimulatedBroker) -> int:
    """The member that a broker which is down will be again."""
    voters = next(b for b in scene.brokers if b.up).member.replica.core.configuration.voters
    up = {b.member.own_member for b in scene.brokers if b.up}
    (found,) = set(voters) - up
    return found


def test_votes_that_come_late_make_a_leader_of_the_past(scene: Scene) -> None:
    """It lacks what the next epoch has committed meanwhile, and that is well: the judge once took it for a loss."""
    leader = scene.leader
    assert leader is not None
    late, third = [broker for broker in scene.brokers if broker is not leader]
    replica = late.member.replica
    epoch = replica.core.epoch
    scene.network.block(leader.ordinal, late.ordinal)
    scene.network.block(third.ordinal, late.ordinal)
    assert late.loop is not None
    with late.loop.running():
        replica.step(TimeoutNow(replica.own_member, leader.member.own_member, epoch))
    # It asks for votes, and does not hear the answers.
    scene.until(lambda: third.member.replica.core.epoch == epoch + 1)
    scene.network.block(late.ordinal, leader.ordinal)
    scene.network.block(late.ordinal, third.ordinal)
    scene.until(lambda: scene.leader is not None and scene.leader.shard.epoch == epoch + 2)
    assert scene.leader is not None
    answers = scene.produce(scene.leader, 3)
    scene.until(lambda: len(answers) == 3)
    assert answers == [ErrorCode.NONE] * 3
    scene.network.heal()
    scene.until(lambda: replica.is_leader, step=0.0001)
    assert replica.core.epoch == epoch + 1
    last = len(scene.checks.committed)
    assert last > replica.core.last_index
    scene.until(lambda: late.shard.commit_index >= last)


def fill(scene: Scene, leader: SimulatedBroker) -> None:
    """Writes over several segments and drops the oldest."""
    for _ in range(12):
        answers = scene.produce(leader, 1, 1500)
        scene.until(lambda answers=answers: answers)
        assert answers == [ErrorCode.NONE]
        scene.pass_time(0.02)
    first = leader.shard.log.first_index
    assert leader.loop is not None
    with leader.loop.running():
        end = scene.clients.trimmed[0] = leader.shard.table.require("t", 0).high_watermark
        leader.loop.create_task(leader.data.delete_records(CONTEXT, [("t", 0, end)], 1000))
    scene.until(lambda: leader.shard.log.first_index > first)


def test_a_snapshot_that_is_lost_is_sent_again(scene: Scene) -> None:
    """Its pieces are handed to the connection, which then ends."""
    leader = scene.leader
    assert leader is not None
    follower = next(broker for broker in scene.brokers if broker is not leader)
    scene.crash(follower, power=False, announced=True, back_after=1000)
    fill(scene, leader)
    scene._start(follower)
    scene.until(lambda: leader.member.seeding._sending, step=0.0005)
    scene.until(lambda: not leader.member.seeding._sending, step=0.0001)
    scene.network.cut(leader.ordinal, follower.ordinal)
    last = leader.shard.log.next_index - 1
    scene.until(lambda: follower.shard.commit_index >= last)


def test_a_snapshot_that_is_too_old_when_it_is_installed_is_followed_by_another(scene: Scene) -> None:
    """Retention went on meanwhile."""
    leader = scene.leader
    assert leader is not None
    follower = next(broker for broker in scene.brokers if broker is not leader)
    scene.crash(follower, power=False, announced=True, back_after=1000)
    fill(scene, leader)
    scene._start(follower)
    scene.until(lambda: follower.member.replica.core._state.installing, step=0.0005)
    follower.pace.hung_until = scene.agenda.now + 3
    fill(scene, leader)
    last = leader.shard.log.next_index - 1
    scene.until(lambda: follower.shard.commit_index >= last)


def test_a_snapshot_waits_for_the_write_that_is_under_way(scene: Scene) -> None:
    """A follower with entries that are still being written is sent a snapshot in their place."""
    leader = scene.leader
    assert leader is not None
    follower = next(broker for broker in scene.brokers if broker is not leader)
    # Its disk stands still with a write under way; it does not get on, and retention passes it.
    follower.pace.hung_until = scene.agenda.now + 6
    answers = scene.produce(leader, 1)
    scene.until(lambda: answers)
    assert follower.shard.log.has_job
    scene.network.block(leader.ordinal, follower.ordinal)
    fill(scene, leader)
    # What was held back is lost.
    scene.network.cut(leader.ordinal, follower.ordinal)
    scene.network.heal()
    scene.until(lambda: follower.member.replica.core._state.installing, step=0.0005)
    assert follower.shard.log.has_job
    last = leader.shard.log.next_index - 1
    scene.until(lambda: follower.shard.commit_index >= last)


def test_a_snapshot_waits_until_the_disk_has_room(scene: Scene) -> None:
    """The broker does not end for it, neither while it takes the snapshot nor when it notes that its log has reached it."""
    leader = scene.leader
    assert leader is not None
    follower = next(broker for broker in scene.brokers if broker is not leader)
    scene.crash(follower, power=False, announced=True, back_after=1000)
    fill(scene, leader)
    scene._start(follower)
    loop, disk, snapshots = follower.loop, follower.disk, follower.opened.snapshots
    scene.until(lambda: follower.shard.log._reset, step=0.0001)
    # None of its spares can give room, and it has to wait for some.
    follower.shard.log._reset.spares.clear()
    disk.capacity_bytes -= disk.available_bytes()
    scene.pass_time(2)
    assert follower.member.replica.core._state.installing
    disk.capacity_bytes = CAPACITY_BYTES
    scene.until(lambda: snapshots.seeding and not follower.member.replica.core._state.installing, step=0.0005)
    disk.capacity_bytes -= disk.available_bytes()
    scene.pass_time(2)
    assert snapshots.seeding
    disk.capacity_bytes = CAPACITY_BYTES
    last = leader.shard.log.next_index - 1
    scene.until(lambda: follower.shard.commit_index >= last and not snapshots.seeding)
    assert follower.loop is loop


def test_a_peer_that_was_reached_and_says_nothing_is_dialled_again(scene: Scene) -> None:
    """It ended before it greeted, and what its kernel said of that was lost: nothing will ever come."""
    silent, other = scene.brokers[:2]
    member = silent.member.own_member
    assert silent.loop is not None
    # Its kernel takes the next connection, and it does not get to say anything on it.
    silent.loop.pause(1)
    scene.network.cut(other.ordinal, silent.ordinal)
    scene.until(lambda: half_open(scene, silent, other), step=0.001)
    # The other one's greeting is there, so nothing that it sent is without an answer.
    scene.pass_time(0.05)
    scene.network.block(silent.ordinal, other.ordinal)
    scene.network.block(other.ordinal, silent.ordinal)
    for socket in half_open(scene, silent, other):
        socket.fail(None)
    scene.network.heal()
    assert member not in {greeting.member for greeting in other.member.links.members()}
    scene.until(lambda: member in {greeting.member for greeting in other.member.links.members()})


def half_open(scene: Scene, silent: SimulatedBroker, other: SimulatedBroker) -> list[Socket]:
    """The ends at a broker of connections on which another one waits for its greeting."""
    dialled = other.member.links._dialled
    waiting = [link.transport for link in dialled if link.greeting is None]
    return [
        socket
        for socket in scene.network._sockets
        if socket.other in waiting and socket.node == silent.ordinal
    ]
