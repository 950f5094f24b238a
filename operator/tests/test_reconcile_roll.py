"""Rolls as people meet them: upgrades and downgrades, an image that never starts, and edits that restart nobody."""

from __future__ import annotations

from typing import Any

import pytest

from fake_kube import FakeKube
from harness import Harness, condition, is_ready, running

CLUSTER = ("MessageCluster", "orders")
PODS = ["orders-0-0", "orders-0-1", "orders-0-2"]
NOBODYS = "penstock.invalid/penstock:none"


@pytest.fixture
async def harness() -> Any:
    async with running(FakeKube(), replicas=3) as made:
        await made.create(*CLUSTER, {"mode": "Raft", "replicas": 3, "image": "penstock:1"})
        await made.settle(*CLUSTER, is_ready)
        yield made


async def turns(harness: Harness, count: int) -> dict[str, Any]:
    for _ in range(count):
        await harness.controllers.step()
        await harness.turn(CLUSTER)
    return await harness.get(*CLUSTER)


def restarts(harness: Harness) -> list[str]:
    kube: Any = harness.kube
    return [name.removeprefix("Pod/") for verb, name in kube.calls if verb == "evict"]


async def images(harness: Harness) -> set[str]:
    pods = await harness.kube.list_objects("v1", "Pod", "shop")
    return {pod["spec"]["containers"][0]["image"] for pod in pods}


async def test_an_upgrade_and_the_way_back_take_one_broker_at_a_time(harness: Harness) -> None:
    for image in ("penstock:2", "penstock:1"):
        kube: Any = harness.kube
        kube.calls.clear()
        harness.shard.hand_overs.clear()
        leader = harness.shard.leader
        await harness.edit(*CLUSTER, {"spec": {"image": image}})
        await turns(harness, 1)  # until the StatefulSet controller has seen the edit
        for _ in range(10):
            found = await turns(harness, 1)
            assert condition(found, "Ready")["status"] == "True"
        assert sorted(restarts(harness)) == PODS
        assert restarts(harness)[-1] == leader
        assert [old for old, _ in harness.shard.hand_overs] == [leader]
        assert await images(harness) == {image}
        assert condition(found, "Progressing")["reason"] == "Settled"


async def test_an_image_that_never_starts_stops_the_roll_until_the_spec_is_mended(harness: Harness) -> None:
    harness.controllers.missing_image = NOBODYS
    await harness.edit(*CLUSTER, {"spec": {"image": NOBODYS}})
    found = await turns(harness, 12)
    assert restarts(harness) == ["orders-0-1"], "once, and nobody else"
    assert condition(found, "Ready")["status"] == "True"
    degraded = condition(found, "Degraded")
    assert degraded["reason"] == "BrokerStuck"
    assert degraded["message"] == f"orders-0-1: ImagePullBackOff: nobody has {NOBODYS}"
    stopped = condition(found, "Progressing")
    assert stopped["reason"] == "RollStopped"
    assert (
        f"not yet, because orders-0-1 is away (ImagePullBackOff: nobody has {NOBODYS})" in stopped["message"]
    )
    kube: Any = harness.kube
    events = [item for (kind, _, _), item in kube.objects.items() if kind == "Event"]
    warned = {item["reason"]: item["message"] for item in events if item["type"] == "Warning"}
    assert warned["BrokerStuck"] == degraded["message"]
    assert warned["RollStopped"] == stopped["message"]
    assert [item["reason"] for item in events].count("RollStopped") == 1
    # Another image that nobody has is tried by the broker that is idle anyway, and by no other.
    harness.controllers.missing_image = f"{NOBODYS}-2"
    await harness.edit(*CLUSTER, {"spec": {"image": f"{NOBODYS}-2"}})
    await turns(harness, 6)
    assert restarts(harness) == ["orders-0-1"] * 2
    # The way back: the others run what they ran all along.
    await harness.edit(*CLUSTER, {"spec": {"image": "penstock:1"}})
    found = await turns(harness, 6)
    assert restarts(harness) == ["orders-0-1"] * 3
    assert condition(found, "Progressing")["reason"] == "Settled"
    assert condition(found, "Degraded")["status"] == "False"
    assert await images(harness) == {"penstock:1"}


async def test_a_roll_goes_on_where_it_stopped_when_the_image_is_mended(harness: Harness) -> None:
    harness.controllers.missing_image = NOBODYS
    await harness.edit(*CLUSTER, {"spec": {"image": NOBODYS}})
    await turns(harness, 4)
    await harness.edit(*CLUSTER, {"spec": {"image": "penstock:2"}})
    await turns(harness, 12)
    assert restarts(harness) == ["orders-0-1", "orders-0-1", "orders-0-2", "orders-0-0"]
    assert await images(harness) == {"penstock:2"}


@pytest.mark.parametrize(
    "edit",
    [
        {"spec": {"pod": {"labels": {"team": "shop"}, "annotations": {"a": "b"}}}},
        {"spec": {"config": {"log.retention.ms": 1000}}},
        {"spec": {"minInSync": 3}},
        {"spec": {"storage": {"size": "20Gi", "replaceLost": True, "deleteClaim": True}}},
        {"spec": {"networkPolicy": {"enabled": True}}},
        {"metadata": {"annotations": {"penstock.io/hand-over": "0"}}},
    ],
)
async def test_what_needs_no_restart_causes_none(harness: Harness, edit: dict[str, Any]) -> None:
    await harness.edit(*CLUSTER, edit)
    found = await turns(harness, 6)
    assert restarts(harness) == []
    assert condition(found, "Progressing")["reason"] == "Settled"
