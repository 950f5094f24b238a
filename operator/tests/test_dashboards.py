"""The dashboards: whole, without two panels in one place, and asking only what Prometheus understands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from monitoring_files import DASHBOARD_FILES, dashboard, dashboard_queries, dashboard_variables

COLUMNS = 24  # of Grafana's grid
by_name = pytest.mark.parametrize("path", DASHBOARD_FILES, ids=lambda path: path.stem)


def test_there_are_two() -> None:
    assert [path.stem for path in DASHBOARD_FILES] == ["cluster", "operator"]
    assert len({dashboard(path)["uid"] for path in DASHBOARD_FILES}) == 2


@by_name
def test_panels_have_numbers_and_places_of_their_own(path: Path) -> None:
    panels = dashboard(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@by_name
def test_panels_say_what_they_show(path: Path) -> None:
    for panel in dashboard(path)["panels"]:
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
            assert all(target["expr"] for target in panel["targets"])


@by_name
def test_prometheus_understands_every_query(path: Path, promtool: str, tmp_path: Path) -> None:
    queries = dashboard_queries(path) + dashboard_variables(path)
    assert queries
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(rules)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
