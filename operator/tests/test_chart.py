"""The chart: lints, renders the same bytes each time, and grants no more than the operator uses."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from chart_rendering import CHART, rendered, run

KUBERNETES = "1.34"
pytestmark = pytest.mark.kube


def test_lints_without_a_warning(helm: str) -> None:
    done = run(helm, "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


def test_renders_the_same_each_time_and_validly(helm: str) -> None:
    settings = ("--set", "replicas=2", "--set", "watchNamespaces={shop,bank}", "--set", "image.tag=x")
    assert rendered(helm, *settings) == rendered(helm, *settings)
    for documents in (rendered(helm), rendered(helm, *settings)):
        for document in documents:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_unknown_values_are_refused(helm: str) -> None:
    for setting in (
        "replica=2",
        "image.name=x",
        "replicas=9",
        "logFormat=xml",
        "monitoring.rules.on=true",
        "tracing.endpoint=collector:4317",
        "tracing.sampling=2",
        "tracing.sampling=1.5",
        "tracing.token=x",
    ):
        done = run(helm, "template", "penstock", str(CHART), "--set", setting)
        assert done.returncode != 0, setting


def test_watching_some_namespaces_grants_nothing_elsewhere(helm: str) -> None:
    documents = rendered(helm, "--set", "watchNamespaces={shop}")
    cluster_rules = [rule for item in documents if item["kind"] == "ClusterRole" for rule in item["rules"]]
    assert [rule["resources"] for rule in cluster_rules] == [["customresourcedefinitions"]]
    assert {item["metadata"]["namespace"] for item in documents if item["kind"] == "Role"} == {
        "shop",
        "penstock-system",
    }


def test_only_an_operator_that_sees_nodes_may_delete_pods_that_were_lost_with_one(helm: str) -> None:
    for settings, expected in (
        ((), True),
        (("--set", "readNodes=never"), False),
        (("--set", "watchNamespaces={shop}"), False),
        (("--set", "watchNamespaces={shop}", "--set", "readNodes=always"), True),
        (("--set", "readNodes=null"), True),  # the value of a release that did not know it
    ):
        rules = rules_of(rendered(helm, *settings))
        lost = [rule for rule in rules if "delete" in rule["verbs"] and "pods" in rule["resources"]]
        seen = [rule for rule in rules if "nodes" in rule["resources"]]
        assert (bool(lost), bool(seen)) == (expected, expected), settings
        # A change of it starts the operator anew: it asks once whether it may.
        (deployment,) = [item for item in rendered(helm, *settings) if item["kind"] == "Deployment"]
        marks = deployment["spec"]["template"]["metadata"]["annotations"]
        assert marks["penstock.io/reads-nodes"] == str(expected).lower()


def test_the_operator_traces_where_it_is_told_a_collector_and_nowhere_else(helm: str) -> None:
    def variables(*settings: str) -> dict[str, Any]:
        (deployment,) = [item for item in rendered(helm, *settings) if item["kind"] == "Deployment"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return {item["name"]: item.get("value") for item in container["env"] if "TRACING" in item["name"]}

    assert (
        variables() == variables("--set", "tracing=null") == variables("--set", "tracing.sampling=0.5") == {}
    )
    collector = ("--set", "tracing.endpoint=http://collector:4318")
    assert variables(*collector) == {
        "PENSTOCK_TRACING_ENDPOINT": "http://collector:4318",
        "PENSTOCK_TRACING_SAMPLING": "1",
    }
    assert variables(*collector, "--set", "tracing.sampling=0.05")["PENSTOCK_TRACING_SAMPLING"] == "0.05"


def rules_of(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for item in documents if item["kind"] in ("ClusterRole", "Role") for rule in item["rules"]]


def test_rights_are_the_least(helm: str) -> None:
    for rule in rules_of(rendered(helm)):
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        assert "secrets" not in rule["resources"]
        assert "nodes" not in rule["resources"] or set(rule["verbs"]) == {"get", "list", "watch"}


def test_leases_and_rights_are_never_taken_away(helm: str) -> None:
    for rule in rules_of(rendered(helm)):
        kinds = {"leases", "roles", "rolebindings"} & set(rule["resources"])
        assert not kinds or {"delete", "bind", "escalate"}.isdisjoint(rule["verbs"])


def test_the_pod_is_restricted(helm: str) -> None:
    (deployment,) = [item for item in rendered(helm) if item["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
