"""Passes over ConsumerGroups of mode queue: what the broker is told, when it is told again, and what status says."""

from __future__ import annotations

from typing import Any

import pytest

from fake_kube import FakeKube
from harness import Harness, condition, has_reason, is_ready, running
from penstock_operator.plan.words import coarse_duration

QUEUE: dict[str, Any] = {"clusterRef": {"name": "orders"}, "topics": ["payments"], "mode": "queue"}
KEY = ("ConsumerGroup", "billing")


@pytest.fixture
async def harness() -> Any:
    """A cluster whose broker is there, with a topic."""
    async with running(FakeKube()) as made:
        await made.create("MessageCluster", "orders", {"mode": "Raft"})
        for _ in range(2):
            await made.turn(("MessageCluster", "orders"))
            await made.controllers.step()
        made.broker.make_topic("payments")
        yield made


def told(harness: Harness) -> list[dict[str, Any]]:
    """The declarations that the broker was sent, without what every group has."""
    return [
        {name: value for name, value in body.items() if name not in ("mode", "topics", "start")}
        for _, body in harness.broker.declarations
    ]


async def test_a_queue_group_is_declared_with_every_setting_and_then_left_alone(harness: Harness) -> None:
    await harness.create("ConsumerGroup", "billing", QUEUE)
    await harness.settle("ConsumerGroup", "billing", is_ready)
    for _ in range(3):
        await harness.turn(KEY)
    assert told(harness) == [
        {
            "retry": {
                "maxDeliveries": 16,
                "backoff": {"initialMs": 10_000, "factor": 2, "maxMs": 7_200_000, "jitter": 0.1},
            },
            "deadLetter": {"topicName": "billing.dlq"},
            "lease": {"durationMs": 30_000, "maxInFlight": 10_000},
        }
    ]
    (_, declaration), *_ = harness.broker.declarations
    assert (declaration["mode"], declaration["topics"]) == ("queue", ["payments"])


async def test_a_stream_group_is_told_nothing_of_queues(harness: Harness) -> None:
    await harness.create("ConsumerGroup", "billing", {**QUEUE, "mode": "stream"})
    group = await harness.settle("ConsumerGroup", "billing", is_ready)
    assert told(harness) == [{}]
    assert (group["status"]["inFlight"], group["status"]["deadLetters"]) == (0, 0)
    assert "oldestMessageAge" not in group["status"]


async def test_what_the_spec_says_is_told_in_the_brokers_words(harness: Harness) -> None:
    settings = {
        "groupName": "bills",
        "retry": {"maxDeliveries": 3, "backoff": {"initial": "1.5s", "factor": 3, "max": "1m", "jitter": 0}},
        "deadLetter": {"topicName": "failed"},
        "lease": {"duration": "5m", "maxInFlight": 7},
    }
    await harness.create("ConsumerGroup", "billing", {**QUEUE, **settings})
    await harness.settle("ConsumerGroup", "billing", is_ready)
    assert [name for name, _ in harness.broker.declarations] == ["bills"]
    assert told(harness) == [
        {
            "retry": {
                "maxDeliveries": 3,
                "backoff": {"initialMs": 1_500, "factor": 3, "maxMs": 60_000, "jitter": 0},
            },
            "deadLetter": {"topicName": "failed"},
            "lease": {"durationMs": 300_000, "maxInFlight": 7},
        }
    ]


@pytest.mark.parametrize(
    "edit",
    [
        {"lease": {"duration": "1m"}},
        {"deadLetter": {"topicName": "failed"}},
        {"retry": {"maxDeliveries": 3}},
        # The broker does not show this one: what counts is that the spec was edited.
        {"retry": {"backoff": {"factor": 3}}},
    ],
)
async def test_an_edit_is_told_once(harness: Harness, edit: dict[str, Any]) -> None:
    await harness.create("ConsumerGroup", "billing", QUEUE)
    await harness.settle("ConsumerGroup", "billing", is_ready)
    await harness.edit("ConsumerGroup", "billing", {"spec": edit})
    await harness.turn(KEY)
    await harness.settle("ConsumerGroup", "billing", is_ready)
    await harness.turn(KEY)
    assert len(told(harness)) == 2
    assert told(harness)[0] != told(harness)[1]


@pytest.mark.parametrize(
    ("setting", "other"),
    [("leaseMs", 1), ("maxInFlight", 1), ("maxDeliveries", 1), ("deadLetterTopic", "else")],
)
async def test_settings_that_somebody_else_changed_are_repaired(
    harness: Harness, setting: str, other: Any
) -> None:
    await harness.create("ConsumerGroup", "billing", QUEUE)
    await harness.settle("ConsumerGroup", "billing", is_ready)
    shown = harness.broker.groups["billing"]["queue"]
    before, shown[setting] = shown[setting], other
    await harness.turn(KEY)
    assert harness.broker.groups["billing"]["queue"][setting] == before
    assert len(told(harness)) == 2


async def test_an_edit_that_the_broker_missed_is_told_when_it_is_back(harness: Harness) -> None:
    await harness.create("ConsumerGroup", "billing", QUEUE)
    await harness.settle("ConsumerGroup", "billing", is_ready)
    await harness.broker.stop()
    await harness.edit("ConsumerGroup", "billing", {"spec": {"retry": {"backoff": {"factor": 3}}}})
    group = await harness.settle(
        "ConsumerGroup", "billing", lambda resource: condition(resource, "Ready")["status"] == "False"
    )
    assert group["status"]["observedGeneration"] == group["metadata"]["generation"]
    await harness.broker.start(harness.broker.port)
    await harness.settle("ConsumerGroup", "billing", is_ready)
    assert told(harness)[-1]["retry"]["backoff"]["factor"] == 3


async def test_status_says_what_is_in_flight_given_up_and_how_old(harness: Harness) -> None:
    await harness.create("ConsumerGroup", "billing", QUEUE)
    await harness.settle("ConsumerGroup", "billing", is_ready)
    queue = harness.broker.groups["billing"]["queue"]
    queue |= {"inFlight": 7, "deadLetters": 2, "oldestMessageAgeMs": 125_000}
    await harness.turn(KEY)
    status = (await harness.get("ConsumerGroup", "billing"))["status"]
    assert (status["inFlight"], status["deadLetters"], status["oldestMessageAge"]) == (7, 2, "2m")
    queue |= {"inFlight": 0, "oldestMessageAgeMs": None}
    await harness.turn(KEY)
    status = (await harness.get("ConsumerGroup", "billing"))["status"]
    assert (status["inFlight"], status["deadLetters"]) == (0, 2)
    assert "oldestMessageAge" not in status


async def test_a_full_window_is_said(harness: Harness) -> None:
    await harness.create("ConsumerGroup", "billing", {**QUEUE, "lease": {"maxInFlight": 5}})
    await harness.settle("ConsumerGroup", "billing", is_ready)
    harness.broker.groups["billing"]["queue"] |= {"inFlight": 5, "windowFull": True}
    await harness.turn(KEY)
    group = await harness.get("ConsumerGroup", "billing")
    assert is_ready(group)
    assert condition(group, "Ready")["message"] == (
        "group billing exists with 1 topic; nothing new is delivered: 5 messages are in flight, the most"
        " that lease.maxInFlight allows"
    )


@pytest.mark.parametrize("declared", [True, False])
async def test_a_group_of_another_mode_is_not_taken_over(harness: Harness, declared: bool) -> None:
    harness.broker.groups["billing"] = {
        "name": "billing",
        "mode": "stream",
        "state": "Empty",
        "topics": ["payments"],
        "members": [],
        "lag": 3,
        "declared": declared,
    }
    await harness.create("ConsumerGroup", "billing", QUEUE)
    group = await harness.settle("ConsumerGroup", "billing", has_reason("InconsistentGroupProtocol"))
    assert condition(group, "Ready")["message"] == "group billing has mode stream"
    assert harness.broker.groups["billing"]["mode"] == "stream"


async def test_a_reset_moves_a_queue_group_too(harness: Harness) -> None:
    await harness.create("ConsumerGroup", "billing", {**QUEUE, "reset": {"at": "earliest", "token": "a"}})
    group = await harness.settle("ConsumerGroup", "billing", is_ready)
    assert harness.broker.resets == [("billing", {"at": "earliest"})]
    assert group["status"]["reset"]["token"] == "a"
    assert len(told(harness)) == 1


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (-5, "0s"),
        (999, "0s"),
        (1_000, "1s"),
        (59_999, "59s"),
        (60_000, "1m"),
        (3_599_999, "59m"),
        (3_600_000, "1h"),
        (86_399_999, "23h"),
        (86_400_000, "1d"),
        (9 * 86_400_000, "9d"),
    ],
)
def test_an_age_has_one_unit(milliseconds: int, said: str) -> None:
    assert coarse_duration(milliseconds) == said
