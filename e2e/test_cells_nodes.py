"""Cells of the dozen: the leader's node hangs, is lost with its volume, is drained; the API server is away."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from cells import CONTAINER_CRASH, HAND_OVER, NODE_LOSS, Cell
from conftest import SHARED_CLUSTER, SHARED_PARTITIONS, SHARED_TOPIC
from continuous_load import SILENCE_MS_MAX, STOPPED_MS_MAX
from events import told
from nodes import api_server_away, lost_for_good, paused, workers
from resources import TOPIC, topic
from shard import Shard
from story import Story

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Operator, SharedShards
    from environment import Environment
    from kube import Kube
    from modes import Mode

API_AWAY_SECONDS = 60.0
DIES_AFTER_SECONDS = 20.0
"""How long the API server has been away when the leader dies: Leases have run out by then."""
PAUSES = 2
REFUSED_SECONDS_MAX = 15
DRAINED_SECONDS_MAX = 90
EXPECTED_WITHOUT_THE_SERVER = "cannot start.*the Kubernetes API does not answer"
"""What an operator says that lost its Lease meanwhile, and was started again too early."""
LOST_SECONDS_MAX = 180.0
"""A minute until the volume is given up, twice the time until the operator looks by itself, and the seeding."""


def _place(shard: Shard, pod: str, ready: Environment) -> str:
    """The worker that this broker runs on, and no other broker of its shard."""
    places = {one: shard.node(one) for one in shard.pods}
    assert sorted(set(places.values())) == sorted(places.values()), f"brokers share a node: {places}"
    assert places[pod] in workers(ready), places
    return places[pod]


@pytest.mark.smoke
def test_a_leader_on_a_paused_node_is_replaced(cell: Cell) -> None:
    """
    1. Under load the leader's node hangs: its connections stay open, and nothing answers.
    2. Another broker leads, and messages flow.
    3. The node goes on: the former leader follows, in sync.
    """
    shard = cell.shard
    with cell.load("node paused", NODE_LOSS) as load:
        for _ in range(PAUSES):
            leader = shard.leading()["leader"]
            with load.fault():
                with paused(cell.environment, _place(shard, leader, cell.environment)):
                    assert shard.leading(other_than=leader)["leader"] != leader
                    load.wait_flow()
                shard.wait_whole()


def test_a_node_lost_with_its_volume_is_replaced_and_tells_its_story(
    environment: Environment,
    mode: Mode,
    kube: Kube,
    shards_of_session: SharedShards,
    record_property: Callable[[str, object], None],
) -> None:
    """
    1. A cluster with `storage.replaceLost: true`. Under load the leader's node is killed, and its Node object goes.
    2. Another broker leads within seconds, and messages flow.
    3. The pod is replaced; its volume is gone with the node, so its claim is given up after a minute, and it begins anew
       on another node, is sent everything and counts again.
    4. Status and Events, in the order of time, tell all of this without a log.
    """
    # What scenarios share is spared.
    for shared in shards_of_session.drop_all():
        kube.wait_gone("namespace", shared)
    kube.apply(
        mode.cluster(SHARED_CLUSTER, storage={"size": "1Gi", "replaceLost": True}),
        topic(SHARED_TOPIC, SHARED_CLUSTER, partitions=SHARED_PARTITIONS),
    )
    kube.wait_ready(TOPIC, SHARED_TOPIC)
    shard = Shard(kube, SHARED_CLUSTER, mode.replicas)
    before = shard.wait_whole()
    leader, volume = before["leader"], shard.claim(before["leader"])
    node = _place(shard, leader, environment)
    cell = Cell(mode, shard, SHARED_TOPIC, environment, record_property)
    with (
        Story(kube, SHARED_CLUSTER) as story,
        cell.load("node lost with its volume", NODE_LOSS) as load,
        load.fault(),
        lost_for_good(environment, node),
    ):
        heir = shard.leading(other_than=leader)["leader"]
        load.wait_flow()
        story.look()
        shard.wait_whole(seconds=LOST_SECONDS_MAX)
        story.look()
    assert shard.claim(leader) not in ("", volume)
    for line in story.lines():
        record_property("story", line)
    missed = f"(BrokersMissing|NoLeader): .*{leader}"
    story.tells(missed, f"LeaderElected: .*{heir} leads", "BrokersReady")
    story.tells(
        missed,
        f"BrokerReplaced: {leader} is replaced because node {node} is gone",
        f"claim data-{leader} is kept although its volume .* was on node {node}, which is gone",
        f"VolumeReplaced: claim data-{leader} is given up because .* {leader} begins anew",
        "BrokersReady",
    )


def test_a_drained_node_is_left_first_and_the_next_one_has_to_wait(cell: Cell) -> None:
    """
    1. Under load the leader's node is cordoned, as a drain begins: another broker leads, and an Event says why.
    2. The drain takes the pod away.
    3. The drain of another node is refused by the disruption budget until the first broker is back and in sync.
    """
    shard, ready = cell.shard, cell.environment
    leader = shard.leading()["leader"]
    node = _place(shard, leader, ready)
    process = shard.incarnation(leader)
    with cell.load("node drained", HAND_OVER) as load, load.fault():
        try:
            ready.kube.run("cordon", node)
            heir = shard.leading(other_than=leader)["leader"]
            assert _drain(shard, node, DRAINED_SECONDS_MAX) == ""
            refused = _drain(shard, _place_of_another(shard, leader), REFUSED_SECONDS_MAX)
            assert "disruption budget" in refused, refused
        finally:
            ready.kube.run("uncordon", *workers(ready))
        shard.wait_back(leader, process)
        row = shard.wait_whole()
    assert row["leader"] != leader
    messages = [event["message"] for event in told(shard.kube, "HandOver")]
    assert (
        f"{leader} hands over to {heir} because node {node} is cordoned, which a drain may follow" in messages
    )


def _place_of_another(shard: Shard, pod: str) -> str:
    """The node of a broker that is not this one: of the leader, so that its drain would cost most."""
    return shard.node(shard.leading(other_than=pod)["leader"])


def _drain(shard: Shard, node: str, seconds: int) -> str:
    """`kubectl drain` of the cluster's brokers there; what it said when it was not done in time."""
    done = shard.kube.attempt(
        *("drain", node, "--ignore-daemonsets", "--delete-emptydir-data"),
        *(f"--pod-selector=penstock.io/cluster={shard.cluster}", f"--timeout={seconds}s"),
        seconds=seconds + 10,
    )
    return done.stderr if done.returncode else ""


def test_messages_and_the_api_server_that_is_away_for_a_minute(cell: Cell, operator: Operator) -> None:
    """
    1. Under load the API server does not answer for a minute.
    2. Raft: nobody notices; the leader's container dies meanwhile, and another broker leads.
       MasterSlave: nothing is acknowledged once the Lease ran out, and all goes on by itself when the server is back.
    3. The shard is whole, and the operator works again.
    """
    shard = cell.shard
    operator.log.expected.append(EXPECTED_WITHOUT_THE_SERVER)
    leader = shard.leading()["leader"]
    process, kill = shard.incarnation(leader), shard.killer(leader)
    waits = cell.mode.needs_api_server
    cause = "API server away 60 s" + ("" if waits else ", container crash meanwhile")
    with cell.load(
        cause, None if waits else CONTAINER_CRASH, STOPPED_MS_MAX if waits else SILENCE_MS_MAX
    ) as load:
        with load.fault():
            with api_server_away(cell.environment):
                time.sleep(DIES_AFTER_SECONDS)
                if not waits:
                    kill()
                time.sleep(API_AWAY_SECONDS - DIES_AFTER_SECONDS)
            if not waits:
                shard.wait_back(leader, process)
            row = shard.wait_whole()
        operator.wait_available()
    assert waits or row["leader"] != leader
