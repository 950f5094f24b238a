"""How the operator hears of a failover that no Kubernetes object shows, and of nodes: whom it asks, and what wakes what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fake_kube import FakeKube
from harness import fake_shard, running
from penstock_operator.leader_watch import LeaderWatch
from penstock_operator.reconcile.leaders import BROKERS_MAX, Leaders
from penstock_operator.reconcile.ports import AdminUnreachableError, Key
from plan_world import said

NAMES = ("orders-0-0", "orders-0-1", "orders-0-2")
ORDERS = Key("MessageCluster", "shop", "orders")
SHARD = (ORDERS, 0)


def pod(name: str, *, namespace: str = "shop", node: str = "n0", **changes: Any) -> dict[str, Any]:
    labels = {"penstock.io/cluster": "orders", "penstock.io/shard": "0"}
    metadata = {"name": name, "namespace": namespace, "uid": name, "labels": labels, **changes}
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node},
        "status": {"podIP": f"10.0.0.{name[-1]}"},
    }


def three() -> Leaders:
    leaders = Leaders()
    for name in NAMES:
        leaders.pod_seen(pod(name), gone=False)
    return leaders


def order(leaders: Leaders) -> list[str]:
    (question,) = leaders.questions()
    return [name for name, _ in question.brokers]


def test_every_broker_is_asked_first_in_turn_and_the_leader_last() -> None:
    leaders = three()
    assert {order(leaders)[0] for _ in range(3)} == set(NAMES)
    assert leaders.answered(SHARD, NAMES[1], said(*NAMES, leader=NAMES[0], epoch=2))
    orders = [order(leaders) for _ in range(4)]
    assert {one[-1] for one in orders} == {NAMES[0]}
    assert {one[0] for one in orders} == set(NAMES[1:])


def test_only_a_leader_of_a_newer_epoch_is_news() -> None:
    leaders = three()
    tell = [
        (NAMES[0], 2, True),
        (NAMES[0], 2, False),
        ("", 3, False),  # an election goes on
        (NAMES[0], 1, False),  # one that was cut off
        (NAMES[1], 3, True),
        (NAMES[1], 4, True),  # elected again
    ]
    for leader, epoch, news in tell:
        assert leaders.answered(SHARD, NAMES[2], said(*NAMES, leader=leader, epoch=epoch)) is news


def test_shards_that_cannot_fail_over_are_not_asked() -> None:
    leaders = Leaders()
    leaders.pod_seen(pod(NAMES[0]), gone=False)
    assert leaders.questions() == []
    leaders.pod_seen(pod(NAMES[1], deletionTimestamp="now"), gone=False)
    assert order(leaders) == [NAMES[0]], "one that is stopping answers nobody"
    leaders.pod_seen(pod(NAMES[0]), gone=True)
    leaders.pod_seen(pod(NAMES[0]), gone=True)
    assert leaders.questions() == []


def test_pods_that_are_no_brokers_are_not_asked() -> None:
    leaders = three()
    client = pod("client-7")
    del client["metadata"]["labels"]["penstock.io/shard"]
    leaders.pod_seen(client, gone=False)
    assert set(order(leaders)) == set(NAMES)


def test_a_cluster_that_was_deleted_and_made_again_begins_anew() -> None:
    leaders = three()
    assert leaders.answered(SHARD, NAMES[0], said(*NAMES, leader=NAMES[0], epoch=9))
    for name in NAMES:
        leaders.pod_seen(pod(name), gone=True)
    assert not leaders.answered(SHARD, NAMES[0], said(*NAMES, leader=NAMES[0], epoch=10))
    for name in NAMES:
        leaders.pod_seen(pod(name), gone=False)
    assert leaders.answered(SHARD, NAMES[0], said(*NAMES, leader=NAMES[0], epoch=1))


def test_clusters_are_found_by_the_nodes_of_their_brokers() -> None:
    leaders = three()
    leaders.pod_seen(pod(NAMES[0], namespace="bank", node="n1"), gone=False)
    assert leaders.on_node("n0") == {ORDERS}
    assert leaders.on_node("n1") == {Key("MessageCluster", "bank", "orders")}
    leaders.pod_seen(pod(NAMES[0], namespace="bank", node="n2"), gone=False)
    assert leaders.on_node("n1") == set()


def test_there_is_a_limit_to_the_brokers_that_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BROKERS_MAX > 10_000
    monkeypatch.setattr("penstock_operator.reconcile.leaders.BROKERS_MAX", 2)
    leaders = three()
    assert len(order(leaders)) == 2
    leaders.pod_seen(pod(NAMES[0]), gone=True)
    leaders.pod_seen(pod(NAMES[2]), gone=False)
    assert set(order(leaders)) == set(NAMES[1:])


# --- the loop -------------------------------------------------------------------------------------


class Deaf:
    """Brokers that answer as told: a report, an error, or never."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def at(self, address: str) -> Any:
        deaf = self

        class One:
            async def cluster(self) -> Any:
                deaf.asked.append(address)
                answer = deaf.answers[address]
                if answer is None:
                    await asyncio.Event().wait()
                if isinstance(answer, Exception):
                    raise answer
                return answer

        return One()


async def test_a_broker_that_does_not_answer_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock_operator.leader_watch.ANSWER_S", 0.01)
    report = {"clusterId": "c", "shards": [{"id": 0, "leader": NAMES[2], "epoch": 5}]}
    brokers = Deaf({"10.0.0.0": None, "10.0.0.1": AdminUnreachableError("no"), "10.0.0.2": report})
    woken: list[Key] = []
    watch = LeaderWatch(three(), brokers, woken.append)
    for _ in range(3):
        await watch.turn()
    assert woken == [ORDERS], "once"
    assert set(brokers.asked) == {"10.0.0.0", "10.0.0.1", "10.0.0.2"}
    brokers.answers = {address: ["something else"] for address in brokers.answers}
    await watch.turn()
    assert woken == [ORDERS]


async def test_the_loop_asks_until_it_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock_operator.leader_watch.POLL_S", 0)
    async with fake_shard(3) as shard:
        woken = asyncio.Event()
        from aiohttp import ClientSession

        from penstock_operator.kube_store import HttpBrokers

        leaders = Leaders()
        for ordinal, name in enumerate(NAMES):
            seen = pod(name)
            seen["status"]["podIP"] = f"127.0.0.{ordinal + 1}"
            leaders.pod_seen(seen, gone=False)
        async with ClientSession() as session:
            brokers = HttpBrokers(session, shard.brokers[NAMES[0]].port)
            loop = asyncio.create_task(LeaderWatch(leaders, brokers, lambda _: woken.set()).run())
            try:
                for leader in (NAMES[1], NAMES[2]):
                    shard.lead(leader)
                    woken.clear()
                    await asyncio.wait_for(woken.wait(), 10)
            finally:
                loop.cancel()


# --- nodes ----------------------------------------------------------------------------------------


def node(**spec: Any) -> dict[str, Any]:
    ready = {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": str(len(spec))}]}
    return {"metadata": {"name": "n0"}, "spec": spec, "status": ready}


async def test_a_node_wakes_the_clusters_on_it_only_when_it_matters() -> None:
    async with running(FakeKube(), replicas=3) as harness:
        engine = harness.engine
        for name in NAMES:
            engine.child_seen(pod(name))
        woken: list[Key] = []
        engine.queue.wake = lambda key, after_s=0.0: woken.append(key)  # type: ignore[method-assign]

        def sees(found: dict[str, Any], gone: bool = False) -> int:
            woken.clear()
            engine.node_seen(found, gone=gone)
            return len(woken)

        assert sees(node()) == 0, "nodes are as they usually are"
        assert sees(node(unschedulable=True)) == 1
        assert sees(node(unschedulable=True, podCIDR="10.0.0.0/24")) == 0
        assert sees(node()) == 1
        assert sees(node(taints=[{"key": "node.kubernetes.io/out-of-service"}])) == 1
        assert sees(node(), gone=True) == 1
        assert sees(node()) == 0
        assert sees({**node(unschedulable=True), "metadata": {"name": "elsewhere"}}) == 0
