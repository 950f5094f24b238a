"""What the scenarios of alerts stand on: rules that are only quicker, pods that are found, pages that are run whole, and a
Prometheus that says when an alert fires and when it clears."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

import environment as penstock
from alert_rules import FACTOR, divided, hastened
from kube import Kube
from penstock.groups.machine import GroupsMachine
from penstock.log.disk import RealDisk
from penstock.log.snapshots import SnapshotStore
from prometheus import prometheus
from runbooks import NOT_RUN, PAGES, Runbook, commands, filled
from scrape_targets import target_groups
from spoiled_state import spoil

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
RULES = [
    group
    for path in sorted((penstock.CHART / "rules").glob("*.yaml"))
    for group in yaml.safe_load(path.read_text())["groups"]
]
ALERTS = sorted({rule["alert"] for group in RULES for rule in group["rules"]})
SCENARIOS = "".join(path.read_text() for path in HERE.glob("test_alerts_*.py"))
EVERYWHERE = Kube(Path("/dev/null"), Path("/usr/bin"))


@pytest.mark.parametrize(("duration", "shorter"), [("1m", "3000ms"), ("30s", "1500ms"), ("1h", "180000ms")])
def test_a_wait_is_divided(duration: str, shorter: str) -> None:
    assert divided(duration, 20) == shorter


@pytest.mark.parametrize("duration", ["1m30s", "soon", "7ms"])
def test_a_wait_that_cannot_be_divided_is_named(duration: str) -> None:
    with pytest.raises(ValueError, match=duration):
        divided(duration, 20)


def one_rule(expression: str) -> list[dict[str, Any]]:
    return [{"name": "group", "rules": [{"alert": "Alert", "expr": expression, "for": "5m"}]}]


def test_rules_are_the_same_but_for_their_waits() -> None:
    expression = (
        'max by (pod) (increase(lag{reason=~"5m|A"}[1h])) > 300 and predict_linear(used[1h], 4 * 3600)'
    )
    (group,) = hastened(one_rule(expression), 20)
    assert group["rules"] == [
        {"alert": "Alert", "expr": expression.replace("[1h]", "[180000ms]"), "for": "15000ms"}
    ]


@pytest.mark.parametrize("expression", ["lag offset 5m > 0", "max_over_time(lag[1h:1m]) > 0", "lag @ 5m > 0"])
def test_a_wait_elsewhere_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"wait|number and a unit"):
        hastened(one_rule(expression), 20)


def test_every_rule_of_the_chart_can_be_hastened() -> None:
    found = [rule for group in hastened(RULES, FACTOR) for rule in group["rules"]]
    rules = [rule for group in RULES for rule in group["rules"]]
    assert [_without_waits(rule) for rule in found] == [_without_waits(rule) for rule in rules]
    assert not re.search(r"\[\d+[smhd]\]", yaml.safe_dump(found))


def _without_waits(rule: dict[str, Any]) -> dict[str, Any]:
    return {**rule, "for": "for" in rule, "expr": re.sub(r"\[\w+\]", "[]", rule["expr"])}


@pytest.mark.parametrize("alert", ALERTS)
def test_a_scenario_sees_the_alert_fire_and_clear_and_runs_its_page(alert: str) -> None:
    for call in ("wait_firing", "wait_clear", "take_up"):
        assert re.search(rf'{call}\(\s*"{alert}"', SCENARIOS), f"nobody calls {call} for {alert}"


# --- runbooks ------------------------------------------------------------------------------------


def test_words_of_the_page_are_replaced_whole() -> None:
    line = "kubectl -n shop delete pvc data-orders-0-2 pod/orders-0-2 orders orders-0-22 # shop"
    words = {"-n shop": "-n mine", "orders-0-2": "orders-0-1", "data-orders-0-2": "data-orders-0-1"}
    assert (
        filled(line, words)
        == "kubectl -n mine delete pvc data-orders-0-1 pod/orders-0-1 orders orders-0-22 # shop"
    )


def test_the_longer_word_counts() -> None:
    words = {"8081": "18081:8081", "localhost:8081": "localhost:18081"}
    assert filled("port-forward orders-0-1 8081", words) == "port-forward orders-0-1 18081:8081"
    assert filled("curl localhost:8081/readyz", words) == "curl localhost:18081/readyz"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A runbook of three commands."""
    text = "# Page\n\n## Look\n\n```\necho one | grep one   # a remark\nfalse | true\n```\n\n## Over when\n\nWords.\n\n```\necho two\n```\n"
    (tmp_path / "Page.md").write_text(text)
    monkeypatch.setattr("runbooks.PAGES", tmp_path)
    return "Page"


def test_a_page_is_run_section_by_section(page: str, tmp_path: Path) -> None:
    assert [command.section for command in commands(tmp_path / "Page.md")] == ["Look", "Look", "Over when"]
    with Runbook(page, EVERYWHERE, tmp_path, {"two": "three"}, without=("false",)) as taken:
        assert taken.run("Look") == "one\n"
        assert taken.run("Over when", "echo") == "three\n"


def test_what_is_not_run_or_fails_is_an_error(page: str, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"not run: .*echo two"),
        Runbook(page, EVERYWHERE, tmp_path, {}) as one,
    ):
        one.run("Look", "echo one")
    with pytest.raises(AssertionError, match="false"), Runbook(page, EVERYWHERE, tmp_path, {}) as other:
        other.run("Look", "false")
    with pytest.raises(AssertionError, match="no command"), Runbook(page, EVERYWHERE, tmp_path, {}) as third:
        third.run("End it")


def test_what_no_scenario_runs_stands_in_a_page() -> None:
    lines = [command.line for page in PAGES.glob("*.md") for command in commands(page)]
    for beginning, reason in NOT_RUN.items():
        assert reason
        assert any(line.startswith(beginning) for line in lines), beginning


# --- pods ----------------------------------------------------------------------------------------


def pod(**status: str) -> dict[str, Any]:
    ports = [{"name": "admin", "containerPort": 8081}, {"containerPort": 1}]
    return {
        "metadata": {"namespace": "shop", "name": "orders-0-0", "labels": {"penstock.io/cluster": "orders"}},
        "spec": {"containers": [{"ports": ports}, {}]},
        "status": status,
    }


def test_a_pod_is_found_by_its_ports_with_the_labels_of_the_search_in_kubernetes() -> None:
    assert target_groups([pod(podIP="10.0.0.7"), pod()], "127.0.0.1:1") == [
        {
            "targets": ["127.0.0.1:1"],
            "labels": {
                "__meta_kubernetes_namespace": "shop",
                "__meta_kubernetes_pod_name": "orders-0-0",
                "__meta_kubernetes_pod_container_port_name": "admin",
                "__meta_kubernetes_pod_label_penstock_io_cluster": "orders",
                "__metrics_path__": "/api/v1/namespaces/shop/pods/orders-0-0:8081/proxy/metrics",
                "instance": "10.0.0.7:8081",
            },
        }
    ]


# --- a state that went wrong ---------------------------------------------------------------------


def test_a_spoiled_state_can_be_read_and_is_another_one(tmp_path: Path) -> None:
    groups = [["billing", None, None, [["payments", 0, [5, -1, "", 1, -1]]]]]
    state = GroupsMachine.version, msgspec.msgpack.encode({"version": 1, "groups": groups})
    SnapshotStore(RealDisk(tmp_path)).save({"groups": state}, 7)
    spoil(tmp_path)
    found = SnapshotStore(RealDisk(tmp_path)).load()["groups"]
    machine = GroupsMachine()
    machine.restore(found.data)
    assert [stored.offset for _, stored in machine.offsets("billing")] == [6]


# --- Prometheus ----------------------------------------------------------------------------------


class Exposed:
    """A target with one number."""

    def __init__(self) -> None:
        exposed = self
        self.value = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = f"number {exposed.value}\n".encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                """Nobody wants to know."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def exposed() -> Iterator[Exposed]:
    found = Exposed()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def test_prometheus_tells_of_an_alert_that_fires_and_clears(exposed: Exposed, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": hastened(one_rule("number > 0"), 300)}))
    host, port = exposed.server.server_address[:2]
    job = {
        "job_name": "one",
        "static_configs": [
            {"targets": [f"{host}:{port}"], "labels": {"namespace": "shop", "pod": "orders-0-0"}}
        ],
    }
    interval = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    content = {"global": interval, "scrape_configs": [job], "rule_files": [str(rules)]}
    with prometheus(tmp_path, content) as found:
        found.wait_clear("Alert")
        exposed.value = 1
        assert found.wait_firing("Alert", pod="orders-0-0")["labels"]["job"] == "one"
        assert not found.firing("Alert", pod="orders-0-1")
        assert found.scraped() == {("shop", "orders-0-0")}
        exposed.value = 0
        found.wait_clear("Alert", pod="orders-0-0")
