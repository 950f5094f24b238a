"""The annotation `penstock.io/trust-member`: when a broker is trusted, that it is only once, and what people are told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fake_kube import FakeKube
from harness import Harness, condition, is_ready, running
from penstock_operator.api.cluster import MessageCluster, MessageClusterStatus
from penstock_operator.api.cluster import Recovery as StatusRecovery
from penstock_operator.api.cluster import Shard as StatusShard
from penstock_operator.api.cluster import TrustMember as Remembered
from penstock_operator.plan.actions import Plan, TrustMember
from penstock_operator.snapshot.broker import BrokerReport, ClusterReport, RecoveryReport
from penstock_operator.snapshot.cluster import ClusterSnapshot
from plan_world import cluster, desired_of, plan, pod, said, snapshot, whole

CLUSTER = ("MessageCluster", "orders")
ANNOTATION = "penstock.io/trust-member"
POD = "orders-0-2"
SENTENCE = (
    "shard 0: recovery 1 went on from the copy of orders-0-2, which ended with entry 120 of epoch 7 and knew 118 entries to"
    " be committed; what was acknowledged behind entry 120 may be gone"
)


# --- the plan -------------------------------------------------------------------------------------


def wanting(value: str = POD, **status: Any) -> MessageCluster:
    made = cluster(replicas=3)
    metadata = msgspec.structs.replace(made.metadata, annotations={ANNOTATION: value} if value else {})
    return msgspec.structs.replace(made, metadata=metadata, status=MessageClusterStatus(**status))


def without_quorum(**recovery: Any) -> ClusterSnapshot:
    """Two brokers came back empty, and nobody leads."""
    desired = desired_of(cluster(replicas=3))
    pods = [pod(desired, ordinal, ready=False, trouble="x") for ordinal in range(3)]
    report: ClusterReport = said("orders-0-0", "orders-0-1", POD, leader="", epoch=7)
    if recovery:
        shard = msgspec.structs.replace(report.shards[0], recovery=RecoveryReport(**recovery))
        report = msgspec.structs.replace(report, shards=[shard])
    reports = {one.name: BrokerReport(not_ready=["no leader"], cluster=report) for one in pods}
    return snapshot(desired, pods, reports)


def planned(wanted: MessageCluster, seen: ClusterSnapshot) -> Plan:
    return plan(wanted, seen, whole(3))


def test_a_shard_without_a_leader_goes_on_from_the_named_copy() -> None:
    made = planned(wanting(), without_quorum())
    assert [action for action in made.actions if action.disruptive] == [
        TrustMember(
            why=f"shard 0 goes on from the copy of {POD} alone because {ANNOTATION} says so",
            pod=POD,
            shard_uid="shard-uid",
        )
    ]
    assert made.trust is None


def test_without_the_annotation_nobody_is_ever_trusted() -> None:
    made = planned(wanting(""), without_quorum())
    assert (made.trust, [action for action in made.actions if action.disruptive]) == (None, [])


@pytest.mark.parametrize("outcome", ["Done", "Refused"])
def test_what_was_answered_once_is_not_asked_again(outcome: Any) -> None:
    """However long the annotation stays, and whatever happens to the shard by then."""
    remembered = Remembered(pod=POD, outcome=outcome, message="as it was told")
    made = planned(wanting(trust_member=remembered), without_quorum())
    assert not [action for action in made.actions if action.disruptive]
    assert made.trust is not None
    assert (made.trust.outcome, made.trust.message) == (outcome, "as it was told")
    # Another value is another wish.
    other = Remembered(pod="orders-0-1", outcome=outcome, message="")
    assert [
        action
        for action in planned(wanting(trust_member=other), without_quorum()).actions
        if action.disruptive
    ]


def test_a_shard_that_serves_needs_nobody_to_be_trusted() -> None:
    desired = desired_of(cluster(replicas=3))
    made = planned(wanting(), snapshot(desired, [pod(desired, ordinal) for ordinal in range(3)]))
    assert not [action for action in made.actions if action.disruptive]
    assert made.trust is not None
    assert (made.trust.outcome, made.trust.message) == (
        "Refused",
        f"{POD} is not trusted: orders-0-0 leads shard 0, nothing is lost",
    )


def test_who_cannot_be_trusted_now_or_ever() -> None:
    unknown = planned(wanting("orders-0-7"), without_quorum()).trust
    assert unknown is not None
    assert unknown.outcome == "Refused"
    assert unknown.message.endswith("name one of orders-0-0, orders-0-1, orders-0-2")
    seen = without_quorum()
    for report, why in (
        (BrokerReport(unknown="it has no address yet"), "it has no address yet"),
        (None, "it does not run"),
    ):
        brokers = {name: one for name, one in seen.brokers.items() if name != POD}
        if report is not None:
            brokers[POD] = report
        made = planned(wanting(), msgspec.structs.replace(seen, brokers=brokers))
        assert not [action for action in made.actions if action.disruptive]
        assert made.trust is not None
        assert (made.trust.outcome, made.trust.message) == (
            "Waiting",
            f"{POD} is trusted once it can be asked: {why}",
        )


def test_an_operator_that_ended_before_it_wrote_that_down_does_not_ask_again() -> None:
    seen = without_quorum(generation=1, broker=POD, last_index=120, last_epoch=7, commit_index=118)
    made = planned(wanting(), seen)
    assert not [action for action in made.actions if action.disruptive]
    assert made.trust is not None
    assert made.trust.outcome == "Done"
    # One that status told of before is not the answer to this wish.
    recovery = StatusRecovery(
        generation=1, broker=POD, epoch=1, last_index=1, last_epoch=1, commit_index=1, at=""
    )
    row = StatusShard(id=0, uid="", leader="", epoch=1, members=[], recovery=recovery)
    assert [action for action in planned(wanting(shards=[row]), seen).actions if action.disruptive]


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


async def lose_quorum(harness: Harness) -> None:
    harness.shard.lead("")
    for broker in harness.shard.brokers.values():
        broker.not_ready = ["the shard has no leader now"]
    await turns(harness, 1)


def recover(harness: Harness) -> None:
    for broker in harness.shard.brokers.values():
        broker.not_ready = []


async def annotate(harness: Harness, value: str | None) -> None:
    await harness.edit(*CLUSTER, {"metadata": {"annotations": {ANNOTATION: value}}})


def events(harness: Harness, *reasons: str) -> list[tuple[str, str]]:
    kube: Any = harness.kube
    return [
        (item["reason"], item["message"])
        for (kind, _, _), item in kube.objects.items()
        if kind == "Event" and item["reason"] in reasons
    ]


async def test_a_member_is_trusted_once_and_status_says_what_may_be_gone(harness: Harness) -> None:
    await lose_quorum(harness)
    await annotate(harness, POD)
    found = await turns(harness, 1)
    assert harness.shard.trusts == [POD]
    assert found["status"]["trustMember"]["outcome"] == "Done"
    recover(harness)
    found = await harness.settle(*CLUSTER, is_ready)
    assert found["status"]["shards"][0]["recovery"]["lastIndex"] == 120
    told = condition(found, "UncleanRecovery")
    assert (told["status"], told["reason"], told["message"]) == ("True", "MemberTrusted", SENTENCE)
    assert ("UncleanRecovery", SENTENCE) in events(harness, "UncleanRecovery")
    assert len(events(harness, "TrustMember")) == 1
    # The annotation is still there when a quorum is missing for a moment, and the brokers cannot be asked.
    await lose_quorum(harness)
    harness.shard.recovery, kept = None, harness.shard.recovery
    found = await turns(harness, 3)
    assert harness.shard.trusts == [POD]
    assert condition(found, "UncleanRecovery")["message"] == SENTENCE, "what was lost stays told"
    # Taken away and put there again, it is another wish.
    harness.shard.recovery = kept
    await annotate(harness, None)
    found = await turns(harness, 1)
    assert "trustMember" not in found["status"]
    await annotate(harness, POD)
    await turns(harness, 2)
    assert harness.shard.trusts == [POD, POD]
    recover(harness)
    found = await harness.settle(*CLUSTER, is_ready)
    assert "recovery 2" in condition(found, "UncleanRecovery")["message"]


async def test_a_brokers_refusal_is_told_and_stands(harness: Harness) -> None:
    await lose_quorum(harness)
    harness.shard.refuses_trust = (400, "2 of the shard's 3 voters are there")
    await annotate(harness, POD)
    found = await turns(harness, 1)
    told = condition(found, "UncleanRecovery")
    assert (told["status"], told["reason"]) == ("False", "TrustRefused")
    assert told["message"].endswith(
        "but the broker refuses: not trusted: 2 of the shard's 3 voters are there"
    )
    assert events(harness, "TrustRefused") == [("TrustRefused", told["message"])]
    assert condition(found, "Ready")["reason"] == "NoLeader", "the refusal is no problem of the spec"
    harness.shard.refuses_trust = None
    await turns(harness, 3)
    assert harness.shard.trusts == []


async def test_while_a_leader_may_be_there_the_broker_is_asked_again(harness: Harness) -> None:
    await lose_quorum(harness)
    harness.shard.refuses_trust = (503, "as far as this broker knows the shard still has a leader")
    await annotate(harness, POD)
    found = await turns(harness, 2)
    assert condition(found, "UncleanRecovery")["reason"] == "TrustWaiting"
    assert "trustMember" not in found["status"]
    harness.shard.refuses_trust = None
    await turns(harness, 1)
    assert harness.shard.trusts == [POD]


async def test_an_answer_that_is_lost_is_not_asked_for_again(harness: Harness) -> None:
    await lose_quorum(harness)
    harness.shard.loses_answers = True
    await annotate(harness, POD)
    await turns(harness, 3)
    assert harness.shard.trusts == [POD]
    recover(harness)
    found = await harness.settle(*CLUSTER, is_ready)
    assert found["status"]["trustMember"]["outcome"] == "Done"
    assert condition(found, "UncleanRecovery")["message"] == SENTENCE


async def test_a_healthy_cluster_refuses_and_stays_as_it_is(harness: Harness) -> None:
    await annotate(harness, POD)
    found = await turns(harness, 2)
    assert condition(found, "UncleanRecovery")["reason"] == "TrustRefused"
    assert is_ready(found)
    # Later on, the same value still does nothing.
    await lose_quorum(harness)
    await turns(harness, 2)
    assert harness.shard.trusts == []
