"""Cells of the dozen: brokers are restarted one by one, upgraded, scaled, given an image that never starts, and whoever does
that is killed in the middle of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cells import HAND_OVER, STARTS, UNNOTICED, Cell
from continuous_load import STOPPED_MS_MAX
from events import told
from kube import condition_of, wait_for
from replicas_compared import compare
from resources import CLUSTER, RESTART, TOPIC, topic
from shard import Shard

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Operator
    from environment import Environment
    from kube import Kube
    from modes import Mode

NO_SUCH_IMAGE = "penstock.invalid/penstock:none"
LEFT_SECONDS_MAX = 60.0
SAID_SECONDS_MAX = 30.0


@pytest.mark.smoke
def test_a_rolling_restart_takes_the_leader_last(cell: Cell) -> None:
    """
    1. Under load the cluster is annotated with a restart token.
    2. Each broker is restarted once, the leader last and after it handed over; Events say so.
    """
    shard = cell.shard
    leader = shard.leading()["leader"]
    before = {pod: shard.incarnation(pod) for pod in shard.pods}
    known = {event["metadata"]["uid"] for event in told(shard.kube)}
    with cell.load("rolling restart", HAND_OVER) as load, load.fault():
        shard.kube.run("annotate", CLUSTER, shard.cluster, f"{RESTART}={load.pod.name}", "--overwrite")
        for pod in shard.pods:
            shard.wait_back(pod, before[pod])
        row = shard.wait_whole()
    events = [event for event in told(shard.kube) if event["metadata"]["uid"] not in known]
    restarts = [event["message"] for event in events if event["reason"] == "BrokerRestart"]
    assert sorted(message.split()[0] for message in restarts) == shard.pods, restarts
    (handed_over,) = (event["message"] for event in events if event["reason"] == "HandOver")
    assert handed_over.startswith(f"{leader} hands over to "), handed_over
    assert row["leader"] != leader
    made = {pod: shard.kube.get("pod", pod)["metadata"]["creationTimestamp"] for pod in shard.pods}
    assert max(made, key=lambda pod: str(made[pod])) == leader, made


def test_an_operator_killed_in_the_middle_of_a_roll(cell: Cell, operator: Operator) -> None:
    """
    1. Under load the cluster is annotated with a restart token, and once the first broker was restarted all operators are
       killed.
    2. Their successors go on where they were: each broker was restarted once.
    """
    shard = cell.shard
    before = {pod: shard.incarnation(pod) for pod in shard.pods}
    made = _made(shard)
    with cell.load("operator killed in the middle of a roll", STARTS) as load, load.fault():
        shard.kube.run("annotate", CLUSTER, shard.cluster, f"{RESTART}={load.pod.name}", "--overwrite")
        wait_for("the first restart", lambda: _made(shard) - made == 1, seconds=SAID_SECONDS_MAX)
        operator.kill(*operator.pods())
        for pod in shard.pods:
            shard.wait_back(pod, before[pod])
        shard.wait_whole()
    assert _made(shard) - made == cell.mode.replicas
    operator.wait_available()


def _made(shard: Shard) -> int:
    """How many pods the shard's StatefulSet has made so far, as its Events tell."""
    return sum(
        int(event.get("count") or 1)
        for event in shard.kube.items("events")
        if event["involvedObject"]["kind"] == "StatefulSet" and event["reason"] == "SuccessfulCreate"
        if "create Pod" in event["message"]
    )


def test_an_upgrade_to_another_image_and_back(cell: Cell, next_image: str) -> None:
    """
    1. Under load the cluster gets another image: each broker is restarted once with it, the leader last.
    2. The image is taken back: the same, the other way round.
    """
    shard = cell.shard
    with cell.load("image upgrade, and back", HAND_OVER) as load:
        for image in (next_image, None):
            leader = shard.leading()["leader"]
            before = {pod: shard.incarnation(pod) for pod in shard.pods}
            with load.fault():
                shard.kube.patch(CLUSTER, shard.cluster, {"spec": {"image": image}})
                for pod in shard.pods:
                    shard.wait_back(pod, before[pod])
                row = shard.wait_whole()
            assert row["leader"] != leader
            wanted = image or cell.environment.image
            assert {_image(shard, pod) for pod in shard.pods} == {wanted}


def _image(shard: Shard, pod: str) -> str:
    return str(shard.kube.get("pod", pod)["spec"]["containers"][0]["image"])


def test_an_image_that_never_starts_stops_the_roll(cell: Cell) -> None:
    """
    1. Under load the cluster gets an image that nobody has.
    2. One follower cannot start: the cluster is Ready and Degraded, says why, and the others are left alone.
    3. The image is taken back: whole, and the others were never restarted.
    """
    shard = cell.shard
    leader = shard.leading()["leader"]
    before = {pod: shard.incarnation(pod) for pod in shard.pods}
    with cell.load("image that never starts", UNNOTICED) as load, load.fault():
        shard.kube.patch(CLUSTER, shard.cluster, {"spec": {"image": NO_SUCH_IMAGE}})
        said = shard.wait_reason("Degraded", "True", "BrokerStuck")
        assert NO_SUCH_IMAGE in said, said
        assert condition_of(shard.kube.get(CLUSTER, shard.cluster), "Ready")["status"] == "True"
        (stuck,) = (pod for pod in shard.pods if shard.incarnation(pod) != before[pod])
        assert stuck != leader
        shard.wait_reason("Progressing", "True", "RollStopped")
        found = shard.kube.get(CLUSTER, shard.cluster)
        stopped = condition_of(found, "Progressing")["message"]
        assert f"not yet, because {stuck} is away" in stopped, found["status"]
        assert NO_SUCH_IMAGE in stopped, found["status"]
        load.wait_flow()
        shard.kube.patch(CLUSTER, shard.cluster, {"spec": {"image": None}})
        row = shard.wait_whole()
    assert row["leader"] == leader
    assert {pod for pod in shard.pods if shard.incarnation(pod) == before[pod]} == {*shard.pods} - {stuck}


def test_a_shard_is_scaled_up_and_down_under_load(
    environment: Environment, mode: Mode, kube: Kube, record_property: Callable[[str, object], None]
) -> None:
    """
    1. Under load a cluster of one broker is scaled to three, to five, and back to three while a broker that goes leads.
    2. Nobody who stays is restarted; two pods go and their claims stay; Events tell of it.
    3. Scaled to five once more, the volumes of before come back, catch up and count.
    """
    first, *ups, down = mode.scales
    kube.apply(mode.cluster("orders", replicas=first), topic("payments", "orders", partitions=4))
    kube.wait_ready(TOPIC, "payments")
    most, stays = Shard(kube, "orders", ups[-1]), Shard(kube, "orders", down)
    cell = Cell(mode, Shard(kube, "orders", first), "payments", environment, record_property)
    words = "-".join(str(number) for number in mode.scales)
    with cell.load(f"scale {words}", silence_ms_max=STOPPED_MS_MAX) as load:
        before = {pod: most.incarnation(pod) for pod in cell.shard.pods}
        for number in ups:
            with load.fault():
                kube.run("scale", CLUSTER, "orders", f"--replicas={number}")
                Shard(kube, "orders", number).wait_whole()
            before |= {pod: most.incarnation(pod) for pod in most.pods[len(before) : number]}
        _wait_min_in_sync(kube, mode)
        goes = most.pods[-1]
        kube.run("annotate", CLUSTER, "orders", f"penstock.io/hand-over=0={goes}")
        wait_for(
            "a broker that goes to lead", lambda: most.leading()["leader"] == goes, seconds=SAID_SECONDS_MAX
        )
        load.wait_flow()
        with load.fault():
            kube.run("scale", CLUSTER, "orders", f"--replicas={down}")
            for pod in most.pods[down:]:
                kube.wait_gone("pod", pod, seconds=LEFT_SECONDS_MAX)
            stays.wait_whole()
    kept = {pod: before[pod] for pod in stays.pods}
    assert {pod: stays.incarnation(pod) for pod in stays.pods} == kept, "nobody is restarted for others"
    claims = {pod: most.claim(pod) for pod in most.pods[down:]}
    assert all(claims.values()), "volumes are kept"
    record_property("replicas", compare(kube, stays.pods))
    reasons = {event["reason"] for event in told(kube)}
    assert {"Scaling", "BrokersLeft"} <= reasons, reasons

    kube.run("scale", CLUSTER, "orders", f"--replicas={most.replicas}")
    most.wait_whole()
    assert {pod: most.claim(pod) for pod in most.pods[down:]} == claims
    record_property("replicas", compare(kube, most.pods))


def _wait_min_in_sync(kube: Kube, mode: Mode) -> None:
    """Waits until as many copies are wanted as a shard of that mode has by default."""

    def wanted() -> int:
        rows: list[dict[str, Any]] = kube.broker_admin("orders-0-0", "/v1/config")["config"]
        return next(int(row["value"]) for row in rows if row["name"] == "min.insync.replicas")

    wait_for(
        f"{mode.min_in_sync} copies to be wanted",
        lambda: wanted() == mode.min_in_sync,
        seconds=SAID_SECONDS_MAX,
        last_seen=lambda: json.dumps(wanted()),
    )
