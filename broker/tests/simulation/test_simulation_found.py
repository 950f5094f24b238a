"""What the simulator found in the members' driver, each as the shortest scene that shows it."""

from __future__ import annotations

import pytest

from penstock.model.errors import ErrorCode
from penstock.raft.messages import Heartbeat, TimeoutNow
from penstock.testing.simulated_cluster.broker import CONTEXT, SimulatedBroker
from simulation_scene import Scene


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
