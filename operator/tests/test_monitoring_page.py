"""docs/monitoring.md: its lists are whole, and what it has people copy works."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from chart_rendering import ROOT, rendered
from monitoring_files import rules
from penstock_operator.api.check import check_resource
from penstock_operator.api.cluster import MessageCluster
from penstock_operator.api.names import ADMIN_PORT
from penstock_operator.desired.identity import Environment
from penstock_operator.desired.policies import network_policy

PAGE = (ROOT / "docs" / "monitoring.md").read_text()


def yaml_block(first_word: str) -> Any:
    """The one YAML block of the page that begins so."""
    (block,) = [block for block in PAGE.split("```yaml\n")[1:] if block.startswith(first_word)]
    return yaml.safe_load(block.split("```")[0])


def test_it_lists_every_alert() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| [Penstock")]
    told = [(row.split("]")[0][3:], row.split("|")[2].strip()) for row in rows]
    assert sorted(told) == sorted((rule["alert"], rule["labels"]["severity"]) for rule in rules())


def test_prometheus_takes_its_configuration(promtool: str, tmp_path: Path) -> None:
    content = yaml_block("scrape_configs")
    for job in content["scrape_configs"]:
        # Debian builds Prometheus without the search for pods; everything else is as in the page.
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
        job["static_configs"] = [{"targets": ["localhost:8081"]}]
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [promtool, "check", "config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.kube
def test_its_configuration_scrapes_what_the_pod_monitors_do(helm: str) -> None:
    jobs = {job["job_name"]: job["relabel_configs"] for job in yaml_block("scrape_configs")["scrape_configs"]}
    documents = rendered(helm, "--set", "monitoring.podMonitor.enabled=true")
    monitors = [item["spec"] for item in documents if item["kind"] == "PodMonitor"]
    assert len(monitors) == len(jobs)
    for monitor in monitors:
        (endpoint,) = monitor["podMetricsEndpoints"]
        (name,) = [rule["replacement"] for rule in endpoint["relabelings"] if rule["targetLabel"] == "job"]
        kept = {rule["regex"] for rule in jobs[name] if rule.get("action") == "keep"}
        assert kept == {monitor["selector"]["matchLabels"]["app.kubernetes.io/name"], endpoint["port"]}
        copied = {
            rule["target_label"]: rule["source_labels"] for rule in jobs[name] if "target_label" in rule
        }
        assert (
            copied.items()
            >= {
                rule["targetLabel"]: rule["sourceLabels"]
                for rule in endpoint["relabelings"]
                if "sourceLabels" in rule
            }.items()
        )
        assert {"namespace", "pod"} <= set(copied)  # these two a PodMonitor has by itself


def test_its_cluster_lets_prometheus_in() -> None:
    resource = yaml_block("apiVersion")
    assert check_resource(resource) == []
    resource["metadata"] |= {"namespace": "shop", "uid": "uid-1"}
    policy = network_policy(msgspec.convert(resource, MessageCluster), Environment(image="penstock:1"))
    assert policy is not None
    peers = [
        peer
        for rule in policy["spec"]["ingress"]
        if {"protocol": "TCP", "port": ADMIN_PORT} in rule["ports"]
        for peer in rule["from"]
    ]
    assert resource["spec"]["networkPolicy"]["adminFrom"][0] in peers
