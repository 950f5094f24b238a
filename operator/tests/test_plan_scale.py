"""Another number of brokers: when a shard is told, how many brokers run meanwhile, and what is said of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock_operator.api.cluster import MessageCluster
from penstock_operator.desired.build import build
from penstock_operator.desired.identity import Environment, Identity
from penstock_operator.plan.actions import (
    DeleteObject,
    ForgetClaim,
    Plan,
    ResizeShard,
    ShrinkStatefulSet,
    TrustMember,
)
from penstock_operator.plan.cluster import plan_cluster
from penstock_operator.plan.cluster_status import cluster_status
from penstock_operator.plan.scale import as_built, brokers_to_run, have_left, scale_shard
from penstock_operator.snapshot.broker import BrokerReport, ClusterReport
from penstock_operator.snapshot.cluster import ClusterSnapshot
from penstock_operator.snapshot.shard import ShardView, shard_view
from plan_world import NOW, claim, cluster, desired_of, pod, said, settings_of, snapshot, whole

FIVE = [f"orders-0-{ordinal}" for ordinal in range(5)]
THREE = FIVE[:3]
KEPT = "broker 4 stays for now: broker 1 is not in sync"
REFUSED = "broker 4 stays for now: topic payments has min.insync.replicas=4"


def told(*names: str, leader: str = "orders-0-0", **shard: Any) -> ClusterReport:
    """The shard as a broker of this release reports it; by default it was told to have three brokers."""
    report = said(*names, leader=leader)
    (only,) = report.shards
    only = msgspec.structs.replace(only, **{"replicas": 3, "resizable": True, **shard})
    return msgspec.structs.replace(report, shards=[only])


def view_of(reports: dict[str, ClusterReport]) -> ShardView:
    return shard_view(0, reports)


@pytest.mark.parametrize(
    ("reports", "left"),
    [
        pytest.param(dict.fromkeys(THREE, told(*THREE)), True, id="everybody says so"),
        pytest.param(dict.fromkeys(FIVE, told(*THREE)), True, id="those who left are not asked"),
        pytest.param(dict.fromkeys(THREE[:2], told(*THREE)), True, id="one that stays cannot be asked"),
        pytest.param({"orders-0-0": told(*THREE)}, False, id="only one of three can"),
        pytest.param(
            {**dict.fromkeys(THREE, told(*THREE)), "orders-0-2": told(*FIVE[:4])},
            False,
            id="one that stays still counts on another",
        ),
        pytest.param(
            {**dict.fromkeys(FIVE, told(*THREE)), "orders-0-4": told(*FIVE)},
            True,
            id="what one that left believes does not matter",
        ),
        pytest.param(dict.fromkeys(THREE, told(*FIVE[:4])), False, id="the leader counts on another"),
        pytest.param(dict.fromkeys(THREE, told(*THREE, leaving=KEPT)), False, id="the leader is not done"),
        pytest.param(dict.fromkeys(THREE, told(*THREE, replicas=5)), False, id="it was not told"),
        pytest.param(dict.fromkeys(THREE, told(*THREE, replicas=0)), False, id="its release does not say"),
        pytest.param(dict.fromkeys(THREE[1:], told(*THREE)), False, id="the leader cannot be asked"),
        pytest.param(dict.fromkeys(THREE, told(*THREE, leader="")), False, id="nobody leads"),
        pytest.param(
            dict.fromkeys(FIVE, told(*THREE, leader="orders-0-4")), False, id="one that goes leads still"
        ),
        pytest.param({}, False, id="nobody can be asked"),
    ],
)
def test_brokers_have_left_when_the_leader_and_those_that_stay_say_so(
    reports: dict[str, ClusterReport], left: bool
) -> None:
    assert have_left(view_of(reports), reports, THREE) is left


DOWN = "shard 0 goes down to 3 brokers"


@pytest.mark.parametrize(
    ("reports", "held", "under_way", "refused", "tells"),
    [
        pytest.param(dict.fromkeys(THREE, told(*THREE)), 3, None, None, None, id="nothing to do"),
        pytest.param(
            dict.fromkeys(FIVE, told(*FIVE, replicas=5)),
            5,
            None,
            None,
            "orders-0-0",
            id="it is told to shrink",
        ),
        pytest.param(
            {"orders-0-0": told("orders-0-0", replicas=1)}, 3, None, None, "orders-0-0", id="or to grow"
        ),
        pytest.param(
            dict.fromkeys(FIVE, told(*FIVE, leaving=KEPT)),
            5,
            f"{DOWN}: {KEPT}",
            None,
            None,
            id="a step waits",
        ),
        pytest.param(
            dict.fromkeys(FIVE, told(*FIVE, leaving=REFUSED, leaving_refused=True)),
            5,
            None,
            f"{DOWN}, but {REFUSED}",
            None,
            id="a step is refused",
        ),
        pytest.param(
            dict.fromkeys(FIVE, told(*THREE)),
            5,
            f"{DOWN}: those that go have left, not all that stay know it yet",
            None,
            None,
            id="not everybody knows",
        ),
        pytest.param(
            dict.fromkeys(FIVE[1:], told(*FIVE, replicas=5)),
            5,
            f"{DOWN} once orders-0-0, which leads, can be asked",
            None,
            None,
            id="the leader cannot be asked",
        ),
        pytest.param({}, 5, f"{DOWN} once it has a leader", None, None, id="nobody can be asked"),
        pytest.param({}, 3, None, None, None, id="nor has to be"),
        pytest.param(
            dict.fromkeys(FIVE, told(*FIVE, replicas=5, resizable=False)),
            5,
            f"{DOWN} when all its brokers are there and of a release that can change their number",
            None,
            None,
            id="not all its brokers know how",
        ),
        pytest.param(
            dict.fromkeys(FIVE, said(*FIVE)),
            5,
            f"{DOWN} when all its brokers are there and of a release that can change their number",
            None,
            None,
            id="brokers of the release before",
        ),
        pytest.param(
            dict.fromkeys(THREE, said(*THREE)), 3, None, None, None, id="which need not change anything"
        ),
    ],
)
def test_what_is_done_for_a_shard(
    reports: dict[str, ClusterReport],
    held: int,
    under_way: str | None,
    refused: str | None,
    tells: str | None,
) -> None:
    step = scale_shard(view_of(reports), 3, held)
    assert (step.under_way, step.refused) == (under_way, refused)
    assert (step.action.pod if step.action else None) == tells
    if step.action is not None:
        assert step.action.replicas == 3
        assert step.action.disruptive
        assert "because replicas says so" in step.action.why


def seen(reports: dict[str, ClusterReport], pods: int = 5) -> ClusterSnapshot:
    """A cluster of so many pods, whose StatefulSet was made for them, and whose brokers say this."""
    desired = build(cluster(replicas=pods), whole(pods), Environment(image="penstock:1"))
    brokers = {
        name: BrokerReport(settings=settings_of(desired), cluster=report) for name, report in reports.items()
    }
    found = snapshot(desired, [pod(desired, ordinal) for ordinal in range(pods)])
    return msgspec.structs.replace(found, brokers={**brokers})


def planned(
    wanted: MessageCluster, found: ClusterSnapshot, identity: Identity, status: dict[str, Any] | None = None
) -> tuple[Plan, dict[str, tuple[str, str, str]]]:
    replicas = brokers_to_run(wanted, identity, found)
    desired = build(as_built(wanted, replicas), identity, Environment(image="penstock:1"))
    plan = plan_cluster(wanted, identity, desired, found)
    made = cluster_status(wanted, identity, desired, found, plan, status or {}, NOW)
    told = {
        entry["type"]: (entry["status"], entry["reason"], entry["message"]) for entry in made["conditions"]
    }
    return plan, told


def test_brokers_run_until_they_have_left() -> None:
    wanted = cluster(replicas=3)
    counting = seen(dict.fromkeys(FIVE, told(*FIVE, leaving=KEPT)))
    assert brokers_to_run(wanted, whole(5), counting) == 5
    left = seen(dict.fromkeys(FIVE, told(*THREE)))
    assert brokers_to_run(wanted, whole(5), left) == 3
    assert brokers_to_run(cluster(replicas=5), whole(3), seen(dict.fromkeys(THREE, told(*THREE)), 3)) == 5
    # Asked for more again in the middle: whoever is there stays.
    assert brokers_to_run(cluster(replicas=5), whole(5), counting) == 5
    assert brokers_to_run(cluster(replicas=1), whole(3), seen({}, 3)) == 3, "uncertainty removes nobody"


def test_without_a_stateful_set_volumes_tell_how_many_there_were() -> None:
    found = msgspec.structs.replace(seen({}), objects={})
    assert brokers_to_run(cluster(replicas=3), whole(5), found) == 5
    assert brokers_to_run(cluster(replicas=3), whole(0), found) == 3
    assert brokers_to_run(cluster(replicas=3), whole(99), found) == 5, "no more than the schema allows"


def test_the_leader_is_told_and_nothing_gets_smaller_before_it_has_changed_the_members() -> None:
    plan, told_to_users = planned(
        cluster(replicas=3), seen(dict.fromkeys(FIVE, told(*FIVE, replicas=5))), whole(5)
    )
    assert [type(action) for action in plan.actions if action.disruptive] == [ResizeShard]
    assert not any(isinstance(action, ShrinkStatefulSet) for action in plan.actions)
    assert told_to_users["Ready"][0] == "True"
    assert told_to_users["Progressing"][1] == "Reconciling"


def test_a_step_that_waits_is_said_and_stops_nothing_else() -> None:
    found = seen(dict.fromkeys(FIVE, told(*FIVE, leaving=KEPT)))
    plan, told_to_users = planned(cluster({"storage": {"size": "20Gi"}}, replicas=3), found, whole(5))
    assert plan.actions, "other changes go on"
    plan, told_to_users = planned(cluster(replicas=3), found, whole(5))
    assert plan.actions == []
    assert told_to_users["Ready"] == ("True", "BrokersReady", "3 of 3 brokers are ready")
    assert told_to_users["Progressing"] == ("True", "Scaling", f"{DOWN}: {KEPT}")
    assert told_to_users["Degraded"][0] == "False"


def test_a_step_that_is_refused_degrades_the_cluster_until_somebody_decides() -> None:
    found = seen(dict.fromkeys(FIVE, told(*FIVE, leaving=REFUSED, leaving_refused=True)))
    plan, told_to_users = planned(cluster(replicas=3), found, whole(5))
    assert plan.actions == []
    assert told_to_users["Ready"][0] == "True"
    assert told_to_users["Progressing"][1] == "Scaling"
    assert told_to_users["Degraded"] == ("True", "ScaleDownRefused", f"{DOWN}, but {REFUSED}")


def test_the_stateful_set_gets_smaller_once_they_have_left_and_says_why() -> None:
    plan, _ = planned(cluster(replicas=3), seen(dict.fromkeys(FIVE, told(*THREE))), whole(5))
    (shrink,) = [action for action in plan.actions if isinstance(action, ShrinkStatefulSet)]
    assert shrink.manifest["spec"]["replicas"] == 3
    assert shrink.why == (
        "StatefulSet orders-0 goes down to 3 pods because the other brokers have left their shard"
    )
    assert not any(action.disruptive for action in plan.actions)


def test_pods_that_somebody_else_asked_for_are_no_brokers_that_have_left() -> None:
    found = seen(dict.fromkeys(THREE, told(*THREE)), 3)
    found.objects["StatefulSet", "orders-0"]["spec"]["replicas"] = 5
    plan, _ = planned(cluster(replicas=3), found, whole(3))
    assert [action.why for action in plan.actions if "StatefulSet" in action.why] == [
        "StatefulSet orders-0 is applied because spec.replicas was changed by somebody else"
    ]


@pytest.mark.parametrize("delete", [False, True])
def test_volumes_of_brokers_that_have_left_are_kept_unless_the_spec_says_otherwise(delete: bool) -> None:
    wanted = cluster({"storage": {"deleteClaim": delete}}, replicas=3)
    left = seen(dict.fromkeys(THREE, told(*THREE)), 3)
    claims = [claim(ordinal, formed=5 if ordinal > 2 else 3) for ordinal in range(5)]
    claims.append(msgspec.structs.replace(claim(9, formed=5), name="somebody-elses"))
    found = msgspec.structs.replace(left, claims={each.name: each for each in claims})
    plan, _ = planned(wanted, found, whole(3))
    touched = [action.name for action in plan.actions if isinstance(action, DeleteObject | ForgetClaim)]
    assert touched == ["data-orders-0-3", "data-orders-0-4"]
    kinds = {type(action) for action in plan.actions if isinstance(action, DeleteObject | ForgetClaim)}
    assert kinds == ({DeleteObject} if delete else {ForgetClaim})
    # Not while a pod may still write there, nor while it is not certain that its broker has left.
    desired = desired_of(cluster(replicas=5))
    running = {**found.pods, "orders-0-4": pod(desired, 4), "orders-0-3": pod(desired, 3)}
    unsure = dict.fromkeys(THREE[1:], BrokerReport(cluster=told(*THREE)))
    for there in (
        msgspec.structs.replace(found, pods=running),
        msgspec.structs.replace(found, brokers=unsure),
    ):
        plan, _ = planned(wanted, there, whole(3))
        assert not any(isinstance(action, DeleteObject | ForgetClaim) for action in plan.actions)


@pytest.mark.parametrize("resizable", [True, False])
def test_brokers_that_cannot_be_told_are_restarted_with_their_new_files(resizable: bool) -> None:
    """A growth that was taken back before the shard could be told leaves one with the number of the time between."""
    reports = dict.fromkeys(THREE, told(*THREE, resizable=resizable, replicas=3 if resizable else 5))
    found = seen(reports, 3)
    between = build(cluster(replicas=5), whole(3), Environment(image="penstock:1"))
    leader = BrokerReport(settings=settings_of(between), cluster=reports["orders-0-0"])
    stale = {**found.pods, "orders-0-0": msgspec.structs.replace(found.pods["orders-0-0"], config_hash="old")}
    found = msgspec.structs.replace(found, pods=stale, brokers={**found.brokers, "orders-0-0": leader})
    plan, _ = planned(cluster(replicas=3), found, whole(3))
    assert [action.why for action in plan.actions if action.disruptive] == (
        []
        if resizable
        else [
            "orders-0-0 hands over to orders-0-1 first: orders-0-0 is restarted because replicas,"
            " shard.peers cannot change while it runs"
        ]
    )


@pytest.mark.parametrize(("pod_name", "known"), [("orders-0-4", True), ("orders-0-7", False)])
def test_a_broker_that_is_about_to_leave_may_be_trusted(pod_name: str, known: bool) -> None:
    wanted = cluster(replicas=3)
    annotations = {"penstock.io/trust-member": pod_name}
    wanted = msgspec.structs.replace(
        wanted, metadata=msgspec.structs.replace(wanted.metadata, annotations=annotations)
    )
    plan, _ = planned(wanted, seen(dict.fromkeys(FIVE, told(*FIVE, leader="", leaving=""))), whole(5))
    trusted = [action.pod for action in plan.actions if isinstance(action, TrustMember)]
    assert trusted == ([pod_name] if known else [])
    if not known:
        assert plan.trust is not None
        assert plan.trust.outcome == "Refused"
