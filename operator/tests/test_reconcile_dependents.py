"""Passes over Topics and ConsumerGroups: creation, drift, adoption, conflicts, deletion, resets."""

from __future__ import annotations

from typing import Any

import pytest

from fake_kube import FakeKube
from harness import Harness, condition, has_reason, is_ready, running
from penstock_operator.api.names import API_VERSION

REFERENCE = {"clusterRef": {"name": "orders"}}


@pytest.fixture
async def harness() -> Any:
    """A cluster whose broker is there."""
    async with running(FakeKube()) as made:
        await made.create("MessageCluster", "orders", {"mode": "Raft"})
        for _ in range(2):
            await made.turn(("MessageCluster", "orders"))
            await made.controllers.step()
        yield made


async def delete(harness: Harness, kind: str, name: str) -> None:
    await harness.kube.delete(API_VERSION, kind, harness.namespace, name)


async def exists(harness: Harness, kind: str, name: str) -> bool:
    return await harness.kube.get(API_VERSION, kind, harness.namespace, name) is not None


async def test_a_topic_is_made_and_then_left_alone(harness: Harness) -> None:
    await harness.create(
        "Topic", "payments", {**REFERENCE, "partitions": 3, "config": {"retention.ms": 86400000}}
    )
    topic = await harness.settle("Topic", "payments", is_ready)
    assert harness.broker.topics["payments"]["config"] == {"retention.ms": "86400000"}
    assert topic["status"]["topicName"] == "payments"
    assert topic["status"]["topicId"]
    assert topic["status"]["partitions"] == 3
    assert topic["status"]["shards"] == [0]
    harness.broker.requests.clear()
    kube: Any = harness.kube
    kube.calls.clear()
    for _ in range(3):
        await harness.turn(("Topic", "payments"))
    assert harness.broker.requests == []
    assert kube.calls == []


async def test_topic_drift_is_repaired(harness: Harness) -> None:
    await harness.create(
        "Topic", "payments", {**REFERENCE, "partitions": 3, "config": {"retention.ms": 1000}}
    )
    await harness.settle("Topic", "payments", is_ready)
    harness.broker.topics["payments"]["config"] = {"retention.ms": "5"}
    await harness.turn(("Topic", "payments"))
    assert harness.broker.topics["payments"]["config"] == {"retention.ms": "1000"}
    del harness.broker.topics["payments"]
    await harness.turn(("Topic", "payments"))
    assert harness.broker.topics["payments"]["partitions"] == 3


async def test_an_existing_topic_is_adopted_up_never_down(harness: Harness) -> None:
    harness.broker.make_topic("payments", 6, {"retention.bytes": "5", "retention.ms": "7"})
    await harness.create(
        "Topic", "payments", {**REFERENCE, "partitions": 3, "config": {"retention.ms": 1000}}
    )
    topic = await harness.settle("Topic", "payments", is_ready)
    assert harness.broker.topics["payments"]["partitions"] == 6
    # What a client set and the spec does not name stays.
    assert harness.broker.topics["payments"]["config"] == {"retention.bytes": "5", "retention.ms": "1000"}
    assert "more than the spec's 3" in condition(topic, "Ready")["message"]


async def test_a_setting_that_leaves_the_spec_goes_back_to_its_default(harness: Harness) -> None:
    await harness.create(
        "Topic", "payments", {**REFERENCE, "config": {"retention.ms": 1000, "cleanup.policy": "delete"}}
    )
    await harness.settle("Topic", "payments", is_ready)
    await harness.edit("Topic", "payments", {"spec": {"config": {"retention.ms": None}}})
    await harness.settle("Topic", "payments", is_ready)
    assert harness.broker.topics["payments"]["config"] == {"cleanup.policy": "delete"}


async def test_what_the_broker_refuses_is_said_in_its_words(harness: Harness) -> None:
    await harness.create("Topic", "payments", {**REFERENCE, "config": {"cleanup.policy": "nonsense"}})
    topic = await harness.settle("Topic", "payments", has_reason("InvalidConfig"))
    assert condition(topic, "Ready")["message"] == "nonsense is not a value"
    assert condition(topic, "Degraded")["status"] == "True"


async def test_retain_needs_no_finalizer_and_keeps_the_topic(harness: Harness) -> None:
    await harness.create("Topic", "payments", REFERENCE)
    topic = await harness.settle("Topic", "payments", is_ready)
    assert "finalizers" not in topic["metadata"]
    await delete(harness, "Topic", "payments")
    assert not await exists(harness, "Topic", "payments")
    assert "payments" in harness.broker.topics


async def test_delete_removes_the_topic_first(harness: Harness) -> None:
    await harness.create("Topic", "payments", {**REFERENCE, "reclaimPolicy": "Delete"})
    topic = await harness.settle("Topic", "payments", is_ready)
    assert topic["metadata"]["finalizers"] == ["penstock.io/topic"]
    await delete(harness, "Topic", "payments")
    assert await exists(harness, "Topic", "payments")
    await harness.turn(("Topic", "payments"))
    assert not await exists(harness, "Topic", "payments")
    assert harness.broker.topics == {}


async def test_delete_waits_while_the_broker_is_away(harness: Harness) -> None:
    await harness.create("Topic", "payments", {**REFERENCE, "reclaimPolicy": "Delete"})
    await harness.settle("Topic", "payments", is_ready)
    harness.controllers.ready = False
    await harness.controllers.step()
    await delete(harness, "Topic", "payments")
    await harness.turn(("Topic", "payments"))
    topic = await harness.get("Topic", "payments")
    assert condition(topic, "Ready")["reason"] == "Deleting"
    harness.controllers.ready = True
    await harness.controllers.step()
    await harness.turn(("Topic", "payments"))
    assert not await exists(harness, "Topic", "payments")
    assert harness.broker.topics == {}


async def test_a_finalizer_never_outlives_its_cluster(harness: Harness) -> None:
    await harness.create("Topic", "payments", {**REFERENCE, "reclaimPolicy": "Delete"})
    await harness.create(
        "ConsumerGroup", "billing", {**REFERENCE, "topics": ["payments"], "reclaimPolicy": "Delete"}
    )
    await harness.settle("Topic", "payments", is_ready)
    await harness.settle("ConsumerGroup", "billing", is_ready)
    await delete(harness, "MessageCluster", "orders")
    await delete(harness, "Topic", "payments")
    await delete(harness, "ConsumerGroup", "billing")
    await harness.turn(("Topic", "payments"), ("ConsumerGroup", "billing"))
    assert not await exists(harness, "Topic", "payments")
    assert not await exists(harness, "ConsumerGroup", "billing")


async def test_policy_edits_add_and_release_the_finalizer(harness: Harness) -> None:
    await harness.create("Topic", "payments", REFERENCE)
    await harness.settle("Topic", "payments", is_ready)
    await harness.edit("Topic", "payments", {"spec": {"reclaimPolicy": "Delete"}})
    await harness.settle(
        "Topic", "payments", lambda topic: topic["metadata"].get("finalizers") == ["penstock.io/topic"]
    )
    await harness.edit("Topic", "payments", {"spec": {"reclaimPolicy": "Retain"}})
    await harness.settle("Topic", "payments", lambda topic: topic["metadata"].get("finalizers") == [])


async def test_the_oldest_claimant_owns_the_name(harness: Harness) -> None:
    await harness.create("Topic", "zz-first", {**REFERENCE, "topicName": "payments"})
    await harness.create(
        "Topic", "aa-second", {**REFERENCE, "topicName": "payments", "reclaimPolicy": "Delete"}
    )
    await harness.settle("Topic", "zz-first", is_ready)
    second = await harness.settle("Topic", "aa-second", has_reason("Conflict"))
    assert "belongs to Topic zz-first" in condition(second, "Ready")["message"]
    await delete(harness, "Topic", "aa-second")
    await harness.turn(("Topic", "aa-second"))
    # The loser's deletion never touches the owner's topic.
    assert "payments" in harness.broker.topics


async def test_a_remembered_owner_that_is_gone_turns_nobody_away(harness: Harness) -> None:
    # The watch missed the deletion of the older claimant.
    first = await harness.create("Topic", "first", {**REFERENCE, "topicName": "payments"})
    await harness.create("Topic", "second", {**REFERENCE, "topicName": "payments"})
    await harness.settle("Topic", "second", has_reason("Conflict"))
    await delete(harness, "Topic", "first")
    harness.engine._directory.put(first)
    await harness.settle("Topic", "second", is_ready)


async def test_a_missing_cluster_is_named(harness: Harness) -> None:
    await harness.create("Topic", "payments", {"clusterRef": {"name": "elsewhere"}})
    topic = await harness.settle("Topic", "payments", has_reason("ClusterNotFound"))
    assert "there is no MessageCluster elsewhere" in condition(topic, "Ready")["message"]


async def test_an_unreachable_broker_is_waited_for(harness: Harness) -> None:
    await harness.broker.stop()
    await harness.create("Topic", "payments", REFERENCE)
    topic = await harness.settle("Topic", "payments", has_reason("BrokerUnreachable"))
    assert condition(topic, "Progressing")["status"] == "True"
    assert condition(topic, "Degraded")["status"] == "False"


async def test_paused_topics_are_left_alone(harness: Harness) -> None:
    paused = {"penstock.io/paused": ""}
    await harness.create("Topic", "payments", REFERENCE, annotations=paused)
    await harness.turn(("Topic", "payments"))
    assert harness.broker.topics == {}
    assert condition(await harness.get("Topic", "payments"), "Paused")["status"] == "True"


async def test_a_paused_topic_does_not_hold_up_a_namespace_that_goes(harness: Harness) -> None:
    await harness.create("Topic", "payments", {**REFERENCE, "reclaimPolicy": "Delete"})
    await harness.settle("Topic", "payments", is_ready)
    await harness.edit("Topic", "payments", {"metadata": {"annotations": {"penstock.io/paused": "true"}}})
    await delete(harness, "Topic", "payments")
    await harness.turn(("Topic", "payments"))
    assert await exists(harness, "Topic", "payments")
    await delete(harness, "MessageCluster", "orders")
    await harness.turn(("Topic", "payments"))
    assert not await exists(harness, "Topic", "payments")
    assert "payments" in harness.broker.topics


async def test_a_group_waits_for_its_topic_and_reports(harness: Harness) -> None:
    await harness.create(
        "ConsumerGroup", "billing", {**REFERENCE, "topics": ["payments"], "start": {"at": "earliest"}}
    )
    group = await harness.settle("ConsumerGroup", "billing", has_reason("TopicNotFound"))
    assert condition(group, "Progressing")["status"] == "True"
    harness.broker.make_topic("payments")
    await harness.settle("ConsumerGroup", "billing", is_ready)
    assert harness.broker.groups["billing"]["start"] == {"at": "earliest"}
    harness.broker.groups["billing"] |= {
        "state": "Stable",
        "members": [{"memberId": "a"}, {"memberId": "b"}],
        "lag": 12,
    }
    await harness.turn(("ConsumerGroup", "billing"))
    status = (await harness.get("ConsumerGroup", "billing"))["status"]
    assert (status["state"], status["members"], status["lag"]) == ("Stable", 2, 12)


async def test_a_group_follows_its_topics(harness: Harness) -> None:
    harness.broker.make_topic("payments")
    harness.broker.make_topic("refunds")
    await harness.create("ConsumerGroup", "billing", {**REFERENCE, "topics": ["payments"]})
    await harness.settle("ConsumerGroup", "billing", is_ready)
    await harness.edit("ConsumerGroup", "billing", {"spec": {"topics": ["refunds", "payments"]}})
    await harness.settle("ConsumerGroup", "billing", is_ready)
    assert harness.broker.groups["billing"]["topics"] == ["payments", "refunds"]


async def test_a_reset_is_carried_out_once_per_token(harness: Harness) -> None:
    harness.broker.make_topic("payments")
    await harness.create("ConsumerGroup", "billing", {**REFERENCE, "topics": ["payments"]})
    await harness.settle("ConsumerGroup", "billing", is_ready)
    for token, count in (("monday", 1), ("monday", 1), ("tuesday", 2)):
        reset = {"at": "earliest", "token": token}
        await harness.edit("ConsumerGroup", "billing", {"spec": {"reset": reset}})
        group = await harness.settle("ConsumerGroup", "billing", is_ready)
        await harness.turn(("ConsumerGroup", "billing"))
        assert len(harness.broker.resets) == count
        assert group["status"]["reset"] == {"token": token, "message": "moved 1 of 1 partitions"}
    assert harness.broker.resets[0] == ("billing", {"at": "earliest"})


async def test_a_reset_is_refused_while_members_are_active_unless_forced(harness: Harness) -> None:
    harness.broker.make_topic("payments")
    await harness.create("ConsumerGroup", "billing", {**REFERENCE, "topics": ["payments"]})
    await harness.settle("ConsumerGroup", "billing", is_ready)
    harness.broker.groups["billing"]["members"] = [{"memberId": "a"}]
    await harness.edit("ConsumerGroup", "billing", {"spec": {"reset": {"offset": 3, "token": "now"}}})
    group = await harness.settle("ConsumerGroup", "billing", has_reason("ResetRefused"))
    assert "write force: true" in condition(group, "Ready")["message"]
    assert group["status"]["members"] == 1
    await harness.edit("ConsumerGroup", "billing", {"spec": {"reset": {"force": True}}})
    await harness.settle("ConsumerGroup", "billing", is_ready)
    assert harness.broker.resets == [("billing", {"offset": 3})]


async def test_a_group_that_a_client_made_is_adopted(harness: Harness) -> None:
    harness.broker.make_topic("payments")
    harness.broker.groups["billing"] = {
        "name": "billing",
        "mode": "stream",
        "state": "Empty",
        "topics": [],
        "members": [],
        "lag": 3,
        "declared": False,
    }
    await harness.create("ConsumerGroup", "billing", {**REFERENCE, "topics": ["payments"]})
    await harness.settle("ConsumerGroup", "billing", is_ready)
    assert harness.broker.groups["billing"]["declared"] is True


async def test_delete_of_a_group_waits_until_its_members_left(harness: Harness) -> None:
    harness.broker.make_topic("payments")
    await harness.create(
        "ConsumerGroup", "billing", {**REFERENCE, "topics": ["payments"], "reclaimPolicy": "Delete"}
    )
    await harness.settle("ConsumerGroup", "billing", is_ready)
    harness.broker.groups["billing"]["members"] = [{"memberId": "a"}]
    await delete(harness, "ConsumerGroup", "billing")
    await harness.turn(("ConsumerGroup", "billing"))
    group = await harness.get("ConsumerGroup", "billing")
    assert "has active members" in condition(group, "Ready")["message"]
    harness.broker.groups["billing"]["members"] = []
    await harness.turn(("ConsumerGroup", "billing"))
    assert not await exists(harness, "ConsumerGroup", "billing")
    assert harness.broker.groups == {}


async def test_events_are_written_on_transitions_only(harness: Harness) -> None:
    await harness.create("Topic", "payments", REFERENCE)
    await harness.settle("Topic", "payments", is_ready)
    for _ in range(5):
        await harness.turn(("Topic", "payments"))
    kube: Any = harness.kube
    events = [item for (kind, _, _), item in kube.objects.items() if kind == "Event"]
    assert [e["reason"] for e in events if e["involvedObject"]["kind"] == "Topic"] == ["TopicReady"]
