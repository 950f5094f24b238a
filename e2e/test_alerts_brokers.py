"""Alerts about brokers fire in a real Prometheus when something is wrong, and clear when it is not; whoever follows their
runbooks meanwhile sees what those say."""

from __future__ import annotations

import datetime
import json
import re
from typing import TYPE_CHECKING

from conftest import SHARED_TOPIC
from kafka_admin import KafkaAdmin, produce_from_the_past
from kube import wait_for
from nodes import cut_off
from resources import CLUSTER, PAUSED, bootstrap
from runbooks import END_IT, LOOK, OVER_WHEN, forwarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus import Prometheus
    from runbooks import Runbook
    from shard import Shard

    TakeUp = Callable[..., Runbook]

FROM_ANYWHERE = [{"ipBlock": {"cidr": "0.0.0.0/0"}}]
STALL_SECONDS = 0.8
"""Longer than what counts as a stall, shorter than what costs an election."""
GROUP = "billing"
LAG_MS = 15 * 60 * 1000
OLD_MESSAGES = 10
SCRAPED_SECONDS_MAX = 30.0
TOLD_SECONDS_MAX = 60.0
"""Twice the time after which the operator looks by itself."""


def _quiet(prometheus: Prometheus, shard: Shard, *alerts: str) -> dict[str, str]:
    """The labels of the shard's alerts, once it is scraped whole and none of these fires."""
    brokers = {(shard.kube.namespace, pod) for pod in shard.pods}
    wait_for(
        "every broker to be scraped",
        lambda: brokers <= prometheus.scraped(),
        seconds=SCRAPED_SECONDS_MAX,
        last_seen=lambda: prometheus.told(alerts[0]),
    )
    labels = {"namespace": shard.kube.namespace, "cluster": shard.cluster, "shard": "0"}
    for alert in alerts:
        prometheus.wait_clear(alert, **labels)
    return labels


def test_a_broker_that_reaches_no_other_is_told_of(
    shard: Shard, prometheus: Prometheus, take_up: TakeUp
) -> None:
    """
    1. A follower crashed a while ago, and now no other broker of its shard reaches it.
    2. PenstockBrokerDown and PenstockUnderReplicated fire; their runbooks' commands show which broker it is, and why.
    3. It is reached again: both clear.
    """
    kube = shard.kube
    kube.patch(
        CLUSTER, shard.cluster, {"spec": {"networkPolicy": {"enabled": True, "adminFrom": FROM_ANYWHERE}}}
    )
    leader = shard.leading()["leader"]
    lost = next(pod for pod in shard.pods if pod != leader)
    before = shard.incarnation(lost)
    shard.kill_process(lost)
    shard.wait_back(lost, before)
    shard.wait_whole()
    labels = _quiet(prometheus, shard, "PenstockBrokerDown", "PenstockUnderReplicated")
    with (
        take_up("PenstockBrokerDown", kube, {"orders-0-1": lost, **forwarded(8081)}) as down,
        take_up("PenstockUnderReplicated", kube, {"orders-0-0": leader, "orders-0-2": lost}) as behind,
    ):
        with cut_off(shard, lost):
            prometheus.wait_firing("PenstockBrokerDown", pod=lost, **labels)
            prometheus.wait_firing("PenstockUnderReplicated", **labels)
            told = down.run(LOOK)
            assert '"ready":false' in told.replace(" ", ""), told
            told = behind.run(LOOK)
            assert re.search(rf"{lost} .* no ", told), told
        shard.wait_whole()
        prometheus.wait_clear("PenstockBrokerDown", **labels)
        prometheus.wait_clear("PenstockUnderReplicated", **labels)
        assert "condition met" in down.run(OVER_WHEN)
        assert behind.run(OVER_WHEN) == "BrokersReady"
    kube.patch(CLUSTER, shard.cluster, {"spec": {"networkPolicy": None}})
    shard.wait_whole()


def test_a_shard_without_a_majority_is_told_of(shard: Shard, prometheus: Prometheus, take_up: TakeUp) -> None:
    """
    1. No broker of three reaches another one: nobody leads, and PenstockNoLeader fires.
    2. The runbook's commands show brokers that run, of which none leads.
    3. They reach each other again: it clears.
    """
    labels = _quiet(prometheus, shard, "PenstockNoLeader")
    with take_up("PenstockNoLeader", shard.kube, {}, without=("kubectl -n shop get lease",)) as page:
        with cut_off(shard, *shard.pods):
            prometheus.wait_firing("PenstockNoLeader", severity="critical", **labels)
            wait_for(
                "the status to say so",
                lambda: (
                    "shard 0 has no leader" in json.dumps(shard.kube.get(CLUSTER, shard.cluster)["status"])
                ),
                seconds=TOLD_SECONDS_MAX,
            )
            told = page.run(LOOK)
            assert "shard 0 has no leader" in told, told
            assert told.count("Running") >= len(shard.pods), told
        shard.wait_whole()
        prometheus.wait_clear("PenstockNoLeader", **labels)
        assert len(page.run(OVER_WHEN, "role=leader").splitlines()) == 2, "a heading and one broker"
        page.run(OVER_WHEN, "wait")


def test_masters_that_may_not_renew_their_lease_are_told_of(
    masters: Shard, prometheus: Prometheus, take_up: TakeUp
) -> None:
    """
    1. The brokers of mode MasterSlave lose their right to the Lease, and the operator is told to leave them alone.
    2. Nobody is master, and PenstockNoLeader fires; the runbook's commands show the Lease and its last holder.
    3. The operator works again, and puts the right back: it clears.
    """
    shard, kube, cluster = masters, masters.kube, f"{CLUSTER}/{masters.cluster}"
    labels = _quiet(prometheus, shard, "PenstockNoLeader")
    with take_up("PenstockNoLeader", kube, {}) as page:
        kube.run("annotate", cluster, f"{PAUSED}=true")
        try:
            kube.run("delete", "rolebinding", f"{shard.cluster}-broker")
            prometheus.wait_firing("PenstockNoLeader", **labels)
            told = page.run(LOOK)
            assert "holderIdentity" in told, told
        finally:
            kube.run("annotate", cluster, f"{PAUSED}-")
        shard.wait_whole()
        prometheus.wait_clear("PenstockNoLeader", **labels)
        page.run(OVER_WHEN)


def test_a_broker_that_stands_still_again_and_again_is_told_of(
    shard: Shard, prometheus: Prometheus, take_up: TakeUp
) -> None:
    """
    1. A follower is frozen again and again for less than a second: PenstockLoopStalled fires for it.
    2. The runbook's commands show its limits and log, and the shard's Events.
    3. It runs: the alert clears.
    """
    leader = shard.leading()["leader"]
    slow = next(pod for pod in shard.pods if pod != leader)
    _quiet(prometheus, shard, "PenstockBrokerDown")
    where = {"namespace": shard.kube.namespace, "pod": slow}
    prometheus.wait_clear("PenstockLoopStalled", **where)
    with take_up("PenstockLoopStalled", shard.kube, {"orders-0-1": slow}) as page:
        prometheus.wait_firing(
            "PenstockLoopStalled", meanwhile=lambda: shard.stall(slow, STALL_SECONDS), **where
        )
        told = page.run(LOOK)
        assert "LeaderElected" in told, told
        prometheus.wait_clear("PenstockLoopStalled", **where)
        page.run(OVER_WHEN)
    shard.wait_whole()


def test_a_group_that_falls_behind_is_told_of(shard: Shard, prometheus: Prometheus, take_up: TakeUp) -> None:
    """
    1. Nobody reads for group `billing`, whose next message is a quarter of an hour old: PenstockConsumerLagGrowing fires.
    2. The runbook's commands show the group, that it has no members, and its topic, and give people more time.
    3. The group is moved past the messages: it clears. Then the group is deleted.
    """
    outside = bootstrap(shard.kube, shard.cluster, "outside")
    labels = {**_quiet(prometheus, shard, "PenstockConsumerLagGrowing"), "group": GROUP}
    first = produce_from_the_past(outside, SHARED_TOPIC, LAG_MS, OLD_MESSAGES)[0]
    admin = KafkaAdmin(outside)
    admin.commit(GROUP, SHARED_TOPIC, {first.partition(): first.offset()})
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with take_up("PenstockConsumerLagGrowing", shard.kube, {"2026-11-21T08:00:00Z": now}) as page:
        prometheus.wait_firing("PenstockConsumerLagGrowing", **labels)
        told = page.run(LOOK)
        assert re.search(rf"{SHARED_TOPIC}\s+{first.partition()}\b", told), told
        assert "retention.ms" in told, told
        page.run(END_IT, "retention.ms=1209600000")
        assert SHARED_TOPIC in page.run(END_IT, "--dry-run")
        assert admin.committed(GROUP)[SHARED_TOPIC, first.partition()] == first.offset()
        page.run(END_IT, "group reset")
        assert admin.committed(GROUP)[SHARED_TOPIC, first.partition()] > first.offset()
        prometheus.wait_clear("PenstockConsumerLagGrowing", **labels)
        page.run(END_IT, "group delete")
    assert admin.committed(GROUP) == {}
