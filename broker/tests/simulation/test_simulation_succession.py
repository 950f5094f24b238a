"""How long a shard is without a leader when the leader's process ends, in the simulated cluster's own time."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass

import msgspec
import pytest

from penstock.raft.messages import Refusal
from penstock.replication.succession import TURN_SECONDS
from penstock.session.peer_connection import Greeting
from penstock.testing.simulated_cluster.broker import SimulatedBroker
from penstock.testing.simulated_cluster.shapes import Shape
from simulation_scene import SHAPE, Scene

# A message takes up to 3 ms here, a disk up to 4 ms: an election is two messages to and fro, and three writes.
TYPICAL_SECONDS_MAX = 0.06
LONGEST_SECONDS_MAX = 0.3
SEEDS = 40


@dataclass
class Outage:
    """Who leads after a leader was killed, and after how long."""

    seconds: float
    successor: SimulatedBroker


def outage(scene: Scene) -> Outage:
    leader = scene.leader
    assert leader is not None
    began = scene.agenda.now
    scene.crash(leader, power=False, announced=True, back_after=1000)
    scene.until(lambda: scene.leader, step=0.001)
    assert scene.leader is not None
    return Outage(scene.agenda.now - began, scene.leader)


def under_load(seed: int, shape: Shape = SHAPE) -> Scene:
    scene = Scene(seed, shape)
    scene.until(lambda: scene.clients.keys)
    scene.clients.stopped = True
    leader = scene.leader
    assert leader is not None
    scene.produce(leader, 20)
    # Some of it is on its way to one follower, to both, or to none.
    scene.pass_time(0.0005 * (seed % 10) or 0.0001)
    return scene


@pytest.mark.parametrize("brokers", [3, 5])
def test_a_leader_that_is_killed_under_load_is_replaced_at_once(brokers: int) -> None:
    shape = msgspec.structs.replace(SHAPE, brokers=brokers)
    seconds = [outage(under_load(seed, shape)).seconds for seed in range(SEEDS)]
    assert statistics.median(seconds) < TYPICAL_SECONDS_MAX, sorted(seconds)
    assert max(seconds) < LONGEST_SECONDS_MAX, sorted(seconds)


@pytest.mark.parametrize("seed", range(5))
def test_a_follower_that_notices_late_is_not_waited_for_once_it_has(seed: int) -> None:
    """The first successor's request came before it knew; it is answered when it does."""
    late_seconds = 0.03
    scene = under_load(seed)
    scene.pass_time(0.1)
    _, second = in_order(scene)
    notice = second.member.links._on_gone

    def notice_late(greeting: Greeting) -> None:
        asyncio.get_running_loop().call_later(late_seconds, notice, greeting)

    second.member.links._on_gone = notice_late
    assert outage(scene).seconds < late_seconds + TYPICAL_SECONDS_MAX < TURN_SECONDS


@pytest.mark.parametrize("seed", range(5))
def test_the_one_that_holds_more_stands_when_it_refuses_the_other(seed: int) -> None:
    scene = under_load(seed)
    scene.pass_time(0.1)
    leader = scene.leader
    assert leader is not None
    first, second = in_order(scene)
    scene.network.block(leader.ordinal, first.ordinal)
    scene.produce(leader, 1)
    scene.pass_time(0.05)
    assert second.shard.log.next_index > first.shard.log.next_index
    found = outage(scene)
    assert found.successor is second
    assert found.seconds < TYPICAL_SECONDS_MAX


@pytest.mark.parametrize("seed", range(5))
def test_slow_disks_do_not_make_an_election_begin_again_and_again(seed: int) -> None:
    scene = under_load(seed)
    scene.pass_time(0.1)
    for broker in scene.brokers:
        broker.pace.slowness = 30.0  # up to 120 ms, more than a voter's turn
    epoch = scene.brokers[0].shard.epoch
    found = outage(scene)
    assert found.seconds < 0.5
    assert found.successor.shard.epoch == epoch + 1


def in_order(scene: Scene) -> list[SimulatedBroker]:
    """The followers in the order in which they stand."""
    return sorted(
        (broker for broker in scene.brokers if broker is not scene.leader),
        key=lambda broker: broker.member.own_member,
    )


# --- handing over ----------------------------------------------------------------------------------


def hand_over(scene: Scene, leader: SimulatedBroker) -> list[Refusal | None]:
    """Begins to; the list has the outcome when it is over."""
    outcomes: list[Refusal | None] = []
    assert leader.loop is not None
    with leader.loop.running():
        task = leader.loop.create_task(leader.member.hand_over())
        task.add_done_callback(lambda done: outcomes.append(done.result()))
    return outcomes


def test_a_leader_that_can_reach_nobody_does_not_try_to_hand_over() -> None:
    scene = Scene()
    leader = scene.leader
    assert leader is not None
    for other in in_order(scene):
        scene.crash(other, power=False, announced=True, back_after=1000)
    scene.pass_time(0.02)
    assert leader.shard.leading
    assert leader.member.standings(), "they were heard of lately"
    outcomes = hand_over(scene, leader)
    scene.pass_time(0.001)
    assert outcomes == [Refusal("no other voter can be reached")]


def test_a_hand_over_is_given_up_when_the_other_one_goes() -> None:
    scene = Scene()
    leader = scene.leader
    assert leader is not None
    others = in_order(scene)
    for other in others:
        assert other.loop is not None
        other.loop.pause(1000)
    outcomes = hand_over(scene, leader)
    scene.pass_time(0.05)
    assert not outcomes
    for other in others:
        scene.crash(other, power=False, announced=True, back_after=1000)
    scene.pass_time(0.02)
    assert outcomes == [Refusal("the other broker did not take it")]
