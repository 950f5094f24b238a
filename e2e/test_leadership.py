"""Leadership as people move it, by annotation; labels and the Service of the leaders follow. A node that is drained, which moves
it too, is among the cells (`test_cells_nodes.py`)."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from conftest import SHARED_TOPIC
from continuous_load import continuous_load
from events import told
from kube import wait_for
from resources import CLUSTER, HAND_OVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from environment import Environment
    from kube import Kube
    from shard import Shard

    Tell = Callable[[str, object], None]

FOLLOW_SECONDS_MAX = 15.0
"""From the election of a leader until labels and Service say so; most of it is for two cores that do much else."""
WISH_SECONDS_MAX = 30.0


def led_to(kube: Kube, cluster: str) -> list[str]:
    """The pods that the Service of the leaders leads to."""
    slices = kube.items("endpointslices", f"kubernetes.io/service-name={cluster}-leader")
    return sorted(
        endpoint["targetRef"]["name"]
        for found in slices
        for endpoint in found.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready")
    )


def roles(shard: Shard) -> dict[str, tuple[str, str]]:
    """Role and its epoch of each broker, by its pod's label and annotation."""
    found = {pod["metadata"]["name"]: pod["metadata"] for pod in shard.kube.items("pods")}
    return {
        pod: (
            found[pod]["labels"].get("penstock.io/role", ""),
            found[pod].get("annotations", {}).get("penstock.io/role-epoch", ""),
        )
        for pod in shard.pods
        if pod in found
    }


def wait_labels(shard: Shard, leader: str, epoch: int, seconds: float = FOLLOW_SECONDS_MAX) -> None:
    """Waits until labels and Service say that this broker leads, and nobody else."""
    wanted = {pod: ("leader" if pod == leader else "follower", str(epoch)) for pod in shard.pods}
    wait_for(
        f"labels that say that {leader} leads epoch {epoch}",
        lambda: roles(shard) == wanted and led_to(shard.kube, shard.cluster) == [leader],
        seconds=seconds,
        last_seen=lambda: json.dumps([roles(shard), led_to(shard.kube, shard.cluster)]),
    )


@contextmanager
def wish(shard: Shard, value: str) -> Iterator[dict[str, Any]]:
    """Annotates the cluster with a hand-over, hands out the answer from its status, and takes the annotation away."""
    shard.kube.run("annotate", CLUSTER, shard.cluster, f"{HAND_OVER}={value}", "--overwrite")
    try:
        yield wait_for(
            f"an answer to the wish to hand over {value}",
            lambda: _answer(shard, value),
            seconds=WISH_SECONDS_MAX,
            last_seen=lambda: json.dumps(shard.kube.get(CLUSTER, shard.cluster).get("status")),
        )
    finally:
        shard.kube.run("annotate", CLUSTER, shard.cluster, f"{HAND_OVER}-")


def _answer(shard: Shard, value: str) -> dict[str, Any] | None:
    answer: dict[str, Any] = shard.kube.get(CLUSTER, shard.cluster)["status"].get("handOver") or {}
    return answer if answer.get("value") == value else None


def test_a_leader_hands_over_because_of_an_annotation(
    environment: Environment, shard: Shard, record_property: Tell
) -> None:
    """
    1. Under load a follower is named: it leads, labels and Service say so, and status and an Event tell why.
    2. A broker that is not there is named: refused with a sentence, and nothing moves.
    """
    before = shard.leading()
    heir = next(pod for pod in shard.pods if pod != before["leader"])
    with continuous_load(shard.kube, environment.client_image, shard.bootstrap, SHARED_TOPIC) as load:
        with wish(shard, f"0={heir}") as answer:
            assert answer["outcome"] == "Done", answer
            row = shard.wait_whole()
            assert row["leader"] == heir
            assert row["epoch"] > before["epoch"]
            wait_labels(shard, heir, row["epoch"])
        with wish(shard, f"0={shard.cluster}-0-9") as answer:
            assert answer["outcome"] == "Refused", answer
            assert f"there is no broker {shard.cluster}-0-9" in answer["message"]
        load.wait_flow()
    record_property("load", load.line("hand-over by annotation"))
    assert shard.wait_whole()["leader"] == heir
    messages = [event["message"] for event in told(shard.kube, "HandOver")]
    assert f"{before['leader']} hands over to {heir} because {HAND_OVER} says so" in messages
    assert told(shard.kube, "HandOverRefused")


def test_labels_and_the_service_of_the_leaders_follow_a_failover(
    environment: Environment, shard: Shard, record_property: Tell
) -> None:
    """
    1. The leader's process gets SIGKILL.
    2. Within seconds of the election the Service leads to the new leader alone; every label is from the new epoch.
    """
    before = shard.leading()
    wait_labels(shard, before["leader"], before["epoch"])
    process = shard.incarnation(before["leader"])
    shard.kill_process(before["leader"])
    after = shard.leading(other_than=before["leader"])
    elected = time.monotonic()
    wait_labels(shard, after["leader"], after["epoch"])
    record_property("load", f"labels followed {time.monotonic() - elected:.1f} s after the election was seen")
    shard.wait_back(before["leader"], process)
    shard.wait_whole()
