"""The chart installs what the README says, and helm can take it away again and bring it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import environment as penstock
from kube import wait_for
from resources import CLUSTER, message_cluster

if TYPE_CHECKING:
    from conftest import Operator
    from environment import Environment
    from kube import Kube

CRD_NAMES = ("messageclusters.penstock.io", "topics.penstock.io", "consumergroups.penstock.io")


@pytest.mark.smoke
def test_the_chart_installs_operator_and_resource_kinds(environment: Environment, operator: Operator) -> None:
    """
    1. The operator's Deployment is available, with as many pods as asked for.
    2. The three kinds are established, with their short names and the category.
    3. Exactly one operator leads.
    4. Its pods run under the restricted profile.
    """
    operator.wait_available()
    for name in CRD_NAMES:
        environment.kube.run("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    listed = environment.kube.run("api-resources", "--categories=penstock", "--no-headers")
    assert {"mc", "cg"} <= set(listed.replace(",", " ").split())
    assert {"messageclusters", "topics", "consumergroups"} <= set(listed.split())
    assert operator.leading_pod() in operator.pods()
    refused = environment.kube.run(
        "label", "namespace", penstock.OPERATOR_NAMESPACE, "--dry-run=server", "--overwrite",
        "pod-security.kubernetes.io/enforce=restricted",
    )  # fmt: skip
    assert "would violate" not in refused


def test_installing_again_changes_nothing(environment: Environment, operator: Operator) -> None:
    """
    1. `helm upgrade` with the same values.
    2. The operator's pods are the same ones as before.
    """
    before = sorted(operator.pods())
    penstock.install(environment.kube, environment.image, len(before))
    assert sorted(operator.pods()) == before


def test_clusters_outlive_the_operator(environment: Environment, operator: Operator, kube: Kube) -> None:
    """
    1. A cluster is Ready.
    2. `helm uninstall`: operator and RBAC go; kinds, resources and brokers stay.
    3. `helm install`: the operator is back, the broker was not touched.
    """
    kube.apply(message_cluster("steady"))
    kube.wait_ready(CLUSTER, "steady")
    broker = kube.get("pod", "steady-0-0")["metadata"]["uid"]
    operator.log.gather()
    penstock.helm(environment.kube, "uninstall", penstock.RELEASE)
    try:
        wait_for("the operators to be gone", lambda: not operator.pods(), seconds=90)
        assert kube.get(CLUSTER, "steady")["metadata"].get("deletionTimestamp") is None
        assert kube.get("pod", "steady-0-0")["metadata"]["uid"] == broker
    finally:
        penstock.install(environment.kube, environment.image, 2)
    kube.patch(CLUSTER, "steady", {"spec": {"config": {"log.retention.ms": 3600000}}})
    kube.wait_ready(CLUSTER, "steady")
    assert kube.get("pod", "steady-0-0")["metadata"]["uid"] == broker
