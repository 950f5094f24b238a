"""What the chart ships for Prometheus and Grafana, read for tests: rules, dashboards, and the queries in both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from chart_rendering import CHART, ROOT

RULE_FILES = sorted((CHART / "rules").glob("*.yaml"))
DASHBOARD_FILES = sorted((CHART / "dashboards").glob("*.json"))
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERT_TESTS = Path(__file__).parent / "alerts"


def rules() -> list[dict[str, Any]]:
    """All alert rules, in order."""
    groups = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alert_names() -> list[str]:
    """Each once: an alert may have a rule for each severity."""
    return list(dict.fromkeys(rule["alert"] for rule in rules()))


def dashboard(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def dashboard_queries(path: Path) -> list[str]:
    """What a dashboard asks, with Grafana's own words replaced by what it would put there."""
    panels = [panel for panel in dashboard(path)["panels"] if panel["type"] != "row"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return [re.sub(r"\$\w+", ".*", query.replace("$__rate_interval", "5m")) for query in queries]


def dashboard_variables(path: Path) -> list[str]:
    """The metric that each variable lists the labels of, as a query."""
    variables = [item for item in dashboard(path)["templating"]["list"] if item["type"] == "query"]
    found = [re.fullmatch(r"label_values\((.*), \w+\)", item["query"]["query"]) for item in variables]
    assert all(found)
    return [re.sub(r"\$\w+", ".*", match[1]) for match in found if match]


def all_queries() -> list[str]:
    """Everything that is asked of Prometheus anywhere."""
    shown = [
        query for path in DASHBOARD_FILES for query in dashboard_queries(path) + dashboard_variables(path)
    ]
    return [rule["expr"] for rule in rules()] + shown
