"""What status says of shards: whole, growing, missing a minority, without a leader, lost; and what is remembered of them."""

from __future__ import annotations

import msgspec
import pytest

from penstock_operator.desired.build import build
from penstock_operator.desired.identity import Environment, Identity
from penstock_operator.plan.actions import AnnotateClaim
from penstock_operator.plan.cluster import plan_cluster
from penstock_operator.plan.cluster_status import cluster_status
from penstock_operator.plan.conditions import Statement, merge_conditions
from penstock_operator.snapshot.broker import BrokerReport
from penstock_operator.snapshot.cluster import ClusterSnapshot
from penstock_operator.snapshot.identity import IdentityConflictError, find_identity, witness
from plan_world import (
    IDENTITY,
    NOW,
    claim,
    cluster,
    conditions,
    desired_of,
    plan,
    pod,
    said,
    settings_of,
    snapshot,
    whole,
)


def test_a_minority_away_leaves_the_cluster_ready_and_degraded() -> None:
    wanted = cluster(replicas=3)
    desired = desired_of(wanted)
    names = [f"orders-0-{ordinal}" for ordinal in range(3)]
    pods = [pod(desired, ordinal) for ordinal in range(2)]
    seen = snapshot(
        desired,
        pods,
        {
            "orders-0-0": BrokerReport(
                settings=settings_of(desired), cluster=said(*names, o2={"in_sync": False, "lag_bytes": 77})
            )
        },
    )
    found = conditions(wanted, seen, whole(3))
    sentence = "orders-0-2 does not exist yet"
    assert found["Ready"] == (
        "True",
        "BrokersMissing",
        f"orders-0-0 leads, 2 of 3 brokers are ready: {sentence}",
    )
    assert found["Degraded"] == ("True", "BrokersMissing", sentence)
    assert found["Progressing"] == ("True", "Waiting", sentence)
    # It runs again, but does not have everything yet.
    pods.append(pod(desired, 2))
    seen = msgspec.structs.replace(seen, pods={one.name: one for one in pods})
    found = conditions(wanted, seen, whole(3))
    assert found["Degraded"][2] == "orders-0-2 is not in sync, 77 bytes behind"
    assert found["Ready"][0] == "True"


def test_a_shard_that_was_never_whole_is_not_ready_yet() -> None:
    wanted = cluster(replicas=3)
    desired = desired_of(wanted)
    seen = snapshot(desired, [pod(desired, ordinal) for ordinal in range(2)])
    for identity in (IDENTITY, whole(1)):  # a new one, and one that grows
        found = conditions(wanted, seen, identity)
        assert found["Ready"] == ("False", "BrokersNotReady", "orders-0-2 does not exist yet")
        assert found["Degraded"][0] == "False"


def test_without_a_leader_nothing_is_ready() -> None:
    wanted = cluster(replicas=3)
    desired = desired_of(wanted)
    pods = [
        pod(desired, 0),
        pod(desired, 1, ready=False, trouble="x"),
        pod(desired, 2, ready=False, trouble="x"),
    ]
    reports = {
        one.name: BrokerReport(not_ready=["no leader"], cluster=said("orders-0-0", leader="", epoch=7))
        for one in pods
    }
    seen = snapshot(desired, pods, reports)
    seen = msgspec.structs.replace(seen, claims={"data-orders-0-1": claim(1, formed=3)})
    found = conditions(wanted, seen, whole(3))
    assert found["Ready"][:2] == ("False", "NoLeader")
    assert found["Ready"][2].endswith("shard 0 has no leader")
    assert found["Degraded"][:2] == ("True", "NoLeader")
    # The last leader's pod is gone, but the others still name it.
    reports = {one.name: BrokerReport(cluster=said("orders-0-0", "orders-0-1")) for one in pods[1:]}
    seen = msgspec.structs.replace(seen, pods={one.name: one for one in pods[1:]}, brokers=reports)
    assert conditions(wanted, seen, whole(3))["Ready"][:2] == ("False", "NoLeader")


def test_the_shard_table_lists_every_broker_and_only_reported_addresses_are_bootstrap() -> None:
    listeners = [{"name": "outside", "type": "nodePort", "port": 9094}]
    wanted = cluster({"listeners": listeners}, replicas=3)
    ports = {f"orders-0-{ordinal}-outside": 30_000 for ordinal in range(3)}
    desired = build(wanted, IDENTITY, Environment(image="penstock:1", node_ports=ports))
    pods = [pod(desired, ordinal) for ordinal in range(3)]
    reports = {one.name: BrokerReport(cluster=said("orders-0-0", "orders-0-1")) for one in pods}
    seen = snapshot(desired, pods, reports)
    made = plan_cluster(wanted, IDENTITY, desired, seen)
    status = cluster_status(wanted, IDENTITY, desired, seen, made, {}, NOW)
    assert status["bootstrap"] == {"outside": "10.0.0.0:30000,10.0.0.1:30000"}
    (shard,) = status["shards"]
    assert (shard["leader"], shard["epoch"]) == ("orders-0-0", 4)
    roles = [(row["name"], row["role"], row["inSync"]) for row in shard["members"]]
    assert roles == [
        ("orders-0-0", "Leader", True),
        ("orders-0-1", "Follower", True),
        ("orders-0-2", "Unknown", False),
    ]
    # While nobody says anything, what was known stays, and is not told anew as news.
    silent = msgspec.structs.replace(seen, brokers={})
    status = cluster_status(wanted, IDENTITY, desired, silent, made, status, NOW)
    assert status["bootstrap"] == {"outside": "10.0.0.0:30000,10.0.0.1:30000"}


def test_claims_of_copies_that_were_in_sync_are_marked_and_no_others() -> None:
    wanted = cluster(replicas=3)
    desired = desired_of(wanted)
    names = [f"orders-0-{ordinal}" for ordinal in range(3)]
    pods = [pod(desired, ordinal) for ordinal in range(3)]
    reports = {
        "orders-0-0": BrokerReport(
            settings=settings_of(desired), cluster=said(*names, o2={"role": "Learner", "in_sync": False})
        )
    }
    seen = snapshot(desired, pods, reports)
    seen = msgspec.structs.replace(
        seen, claims={one.name: one for one in (claim(0, formed=3), claim(1), claim(2))}
    )
    marked = [a for a in plan(wanted, seen, whole(3)).actions if isinstance(a, AnnotateClaim)]
    assert [(action.name, action.annotations) for action in marked] == [
        ("data-orders-0-1", {"penstock.io/shard-formed": "3"})
    ]


def test_a_shard_that_lost_every_volume_is_degraded_and_not_made_anew() -> None:
    wanted = cluster(replicas=3)
    desired = desired_of(wanted)
    pods = [pod(desired, ordinal, ready=False, trouble="starting") for ordinal in range(3)]
    reports = {one.name: BrokerReport(not_ready=["no leader"]) for one in pods}
    seen = snapshot(desired, pods, reports)
    fresh = msgspec.structs.replace(seen, claims={f"data-orders-0-{n}": claim(n) for n in range(3)})
    found = conditions(wanted, fresh, whole(3))
    assert found["Degraded"][:2] == ("True", "ShardLost")
    assert "lost every volume" in found["Ready"][2]
    assert "data-orders-0-0, data-orders-0-1, data-orders-0-2" in found["Ready"][2]
    # One volume that held a copy is there: it may come back.
    one_left = msgspec.structs.replace(fresh, claims={"data-orders-0-1": claim(1, formed=3)})
    assert conditions(wanted, one_left, whole(3))["Ready"][1] == "NoLeader"
    # Unless all brokers, also the one on the old claim, have nothing in their folders.
    empty = {
        one.name: BrokerReport(not_ready=["empty"], cluster=said(one.name, leader="", epoch=0))
        for one in pods
    }
    wiped = msgspec.structs.replace(one_left, brokers=empty)
    assert conditions(wanted, wiped, whole(3))["Degraded"][1] == "ShardLost"
    two_empty = {**empty, "orders-0-1": BrokerReport(unknown="no answer")}
    uncertain = msgspec.structs.replace(one_left, brokers=two_empty)
    assert conditions(wanted, uncertain, whole(3))["Degraded"][1] == "NoLeader"
    # A new shard has no marks either.
    assert conditions(wanted, fresh, IDENTITY)["Ready"][1] == "BrokersNotReady"


def test_that_a_shard_existed_is_found_on_stateful_sets_and_claims() -> None:
    desired = build(cluster(replicas=3), whole(0), Environment(image="penstock:1"))
    seen = snapshot(desired, [])
    assert find_identity(seen, 1, "new", {0: "x"}).formed == {0: 0}
    seen = msgspec.structs.replace(seen, claims={"data-orders-0-1": claim(1, formed=3)})
    identity = find_identity(seen, 1, "new", {0: "x"})
    assert identity.formed == {0: 3}
    assert seen.asked_replicas() == 3
    # What brokers say now is added: here nobody leads, so nothing is learnt.
    assert witness(identity, seen, 3).formed == {0: 3}
    new = snapshot(desired_of(cluster(replicas=3)), [pod(desired, ordinal) for ordinal in range(3)])
    unknown = find_identity(new, 1, "new", {0: "x"})
    assert unknown.formed == {}
    assert witness(unknown, new, 3).formed == {0: 3}


def test_conditions_keep_the_time_of_their_last_change() -> None:
    first = merge_conditions([Statement(type="Ready", status="False", reason="A", message="a")], [], 1, "t1")
    second = merge_conditions(
        [Statement(type="Ready", status="False", reason="B", message="b")], first, 2, "t2"
    )
    third = merge_conditions(
        [Statement(type="Ready", status="True", reason="C", message="c" * 2000)], second, 3, "t3"
    )
    assert [entry["lastTransitionTime"] for (entry,) in (first, second, third)] == ["t1", "t1", "t3"]
    assert third[0]["observedGeneration"] == 3
    assert len(third[0]["message"]) == 1024


def test_identity_is_found_or_made_or_refused() -> None:
    empty = ClusterSnapshot(objects={}, pods={}, claims={}, brokers={})
    assert find_identity(empty, 1, "new", {0: "fresh"}) == Identity(cluster_id="new", shard_uids={0: "fresh"})
    kept_claim = claim(cluster_id="kept", shard_uid="old")
    kept = msgspec.structs.replace(empty, claims={"data-orders-0-0": kept_claim})
    assert find_identity(kept, 1, "new", {0: "fresh"}) == Identity(cluster_id="kept", shard_uids={0: "old"})
    other = claim(1, cluster_id="kept", shard_uid="another")
    mixed = msgspec.structs.replace(empty, claims={kept_claim.name: kept_claim, other.name: other})
    with pytest.raises(IdentityConflictError, match="shard 0 has several ids"):
        find_identity(mixed, 1, "new", {0: "fresh"})
