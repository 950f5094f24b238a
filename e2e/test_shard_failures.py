"""Brokers of three die under load: the others serve on, nothing acknowledged is lost, and the status tells of it. What befalls
leaders is among the cells (`test_cells_brokers.py`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from conftest import SHARED_TOPIC
from continuous_load import STOPPED_MS_MAX, continuous_load
from kafka_admin import answer_to_one_message
from nodes import no_new_pods
from resources import CLUSTER, bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from environment import Environment
    from kube import Kube
    from shard import Shard

    Tell = Callable[[str, object], None]

MEMBER_CHANGE = re.compile(r"member \d+: (\w+), because")


def _followers(shard: Shard, leader: str) -> list[str]:
    return [pod for pod in shard.pods if pod != leader]


def test_a_follower_is_missed_by_nobody(
    environment: Environment, shard: Shard, record_property: Tell
) -> None:
    """
    1. Under load a follower's pod is deleted by force.
    2. The leader leads on in its epoch, and the follower is back in sync.
    """
    before = shard.leading()
    follower = _followers(shard, before["leader"])[0]
    process = shard.incarnation(follower)
    with continuous_load(shard.kube, environment.client_image, shard.bootstrap, SHARED_TOPIC) as load:
        shard.delete_pods(follower, by_force=True)
        load.wait_flow()
        shard.wait_back(follower, process)
        row = shard.wait_whole()
    record_property("load", load.line("follower's pod deleted"))
    assert (row["leader"], row["epoch"]) == (before["leader"], before["epoch"])


def test_a_wiped_follower_is_seeded(environment: Environment, shard: Shard, record_property: Tell) -> None:
    """
    1. Under load a follower loses its pod and its volume.
    2. It returns with an empty one, as another member: a learner until it holds everything, then a voter in the
       place of the one that is gone.
    3. The new volume is marked like the old one.
    """
    leader = shard.leading()["leader"]
    follower = _followers(shard, leader)[1]
    process, volume = shard.incarnation(follower), shard.claim(follower)
    changes = len(_member_changes(shard.kube, leader))
    with continuous_load(shard.kube, environment.client_image, shard.bootstrap, SHARED_TOPIC) as load:
        shard.wipe(follower)
        load.wait_flow()
        shard.wait_back(follower, process)
        shard.wait_whole()
    record_property("load", load.line("follower wiped"))
    assert _member_changes(shard.kube, leader)[changes:] == ["learner", "remove", "voter"]
    claim = shard.kube.get("pvc", f"data-{follower}")
    assert claim["metadata"]["uid"] != volume
    assert claim["metadata"]["annotations"]["penstock.io/shard-formed"] == "3"


def test_too_few_copies_are_refused_not_pretended(
    environment: Environment, shard: Shard, record_property: Tell
) -> None:
    """
    1. Under load with `minInSync: 3` a follower cannot come back: produce is refused with NOT_ENOUGH_REPLICAS, while the
       cluster is Ready and Degraded.
    2. `minInSync: 2`: messages flow, with two brokers.
    3. The other follower cannot come back either: nobody leads, nothing is acknowledged, and the cluster is not Ready.
    4. Both come back: whole, and every message that waited is there.
    """
    leader = shard.leading()["leader"]
    first, second = _followers(shard, leader)
    outside = bootstrap(shard.kube, shard.cluster, "outside")
    shard.kube.patch(CLUSTER, shard.cluster, {"spec": {"minInSync": 3}})
    shard.wait_whole()
    with continuous_load(
        shard.kube, environment.client_image, shard.bootstrap, SHARED_TOPIC, STOPPED_MS_MAX
    ) as load:
        with no_new_pods(shard.kube):
            shard.delete_pods(first, by_force=True)
            said = shard.wait_reason("Degraded", "True", "BrokerStuck")
            assert first in said, said
            assert shard.kube.wait_ready(CLUSTER, shard.cluster)["status"]["shards"][0]["leader"] == leader
            assert answer_to_one_message(outside, SHARED_TOPIC) == "NOT_ENOUGH_REPLICAS"

            shard.kube.patch(CLUSTER, shard.cluster, {"spec": {"minInSync": 2}})
            load.wait_flow()
            shard.delete_pods(second, by_force=True)
            said = shard.wait_reason("Ready", "False", "BrokerStuck")
            assert "shard 0 has no leader" in said, said
            assert answer_to_one_message(outside, SHARED_TOPIC)
            assert shard.columns()[2] == "False"
        shard.wait_whole()
    record_property("load", load.line("no majority"))


def _member_changes(kube: Kube, leader: str) -> list[str]:
    """What the leader has done to the shard's members, in order."""
    return MEMBER_CHANGE.findall(kube.run("logs", leader))
