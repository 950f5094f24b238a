"""Cells of the dozen: a leader's container crashes, its pod is deleted, it dies while nobody operates, its volume is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cells import CONTAINER_CRASH, HAND_OVER, Cell
from conftest import SHARED_CLUSTER, SHARED_PARTITIONS, SHARED_TOPIC
from continuous_load import STOPPED_MS_MAX
from kafka_admin import answer_to_one_message, messages_read
from kube import wait_for
from resources import TOPIC, bootstrap, outside_listeners, topic
from shard import Shard
from small_volumes import SIZE, STORAGE_CLASS, full, small_volumes

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Operator
    from environment import Environment
    from kube import Kube
    from modes import Mode

CRASHES = 3
DELETIONS = 3
SEGMENT_BYTES = 1 << 20
FULL_PAYLOAD_BYTES = 1_000
"""Large enough that the segments that a broker keeps in store are full within seconds."""
FULL_SECONDS_MAX = 60.0
READ_MESSAGES = 1_000


@pytest.mark.smoke
def test_a_crashed_leader_is_replaced(cell: Cell) -> None:
    """
    1. Under load the leader's process gets SIGKILL, three times.
    2. Another broker leads each time in a newer epoch, and messages flow again.
    3. The container is back in the same pod, in sync; `kubectl get` names the new leader.
    """
    shard = cell.shard
    with cell.load("container crash", CONTAINER_CRASH) as load:
        for _ in range(CRASHES):
            before = shard.leading()
            leader = before["leader"]
            uid, restarts = shard.incarnation(leader)
            with load.fault():
                shard.kill_process(leader)
                assert shard.wait_back(leader, (uid, restarts)) == (uid, restarts + 1)
                row = shard.wait_whole()
            assert row["epoch"] > before["epoch"]
    columns = shard.columns()
    assert columns[:4] == [shard.cluster, cell.mode.name, "True", "BrokersReady"]
    assert (columns[4], columns[5]) == (row["leader"], str(cell.mode.replicas))


def test_a_deleted_leader_hands_over(cell: Cell) -> None:
    """
    1. Under load the leader's pod is deleted, as people do it, three times.
    2. Another broker leads at once; the pod is made anew on its volume and in sync.
    """
    shard = cell.shard
    with cell.load("pod deleted", HAND_OVER) as load:
        for _ in range(DELETIONS):
            before = shard.leading()
            leader = before["leader"]
            process, volume = shard.incarnation(leader), shard.claim(leader)
            with load.fault():
                shard.delete_pods(leader)
                shard.wait_back(leader, process)
                row = shard.wait_whole()
            assert row["epoch"] > before["epoch"]
            assert row["leader"] != leader
            assert shard.claim(leader) == volume


@pytest.mark.smoke
def test_failover_works_with_the_operator_scaled_to_zero(operator: Operator, cell: Cell) -> None:
    """
    1. The operator is scaled to nothing; under load the leader's pod is deleted by force.
    2. Another broker leads, messages flow, and the pod is back in sync; the status still names the dead leader.
    3. The operator returns, and the status follows.
    """
    shard = cell.shard
    leader = shard.leading()["leader"]
    process = shard.incarnation(leader)
    operator.scale(0)
    try:
        with (
            cell.load("operator dead all along, pod deleted by force", CONTAINER_CRASH) as load,
            load.fault(),
        ):
            shard.delete_pods(leader, by_force=True)
            assert shard.leading(other_than=leader)["leader"] != leader
            shard.wait_back(leader, process)
            shard.wait_served()
            assert shard.status()["leader"] == leader
    finally:
        operator.scale(2)
    shard.wait_whole()


def test_a_full_volume_stops_writes_until_there_is_room(
    environment: Environment, mode: Mode, kube: Kube, record_property: Callable[[str, object], None]
) -> None:
    """
    1. Brokers have volumes of their own. Under load a follower's is filled: messages flow on.
    2. The leader's is filled: produce is refused with an error that may be tried again, and consumers read on.
    3. There is room again: messages flow by themselves, and all brokers hold the same.
    """
    with small_volumes(environment, kube.namespace):
        kube.apply(
            mode.cluster(
                SHARED_CLUSTER,
                listeners=outside_listeners(kube),
                storage={"size": SIZE, "storageClassName": STORAGE_CLASS},
                config={"log.segment.bytes": SEGMENT_BYTES},
            ),
            topic(SHARED_TOPIC, SHARED_CLUSTER, partitions=SHARED_PARTITIONS),
        )
        kube.wait_ready(TOPIC, SHARED_TOPIC)
        shard = Shard(kube, SHARED_CLUSTER, mode.replicas)
        leader = shard.wait_whole()["leader"]
        follower = next(pod for pod in shard.pods if pod != leader)
        outside = bootstrap(kube, SHARED_CLUSTER, "outside")
        cell = Cell(mode, shard, SHARED_TOPIC, environment, record_property, FULL_PAYLOAD_BYTES)
        with cell.load("follower's volume full", CONTAINER_CRASH) as load:
            with load.fault(), full(shard.node(follower)):
                _wait_disk(kube, follower, "refuse")
                load.wait_flow()
            shard.wait_whole()
        with cell.load("leader's volume full", silence_ms_max=STOPPED_MS_MAX) as load:
            leader = shard.leading()["leader"]
            with load.fault(), full(shard.node(leader)):
                _wait_disk(kube, leader, "refuse")
                assert answer_to_one_message(outside, SHARED_TOPIC) == REFUSAL
                assert messages_read(outside, SHARED_TOPIC, READ_MESSAGES) == READ_MESSAGES
            row = shard.wait_whole()
        assert row["leader"] == leader


REFUSAL = "KAFKA_STORAGE_ERROR"


def _wait_disk(kube: Kube, pod: str, state: str) -> None:
    """Waits until a broker says that of its disk."""
    wait_for(
        f"disk of {pod} to be {state}",
        lambda: kube.broker_admin(pod, "/v1/broker")["disk"]["state"] == state,
        seconds=FULL_SECONDS_MAX,
        last_seen=lambda: str(kube.broker_admin(pod, "/v1/broker")["disk"]),
    )
