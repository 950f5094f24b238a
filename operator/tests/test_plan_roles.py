"""Role labels: they follow the newest epoch, an older report never overwrites them, and doubt leaves them alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_operator.plan.actions import LabelRole
from penstock_operator.plan.roles import plan_roles
from penstock_operator.plan.shards import shard_states
from penstock_operator.snapshot.broker import BrokerReport, ClusterReport
from penstock_operator.snapshot.cluster import ClusterSnapshot, PodSeen
from plan_world import cluster, conditions, desired_of, plan, pod, said, snapshot, whole

NAMES = ("orders-0-0", "orders-0-1", "orders-0-2")
WANTED = cluster(replicas=3)
DESIRED = desired_of(WANTED)


def seen(pods: list[PodSeen], *reports: ClusterReport | None) -> ClusterSnapshot:
    """What each broker in turn says; None for one that cannot be asked."""
    said_by = dict(zip(NAMES, reports, strict=True))
    brokers = {
        name: BrokerReport(cluster=report) if report else BrokerReport(unknown="no answer")
        for name, report in said_by.items()
    }
    return snapshot(DESIRED, pods, brokers)


def labels(found: ClusterSnapshot) -> list[LabelRole]:
    return plan_roles(shard_states(WANTED, whole(3), found), found)


def short(actions: list[LabelRole]) -> list[tuple[str, str, int]]:
    return [(action.pod, action.role, action.epoch) for action in actions]


def pods(**changes: Any) -> list[PodSeen]:
    return [pod(DESIRED, ordinal, version=f"v{ordinal}", **changes) for ordinal in range(3)]


NEW = {"role": None, "role_epoch": 0}


def test_new_pods_are_labelled_the_leader_last() -> None:
    report = said(*NAMES, leader="orders-0-1", epoch=2, o2={"role": "Learner", "in_sync": False})
    made = labels(seen(pods(**NEW), report, report, report))
    assert short(made) == [
        ("orders-0-0", "follower", 2),
        ("orders-0-2", "learner", 2),
        ("orders-0-1", "leader", 2),
    ]
    assert [(action.version, action.elected) for action in made] == [
        ("v0", False),
        ("v2", False),
        ("v1", True),
    ]
    assert made[-1].why == "orders-0-1 leads shard 0 in epoch 2"


def test_a_failover_takes_the_old_label_away_before_it_gives_the_new_one() -> None:
    report = said(*NAMES, leader="orders-0-2", epoch=5)
    made = labels(seen(pods(), None, report, report))
    assert short(made) == [
        ("orders-0-0", "follower", 5),
        ("orders-0-1", "follower", 5),
        ("orders-0-2", "leader", 5),
    ]
    assert [action.why for action in made[1:]] == [
        "orders-0-1 is labelled follower because orders-0-2 leads shard 0 in epoch 5",
        "orders-0-2 leads shard 0 in epoch 5, after orders-0-0",
    ]


def test_a_leader_that_was_elected_again_is_no_news_for_people() -> None:
    made = labels(seen(pods(), *[said(*NAMES, epoch=5)] * 3))
    assert short(made)[-1] == ("orders-0-0", "leader", 5)
    assert not any(action.elected for action in made)


@pytest.mark.parametrize(
    "reports",
    [
        (said(*NAMES),) * 3,  # everything is as it was
        (None, None, None),  # nobody can be asked
        (said(*NAMES, leader="", epoch=4),) * 3,  # nobody leads
        (said(*NAMES), said(*NAMES, leader="", epoch=5), None),  # an election goes on
        (said(*NAMES, leader="orders-0-1", epoch=3), None, None),  # one that was cut off says what was
    ],
)
def test_doubt_and_old_news_leave_labels_alone(reports: tuple[ClusterReport | None, ...]) -> None:
    assert labels(seen(pods(), *reports)) == []


def test_one_old_report_weighs_nothing_beside_a_new_one_and_beside_any_pods_memory() -> None:
    old, new = said(*NAMES, epoch=4), said(*NAMES, leader="orders-0-1", epoch=6)
    assert short(labels(seen(pods(), old, new, None)))[-1] == ("orders-0-1", "leader", 6)
    # The new leader's pod knows of epoch 6; only the old leader can be asked.
    after = [pod(DESIRED, 0), pod(DESIRED, 1, role="leader", role_epoch=6), pod(DESIRED, 2)]
    assert labels(seen(after, old, None, None)) == []


def test_who_is_no_member_any_more_leads_no_client() -> None:
    report = said("orders-0-1", "orders-0-2", leader="orders-0-1", epoch=5)
    made = labels(seen(pods(), None, report, report))
    assert ("orders-0-0", "learner", 5) in short(made)
    strangers = [pod(DESIRED, 0, **NEW), *pods()[1:]]
    assert "orders-0-0" not in [action.pod for action in labels(seen(strangers, None, report, report))]


def test_a_label_that_somebody_changed_is_put_right() -> None:
    mine = [pod(DESIRED, 0, role="follower"), pod(DESIRED, 1, role="leader"), pod(DESIRED, 2)]
    made = labels(seen(mine, *[said(*NAMES)] * 3))
    assert short(made) == [("orders-0-1", "follower", 4), ("orders-0-0", "leader", 4)]


def test_labels_hold_nothing_up_and_make_nothing_unready() -> None:
    stale = [msgspec.structs.replace(one, role=None, role_epoch=0, restart_hash="old") for one in pods()]
    found = snapshot(DESIRED, stale)
    made = plan(WANTED, found, whole(3))
    assert [type(action).__name__ for action in made.actions] == ["LabelRole"] * 3 + ["RestartBroker"]
    assert conditions(WANTED, found, whole(3))["Ready"][0] == "True"


def test_labels_follow_also_while_the_spec_is_wrong() -> None:
    wrong = cluster({"config": {"log.retention.ms": -7, "min.insync.replicas": 3}}, replicas=3)
    found = snapshot(DESIRED, pods(**NEW))
    made = plan(wrong, found, whole(3))
    assert made.problems
    assert [action for action in made.actions if isinstance(action, LabelRole)]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 6), st.sets(st.integers(0, 2), min_size=1)),
        max_size=12,
    )
)
def test_whatever_order_reports_come_in_no_label_goes_back(
    looks: list[tuple[int, int, set[int]]],
) -> None:
    """A look: who leads, the epoch, and who can be asked. One epoch has one leader."""
    held = dict.fromkeys(NAMES, (None, 0))
    leaders: dict[int, int] = {}
    for leader, epoch, speakers in looks:
        heir = NAMES[leaders.setdefault(epoch, leader)]
        report = said(*NAMES, leader=heir, epoch=epoch)
        reports = [report if ordinal in speakers else None for ordinal in range(3)]
        now = [
            pod(DESIRED, ordinal, role=held[name][0], role_epoch=held[name][1])
            for ordinal, name in enumerate(NAMES)
        ]
        newest = max(known for _, known in held.values())
        for action in labels(seen(now, *reports)):
            assert action.epoch >= newest
            held[action.pod] = (action.role, action.epoch)  # type: ignore[assignment]
            assert [role for role, _ in held.values()].count("leader") <= 1  # type: ignore[comparison-overlap]
        if epoch >= newest:
            assert held[heir] == ("leader", epoch)
