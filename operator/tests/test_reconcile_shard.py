"""Passes over a MessageCluster of three brokers that answer by the contract: forming, rolling, growing, losing."""

from __future__ import annotations

from typing import Any

import pytest

from fake_kube import FakeKube
from harness import Harness, condition, has_reason, is_ready, running
from penstock_operator.kube_errors import KubeError

CLUSTER = ("MessageCluster", "orders")
PODS = [f"orders-0-{ordinal}" for ordinal in range(3)]
FORMED = "penstock.io/shard-formed"


@pytest.fixture
async def harness() -> Any:
    async with running(FakeKube(), replicas=3) as made:
        yield made


async def ready_cluster(harness: Harness, **spec: Any) -> dict[str, Any]:
    await harness.create(*CLUSTER, {"mode": "Raft", "replicas": 3, **spec})
    found: dict[str, Any] = await harness.settle(*CLUSTER, is_ready)
    return found


async def turns(harness: Harness, count: int) -> dict[str, Any]:
    for _ in range(count):
        await harness.controllers.step()
        await harness.turn(CLUSTER)
    return await harness.get(*CLUSTER)


def disruptions(harness: Harness) -> list[str]:
    kube: Any = harness.kube
    return [name.removeprefix("Pod/") for verb, name in kube.calls if verb == "evict"]


def events(harness: Harness) -> list[tuple[str, str]]:
    kube: Any = harness.kube
    return [(item["type"], item["reason"]) for (kind, _, _), item in kube.objects.items() if kind == "Event"]


async def annotations(harness: Harness, kind: str, name: str) -> dict[str, str]:
    api_version = "apps/v1" if kind == "StatefulSet" else "v1"
    found = await harness.kube.get(api_version, kind, "shop", name)
    assert found is not None
    marked: dict[str, str] = found["metadata"].get("annotations", {})
    return marked


async def test_three_brokers_become_ready_and_are_remembered(harness: Harness) -> None:
    cluster = await ready_cluster(harness)
    assert condition(cluster, "Ready")["message"] == "3 of 3 brokers are ready"
    assert cluster["status"]["replicas"] == 3
    (shard,) = cluster["status"]["shards"]
    assert (shard["leader"], shard["epoch"]) == ("orders-0-0", 1)
    assert shard["members"] == [
        {"name": name, "role": "Leader" if name == PODS[0] else "Follower", "inSync": True, "lagBytes": 0}
        for name in PODS
    ]
    assert (await annotations(harness, "StatefulSet", "orders-0"))[FORMED] == "3"
    for name in PODS:
        assert (await annotations(harness, "PersistentVolumeClaim", f"data-{name}"))[FORMED] == "3"
        assert harness.shard.brokers[name].file["shard.formed"] is False, "it was new when they started"
    kube: Any = harness.kube
    kube.calls.clear()
    await turns(harness, 3)
    assert [call for call in kube.calls if call[0] != "status"] == []
    assert disruptions(harness) == [], "that the shard is formed now restarts nobody"


async def test_a_cluster_is_not_ready_before_the_last_broker_is_in_sync(harness: Harness) -> None:
    late = harness.shard.brokers["orders-0-2"]
    late.role, late.in_sync, late.lag_bytes = "Learner", False, 4096
    await harness.create(*CLUSTER, {"mode": "Raft", "replicas": 3})
    cluster = await turns(harness, 4)
    assert condition(cluster, "Ready")["reason"] == "BrokersNotReady"
    assert condition(cluster, "Ready")["message"] == "orders-0-2 is catching up, 4096 bytes behind"
    assert (await annotations(harness, "StatefulSet", "orders-0"))[FORMED] == "0"
    late.role, late.in_sync, late.lag_bytes = "", True, 0
    await harness.settle(*CLUSTER, is_ready)


async def test_a_restart_rolls_followers_first_and_hands_over(harness: Harness) -> None:
    await ready_cluster(harness)
    await harness.edit(*CLUSTER, {"metadata": {"annotations": {"penstock.io/restart": "monday"}}})
    for _ in range(8):
        await turns(harness, 1)
        assert len([name for name in disruptions(harness) if not await is_there(harness, name)]) <= 1
    assert disruptions(harness) == ["orders-0-1", "orders-0-2", "orders-0-0"]
    assert harness.shard.hand_overs == [("orders-0-0", "orders-0-1")]
    cluster = await harness.settle(*CLUSTER, is_ready)
    assert cluster["status"]["shards"][0]["leader"] == "orders-0-1"
    assert condition(cluster, "Degraded")["status"] == "False"
    told = events(harness)
    assert told.count(("Normal", "BrokerRestart")) == 3
    assert told.count(("Normal", "HandOver")) == 1
    assert not [entry for entry in told if entry[1] == "NoLeader"], "there was always one"
    assert not [entry for entry in told if entry[1] == "BrokersMissing" and entry[0] == "Warning"]


async def is_there(harness: Harness, name: str) -> bool:
    return await harness.kube.get("v1", "Pod", "shop", name) is not None


async def test_a_new_leader_has_a_moment_before_it_is_asked(harness: Harness) -> None:
    await ready_cluster(harness)
    await harness.edit(*CLUSTER, {"metadata": {"annotations": {"penstock.io/restart": "monday"}}})
    await turns(harness, 3)
    assert disruptions(harness) == ["orders-0-1", "orders-0-2"]
    heir = harness.shard.brokers["orders-0-1"]
    heir.not_ready_as_leader = ["it has just taken over"]
    cluster = await turns(harness, 1)
    assert harness.shard.hand_overs == [("orders-0-0", "orders-0-1")]
    assert condition(cluster, "Ready")["status"] == "True"
    assert "hands over to orders-0-1 first" in condition(cluster, "Progressing")["message"]
    heir.not_ready_as_leader = []
    await turns(harness, 1)
    assert disruptions(harness)[-1] == "orders-0-0"


async def test_a_roll_waits_until_the_restarted_broker_has_everything(harness: Harness) -> None:
    await ready_cluster(harness)
    await harness.edit(*CLUSTER, {"metadata": {"annotations": {"penstock.io/restart": "monday"}}})
    await turns(harness, 2)
    behind = harness.shard.brokers["orders-0-1"]
    behind.in_sync, behind.lag_bytes = False, 1000
    cluster = await turns(harness, 4)
    assert disruptions(harness) == ["orders-0-1"]
    assert condition(cluster, "Ready")["status"] == "True"
    assert condition(cluster, "Degraded")["message"] == "orders-0-1 is not in sync, 1000 bytes behind"
    assert "not yet, because orders-0-1 is not in sync" in condition(cluster, "Progressing")["message"]
    behind.in_sync, behind.lag_bytes = True, 0
    await turns(harness, 1)
    assert disruptions(harness) == ["orders-0-1", "orders-0-2"]


async def test_a_leader_that_cannot_hand_over_is_not_restarted(harness: Harness) -> None:
    await ready_cluster(harness)
    harness.shard.refuses_hand_over = True
    await harness.edit(*CLUSTER, {"metadata": {"annotations": {"penstock.io/restart": "monday"}}})
    cluster = await turns(harness, 6)
    assert disruptions(harness) == ["orders-0-1", "orders-0-2"]
    assert condition(cluster, "Ready")["status"] == "True"
    assert "did not take over in time" in condition(cluster, "Progressing")["message"]
    harness.shard.refuses_hand_over = False
    await turns(harness, 2)
    assert disruptions(harness)[-1] == "orders-0-0"


async def test_a_disruption_budget_delays_and_breaks_nothing(harness: Harness) -> None:
    await ready_cluster(harness)
    kube: Any = harness.kube
    kube.refuse["evict", "orders-0-1"] = KubeError(429, "TooManyRequests", "it would violate the budget")
    await harness.edit(*CLUSTER, {"metadata": {"annotations": {"penstock.io/restart": "monday"}}})
    cluster = await turns(harness, 2)
    assert condition(cluster, "Ready")["status"] == "True"
    assert "a disruption budget forbids it now" in condition(cluster, "Progressing")["message"]
    kube.refuse.clear()
    await harness.settle(*CLUSTER, lambda _: len(set(disruptions(harness))) == 3)


async def test_three_brokers_that_cannot_start_are_mended_without_a_leader(harness: Harness) -> None:
    harness.shard.lead("")
    harness.controllers.waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    await harness.create(*CLUSTER, {"mode": "Raft", "replicas": 3, "image": "wrong"})
    cluster = await harness.settle(*CLUSTER, has_reason("BrokerStuck"))
    assert condition(cluster, "Degraded")["status"] == "True"
    await harness.edit(*CLUSTER, {"spec": {"image": "right"}})
    await turns(harness, 4)
    assert sorted(set(disruptions(harness))) == PODS
    harness.controllers.waiting = None
    harness.shard.lead("orders-0-1")
    await harness.settle(*CLUSTER, is_ready)


async def test_a_minority_away_is_degraded_and_the_leader_away_is_not_ready(harness: Harness) -> None:
    await ready_cluster(harness)
    harness.controllers.away = {"orders-0-2"}
    cluster = await turns(harness, 2)
    assert condition(cluster, "Ready")["status"] == "True"
    assert condition(cluster, "Degraded")["reason"] == "BrokersMissing"
    assert condition(cluster, "Degraded")["message"] == "orders-0-2 is not ready: the broker is starting"
    assert ("Warning", "BrokersMissing") in events(harness)
    harness.controllers.away = {"orders-0-0", "orders-0-2"}
    harness.shard.lead("")
    cluster = await turns(harness, 2)
    assert condition(cluster, "Ready")["reason"] == "NoLeader"
    assert cluster["status"]["shards"][0]["leader"] == ""
    assert ("Warning", "NoLeader") in events(harness)
    harness.controllers.away = set()
    harness.shard.lead("orders-0-2")
    cluster = await harness.settle(*CLUSTER, is_ready)
    assert cluster["status"]["shards"][0]["leader"] == "orders-0-2"
    assert condition(cluster, "Degraded")["status"] == "False"


async def test_a_broker_that_believes_in_an_old_leader_is_not_believed(harness: Harness) -> None:
    await ready_cluster(harness)
    harness.shard.lead("orders-0-1")
    harness.shard.brokers["orders-0-0"].believes = "orders-0-0"
    cluster = await turns(harness, 2)
    assert cluster["status"]["shards"][0]["leader"] == "orders-0-1"


async def test_dynamic_settings_and_topics_follow_the_leader(harness: Harness) -> None:
    await ready_cluster(harness)
    await harness.create("Topic", "payments", {"clusterRef": {"name": "orders"}, "partitions": 3})
    await harness.settle("Topic", "payments", is_ready)
    harness.shard.lead("orders-0-2")
    await harness.edit(*CLUSTER, {"spec": {"config": {"log.retention.ms": 1000}}})
    await harness.settle(*CLUSTER, is_ready)
    assert harness.shard.dynamic == {"log.retention.ms": 1000}
    # The status that a topic's pass starts from may be older than the leader.
    harness.shard.lead("orders-0-1")
    await harness.edit("Topic", "payments", {"spec": {"partitions": 6}})
    topic = await harness.settle("Topic", "payments", is_ready)
    assert topic["status"]["partitions"] == 6
    harness.shard.lead("")
    topic = await harness.settle("Topic", "payments", has_reason("BrokerUnreachable"))
    assert condition(topic, "Ready")["message"] == "shard 0 has no leader"
    assert condition(topic, "Progressing")["status"] == "True"


async def test_growing_restarts_nobody_and_asks_for_more_copies_when_they_are_there(
    harness: Harness,
) -> None:
    newcomers = [harness.shard.brokers[name] for name in PODS[1:]]
    for broker in newcomers:
        broker.role = None
        broker.not_ready = ["it is no member of the shard yet"]
    await ready_cluster(harness, replicas=1)
    await harness.edit(*CLUSTER, {"spec": {"replicas": 3}})
    cluster = await turns(harness, 4)
    assert harness.shard.resizes == [3]
    assert disruptions(harness) == []
    new = newcomers[0].file
    assert new["replicas"] == 3
    assert new["shard.peers"].startswith("0=orders-0-0.orders-0.shop.svc:9093,1=orders-0-1.")
    assert new["min.insync.replicas"] == 1, "two copies cannot be asked of one broker"
    assert new["shard.formed"] is True, "a new broker joins, it does not found"
    assert condition(cluster, "Ready")["reason"] == "BrokersNotReady"
    for broker in newcomers:
        broker.role, broker.in_sync, broker.not_ready = "Learner", False, []
    cluster = await turns(harness, 2)
    assert "orders-0-1 is catching up" in condition(cluster, "Ready")["message"]
    for broker in newcomers:
        broker.role, broker.in_sync = "", True
    await harness.settle(*CLUSTER, is_ready)
    assert harness.shard.dynamic == {"min.insync.replicas": 2}
    assert disruptions(harness) == []
    assert ("Normal", "Scaling") in events(harness)


async def test_brokers_leave_before_their_pods_are_deleted_and_everything_else_goes_on(
    harness: Harness,
) -> None:
    await ready_cluster(harness)
    harness.shard.lead("orders-0-2")
    harness.shard.leaving = "broker 2 stays for now: broker 1 is not in sync"
    await harness.edit(*CLUSTER, {"spec": {"replicas": 1, "config": {"log.retention.ms": 1000}}})
    cluster = await turns(harness, 4)
    assert harness.shard.resizes == [1], "it is told once"
    assert harness.shard.dynamic == {"log.retention.ms": 1000, "min.insync.replicas": 1}
    assert condition(cluster, "Progressing")["reason"] == "Scaling"
    assert condition(cluster, "Progressing")["message"].endswith(harness.shard.leaving)
    assert is_ready(cluster)
    assert cluster["status"]["replicas"] == 3
    assert len(cluster["status"]["shards"][0]["members"]) == 3
    harness.shard.let_go()
    cluster = await turns(harness, 3)
    assert harness.shard.leader == "orders-0-0"
    assert cluster["status"]["replicas"] == len(cluster["status"]["shards"][0]["members"]) == 1
    assert condition(cluster, "Progressing")["reason"] == "Settled"
    assert is_ready(cluster)
    assert disruptions(harness) == [], "nobody is restarted for it"
    assert {("Normal", "Scaling"), ("Normal", "BrokersLeft")} <= set(events(harness))
    assert (await annotations(harness, "StatefulSet", "orders-0"))[FORMED] == "1"
    for name in PODS[1:]:
        claim = await annotations(harness, "PersistentVolumeClaim", f"data-{name}")
        assert FORMED not in claim, "kept, and no full copy"
    # Again three: the volumes of before are used, and nothing is founded.
    await harness.edit(*CLUSTER, {"spec": {"replicas": 3}})
    for name in PODS[1:]:
        harness.shard.brokers[name].role = ""
    cluster = await harness.settle(*CLUSTER, is_ready)
    cluster = await turns(harness, 3)
    assert harness.shard.resizes == [1, 3]
    assert (await annotations(harness, "StatefulSet", "orders-0"))[FORMED] == "3"
    assert condition(cluster, "Progressing")["reason"] == "Settled"


async def test_a_refused_step_degrades_the_cluster_and_another_wish_in_the_middle_counts(
    harness: Harness,
) -> None:
    await ready_cluster(harness)
    harness.shard.leaving = "broker 2 stays for now: topic payments has min.insync.replicas=2"
    harness.shard.leaving_refused = True
    await harness.edit(*CLUSTER, {"spec": {"replicas": 1}})
    cluster = await turns(harness, 3)
    assert condition(cluster, "Degraded")["reason"] == "ScaleDownRefused"
    assert "min.insync.replicas=2" in condition(cluster, "Degraded")["message"]
    assert ("Warning", "ScaleDownRefused") in events(harness)
    await harness.edit(*CLUSTER, {"metadata": {"annotations": {"penstock.io/restart": "monday"}}})
    await turns(harness, 2)
    assert disruptions(harness) == ["orders-0-1"], "a restart goes on"
    await harness.edit(*CLUSTER, {"spec": {"replicas": 3}})
    harness.shard.leaving, harness.shard.leaving_refused = "", False
    cluster = await turns(harness, 8)
    assert harness.shard.resizes == [1, 3]
    assert sorted(disruptions(harness)) == PODS
    assert cluster["status"]["replicas"] == 3
    assert condition(cluster, "Progressing")["reason"] == "Settled"


async def test_a_leader_that_cannot_be_asked_removes_nobody(harness: Harness) -> None:
    await ready_cluster(harness)
    harness.shard.resize(1)
    for name in PODS:
        harness.shard.brokers[name].role = ""
    await harness.shard.brokers["orders-0-0"].stop()
    await harness.edit(*CLUSTER, {"spec": {"replicas": 1}})
    cluster = await turns(harness, 4)
    assert cluster["status"]["replicas"] == 3
    assert harness.shard.resizes == [1]
    assert "once orders-0-0, which leads, can be asked" in condition(cluster, "Progressing")["message"]


async def test_pods_that_somebody_else_asked_for_are_taken_back(harness: Harness) -> None:
    await ready_cluster(harness)
    await harness.kube.merge("apps/v1", "StatefulSet", "shop", "orders-0", {"spec": {"replicas": 5}})
    await harness.turn(CLUSTER)
    stateful_set = await harness.kube.get("apps/v1", "StatefulSet", "shop", "orders-0")
    assert stateful_set is not None
    assert stateful_set["spec"]["replicas"] == 3


async def wipe(harness: Harness, *kinds: str) -> None:
    kube: Any = harness.kube
    for address in list(kube.objects):
        if address[0] in kinds:
            del kube.objects[address]


async def test_a_shard_that_lost_every_volume_is_degraded_and_not_made_anew(harness: Harness) -> None:
    await ready_cluster(harness)
    await wipe(harness, "Pod", "PersistentVolumeClaim")
    harness.shard.lead("")
    for broker in harness.shard.brokers.values():
        broker.not_ready = ["its folder is empty, but the shard exists"]
    cluster = await harness.settle(*CLUSTER, has_reason("ShardLost"))
    assert condition(cluster, "Degraded")["status"] == "True"
    assert condition(cluster, "Ready")["message"].startswith("shard 0 has lost every volume")
    assert ("Warning", "ShardLost") in events(harness)
    for broker in harness.shard.brokers.values():
        assert broker.file["shard.formed"] is True
    await turns(harness, 4)
    for name in PODS:
        assert FORMED not in await annotations(harness, "PersistentVolumeClaim", f"data-{name}")
    # Deleting the MessageCluster forgets the shard: then a new one may begin.
    await wipe(harness, "Pod", "StatefulSet", "ConfigMap", "MessageCluster")
    await harness.create(*CLUSTER, {"mode": "Raft", "replicas": 3})
    await turns(harness, 2)
    assert harness.broker.file["shard.formed"] is False


async def test_kept_volumes_are_known_to_be_a_formed_shard_of_their_size(harness: Harness) -> None:
    first = await ready_cluster(harness)
    await wipe(harness, "Pod", "StatefulSet", "ConfigMap", "Service", "MessageCluster")
    harness.shard.leaving = "broker 2 stays for now: broker 1 is not in sync"
    await harness.create(*CLUSTER, {"mode": "Raft", "replicas": 1})
    cluster = await turns(harness, 4)
    assert harness.broker.file["shard.formed"] is True
    assert cluster["status"]["shards"][0]["uid"] == first["status"]["shards"][0]["uid"]
    assert cluster["status"]["replicas"] == 3
    assert (
        "shard 0 goes down to 1 broker: broker 2 stays for now"
        in condition(cluster, "Progressing")["message"]
    )
    await harness.edit(*CLUSTER, {"spec": {"replicas": 3}})
    harness.shard.leaving = ""
    await harness.settle(*CLUSTER, is_ready)


async def test_bootstrap_of_a_node_port_without_a_host_is_what_brokers_advertise(harness: Harness) -> None:
    listeners = [
        {"name": "internal", "port": 9092},
        {"name": "outside", "type": "nodePort", "port": 9094},
    ]
    cluster = await ready_cluster(harness, listeners=listeners)
    assert cluster["status"]["bootstrap"] == {
        "internal": "orders-bootstrap.shop.svc:9092",
        "outside": "10.0.0.1:30000,10.0.0.2:30001,10.0.0.3:30002",
    }
    for ordinal, name in enumerate(PODS):
        service = await harness.kube.get("v1", "Service", "shop", f"{name}-outside")
        assert service is not None
        port = service["spec"]["ports"][0]["nodePort"]
        told = {item["name"]: item.get("advertise") for item in harness.shard.brokers[name].file["listeners"]}
        assert told["outside"] == f"$(HOST_IP):{port}"
        assert told["internal"] == f"orders-0-{ordinal}.orders-0.shop.svc:9092"
