"""What rules, dashboards and runbooks ask for exists: every metric, every label, and the values that are named.

Prometheus takes a query for a metric that nobody exposes and answers it with nothing, so an alert with a slip in it would
be quiet for ever.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chart_rendering import ROOT
from monitoring_files import (
    DASHBOARD_FILES,
    RUNBOOKS,
    all_queries,
    dashboard,
    rules,
)
from penstock.model.errors import ErrorCode
from penstock.telemetry.families import FAMILIES
from penstock.telemetry.samples import DISK_STATES
from penstock_operator.metrics import WORKED_ON, OperatorCollector
from penstock_operator.reconcile.ports import Again, Key
from penstock_operator.reconcile.queue import WorkQueue

TARGET_LABELS = {"job", "namespace", "pod", "cluster", "shard"}
"""What scraping adds, by the chart's PodMonitors."""

PARTS = {
    "histogram": ("_bucket", "_sum", "_count"),
    "counter": ("_total",),
    "info": ("_info",),
    "gauge": ("",),
}
SERIES = re.compile(r"\b(penstock_\w+|up)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)")


async def _idle(_: Key) -> Again:
    return Again()


def operators() -> dict[str, set[str]]:
    queue = WorkQueue(_idle, lambda: 0.5)
    for kind in WORKED_ON:
        queue.passes.ended(kind, ok=True, duration_s=1.0, now_s=1.0)
    found: dict[str, set[str]] = {}
    for family in OperatorCollector(queue, lambda: True, lambda: 0.0).collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def brokers() -> dict[str, set[str]]:
    return {
        family.name + part: {*family.labels, *(["le"] if part == "_bucket" else [])}
        for family in FAMILIES
        for part in PARTS[family.kind]
    }


@pytest.fixture
async def exposed() -> dict[str, set[str]]:
    """Series by name, with the labels that they have before they are scraped."""
    return {**brokers(), **operators(), "up": set()}


def assert_exists(query: str, exposed: dict[str, set[str]]) -> None:
    asked = list(SERIES.finditer(query))
    assert asked, query
    for match in asked:
        name = match[1]
        assert name in exposed, f"nobody exposes {name}: {query}"
        for label, _ in MATCHER.findall(match[2] or ""):
            assert label in exposed[name] | TARGET_LABELS, f"{name} has no label {label}: {query}"
    labels = TARGET_LABELS.union(*(exposed[match[1]] for match in asked))
    for group in GROUPING.findall(query):
        for label in group.split(","):
            assert label.strip() in labels, f"no label {label}: {query}"


async def test_every_query_asks_for_what_exists(exposed: dict[str, set[str]]) -> None:
    queries = all_queries()
    assert len(queries) > len(rules())
    for query in queries:
        assert_exists(query, exposed)


@pytest.mark.parametrize(
    "wrong",
    [
        "penstock_raedy == 0",
        'penstock_ready{state="ok"}',
        "penstock_produce_refused > 0",
        "max by (topic) (penstock_ready)",
        "penstock_request_duration_seconds > 1",
    ],
)
async def test_a_slip_is_found(wrong: str, exposed: dict[str, set[str]]) -> None:
    with pytest.raises(AssertionError):
        assert_exists(wrong, exposed)


async def test_values_of_labels_exist() -> None:
    known = {"state": set(DISK_STATES), "reason": set(ErrorCode.__members__), "result": {"ok", "failed"}}
    seen = set()
    for query in all_queries():
        for label, values in MATCHER.findall(query):
            if label in known:
                assert set(values.split("|")) <= known[label], query
                seen.add(label)
    assert seen == set(known)


@pytest.mark.parametrize("path", DASHBOARD_FILES, ids=lambda path: path.stem)
async def test_legends_name_labels_that_are_there(path: Path, exposed: dict[str, set[str]]) -> None:
    for panel in dashboard(path)["panels"]:
        for target in panel.get("targets", []):
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = [set(re.split(r",\s*", group)) for group in GROUPING.findall(target["expr"])]
            names = [match[1] for match in SERIES.finditer(target["expr"])]
            left = set.union(*grouped) if grouped else TARGET_LABELS.union(*(exposed[name] for name in names))
            assert labels <= left, f"{panel['title']}: {target['expr']}"


async def test_pages_name_metrics_that_exist(exposed: dict[str, set[str]]) -> None:
    bases = {family.name for family in FAMILIES} | {name.removesuffix("_bucket") for name in exposed}
    for page in [ROOT / "docs" / "monitoring.md", *RUNBOOKS.glob("*.md")]:
        for name in re.findall(r"\bpenstock_\w+", page.read_text()):
            assert name in bases, f"{page.name}: {name}"


async def test_the_page_about_monitoring_lists_the_operators_metrics() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    rows = re.findall(r"^\| `(penstock_operator_\w+)(?:\{([\w,]+)\})?` \|", page, re.MULTILINE)
    told = {name: set(labels.split(",")) - {""} for name, labels in rows}
    found = {
        name.removesuffix("_bucket"): labels - {"le"}
        for name, labels in operators().items()
        if not name.endswith(("_sum", "_count"))
    }
    assert told == found
