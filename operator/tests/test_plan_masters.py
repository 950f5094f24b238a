"""Mode MasterSlave in plans and statuses: restarts and steps that keep enough copies, and what people read of the Lease."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lease_world import live, record, released
from penstock_operator.api.cluster import MessageCluster
from penstock_operator.desired.names import labels, owner_reference
from penstock_operator.plan.actions import AdoptLease, HandOver, HandOverAsked, Plan, ResizeShard
from penstock_operator.plan.cluster_status import cluster_status
from penstock_operator.plan.roll import GiveUpLeadership, Hold, Restart, RollBroker, next_step
from penstock_operator.plan.scale import scale_shard
from penstock_operator.snapshot.broker import BrokerReport, ElectionReport, MemberReport, parse_election
from penstock_operator.snapshot.cluster import ClusterSnapshot
from penstock_operator.snapshot.lease import parse_lease
from penstock_operator.snapshot.shard import ShardView
from plan_world import (
    IDENTITY,
    NOW,
    claim,
    cluster,
    conditions,
    desired_of,
    plan,
    pod,
    restarts,
    said,
    snapshot,
    whole,
)

TWO = ("orders-0-0", "orders-0-1")
BEHIND = {"in_sync": False, "lag_bytes": 900}


def masters(spec: dict[str, Any] | None = None, replicas: int = 2) -> MessageCluster:
    return cluster({"mode": "MasterSlave", **(spec or {})}, replicas)


def adopted(wanted: MessageCluster, lease: dict[str, Any]) -> dict[str, Any]:
    lease["metadata"]["labels"] = labels(wanted.metadata.name)
    return lease


def well(wanted: MessageCluster, lease: dict[str, Any] | None = None, **changes: Any) -> ClusterSnapshot:
    """Both brokers run, orders-0-0 is master."""
    desired = desired_of(wanted)
    found = snapshot(desired, [pod(desired, ordinal) for ordinal in range(wanted.spec.replicas)])
    lease = adopted(wanted, live(record(epoch=4))) if lease is None else lease
    return msgspec.structs.replace(found, leases={0: parse_lease(lease)}, **changes)


def headless(
    wanted: MessageCluster, reasons: dict[str, tuple[str, str]], lease: dict[str, Any] | None = None
) -> ClusterSnapshot:
    """Nobody leads; the brokers that are named run, and say of the election why they do not."""
    desired = desired_of(wanted)
    pods = [
        pod(desired, ordinal, ready=False, trouble="the broker is starting", address="10.0.0.1")
        for ordinal in range(2)
    ]
    report = said(*TWO, leader="", epoch=4)
    reports = {
        name: BrokerReport(
            not_ready=["no leader"],
            cluster=report,
            election=ElectionReport(phase="following", reason=reason, sentence=sentence),
        )
        for name, (reason, sentence) in reasons.items()
    }
    away = {name: BrokerReport(unknown="no answer") for name in TWO if name not in reports}
    found = snapshot(desired, pods, {**away, **reports})
    lease = adopted(wanted, live(record(epoch=4))) if lease is None else lease
    claims = {one.name: one for one in (claim(ordinal, formed=2) for ordinal in range(2))}
    return msgspec.structs.replace(found, leases={0: parse_lease(lease)}, claims=claims)


def status_of(wanted: MessageCluster, seen: ClusterSnapshot, old: dict[str, Any] | None = None) -> Any:
    made = plan(wanted, seen, whole(2))
    return cluster_status(wanted, whole(2), desired_of(wanted), seen, made, old or {}, NOW)


# --- restarts -------------------------------------------------------------------------------------


def view(*in_sync: bool, leader: str = "a") -> ShardView:
    members = [
        MemberReport(name=name, role="Leader" if name == leader else "Follower", in_sync=held)
        for name, held in zip("abcde", in_sync, strict=False)
    ]
    return ShardView(id=0, leader=leader, epoch=3, members=members, from_leader=True)


def brokers(stale: str, names: str) -> list[RollBroker]:
    return [
        RollBroker(name=name, reason=f"{name} is old" if name in stale else None, well=True, idle=False)
        for name in names
    ]


def test_of_two_brokers_the_slave_goes_first_and_then_the_master_hands_over_to_it() -> None:
    assert next_step(view(True, True), brokers("ab", "ab"), 1) == Restart(name="b", why="b is old")
    assert next_step(view(True, True), brokers("a", "ab"), 1) == GiveUpLeadership(
        leader="a", to="b", why="a hands over to b first: a is old"
    )
    # A majority would be asked for in mode Raft, and is no question here.
    assert isinstance(next_step(view(True, True), brokers("b", "ab")), Hold)


def test_a_slave_that_is_behind_holds_the_masters_restart_up() -> None:
    assert next_step(view(True, False), brokers("a", "ab"), 1) == Hold(
        why="a is old; not yet, because b is not in sync"
    )


def test_writes_are_never_refused_for_a_restart() -> None:
    sentence = "only 1 copy would be left of the 2 that minInSync asks for: lower it meanwhile"
    assert next_step(view(True, True), brokers("ab", "ab"), 2) == Hold(
        why=f"b is old; not yet, because {sentence}"
    )
    assert next_step(view(True, True, True), brokers("abc", "abc"), 2) == Restart(name="b", why="b is old")


def test_a_broker_alone_is_restarted_all_the_same() -> None:
    assert next_step(view(True), brokers("a", "a"), 1) == Restart(name="a", why="a is old")


def test_a_plan_rolls_two_brokers_and_holds_where_both_are_asked_for() -> None:
    for spec, expected in (({}, ["orders-0-1"]), ({"minInSync": 2}, [])):
        wanted = masters(spec)
        desired = desired_of(wanted)
        found = well(wanted)
        old = {name: msgspec.structs.replace(seen, restart_hash="old") for name, seen in found.pods.items()}
        made = plan(wanted, msgspec.structs.replace(found, pods=old), whole(2))
        assert restarts(made) == expected
        assert bool(made.holds) == (not expected)
        assert desired.settings[0]["min.insync.replicas"] == spec.get("minInSync", 1)


# --- another number of brokers --------------------------------------------------------------------


def sized(in_sync: tuple[bool, ...], **shard: Any) -> ShardView:
    names = [f"orders-0-{ordinal}" for ordinal in range(len(in_sync))]
    members = [
        MemberReport(name=name, role="Leader" if name == names[0] else "Follower", in_sync=held)
        for name, held in zip(names, in_sync, strict=True)
    ]
    fields: dict[str, Any] = {"replicas": len(in_sync), "resizable": True, **shard}
    return ShardView(id=0, leader=names[0], epoch=3, members=members, from_leader=True, **fields)


def test_brokers_leave_when_enough_copies_stay() -> None:
    step = scale_shard(sized((True, True, True)), 2, 3, 2)
    assert step.action == ResizeShard(
        why="shard 0 goes down to 2 brokers, not 3 as orders-0-0 was told before, because replicas says so",
        pod="orders-0-0",
        replicas=2,
    )


def test_a_step_that_would_leave_too_few_copies_is_not_taken() -> None:
    step = scale_shard(sized((True, False, True)), 2, 3, 2)
    assert step.action is None
    assert step.under_way == (
        "shard 0 goes down to 2 brokers once 2 copies of those that stay are in sync, as minInSync asks for; now orders-0-0 is"
    )
    assert scale_shard(sized((True, False, True)), 2, 3, 1).action is not None
    # More brokers never leave fewer copies.
    assert scale_shard(sized((True, False)), 3, 3, 2).action is not None
    # In mode Raft the leader judges, by its majorities.
    assert scale_shard(sized((True, False, True)), 2, 3).action is not None


# --- wishes ---------------------------------------------------------------------------------------


def wishing(annotation: str, value: str) -> MessageCluster:
    wanted = masters()
    metadata = msgspec.structs.replace(wanted.metadata, annotations={f"penstock.io/{annotation}": value})
    return msgspec.structs.replace(wanted, metadata=metadata)


def test_a_hand_over_is_asked_of_the_master_as_of_a_leader() -> None:
    made = plan(wishing("hand-over", "0"), well(wishing("hand-over", "0")), whole(2))
    (action,) = [action for action in made.actions if isinstance(action, HandOver)]
    assert isinstance(action, HandOverAsked)
    assert (action.pod, action.to) == TWO


def test_nobody_is_trusted_past_the_lease() -> None:
    for seen in (
        well(wishing("trust-member", TWO[1])),
        headless(wishing("trust-member", TWO[1]), {TWO[1]: ("NotInSync", "it may lack something")}),
    ):
        made = plan(wishing("trust-member", TWO[1]), seen, whole(2))
        assert made.trust is not None
        assert made.trust.outcome == "Refused"
        assert made.trust.message == (
            "orders-0-1 is not trusted: in mode MasterSlave only a broker leads that Lease orders-0 names as in sync, so bring one of"
            " those back; who would rather lose messages than wait writes replication: async with failover.allowDataLoss: true"
            " beforehand"
        )
        assert not [action for action in made.actions if action.disruptive]


# --- the Lease ------------------------------------------------------------------------------------


def adoptions(wanted: MessageCluster, lease: dict[str, Any]) -> list[AdoptLease]:
    made: Plan = plan(wanted, well(wanted, lease), whole(2))
    return [action for action in made.actions if isinstance(action, AdoptLease)]


def test_a_lease_is_labelled_and_stays_with_the_volumes() -> None:
    wanted = masters()
    (action,) = adoptions(wanted, live())
    assert (action.name, action.version, action.owners) == ("orders-0", "41", [])
    assert action.labels == labels("orders")
    assert adoptions(wanted, adopted(wanted, live())) == []


def test_a_lease_goes_with_the_cluster_where_the_volumes_do() -> None:
    wanted = masters({"storage": {"deleteClaim": True}})
    foreign = {"kind": "ConfigMap", "name": "x", "uid": "other"}
    owned = adopted(wanted, live())
    owned["metadata"]["ownerReferences"] = [foreign]
    (action,) = adoptions(wanted, owned)
    assert action.owners == [foreign, owner_reference(wanted)]
    owned["metadata"]["ownerReferences"] = action.owners
    assert adoptions(wanted, owned) == []
    # The wish may change, and what others set stays theirs.
    (action,) = adoptions(masters(), owned)
    assert action.owners == [foreign]


@pytest.mark.parametrize("changes", [{"format": None}, {"format": "2"}, {"shard_uid": "another"}])
def test_a_lease_that_is_not_known_to_be_the_shards_is_not_touched(changes: dict[str, Any]) -> None:
    assert adoptions(masters({"storage": {"deleteClaim": True}}), live(**changes)) == []


def test_an_adoption_is_no_disturbance() -> None:
    wanted = masters()
    assert conditions(wanted, well(wanted, live()), whole(2))["Ready"][:2] == ("True", "BrokersReady")


# --- status ---------------------------------------------------------------------------------------


def test_the_table_shows_master_slave_epoch_and_the_set() -> None:
    wanted = masters()
    status = status_of(wanted, well(wanted))
    (row,) = status["shards"]
    assert (row["leader"], row["epoch"]) == ("orders-0-0", 4)
    assert [(member["role"], member["inSync"]) for member in row["members"]] == [
        ("Master", True),
        ("Slave", True),
    ]
    assert row["lease"] == {"name": "orders-0", "holder": "orders-0-0", "epoch": 4, "inSync": 2}
    free = adopted(wanted, live(record(epoch=4, holder="", released=released("it handed over"))))
    (row,) = status_of(wanted, well(wanted, free))["shards"]
    assert row["lease"] == {
        "name": "orders-0",
        "holder": "",
        "epoch": 4,
        "inSync": 2,
        "released": "it handed over",
    }
    (row,) = status_of(cluster(replicas=3), _raft())["shards"]
    assert {member["role"] for member in row["members"]} == {"Leader", "Follower"}
    assert "lease" not in row


def _raft() -> ClusterSnapshot:
    desired = desired_of(cluster(replicas=3))
    return snapshot(desired, [pod(desired, ordinal) for ordinal in range(3)])


@pytest.mark.parametrize(
    ("lease", "reason", "message"),
    [
        (
            None,
            "LeaseMissing",
            "Lease orders-0 of shard 0 is gone, and one that is gone is never taken for a free one: bring it back as it was in epoch 4",
        ),
        (
            live(format="2"),
            "LeaseUnreadable",
            "Lease orders-0 of shard 0 cannot be read: it has format '2', and this release reads 1; bring it back as a broker wrote it"
            " last",
        ),
        (
            live(shard_uid="older-shard"),
            "LeaseOfAnotherShard",
            "Lease orders-0 belongs to shard older-shard, and the volumes are those of shard shard-uid: bring back the volumes of the"
            " other one, or delete the Lease if that shard is never to come back",
        ),
        (
            live(record(epoch=3)),
            "LeaseOlder",
            "Lease orders-0 is of epoch 3, older than epoch 4, which brokers of shard 0 know: it was restored from a backup or changed"
            " by hand, and nobody takes over by it; bring the newer one back",
        ),
    ],
)
def test_a_lease_that_is_wrong_is_said_whether_a_master_still_serves_or_not(
    lease: dict[str, Any] | None, reason: str, message: str
) -> None:
    wanted = masters()
    leases = {} if lease is None else {0: parse_lease(adopted(wanted, lease))}
    found = conditions(wanted, msgspec.structs.replace(well(wanted), leases=leases), whole(2))
    assert found["Degraded"] == ("True", reason, message)
    assert found["Ready"][0] == "True"
    without = headless(wanted, {TWO[1]: ("LeaseMissing", "there is no Lease of this shard")})
    found = conditions(wanted, msgspec.structs.replace(without, leases=leases), whole(2))
    assert found["Degraded"] == ("True", reason, message)
    assert found["Ready"][:2] == ("False", reason)
    assert found["Ready"][2].startswith(message)


def test_a_shard_that_never_existed_has_no_lease_to_miss() -> None:
    wanted = masters()
    seen = msgspec.structs.replace(headless(wanted, {}), leases={})
    assert conditions(wanted, seen, IDENTITY)["Ready"][1] == "BrokersNotReady"


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [
        ({TWO[1]: ("NotInSync", "it may lack something")}, "NobodyInSync"),
        ({TWO[1]: ("DataLossNotAllowed", "only orders-0-0 is sure")}, "NobodyInSync"),
        ({TWO[1]: ("LagTooLarge", "it lacks 9 entries")}, "NobodyInSync"),
        ({TWO[0]: ("Holder", "x"), TWO[1]: ("NotInSync", "y")}, "NoLeader"),  # the other one will
        ({TWO[1]: ("Holder", "orders-0-0 holds the Lease of epoch 4")}, "NoLeader"),  # for a few seconds
        ({TWO[1]: ("LeaseUnavailable", "the Lease cannot be read: no answer")}, "LeaseUnavailable"),
        ({}, "NoLeader"),
    ],
)
def test_why_nobody_leads_is_said_in_the_brokers_own_words(
    reasons: dict[str, tuple[str, str]], reason: str
) -> None:
    wanted = masters()
    found = conditions(wanted, headless(wanted, reasons), whole(2))
    assert found["Degraded"][:2] == ("True", reason)
    for name, (_, sentence) in reasons.items():
        assert f"{name}: {sentence}" in found["Degraded"][2]
    assert found["Ready"][:2] == ("False", reason)


def test_what_may_be_lost_is_told_by_lease_and_brokers_and_stays_told() -> None:
    wanted = masters({"replication": "async"})
    sentence = "this broker goes on from entry 90"
    lost = {"epoch": 6, "message": sentence}
    for seen in (
        well(wanted, adopted(wanted, live(loss=f"6: {sentence}"))),
        _with_election(well(wanted), ElectionReport(loss=sentence, loss_epoch=6)),
    ):
        status = status_of(wanted, seen)
        assert status["shards"][0]["loss"] == lost
        told = {entry["type"]: entry for entry in status["conditions"]}["UncleanRecovery"]
        assert (told["status"], told["reason"]) == ("True", "MessagesLost")
        assert told["message"] == f"shard 0, since epoch 6: {sentence}"
        # While nobody says it, and when something older is said, it stays as it was told.
        for later in (well(wanted), well(wanted, adopted(wanted, live(loss="5: something else")))):
            assert status_of(wanted, later, status)["shards"][0]["loss"] == lost
        newer = well(wanted, adopted(wanted, live(loss="9: more")))
        assert status_of(wanted, newer, status)["shards"][0]["loss"] == {"epoch": 9, "message": "more"}


def _with_election(found: ClusterSnapshot, election: ElectionReport) -> ClusterSnapshot:
    brokers = {
        name: msgspec.structs.replace(report, election=election) for name, report in found.brokers.items()
    }
    return msgspec.structs.replace(found, brokers=brokers)


def test_elections_are_read_field_by_field() -> None:
    told = {
        "phase": "following",
        "holderName": "x",
        "reason": "Holder",
        "sentence": "s",
        "loss": "",
        "lossEpoch": 0,
    }
    assert parse_election({"election": told}) == ElectionReport(
        phase="following", reason="Holder", sentence="s"
    )
    assert parse_election({"name": "a release before"}) is None
    assert parse_election({"election": None}) is None
    with pytest.raises(ValueError, match="GET /v1/broker is not understood"):
        parse_election({"election": {"lossEpoch": "six"}})
