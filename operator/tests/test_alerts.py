"""The alert rules, by Prometheus' own tools: each fires, does not fire a step earlier, and clears."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml

from chart_rendering import ROOT
from monitoring_files import ALERT_TESTS, RULE_FILES, RUNBOOKS, alert_names, rules


def run(promtool: str, *arguments: str) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", *(str(path) for path in RULE_FILES))


@pytest.mark.parametrize("alert", alert_names())
def test_fires_and_clears(promtool: str, alert: str) -> None:
    run(promtool, "test", "rules", str(ALERT_TESTS / f"{alert}.yaml"))


def firing(check: dict[str, Any]) -> bool:
    return bool(check["exp_alerts"])


@pytest.mark.parametrize("alert", alert_names())
def test_is_tested_from_before_it_fires_until_it_cleared(alert: str) -> None:
    severities = {rule["labels"]["severity"] for rule in rules() if rule["alert"] == alert}
    seen: set[str] = set()
    cleared = False
    for case in yaml.safe_load((ALERT_TESTS / f"{alert}.yaml").read_text())["tests"]:
        checks = case["alert_rule_test"]
        assert {check["alertname"] for check in checks} == {alert}
        if not any(map(firing, checks)):
            continue
        assert not firing(checks[0]), f"{alert}: say first when it does not fire yet"
        seen |= {item["exp_labels"]["severity"] for check in checks for item in check["exp_alerts"]}
        cleared |= not firing(checks[-1])
    assert seen == severities
    assert cleared


def test_no_alert_test_without_its_alert() -> None:
    assert sorted(path.stem for path in ALERT_TESTS.glob("*.yaml")) == sorted(alert_names())


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_says_what_is_wrong_how_much_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    texts = rule["annotations"]
    assert set(texts) == {"summary", "description", "runbook_url"}
    assert texts["summary"].endswith(".")
    assert texts["description"].endswith(".")
    assert texts["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    assert (ROOT / texts["runbook_url"]).is_file()


def test_no_runbook_without_its_alert() -> None:
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == sorted(alert_names())
