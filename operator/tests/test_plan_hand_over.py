"""Hand-overs: the annotation `penstock.io/hand-over`, and leaders on cordoned nodes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fake_kube import FakeKube
from harness import Harness, condition, is_ready, running
from penstock_operator.api.cluster import HandOver as Remembered
from penstock_operator.api.cluster import MessageCluster, MessageClusterStatus
from penstock_operator.kube_errors import KubeError
from penstock_operator.plan.actions import HandOver, HandOverAsked, Plan
from penstock_operator.snapshot.broker import BrokerReport
from penstock_operator.snapshot.cluster import ClusterSnapshot
from penstock_operator.snapshot.nodes import NodeSeen
from plan_world import cluster, conditions, desired_of, plan, pod, restarts, said, snapshot, whole

CLUSTER = ("MessageCluster", "orders")
ANNOTATION = "penstock.io/hand-over"
NAMES = ("orders-0-0", "orders-0-1", "orders-0-2")


def wanting(value: str, replicas: int = 3, **status: Any) -> MessageCluster:
    made = cluster(replicas=replicas)
    metadata = msgspec.structs.replace(made.metadata, annotations={ANNOTATION: value} if value else {})
    return msgspec.structs.replace(made, metadata=metadata, status=MessageClusterStatus(**status))


def three(leader: str = "orders-0-0", **changes: dict[str, Any]) -> ClusterSnapshot:
    """Three brokers on a node each; `changes` of what the shard says, by ordinal ("o2")."""
    desired = desired_of(cluster(replicas=3))
    pods = [pod(desired, ordinal, node=f"n{ordinal}") for ordinal in range(3)]
    report = said(*NAMES, leader=leader, **changes)
    found = snapshot(desired, pods, {name: BrokerReport(cluster=report) for name in NAMES})
    return msgspec.structs.replace(found, nodes={f"n{o}": NodeSeen(name=f"n{o}") for o in range(3)})


def with_node(found: ClusterSnapshot, name: str, **changes: Any) -> ClusterSnapshot:
    return msgspec.structs.replace(found, nodes={**found.nodes, name: NodeSeen(name=name, **changes)})


def hand_overs(made: Plan) -> list[tuple[str, str]]:
    return [(action.pod, action.to) for action in made.actions if isinstance(action, HandOver)]


def answer(made: Plan) -> tuple[str, str]:
    assert made.hand_over is not None
    return made.hand_over.outcome, made.hand_over.message


@pytest.mark.parametrize(
    ("value", "heir"),
    [
        ("0", "orders-0-2"),  # the one that is the least behind
        ("0=orders-0-1", "orders-0-1"),
        (" 0 = orders-0-1 ", "orders-0-1"),
        ("orders-0-0", "orders-0-2"),
        ("orders-0-0=orders-0-1", "orders-0-1"),
    ],
)
def test_a_leader_hands_over_to_the_named_broker_or_the_best_one(value: str, heir: str) -> None:
    made = plan(wanting(value), three(o1={"lag_bytes": 10}), whole(3))
    (action,) = made.actions
    assert action == HandOverAsked(
        why=f"orders-0-0 hands over to {heir} because penstock.io/hand-over says so",
        pod="orders-0-0",
        to=heir,
        value=value.strip(),
    )
    assert made.hand_over is None


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("7", "7 names no shard: write SHARD or SHARD=POD, of the shards 0"),
        ("0=", "0= names no shard: write SHARD or SHARD=POD, of the shards 0"),
        ("nonsense", "nonsense names no shard: write SHARD or SHARD=POD, of the shards 0"),
        (
            "0=orders-0-7",
            "there is no broker orders-0-7 in shard 0: name one of orders-0-0, orders-0-1, orders-0-2",
        ),
        ("orders-0-1=orders-0-2", "orders-0-1 has nothing to hand over: orders-0-0 leads shard 0"),
        (
            "0=orders-0-2",
            "orders-0-0 does not hand over to orders-0-2: orders-0-2 is not in sync, 1000 bytes behind",
        ),
        (
            "0=orders-0-1",
            "orders-0-0 does not hand over to orders-0-1: orders-0-1 is catching up, 5 bytes behind",
        ),
        (
            "0",
            "orders-0-0 does not hand over: orders-0-1 is catching up, 5 bytes behind;"
            " orders-0-2 is not in sync, 1000 bytes behind",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(value: str, sentence: str) -> None:
    behind = {"in_sync": False, "lag_bytes": 1000}
    learner = {"role": "Learner", "in_sync": False, "lag_bytes": 5}
    made = plan(wanting(value), three(o1=learner, o2=behind), whole(3))
    assert hand_overs(made) == []
    assert answer(made) == ("Refused", sentence)


def test_a_broker_that_is_away_or_about_to_leave_is_no_heir() -> None:
    found = three()
    away = msgspec.structs.replace(found.pods["orders-0-1"], ready=False)
    found = msgspec.structs.replace(found, pods={**found.pods, "orders-0-1": away})
    made = plan(wanting("0=orders-0-1"), found, whole(3))
    assert answer(made)[1] == "orders-0-0 does not hand over to orders-0-1: orders-0-1 is not ready"
    made = plan(wanting("0=orders-0-2"), with_node(found, "n2", cordoned=True), whole(3))
    assert answer(made)[1].endswith("orders-0-2 is not asked to lead because node n2 is cordoned")


def test_one_broker_has_nobody_to_hand_over_to() -> None:
    desired = desired_of(cluster())
    made = plan(wanting("0", replicas=1), snapshot(desired, [pod(desired)]), whole(1))
    assert answer(made) == ("Refused", "shard 0 has one broker: there is nobody to hand over to")


def test_who_leads_already_is_done() -> None:
    """Also what an operator sees that ended before it wrote down what it had done."""
    made = plan(wanting("0=orders-0-1"), three(leader="orders-0-1"), whole(3))
    assert hand_overs(made) == []
    assert answer(made) == ("Done", "orders-0-1 leads shard 0 in epoch 4")


def test_a_shard_in_doubt_is_waited_for() -> None:
    found = three()
    nobody = {name: BrokerReport(cluster=said(*NAMES, leader="", epoch=5)) for name in NAMES}
    made = plan(wanting("0"), msgspec.structs.replace(found, brokers=nobody), whole(3))
    assert answer(made) == ("Waiting", "shard 0 is handed over once that is possible: nobody leads it")
    mute = {**found.brokers, "orders-0-0": BrokerReport(unknown="no answer")}
    made = plan(wanting("0"), msgspec.structs.replace(found, brokers=mute), whole(3))
    assert answer(made)[1].endswith("orders-0-0, its leader, cannot be asked")
    assert hand_overs(made) == []
    assert answer(made)[1] in made.holds


@pytest.mark.parametrize("outcome", ["Done", "Refused"])
def test_an_answer_is_given_once(outcome: Any) -> None:
    remembered = Remembered(value="0", outcome=outcome, message="as it was told")
    made = plan(wanting("0", hand_over=remembered), three(), whole(3))
    assert (hand_overs(made), answer(made)) == ([], (outcome, "as it was told"))
    other = Remembered(value="0=orders-0-1", outcome=outcome, message="")
    assert hand_overs(plan(wanting("0", hand_over=other), three(), whole(3)))
    assert plan(wanting("", hand_over=remembered), three(), whole(3)).hand_over is None


# --- cordoned nodes -------------------------------------------------------------------------------


def test_a_leader_leaves_a_cordoned_node_before_the_drain_comes() -> None:
    found = with_node(with_node(three(), "n0", cordoned=True), "n1", cordoned=True)
    (action,) = plan(cluster(replicas=3), found, whole(3)).actions
    assert action == HandOver(
        why="orders-0-0 hands over to orders-0-2 because node n0 is cordoned, which a drain may follow",
        pod="orders-0-0",
        to="orders-0-2",
    )


def test_leadership_does_not_wander_where_every_node_is_cordoned() -> None:
    found = three()
    for name in ("n0", "n1", "n2"):
        found = with_node(found, name, cordoned=True)
    made = plan(cluster(replicas=3), found, whole(3))
    assert hand_overs(made) == []
    (hold,) = made.holds
    assert hold.startswith("orders-0-0 leads though node n0 is cordoned: orders-0-1 is not asked to lead")
    assert conditions(cluster(replicas=3), found, whole(3))["Ready"][0] == "True"


def test_nothing_is_concluded_from_nodes_that_nobody_may_look_at() -> None:
    found = msgspec.structs.replace(three(), nodes={})
    assert plan(cluster(replicas=3), found, whole(3)).is_settled
    # A follower's node, or a single broker's, is none of our business either.
    assert plan(cluster(replicas=3), with_node(three(), "n1", cordoned=True), whole(3)).is_settled
    desired = desired_of(cluster())
    alone = snapshot(desired, [pod(desired, node="n0")])
    alone = msgspec.structs.replace(alone, nodes={"n0": NodeSeen(name="n0", cordoned=True)})
    assert plan(cluster(), alone, whole(1)).is_settled


def test_a_leader_that_a_roll_moves_does_not_go_to_a_cordoned_node() -> None:
    found = three()
    stale = msgspec.structs.replace(found.pods["orders-0-0"], restart_hash="old")
    found = msgspec.structs.replace(found, pods={**found.pods, "orders-0-0": stale})
    assert hand_overs(plan(cluster(replicas=3), found, whole(3))) == [("orders-0-0", "orders-0-1")]
    cordoned = with_node(found, "n1", cordoned=True)
    assert hand_overs(plan(cluster(replicas=3), cordoned, whole(3))) == [("orders-0-0", "orders-0-2")]
    assert restarts(plan(cluster(replicas=3), cordoned, whole(3))) == []


# --- passes ---------------------------------------------------------------------------------------


@pytest.fixture
async def harness() -> Any:
    async with running(FakeKube(), replicas=3) as made:
        await made.create(*CLUSTER, {"mode": "Raft", "replicas": 3})
        await made.settle(*CLUSTER, is_ready)
        yield made


async def turns(harness: Harness, count: int) -> dict[str, Any]:
    for _ in range(count):
        await harness.controllers.step()
        await harness.turn(CLUSTER)
    return await harness.get(*CLUSTER)


async def wish(harness: Harness, value: str | None) -> dict[str, Any]:
    await harness.edit(*CLUSTER, {"metadata": {"annotations": {ANNOTATION: value}}})
    return await turns(harness, 3)


def told(harness: Harness, *reasons: str) -> list[tuple[str, str]]:
    kube: Any = harness.kube
    return [
        (item["reason"], item["message"])
        for (kind, _, _), item in kube.objects.items()
        if kind == "Event" and item["reason"] in reasons
    ]


async def role(harness: Harness, name: str) -> tuple[str, str]:
    found = await harness.kube.get("v1", "Pod", "shop", name)
    assert found is not None
    metadata = found["metadata"]
    return metadata["labels"]["penstock.io/role"], metadata["annotations"]["penstock.io/role-epoch"]


async def test_a_wish_is_carried_out_once_and_shows_in_status_event_and_label(harness: Harness) -> None:
    found = await wish(harness, "0=orders-0-2")
    assert harness.shard.hand_overs == [("orders-0-0", "orders-0-2")]
    sentence = "orders-0-0 hands over to orders-0-2 because penstock.io/hand-over says so"
    assert found["status"]["handOver"] == {"value": "0=orders-0-2", "outcome": "Done", "message": sentence}
    assert found["status"]["shards"][0]["leader"] == "orders-0-2"
    assert told(harness, "HandOver", "LeaderElected")[1:] == [
        ("HandOver", sentence),
        ("LeaderElected", "orders-0-2 leads shard 0 in epoch 2, after orders-0-0"),
    ]
    assert await role(harness, "orders-0-0") == ("follower", "2")
    assert await role(harness, "orders-0-2") == ("leader", "2")
    # A failover later undoes it; nobody hands over again because the annotation is still there.
    harness.shard.lead("orders-0-1")
    found = await turns(harness, 3)
    assert len(harness.shard.hand_overs) == 1
    assert found["status"]["handOver"]["outcome"] == "Done"
    # Taken away and put there again, it is another wish.
    found = await wish(harness, None)
    assert "handOver" not in found["status"]
    await wish(harness, "0=orders-0-2")
    assert len(harness.shard.hand_overs) == 2


async def test_a_refusal_is_told_once_in_the_brokers_words(harness: Harness) -> None:
    harness.shard.refuses_hand_over = True
    found = await wish(harness, "0=orders-0-2")
    assert found["status"]["handOver"]["outcome"] == "Refused"
    message = found["status"]["handOver"]["message"]
    assert message.endswith("but the broker refuses: orders-0-2 did not take over in time")
    assert condition(found, "Ready")["status"] == "True"
    assert condition(found, "Progressing")["reason"] == "Settled"
    harness.shard.refuses_hand_over = False
    await turns(harness, 3)
    assert harness.shard.hand_overs == []
    assert told(harness, "HandOverRefused", "HandOver") == [("HandOverRefused", message)]


async def test_a_failover_shows_in_the_labels_and_leads_the_service(harness: Harness) -> None:
    service = await harness.kube.get("v1", "Service", "shop", "orders-leader")
    assert service is not None

    async def led_to() -> list[str]:
        pods = await harness.kube.list_objects("v1", "Pod", "shop", service["spec"]["selector"])
        return [one["metadata"]["name"] for one in pods]

    assert await led_to() == ["orders-0-0"]
    harness.shard.lead("orders-0-1")
    await turns(harness, 1)
    assert await led_to() == ["orders-0-1"]
    # Nobody leads: the label stays until somebody else does.
    harness.shard.lead("")
    await turns(harness, 2)
    assert await led_to() == ["orders-0-1"]
    # A pod that is made anew has no label before its broker is heard of.
    harness.shard.lead("orders-0-2")
    await harness.kube.delete("v1", "Pod", "shop", "orders-0-1")
    await turns(harness, 2)
    assert await led_to() == ["orders-0-2"]
    assert await role(harness, "orders-0-1") == ("follower", "3")


async def test_an_operator_that_may_not_label_pods_says_so_and_does_everything_else(harness: Harness) -> None:
    kube: Any = harness.kube
    kube.refuse["merge", "orders-0-0"] = KubeError(403, "Forbidden", "pods is forbidden")
    harness.shard.lead("orders-0-1")
    await harness.edit(*CLUSTER, {"spec": {"pod": {"labels": {"team": "shop"}}}})
    found = await turns(harness, 2)
    assert condition(found, "Ready")["status"] == "True"
    assert "but Kubernetes refuses: pods is forbidden" in condition(found, "Progressing")["message"]
    assert ("apply", "StatefulSet/orders-0") in kube.calls
    assert (await role(harness, "orders-0-0"))[0] == "leader"
    assert (await role(harness, "orders-0-1"))[0] == "follower", "never two leaders"


async def test_a_pod_that_changed_while_it_was_looked_at_is_looked_at_again(harness: Harness) -> None:
    harness.shard.lead("orders-0-1")
    kube: Any = harness.kube
    asked = kube.merge

    async def slow(*arguments: Any) -> Any:
        kube.merge = asked
        await asked("v1", "Pod", "shop", "orders-0-0", {"metadata": {"annotations": {"a": "b"}}})
        return await asked(*arguments)

    kube.merge = slow
    with pytest.raises(Exception, match="has been modified"):
        await turns(harness, 1)
    assert await role(harness, "orders-0-1") == ("follower", "1"), "not before the old leader's label is gone"
    await turns(harness, 1)
    assert await role(harness, "orders-0-1") == ("leader", "2")
