"""Alerts about what is written fire in a real Prometheus when it cannot be, or goes wrong, and clear when all is well; whoever
follows their runbooks meanwhile sees what those say, and ends it by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conftest import SHARED_CLUSTER, SHARED_TOPIC
from kafka_admin import KafkaAdmin, answer_to_one_message, produce_from_the_past
from kube import wait_for
from modes import MASTER_SLAVE
from nodes import cut_off, no_new_pods, workers
from resources import CLUSTER, TOPIC, bootstrap, message_cluster, outside_listeners, topic
from runbooks import END_IT, LOOK, OVER_WHEN
from shard import Shard
from spoiled_state import spoil_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from environment import Environment
    from kube import Kube
    from prometheus import Prometheus
    from runbooks import Runbook

    TakeUp = Callable[..., Runbook]

COMPARED_OFTEN = {"state.hash.entries": 1, "state.hash.interval.ms": 500}
GROUP = "billing"
GROWING = "penstock-e2e-growing"
SMALL = "512Mi"
"""The least that a MessageCluster may ask for."""
SEGMENT_BYTES = 8 << 20
OLD_MS = 2 * 24 * 3600 * 1000
"""Older than the retention that the runbook sets."""
BIG_MESSAGE_BYTES = 100_000
WARN_MESSAGES = 4_700
"""Nine tenths of the volume, between the marks at which the broker warns and refuses."""
MORE_MESSAGES = 400
DISK_SECONDS_MAX = 60.0
TAKEN_SECONDS_MAX = 60.0


def test_writes_that_are_refused_are_told_of(masters: Shard, prometheus: Prometheus, take_up: TakeUp) -> None:
    """
    1. With `minInSync: 2` master and slave do not reach each other, and writes are refused with NOT_ENOUGH_REPLICAS:
       PenstockProduceRefused fires.
    2. The runbook's commands show that one copy is left where two are asked for.
    3. It has `minInSync` lowered: writes are taken, and the alert clears although the slave is away.
    4. They reach each other again: the runbook's own message is taken.
    """
    shard = masters
    kube, outside = shard.kube, bootstrap(shard.kube, shard.cluster, "outside")
    labels = {"namespace": kube.namespace, "cluster": shard.cluster, "reason": "NOT_ENOUGH_REPLICAS"}
    prometheus.wait_clear("PenstockProduceRefused", **labels)
    kube.patch(CLUSTER, shard.cluster, {"spec": {"minInSync": 2}})
    shard.wait_whole()
    master = shard.leading()["leader"]
    slave = next(pod for pod in shard.pods if pod != master)
    with take_up("PenstockProduceRefused", kube, {"orders-0-0": master}) as page:
        with cut_off(shard, slave):
            prometheus.wait_firing(
                "PenstockProduceRefused",
                severity="critical",
                meanwhile=lambda: answer_to_one_message(outside, SHARED_TOPIC),
                **labels,
            )
            told = page.run(LOOK)
            assert " no " in told, told
            page.run(END_IT, "minInSync")
            wait_for(
                "a write to be taken",
                lambda: answer_to_one_message(outside, SHARED_TOPIC) == "",
                seconds=TAKEN_SECONDS_MAX,
            )
            prometheus.wait_clear("PenstockProduceRefused", **labels)
        kube.patch(CLUSTER, shard.cluster, {"spec": {"minInSync": None}})
        shard.wait_whole()
        page.run(OVER_WHEN)


def test_a_state_that_went_wrong_is_told_of(
    environment: Environment, kube: Kube, prometheus: Prometheus, take_up: TakeUp, tmp_path: Path
) -> None:
    """
    1. One of two brokers starts with a state that is not the other's: PenstockStateDisputed fires.
    2. The runbook's commands show which state it is, and where the brokers are.
    3. It has the wrong one's node cordoned, and its volume and pod deleted: the broker begins anew, and nothing is disputed.
    """
    kube.apply(
        MASTER_SLAVE.cluster(SHARED_CLUSTER, listeners=outside_listeners(kube), config=COMPARED_OFTEN),
        topic(SHARED_TOPIC, SHARED_CLUSTER),
    )
    kube.wait_ready(TOPIC, SHARED_TOPIC)
    shard = Shard(kube, SHARED_CLUSTER, MASTER_SLAVE.replicas)
    leader = shard.wait_whole()["leader"]
    wrong = next(pod for pod in shard.pods if pod != leader)
    node, process, volume = shard.node(wrong), shard.incarnation(wrong), shard.claim(wrong)
    outside = bootstrap(kube, SHARED_CLUSTER, "outside")
    KafkaAdmin(outside).commit(GROUP, SHARED_TOPIC, {0: 0})
    labels = {"namespace": kube.namespace, "cluster": SHARED_CLUSTER}
    prometheus.wait_clear("PenstockStateDisputed", **labels)
    copies = tmp_path / "volume"
    copies.mkdir()
    with no_new_pods(kube):
        kube.run("delete", "pod", wrong)
        spoil_volume(kube, f"data-{wrong}", node, copies)
    shard.wait_back(wrong, process)
    words = {
        "orders-0-0": leader,
        "node-3": node,
        "data-orders-0-2": f"data-{wrong}",
        "orders-0-2": wrong,
    }
    with take_up("PenstockStateDisputed", kube, words) as page:
        prometheus.wait_firing(
            "PenstockStateDisputed",
            severity="critical",
            meanwhile=lambda: answer_to_one_message(outside, SHARED_TOPIC),
            **labels,
        )
        told = page.run(LOOK)
        assert "no majority of the voters has the same state of groups/" in told, told
        process = shard.incarnation(wrong)
        try:
            page.run(END_IT)
            shard.wait_back(wrong, process)
            shard.wait_whole()
            assert shard.claim(wrong) not in ("", volume)
            assert shard.node(wrong) != node
        finally:
            kube.run("uncordon", *workers(environment))
        prometheus.wait_clear("PenstockStateDisputed", **labels)


def test_a_volume_that_fills_is_told_of(
    growing: str, kube: Kube, prometheus: Prometheus, take_up: TakeUp
) -> None:
    """
    1. A broker's volume is filled above the mark at which it warns, then above the one at which it refuses:
       PenstockDiskFilling fires as a warning, then as critical.
    2. The runbook's commands show which topic it is.
    3. It has the topic's retention shortened: what is older is deleted, and both clear. It has the volume grow: its claim does.
    """
    kube.apply(
        message_cluster(
            SHARED_CLUSTER,
            listeners=outside_listeners(kube),
            storage={"size": SMALL, "storageClassName": growing},
            config={"log.segment.bytes": SEGMENT_BYTES, "log.retention.check.interval.ms": 1_000},
        ),
    )
    kube.wait_ready(CLUSTER, SHARED_CLUSTER)
    broker = f"{SHARED_CLUSTER}-0-0"
    kube.run("exec", broker, "--", "penstock", "topic", "create", SHARED_TOPIC)
    outside = bootstrap(kube, SHARED_CLUSTER, "outside")
    labels = {"namespace": kube.namespace, "pod": broker}
    prometheus.wait_clear("PenstockDiskFilling", **labels)
    with take_up("PenstockDiskFilling", kube, {}) as page:
        taken = produce_from_the_past(outside, SHARED_TOPIC, OLD_MS, WARN_MESSAGES, BIG_MESSAGE_BYTES)
        assert len(taken) == WARN_MESSAGES, f"{len(taken)} messages were taken"
        _wait_disk(kube, broker, "warn")
        prometheus.wait_firing("PenstockDiskFilling", severity="warning", **labels)
        assert "(warn)" in page.run(LOOK, "penstock cluster")
        produce_from_the_past(outside, SHARED_TOPIC, OLD_MS, MORE_MESSAGES, BIG_MESSAGE_BYTES)
        _wait_disk(kube, broker, "refuse")
        prometheus.wait_firing("PenstockDiskFilling", severity="critical", **labels)
        assert answer_to_one_message(outside, SHARED_TOPIC) == "KAFKA_STORAGE_ERROR"
        told = page.run(LOOK)
        assert "(refuse)" in told, told
        page.run(END_IT, "retention.ms")
        _wait_disk(kube, broker, "ok")
        prometheus.wait_clear("PenstockDiskFilling", **labels)
        assert "(ok)" in page.run(OVER_WHEN)
        page.run(END_IT, "kubectl -n shop patch")
        wait_for(
            "the claim to ask for more",
            lambda: _asked_for(kube, f"data-{broker}") == "40Gi",
            seconds=DISK_SECONDS_MAX,
            last_seen=lambda: _asked_for(kube, f"data-{broker}"),
        )


@pytest.fixture
def growing(kube: Kube) -> Iterator[str]:
    """A StorageClass like the default one, whose claims may be asked to grow."""
    default = next(
        found
        for found in kube.items("storageclasses")
        if "storageclass.kubernetes.io/is-default-class" in found["metadata"].get("annotations", {})
    )
    kube.apply({**default, "metadata": {"name": GROWING}, "allowVolumeExpansion": True})
    yield GROWING
    kube.delete("storageclass", GROWING)


def _asked_for(kube: Kube, claim: str) -> str:
    return str(kube.get("pvc", claim)["spec"]["resources"]["requests"]["storage"])


def _wait_disk(kube: Kube, pod: str, state: str) -> None:
    """Waits until a broker says that of its disk."""
    wait_for(
        f"disk of {pod} to be {state}",
        lambda: kube.broker_admin(pod, "/v1/broker")["disk"]["state"] == state,
        seconds=DISK_SECONDS_MAX,
        last_seen=lambda: str(kube.broker_admin(pod, "/v1/broker")["disk"]),
    )
