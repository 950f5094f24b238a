"""Plans of clusters over arbitrary observations: at most one disruptive action, always with a why, never from ignorance."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_operator.api.cluster import MessageCluster
from penstock_operator.plan.actions import (
    ApplyObject,
    ExpandClaim,
    HandOver,
    PatchSettings,
    Plan,
    RestartBroker,
)
from penstock_operator.plan.cluster_status import cluster_status
from penstock_operator.plan.drift import drift, first_difference
from penstock_operator.plan.settings import plan_settings
from penstock_operator.snapshot.broker import (
    BrokerReport,
    Setting,
    parse_cluster,
)
from penstock_operator.snapshot.cluster import ClusterSnapshot
from plan_world import (
    IDENTITY,
    NOW,
    claim,
    cluster,
    desired_of,
    live,
    plan,
    pod,
    restarts,
    said,
    settings_of,
    snapshot,
    whole,
)


def test_nothing_to_do_when_everything_is_as_it_should_be() -> None:
    wanted = cluster()
    desired = desired_of(wanted)
    assert plan(wanted, snapshot(desired, [pod(desired)])).is_settled


def test_from_nothing_everything_is_applied_in_order_and_nothing_is_disrupted() -> None:
    wanted = cluster()
    made = plan(wanted, ClusterSnapshot(objects={}, pods={}, claims={}, brokers={}))
    kinds = [action.manifest["kind"] for action in made.actions if isinstance(action, ApplyObject)]
    assert kinds[-1] == "StatefulSet"
    assert set(kinds) == {"ServiceAccount", "ConfigMap", "Service", "StatefulSet"}
    assert all(action.why.endswith("because it is missing") for action in made.actions)


def test_one_broker_at_a_time_and_only_when_the_others_are_well() -> None:
    wanted = cluster(replicas=3)
    desired = desired_of(wanted)
    stale = [pod(desired, ordinal, restart_hash="old") for ordinal in range(3)]
    made = plan(wanted, snapshot(desired, stale))
    assert restarts(made) == ["orders-0-1"], "a follower first"
    assert made.actions[0].why == (
        "orders-0-1 is restarted because its image, listeners, resources or placement changed"
    )
    one_down = [stale[0], stale[1], pod(desired, 2, restart_hash="old", ready=False, trouble="starting")]
    held = plan(wanted, snapshot(desired, one_down))
    assert restarts(held) == []
    assert held.holds == [
        "orders-0-1 is restarted because its image, listeners, resources or placement changed;"
        " not yet, because orders-0-2 is away (starting)"
    ]
    one_stuck = [
        stale[0],
        stale[1],
        pod(desired, 2, restart_hash="old", ready=False, trouble="crash", stuck=True, idle=True),
    ]
    assert restarts(plan(wanted, snapshot(desired, one_stuck))) == ["orders-0-2"]


def test_the_leader_hands_over_before_it_is_restarted() -> None:
    wanted = cluster(replicas=3)
    desired = desired_of(wanted)
    pods = [pod(desired, 0, restart_hash="old"), pod(desired, 1), pod(desired, 2)]
    (action,) = plan(wanted, snapshot(desired, pods)).actions
    assert isinstance(action, HandOver)
    assert (action.pod, action.to, action.disruptive) == ("orders-0-0", "orders-0-1", True)
    assert action.why.startswith("orders-0-0 hands over to orders-0-1 first")


def test_settings_of_the_shard_are_changed_at_its_leader_only() -> None:
    wanted = cluster({"config": {"log.retention.ms": 5}}, replicas=3)
    desired = desired_of(wanted)
    pods = [pod(desired, ordinal) for ordinal in range(3)]
    old = settings_of(desired, **{"log.retention.ms": 1})
    names = [one.name for one in pods]
    reports = {name: BrokerReport(settings=old, cluster=said(*names, leader="orders-0-1")) for name in names}
    made = plan(wanted, snapshot(desired, pods, reports))
    (action,) = [action for action in made.actions if not action.incidental]
    assert isinstance(action, PatchSettings)
    assert (action.pod, action.settings) == ("orders-0-1", {"log.retention.ms": 5})


def test_names_that_the_operator_writes_itself_are_no_fault_of_the_spec() -> None:
    wanted = cluster()
    desired = desired_of(wanted)
    table = settings_of(desired)
    del table["shard.peers"]  # a broker of an older release
    reports = {"orders-0-0": BrokerReport(settings=table, cluster=said("orders-0-0"))}
    assert plan(wanted, snapshot(desired, [pod(desired)], reports)).problems == []


def test_a_pod_made_from_this_very_file_is_not_restarted_for_its_settings() -> None:
    # The broker shows a value differently from how the spec writes it; a restart would change nothing, for ever.
    wanted = cluster({"config": {"static.name": "1Mi"}})
    desired = desired_of(wanted)
    table = settings_of(desired, **{"static.name": "1048576"})
    reports = {"orders-0-0": BrokerReport(settings=table, cluster=said("orders-0-0"))}
    assert restarts(plan(wanted, snapshot(desired, [pod(desired)], reports))) == []
    stale = [pod(desired, config_hash="old")]
    assert restarts(plan(wanted, snapshot(desired, stale, reports))) == ["orders-0-0"]


def test_no_restart_before_the_controller_has_the_new_template() -> None:
    wanted = cluster()
    desired = desired_of(wanted)
    seen = snapshot(desired, [pod(desired, restart_hash="old")])
    seen.objects["StatefulSet", "orders-0"]["metadata"]["generation"] = 2
    made = plan(wanted, seen)
    assert restarts(made) == []
    assert any("not yet looked at StatefulSet" in wait for wait in made.waits)


def test_nothing_is_applied_to_what_is_going_away() -> None:
    wanted = cluster()
    desired = desired_of(wanted)
    seen = snapshot(desired, [pod(desired)])
    leaving = seen.objects["StatefulSet", "orders-0"]
    leaving["metadata"] |= {"deletionTimestamp": NOW, "annotations": {}}
    made = plan(wanted, seen)
    assert made.actions == []
    assert "Kubernetes has not yet removed orders-0" in made.waits


@st.composite
def observations(draw: st.DrawFn) -> tuple[MessageCluster, ClusterSnapshot]:
    """Anything that may be seen: missing and changed objects, pods in every state, brokers that do not answer."""
    config = draw(st.dictionaries(st.sampled_from(["log.retention.ms", "static.name"]), st.integers(0, 2)))
    wanted = cluster({"config": config}, replicas=draw(st.sampled_from([1, 3])))
    desired = desired_of(wanted)
    objects = live(desired)
    for address in list(objects):
        fate = draw(st.sampled_from(["same", "same", "same", "missing", "changed", "old"]))
        if fate == "missing":
            del objects[address]
        elif fate == "changed":
            objects[address]["metadata"]["labels"]["app.kubernetes.io/name"] = "other"
        elif fate == "old":
            objects[address]["metadata"]["annotations"]["penstock.io/applied-hash"] = "old"
    pods, brokers = {}, {}
    names = [f"orders-0-{ordinal}" for ordinal in range(wanted.spec.replicas)]
    shard = said(
        *names[: draw(st.integers(1, len(names)))],
        leader=draw(st.sampled_from(["", *names])),
        **{
            f"o{ordinal}": draw(
                st.sampled_from([{}, {}, {}, {"in_sync": False}, {"role": "Learner", "in_sync": False}])
            )
            for ordinal in range(len(names))
        },
    )
    for ordinal in range(wanted.spec.replicas):
        if not draw(st.booleans()):
            continue
        ready = draw(st.booleans())
        stuck = not ready and draw(st.booleans())
        seen = pod(
            desired,
            ordinal,
            ready=ready,
            stuck=stuck,
            idle=stuck and draw(st.booleans()),
            terminating=draw(st.booleans()),
            trouble=None if ready else "trouble",
            restart_hash=draw(st.sampled_from([pod(desired).restart_hash, "old"])),
            config_hash=draw(st.sampled_from([pod(desired).config_hash, "old"])),
        )
        pods[seen.name] = seen
        report = draw(st.sampled_from(["well", "unknown", "not ready", "differs"]))
        brokers[seen.name] = {
            "well": BrokerReport(settings=settings_of(desired), cluster=shard),
            "unknown": BrokerReport(unknown="no answer"),
            "not ready": BrokerReport(not_ready=["recovering"], cluster=draw(st.sampled_from([None, shard]))),
            "differs": BrokerReport(
                settings=settings_of(desired, **{"flush.policy": "async", "log.retention.ms": 9}),
                cluster=shard,
            ),
        }[report]
    claims = {}
    if draw(st.booleans()):
        claims["data-orders-0-0"] = claim(
            cluster_id=draw(st.sampled_from([None, "cluster-id"])),
            shard_uid=draw(st.sampled_from([None, "shard-uid"])),
            formed=draw(st.sampled_from([None, 0, 3])),
            requested=draw(st.sampled_from(["1Gi", "10Gi", "20Gi"])),
        )
    return wanted, ClusterSnapshot(objects=objects, pods=pods, claims=claims, brokers=brokers)


@settings(max_examples=300, deadline=None)
@given(observations())
def test_whatever_is_seen_at_most_one_action_disrupts_and_each_has_a_why(
    seen: tuple[MessageCluster, ClusterSnapshot],
) -> None:
    wanted, observed = seen
    before = copy.deepcopy(observed)
    made = plan(wanted, observed)
    assert observed == before, "a plan changes nothing"
    assert made == plan(wanted, observed), "the same observation gives the same plan"
    disruptive = [action for action in made.actions if action.disruptive]
    assert len(disruptive) <= 1
    assert all(len(action.why) > 10 for action in made.actions)
    for action in disruptive:
        assert isinstance(action, RestartBroker | HandOver)
        others_to_do = [other for other in made.actions if not isinstance(other, ExpandClaim)]
        assert others_to_do == [action], "a restart waits until everything else is done"
        victim = observed.pods[action.pod]
        assert not victim.terminating
        voters = {voter.name for voter in observed.shard_view(0).voters}
        others = voters - {victim.name}
        if not victim.idle and len(observed.pods) > 1 and victim.name in voters:
            assert all(name in observed.pods and observed.pods[name].ready for name in others)
        # What is not known is no reason: a broker that did not answer is restarted for its pod's shape only.
        report = observed.brokers[action.pod]
        if report.settings is None:
            assert victim.restart_hash == "old" or victim.stuck


@settings(max_examples=100, deadline=None)
@given(observations())
def test_status_can_always_be_computed(seen: tuple[MessageCluster, ClusterSnapshot]) -> None:
    wanted, observed = seen
    for identity in (IDENTITY, whole(wanted.spec.replicas)):
        made = plan(wanted, observed, identity)
        status = cluster_status(wanted, identity, desired_of(wanted), observed, made, {}, NOW)
        truth = {entry["type"]: entry["status"] == "True" for entry in status["conditions"]}
        if truth["Ready"]:
            leader = status["shards"][0]["leader"]
            assert observed.pods[leader].ready
            assert truth["Degraded"] or not made.missing
        assert truth["Ready"] or not made.is_settled
        if identity is IDENTITY:
            assert truth["Ready"] == made.is_settled, "a shard that was never whole is ready when it is"
    assert all(entry["message"] and entry["reason"].isalnum() for entry in status["conditions"])


def applied(seen: ClusterSnapshot, made: Plan) -> ClusterSnapshot:
    """The world after the plan's applies."""
    objects = dict(seen.objects)
    for action in made.actions:
        if isinstance(action, ApplyObject):
            item = copy.deepcopy(action.manifest)
            item["metadata"] |= {"uid": "u", "generation": 1}
            item["status"] = {"observedGeneration": 1}
            objects[item["kind"], item["metadata"]["name"]] = item
    return msgspec.structs.replace(seen, objects=objects)


@settings(max_examples=100, deadline=None)
@given(observations())
def test_applying_twice_is_applying_once(seen: tuple[MessageCluster, ClusterSnapshot]) -> None:
    wanted, observed = seen
    after = applied(observed, plan(wanted, observed))
    assert not [action for action in plan(wanted, after).actions if isinstance(action, ApplyObject)]


def test_drift_says_what_happened() -> None:
    (manifest, *_) = desired_of(cluster()).supports
    assert drift(manifest, None) == "it is missing"
    item = copy.deepcopy(manifest)
    assert drift(manifest, item) is None
    item["automountServiceAccountToken"] = True
    assert drift(manifest, item) == "automountServiceAccountToken was changed by somebody else"
    item["metadata"]["annotations"]["penstock.io/applied-hash"] = "old"
    assert drift(manifest, item) == "its specification changed"


@pytest.mark.parametrize(
    ("wanted", "found", "path"),
    [
        ({"a": {}}, {}, None),
        ({"a": []}, {}, None),
        ({"cpu": "1000m"}, {"cpu": "1"}, None),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "default": 2}]}, None),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, "a[0].b"),
        ({"a": [1]}, {"a": [1, 2]}, "a"),
        ({"a": [1, 2]}, {"a": [1]}, "a"),
        ({"a": True}, {"a": False}, "a"),
        ({"a": {"b": 1}}, {"a": None}, "a"),
    ],
)
def test_differences(wanted: Any, found: Any, path: str | None) -> None:
    assert first_difference(wanted, found) == path


def test_settings_are_changed_restarted_for_or_unknown() -> None:
    have = {
        "dynamic": Setting(value="1", default="1", source="default", dynamic=True),
        "static": Setting(value="1", default="1", source="default", dynamic=False),
        "left.at.run.time": Setting(value="2", default="1", source="dynamic", dynamic=True),
        "left.in.file": Setting(value="2", default="1", source="file", dynamic=True),
        "number": Setting(value="1.0", default="1.0", source="default", dynamic=True),
    }
    made = plan_settings({"dynamic": 5, "static": 2, "other": 1, "number": 1}, have)
    assert made.patch == {"dynamic": 5, "left.at.run.time": None, "left.in.file": "1"}
    assert made.restart == ["static"]
    assert made.unknown == ["other"]


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"clusterId": 5}, {"clusterId": "a", "shards": [{"id": "x"}]}]
)
def test_strange_answers_of_brokers_are_errors_with_a_sentence(answer: Any) -> None:
    with pytest.raises(ValueError, match="is not understood"):
        parse_cluster(answer)
