"""Alerts about the operator fire in a real Prometheus when it does not work, or fails, and clear when it does again."""

from __future__ import annotations

import datetime
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import environment as penstock
from conftest import OPERATOR_REPLICAS, OPERATOR_SELECTOR, SHARED_CLUSTER
from resources import CLUSTER, message_cluster
from runbooks import END_IT, LOOK, OVER_WHEN, forwarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Operator
    from environment import Environment
    from kube import Kube
    from prometheus import Prometheus
    from runbooks import Runbook

    TakeUp = Callable[..., Runbook]

NAMESPACE = {"-n penstock": f"-n {penstock.OPERATOR_NAMESPACE}"}
LEASE = "penstock-operator"
SOMEBODY_ELSE = "an-operator-of-another-release"
STOPPED = "another operator leads now; this one stops"
"""What an operator says whose Lease somebody else holds."""
LEADING_POD = "penstock-operator-5d8c7b9f6d-x2x9z"
"""The runbook's."""
MISSED = "messageclusters/status"
"""What the operator does not watch, so that only passes miss the right to it."""


def test_operators_that_do_not_work_are_told_of(
    operator: Operator, prometheus: Prometheus, take_up: TakeUp
) -> None:
    """
    1. Somebody else holds the operators' Lease: none of them works, and PenstockOperatorDown fires.
    2. The runbook's commands show who holds it.
    3. The Lease is free again: an operator takes it, and the alert clears.
    4. There is no operator any more, and nothing to scrape: it fires; it clears when they are back.
    """
    where = {"namespace": penstock.OPERATOR_NAMESPACE}
    operator.leading_pod()
    operator.log.expected.append(STOPPED)
    prometheus.wait_clear("PenstockOperatorDown")
    with take_up("PenstockOperatorDown", operator.kube, NAMESPACE) as page:
        operator.kube.patch("lease", LEASE, {"spec": _held_by_somebody_else()})
        try:
            prometheus.wait_firing("PenstockOperatorDown", **where)
            told = page.run(LOOK)
            assert SOMEBODY_ELSE in told, told
            assert "messageclusters.penstock.io" in told, told
        finally:
            operator.kube.delete("lease", LEASE)
        operator.leading_pod()
        prometheus.wait_clear("PenstockOperatorDown")
        assert operator.leading_pod() in page.run(OVER_WHEN)
    operator.scale(0)
    try:
        prometheus.wait_firing("PenstockOperatorDown")
    finally:
        operator.scale(OPERATOR_REPLICAS)
    prometheus.wait_clear("PenstockOperatorDown")


def test_an_operator_that_lacks_a_right_is_told_of(
    environment: Environment, kube: Kube, operator: Operator, prometheus: Prometheus, take_up: TakeUp
) -> None:
    """
    1. The operator may not write the status of clusters any more: it fails on a new one, and PenstockReconcileFailing fires.
    2. The runbook's commands show which cluster it is, and which right it is.
    3. They have the operator leave the cluster alone, and go on. The right is back: the cluster is ready, and the alert clears.
    """
    where = {"namespace": penstock.OPERATOR_NAMESPACE, "kind": "MessageCluster"}
    prometheus.wait_clear("PenstockReconcileFailing", **where)
    words = {**NAMESPACE, LEADING_POD: operator.leading_pod(), **forwarded(8082)}
    with take_up("PenstockReconcileFailing", kube, words) as page:
        with _without_right(environment.kube, MISSED):
            kube.apply(message_cluster(SHARED_CLUSTER))
            prometheus.wait_firing("PenstockReconcileFailing", **where)
            told = page.run(LOOK)
            assert f"{kube.namespace}/{SHARED_CLUSTER}" in told, told
            assert MISSED in told, told
            page.run(END_IT)
        kube.wait_ready(CLUSTER, SHARED_CLUSTER)
        prometheus.wait_clear("PenstockReconcileFailing", **where)
        assert 'penstock_operator_failing{kind="MessageCluster"} 0.0' in page.run(OVER_WHEN)


@contextmanager
def _without_right(kube: Kube, resource: str) -> Iterator[None]:
    """The operator may do nothing with these inside."""
    (role,) = [
        role
        for role in kube.items("clusterroles", OPERATOR_SELECTOR)
        if any(resource in rule["resources"] for rule in role["rules"])
    ]
    name, rules = role["metadata"]["name"], role["rules"]
    left = [rule for rule in rules if resource not in rule["resources"]]
    kube.patch("clusterrole", name, {"rules": left})
    try:
        yield
    finally:
        kube.patch("clusterrole", name, {"rules": rules})


def _held_by_somebody_else() -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"holderIdentity": SOMEBODY_ELSE, "leaseDurationSeconds": 3600, "renewTime": now}
