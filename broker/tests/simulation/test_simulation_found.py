"""What the simulator found in the members' driver, each as the shortest scene that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from penstock.model.errors import ErrorCode
from penstock.raft.messages import Heartbeat, TimeoutNow, VoteRequest
from penstock.service.api import FetchedPartition, FetchPartition
from penstock.testing.simulated_cluster.broker import CAPACITY_BYTES, CONTEXT, SimulatedBroker
from penstock.testing.simulated_cluster.ending import is_settled
from penstock.testing.simulated_cluster.network import Socket
from simulation_scene import SECONDS_MAX, Scene


@pytest.fixture
def scene() -> Iterator[Scene]:
    found = Scene()
    found.until(lambda: found.clients.keys)
    found.clients.stopped = True
    yield found
    found.end()


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
    scene.pass_time(0.1)  # Every member has heard by then that the last change of the members is committed.
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


def test_a_broker_that_came_back_is_not_ready_before_it_knows_what_clients_know(scene: Scene) -> None:
    """Its last checkpoint may be from before a topic that clients use: they would take it for deleted."""
    leader = scene.leader
    assert leader is not None
    follower = next(broker for broker in scene.brokers if broker is not leader)
    known = leader.shard.commit_index
    scene.crash(follower, power=False, announced=True, back_after=0.1)
    scene.until(lambda: follower.up)
    assert follower.shard.commit_index < known
    assert follower.member.not_ready_reasons()
    scene.until(lambda: not follower.member.not_ready_reasons(), step=0.001)
    assert follower.member.replica.caught_up
    assert follower.shard.commit_index >= known


def read(broker: SimulatedBroker) -> asyncio.Future[list[FetchedPartition]]:
    """Begins a read of partition 0."""
    assert broker.loop is not None
    with broker.loop.running():
        return asyncio.ensure_future(
            broker.data.fetch(
                CONTEXT, [FetchPartition("t", 0, 0, 1 << 20)], min_bytes=0, max_bytes=1 << 20, max_wait_ms=0
            )
        )


def answer(future: asyncio.Future[list[FetchedPartition]]) -> tuple[ErrorCode, int]:
    """Its error and end."""
    (found,) = future.result()
    return found.error, found.high_watermark


def acknowledge_elsewhere(scene: Scene, old: SimulatedBroker) -> None:
    """Another one leads, and acknowledges a message."""
    scene.until(lambda: any(b.shard.leading for b in scene.brokers if b is not old), step=0.001)
    new = next(b for b in scene.brokers if b is not old and b.shard.leading)
    answers = scene.produce(new, 1)
    scene.until(lambda: answers, step=0.001)
    assert answers == [ErrorCode.NONE]


def test_a_leader_that_stood_still_reads_nothing_while_another_one_leads(scene: Scene) -> None:
    """It goes on in the belief that it leads, and is asked before it hears of the other one."""
    leader = scene.leader
    assert leader is not None
    assert leader.loop is not None
    scene.pass_time(0.5)
    assert read(leader).done(), "it reads at once while it leads"
    leader.loop.pause(SECONDS_MAX / 2)
    acknowledge_elsewhere(scene, leader)
    assert leader.loop.paused_until > scene.agenda.now
    assert leader.shard.leading
    found = read(leader)
    scene.until(found.done)
    assert answer(found) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)


def test_a_leader_that_is_cut_off_reads_nothing_while_another_one_leads(scene: Scene) -> None:
    """It has not noticed yet: it looks for its majority every now and then, and had just done so."""
    leader = scene.leader
    assert leader is not None
    state = leader.member.replica.core._state
    scene.until(lambda: state.election_elapsed == 1, step=0.001)
    for other in scene.brokers:
        if other is not leader:
            scene.network.block(other.ordinal, leader.ordinal)
            scene.network.block(leader.ordinal, other.ordinal)
    acknowledge_elsewhere(scene, leader)
    assert leader.shard.leading
    found = read(leader)
    scene.until(found.done)
    assert answer(found) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)


def test_a_leader_that_handed_over_in_vain_asks_before_each_read(scene: Scene) -> None:
    """Who was told to stand for election may hear of it at any time."""
    leader = scene.leader
    assert leader is not None
    assert leader.loop is not None
    follower = next(broker for broker in scene.brokers if broker is not leader)
    scene.network.block(leader.ordinal, follower.ordinal)
    with leader.loop.running():
        assert leader.member.replica.hand_over(follower.member.own_member) is None
    assert not leader.shard.leading
    scene.until(lambda: leader.shard.leading)
    scene.pass_time(0.5)
    found = read(leader)
    assert not found.done()
    scene.until(found.done)
    assert answer(found) == (ErrorCode.NONE, 0)


def test_a_follower_that_was_restarted_keeps_its_vote_back(scene: Scene) -> None:
    """It may have confirmed to a leader a moment before; that one still reads on the strength of it."""
    leader = scene.leader
    assert leader is not None
    follower, third = (broker for broker in scene.brokers if broker is not leader)
    for other in (follower, third):
        scene.network.block(leader.ordinal, other.ordinal)
    scene.crash(follower, power=False, announced=False, back_after=0.05)
    scene.until(lambda: follower.up, step=0.001)
    member, candidate = follower.member, third.member.own_member
    core = member.replica.core
    request = VoteRequest(member.own_member, candidate, core.epoch + 1, 1 << 30, core.epoch, False, False)
    assert follower.loop is not None
    with follower.loop.running():
        member.replica.step(request)
    assert core.epoch == request.epoch - 1
    scene.pass_time(0.75)
    assert core.epoch == request.epoch - 1
    with follower.loop.running():
        member.replica.step(request)
    assert core.epoch == request.epoch


def test_a_log_that_begins_anew_is_not_taken_for_level(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick came when the disk had the leader's state already, and the shard was still the one of before."""
    leader = scene.leader
    assert leader is not None
    follower = next(broker for broker in scene.brokers if broker is not leader)
    scene.crash(follower, power=False, announced=True, back_after=1000)
    fill(scene, leader)
    scene._start(follower)
    assert follower.loop is not None
    snapshots, level, note = follower.opened.snapshots, [], follower.opened.snapshots.seeded

    def seeded() -> None:
        level.append(follower.shard.log.durable_index >= snapshots.covered_index)
        note()

    monkeypatch.setattr(snapshots, "seeded", seeded)
    scene.until(lambda: snapshots.seeding, step=0.00001)
    assert follower.shard.state_index < snapshots.covered_index
    with follower.loop.running():
        follower.member.seeding.tick()
    scene.until(lambda: level and not snapshots.seeding)
    assert all(level)


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


def test_a_life_goes_on_while_a_broker_stands_still(scene: Scene) -> None:
    """A master may have to end when it goes on, and the judge was reading from it."""
    leader = scene.leader
    assert leader is not None
    assert leader.loop is not None
    scene.until(lambda: is_settled(scene))
    leader.loop.pause(0.1)
    assert not is_settled(scene)
    scene.until(lambda: is_settled(scene))


def test_a_life_goes_on_while_a_broker_is_to_end(scene: Scene) -> None:
    """It stood still when it was told so, looked well, and ended while the judge read."""
    leader = scene.leader
    assert leader is not None
    assert leader.loop is not None
    scene.until(lambda: is_settled(scene))
    leader.loop.pause(1)
    scene.restart_in_order(leader, 0.1)
    assert not is_settled(scene)
    scene.until(lambda: is_settled(scene))
    assert leader.loop is not None
    assert not leader.stopping
