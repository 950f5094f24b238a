"""Lost nodes: what is certainly gone is replaced, and nothing else is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock_operator.plan.actions import Action, ForgetPod, GiveUpClaim, RestartBroker
from penstock_operator.snapshot.broker import BrokerReport
from penstock_operator.snapshot.cluster import ClusterSnapshot, parse_claim, parse_pod
from penstock_operator.snapshot.nodes import NodeSeen, hosts_of_volume, parse_node
from plan_world import claim, cluster, conditions, desired_of, plan, pod, said, snapshot, whole

NAMES = ("orders-0-0", "orders-0-1", "orders-0-2")
GONE = NodeSeen(name="n2", exists=False, ready=False)
SILENT = NodeSeen(name="n2", ready=False)
TAINTED = NodeSeen(name="n2", ready=False, out_of_service=True)
MUTE = BrokerReport(unknown="no answer")
BEHIND = {"in_sync": False, "lag_bytes": 900}
LOST = "its volume pv-2 was on node n2, which is gone"
SINCE = "2026-11-21T08:00:00Z"


def on_node(node: NodeSeen | None, report: BrokerReport = MUTE, **changes: Any) -> ClusterSnapshot:
    """The third broker is on node n2."""
    desired = desired_of(cluster(replicas=3))
    others = [pod(desired, ordinal, node="n0") for ordinal in range(2)]
    third = pod(desired, 2, node="n2", **{"ready": False, "trouble": "the broker is starting", **changes})
    said_by = {name: BrokerReport(cluster=said(*NAMES, o2=BEHIND)) for name in NAMES[:2]}
    found = snapshot(desired, [*others, third], {**said_by, NAMES[2]: report})
    nodes = {"n0": NodeSeen(name="n0")} | ({} if node is None else {"n2": node})
    claims = {one.name: one for one in map(claim, range(3))}
    claims = {
        name: msgspec.structs.replace(one, uid=name, volume="pv-2", formed=3) for name, one in claims.items()
    }
    return msgspec.structs.replace(found, nodes=nodes, claims=claims)


def waiting(now: str = "2026-11-21T08:01:00Z", **shard: dict[str, Any]) -> ClusterSnapshot:
    """The third broker's pod was made anew, and its volume holds it on a node that is gone."""
    found = on_node(None, unschedulable_since=SINCE, stuck=True, idle=True, trouble="no node takes the pod")
    third = msgspec.structs.replace(found.pods[NAMES[2]], node=None)
    said_by = {name: BrokerReport(cluster=said(*NAMES, **{"o2": BEHIND, **shard})) for name in NAMES[:2]}
    return msgspec.structs.replace(
        found,
        pods={**found.pods, NAMES[2]: third},
        brokers={**found.brokers, **said_by},
        lost_volumes={"data-orders-0-2": LOST},
        now=now,
    )


def disruptions(found: ClusterSnapshot, *, replace: bool = True) -> list[Action]:
    wanted = cluster({"storage": {"replaceLost": replace}}, replicas=3)
    return [action for action in plan(wanted, found, whole(3)).actions if action.disruptive]


def holds(found: ClusterSnapshot, *, replace: bool = True) -> list[str]:
    return plan(cluster({"storage": {"replaceLost": replace}}, replicas=3), found, whole(3)).holds


# --- pods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "changes", "place"),
    [
        (GONE, {"terminating": True}, "node n2 is gone"),
        (GONE, {}, "node n2 is gone"),
        (GONE, {"ready": True}, "node n2 is gone"),  # nobody is left to say that it is not
        (TAINTED, {"terminating": True}, "node n2 is out of service"),
        (TAINTED, {}, "node n2 is out of service"),
    ],
)
def test_a_pod_on_a_node_that_is_certainly_gone_is_replaced(
    node: NodeSeen, changes: dict[str, Any], place: str
) -> None:
    assert disruptions(on_node(node, **changes)) == [
        ForgetPod(why=f"orders-0-2 is replaced because {place}", pod="orders-0-2", uid="pod-2")
    ]


@pytest.mark.parametrize(
    ("node", "report", "changes"),
    [
        (SILENT, MUTE, {"terminating": True}),  # however long it does not answer
        (SILENT, MUTE, {}),
        (NodeSeen(name="n2", out_of_service=True), MUTE, {}),  # its kubelet is well all the same
        (None, MUTE, {"terminating": True}),  # nobody may look at nodes
        (GONE, BrokerReport(cluster=said(*NAMES)), {}),  # its broker speaks
        (TAINTED, MUTE, {"ready": True}),
    ],
)
def test_what_may_still_run_is_left_alone(
    node: NodeSeen | None, report: BrokerReport, changes: dict[str, Any]
) -> None:
    assert disruptions(on_node(node, report, **changes)) == []


def test_status_says_where_the_broker_is() -> None:
    for node, changes, sentence in (
        (SILENT, {}, "orders-0-2 is not ready: node n2 does not answer"),
        (SILENT, {"terminating": True}, "orders-0-2 is stopping, and node n2 does not answer"),
        (NodeSeen(name="n2"), {}, "orders-0-2 is not ready: the broker is starting"),
        (
            NodeSeen(name="n2", cordoned=True),
            {"terminating": True},
            "orders-0-2 is stopping, and node n2 is cordoned",
        ),
    ):
        told = conditions(cluster(replicas=3), on_node(node, **changes), whole(3))
        assert told["Degraded"] == ("True", "BrokersMissing", sentence)
        assert told["Ready"][0] == "True"


# --- volumes --------------------------------------------------------------------------------------


def test_a_volume_that_went_with_its_node_is_replaced_where_the_spec_says_so() -> None:
    assert disruptions(waiting()) == [
        GiveUpClaim(
            why=f"claim data-orders-0-2 is given up because {LOST}: orders-0-2 begins anew and is sent everything",
            name="data-orders-0-2",
            uid="data-orders-0-2",
        )
    ]


def test_without_the_policy_people_are_told_what_they_can_do() -> None:
    assert disruptions(waiting(), replace=False) == []
    assert holds(waiting(), replace=False) == [
        f"claim data-orders-0-2 is kept although {LOST}: set storage.replaceLost: true, or delete the claim and pod"
        " orders-0-2 yourself"
    ]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            waiting("2026-11-21T08:00:59Z"),
            f"no node has taken orders-0-2 since {SINCE}, and it is given up after 60 s",
        ),
        (waiting(""), f"no node has taken orders-0-2 since {SINCE}, and it is given up after 60 s"),
        (
            waiting(o1=BEHIND),
            "the brokers in sync without it (orders-0-0) do not suffice for shard 0",
        ),
    ],
)
def test_a_volume_is_not_given_up_too_early_or_while_others_lack_something(
    found: ClusterSnapshot, reason: str
) -> None:
    assert disruptions(found) == []
    assert holds(found) == [f"claim data-orders-0-2 is kept although {LOST}: {reason}"]


def test_a_shard_in_doubt_keeps_every_claim() -> None:
    found = waiting()
    no_leader = {name: BrokerReport(cluster=said(*NAMES, leader="", o2=BEHIND)) for name in NAMES[:2]}
    second_hand = {NAMES[0]: MUTE}
    for brokers in (no_leader, second_hand):
        doubtful = msgspec.structs.replace(found, brokers={**found.brokers, **brokers})
        assert disruptions(doubtful) == []
        assert "no leader that says who holds everything" in holds(doubtful)[0]
    away = msgspec.structs.replace(found.pods[NAMES[1]], ready=False, trouble="x")
    doubtful = msgspec.structs.replace(found, pods={**found.pods, NAMES[1]: away})
    assert disruptions(doubtful) == []


def test_a_volume_that_is_not_known_to_be_gone_is_never_touched() -> None:
    found = msgspec.structs.replace(waiting(), lost_volumes={})
    assert (disruptions(found), holds(found)) == ([], [])


def test_a_pod_that_waits_for_a_deleted_claim_is_made_anew() -> None:
    found = waiting()
    claims = {name: one for name, one in found.claims.items() if name != "data-orders-0-2"}
    found = msgspec.structs.replace(found, claims=claims, lost_volumes={})
    assert disruptions(found) == [
        RestartBroker(
            why="orders-0-2 is made anew because its claim was deleted: the next one has an empty volume",
            pod="orders-0-2",
            uid="pod-2",
        )
    ]


def test_the_only_broker_of_a_shard_keeps_its_claim() -> None:
    wanted = cluster({"storage": {"replaceLost": True}})
    desired = desired_of(wanted)
    alone = pod(desired, ready=False, stuck=True, idle=True, unschedulable_since=SINCE, trouble="x")
    found = snapshot(desired, [alone], {alone.name: MUTE})
    found = msgspec.structs.replace(
        found,
        claims={"data-orders-0-0": claim(formed=1)},
        lost_volumes={"data-orders-0-0": LOST},
        now="2026-11-22T08:00:00Z",
    )
    made = plan(wanted, found, whole(1))
    assert not [action for action in made.actions if action.disruptive]
    assert "no leader" in made.holds[0]


def test_a_master_counts_its_in_sync_set() -> None:
    wanted = cluster({"storage": {"replaceLost": True}}, replicas=2)
    wanted = msgspec.structs.replace(wanted, spec=msgspec.structs.replace(wanted.spec, mode="MasterSlave"))
    desired = desired_of(wanted)
    slave = pod(desired, 1, ready=False, stuck=True, idle=True, unschedulable_since=SINCE, trouble="x")
    for in_sync, expected in ((False, True), (True, False)):
        report = said(*NAMES[:2], o1={"in_sync": in_sync})
        found = snapshot(
            desired, [pod(desired), slave], {NAMES[0]: BrokerReport(cluster=report), NAMES[1]: MUTE}
        )
        found = msgspec.structs.replace(
            found,
            claims={"data-orders-0-1": claim(1, formed=2)},
            lost_volumes={"data-orders-0-1": LOST},
            now="2026-11-22T08:00:00Z",
        )
        made = plan(wanted, found, whole(2)).actions
        assert bool([action for action in made if isinstance(action, GiveUpClaim)]) == expected


# --- what Kubernetes says -------------------------------------------------------------------------


def test_nodes_are_read_from_their_objects() -> None:
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    unknown = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    taint = {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}
    unreachable = {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]}
    for node, trouble, is_gone in (
        (ready, None, False),
        ({}, None, False),
        ({**ready, "spec": {"unschedulable": True}}, "node a is cordoned", False),
        ({**unknown, "spec": unreachable}, "node a does not answer", False),
        ({**unknown, "spec": taint}, "node a is out of service", True),
        ({**ready, "spec": taint}, None, False),
        (None, "node a is gone", True),
    ):
        seen = parse_node("a", node)
        assert (seen.trouble, seen.is_gone) == (trouble, is_gone)


def test_a_volume_is_bound_to_hosts_only_where_every_alternative_names_some() -> None:
    def hosts(*terms: list[dict[str, Any]]) -> list[str]:
        required = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
        return hosts_of_volume({"spec": {"nodeAffinity": {"required": required}}})

    host = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}
    zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]}
    anywhere_else = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n1"]}
    assert hosts([host]) == ["n2"]
    assert hosts([host, zone]) == ["n2"]
    assert hosts([host], [{**host, "values": ["n3"]}]) == ["n2", "n3"]
    assert hosts([zone]) == hosts([host], [zone]) == hosts([anywhere_else]) == []
    assert hosts_of_volume({"spec": {}}) == []


def test_a_pod_says_where_it_is_and_since_when_no_node_takes_it() -> None:
    metadata = {
        "name": "orders-0-2",
        "uid": "u",
        "resourceVersion": "7",
        "labels": {"penstock.io/role": "leader"},
    }
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "lastTransitionTime": SINCE,
    }
    waits = parse_pod({"metadata": metadata, "spec": {}, "status": {"conditions": [scheduled]}})
    assert (waits.node, waits.unschedulable_since, waits.role, waits.version) == (None, SINCE, "leader", "7")
    runs = parse_pod({"metadata": metadata, "spec": {"nodeName": "n2"}, "status": {}})
    assert (runs.node, runs.unschedulable_since) == ("n2", None)
    bound = parse_claim({"metadata": metadata, "spec": {"volumeName": "pv-2"}})
    assert (bound.uid, bound.volume) == ("u", "pv-2")
