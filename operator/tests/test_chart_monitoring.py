"""What the chart makes for Prometheus and Grafana: nothing unless it is asked to, and then what fits the pods."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import pytest

from chart_rendering import rendered
from monitoring_files import DASHBOARD_FILES, dashboard, rules
from penstock_operator.api.names import ADMIN_LISTENER, LABEL_CLUSTER, LABEL_SHARD
from penstock_operator.desired import names

pytestmark = pytest.mark.kube
ALL = ("podMonitor.enabled", "rules.enabled", "dashboards.enabled", "scrapeAnnotations")
EVERYTHING = tuple(f"--set=monitoring.{name}=true" for name in ALL)
KUBERNETES = "1.34"


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in documents if item["kind"] == kind]


def pod_template(documents: list[dict[str, Any]]) -> Any:
    (deployment,) = of_kind(documents, "Deployment")
    return deployment["spec"]["template"]


def test_nothing_is_made_unless_it_is_asked_for(helm: str) -> None:
    # Values that are kept from a release that knew none of them count as all off.
    for settings in ((), ("--set", "monitoring=null"), ("--set", "monitoring.rules=null")):
        documents = rendered(helm, *settings)
        assert not {"PodMonitor", "PrometheusRule", "ConfigMap"} & {item["kind"] for item in documents}
        assert set(pod_template(documents)["metadata"]["annotations"]) == {"penstock.io/reads-nodes"}


def test_everything_that_kubernetes_knows_is_valid(helm: str) -> None:
    documents = rendered(helm, *EVERYTHING)
    assert documents == rendered(helm, *EVERYTHING)
    for document in documents:
        if not document["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_operator_is_scraped_where_it_answers(helm: str) -> None:
    documents = rendered(helm, *EVERYTHING)
    template = pod_template(documents)
    (port,) = template["spec"]["containers"][0]["ports"]
    annotations = template["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == str(port["containerPort"])
    assert annotations["prometheus.io/path"] == "/metrics"
    monitor = of_kind(documents, "PodMonitor")[0]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    assert {"targetLabel": "job", "replacement": "penstock-operator"} in endpoint["relabelings"]


def prometheus_name(label: str) -> str:
    return "__meta_kubernetes_pod_label_" + label.replace(".", "_").replace("/", "_")


def test_brokers_are_scraped_wherever_the_operator_makes_them(helm: str) -> None:
    monitor = of_kind(rendered(helm, *EVERYTHING), "PodMonitor")[1]
    assert monitor["spec"]["namespaceSelector"] == {"any": True}
    assert monitor["spec"]["selector"]["matchLabels"].items() <= names.labels("orders").items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == ADMIN_LISTENER
    assert {"targetLabel": "job", "replacement": "penstock-broker"} in endpoint["relabelings"]
    copied = {
        rule["targetLabel"]: rule["sourceLabels"][0]
        for rule in endpoint["relabelings"]
        if "sourceLabels" in rule
    }
    assert copied == {"cluster": prometheus_name(LABEL_CLUSTER), "shard": prometheus_name(LABEL_SHARD)}
    some = of_kind(rendered(helm, *EVERYTHING, "--set", "watchNamespaces={shop,bank}"), "PodMonitor")[1]
    assert some["spec"]["namespaceSelector"] == {"matchNames": ["shop", "bank"]}


def test_the_rules_are_those_of_the_files(helm: str) -> None:
    (made,) = of_kind(rendered(helm, *EVERYTHING), "PrometheusRule")
    assert [rule for group in made["spec"]["groups"] for rule in group["rules"]] == rules()


def test_runbooks_can_be_served_elsewhere(helm: str) -> None:
    where = "https://runbooks.example/penstock"
    (made,) = of_kind(
        rendered(helm, *EVERYTHING, "--set", f"monitoring.rules.runbookUrl={where}"), "PrometheusRule"
    )
    for group in made["spec"]["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["runbook_url"] == f"{where}/{rule['alert']}.md"


def test_grafana_finds_the_dashboards_and_they_arrive_whole(helm: str) -> None:
    made = of_kind(rendered(helm, *EVERYTHING), "ConfigMap")
    assert all(item["metadata"]["labels"]["grafana_dashboard"] == "1" for item in made)
    arrived = [json.loads(text) for item in made for text in item["data"].values()]
    assert arrived == [dashboard(path) for path in DASHBOARD_FILES]


def test_labels_of_ones_own_are_added(helm: str) -> None:
    settings = [
        f"--set=monitoring.{name}.labels.release=prometheus" for name in ("podMonitor", "rules", "dashboards")
    ]
    for item in rendered(helm, *EVERYTHING, *settings):
        if item["kind"] in ("PodMonitor", "PrometheusRule", "ConfigMap"):
            assert item["metadata"]["labels"]["release"] == "prometheus"
            assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "penstock"
