"""A real Prometheus beside a cluster: it scrapes what users' Prometheus does, and has the chart's rules.

Its configuration is the page's that users copy (docs/monitoring.md), but for how targets are found (`scrape_targets`); its
rules are the PrometheusRule that helm renders, with every wait divided by `alert_rules.FACTOR`.
"""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

import environment as penstock
from alert_rules import FACTOR, INTERVAL, divided, hastened
from kube import wait_for
from penstock.testing.managed_process import ManagedProcess
from scrape_targets import TargetFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kube import Kube

FIRES_SECONDS_MAX = 120.0
"""From a cause to its alert: the longest `for`, 45 s when it is divided, and what it takes until the cause shows."""
CLEARS_SECONDS_MAX = 270.0
"""From its end: the longest range, three minutes when it is divided, and what it takes until the end shows."""
START_SECONDS_MAX = 30.0
ANSWER_SECONDS_MAX = 10.0
PAGE = penstock.ROOT / "docs" / "monitoring.md"
_PROXY_SAYS = re.compile(r"Starting to serve on (\S+)")
_PROMETHEUS_SAYS = re.compile(r"Listening on.*address=(\S+)")

Alert = dict[str, Any]


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that answers at `address`, HOST:PORT."""

    address: str

    def firing(self, name: str, **labels: str) -> list[Alert]:
        """The alerts of that name with these labels that fire now."""
        return [
            alert
            for alert in self._get("alerts")["alerts"]
            if alert["state"] == "firing" and {"alertname": name, **labels}.items() <= alert["labels"].items()
        ]

    def wait_firing(
        self, name: str, *, meanwhile: Callable[[], object] = lambda: None, **labels: str
    ) -> Alert:
        """Waits until it fires, and does `meanwhile` again and again; returns one of those that do."""

        def look() -> list[Alert] | None:
            meanwhile()
            return self.firing(name, **labels) or None

        found = wait_for(
            f"{name} {labels} to fire",
            look,
            seconds=FIRES_SECONDS_MAX,
            last_seen=lambda: self.told(name),
        )
        return found[0]

    def wait_clear(self, name: str, **labels: str) -> None:
        """Waits until it does not fire, nor is about to."""
        wait_for(
            f"{name} {labels} to clear",
            lambda: not self._known(name, labels),
            seconds=CLEARS_SECONDS_MAX,
            last_seen=lambda: self.told(name),
        )

    def told(self, name: str) -> str:
        """What it knows of an alert and its targets, for people."""
        down = [
            f"{target['labels']['pod']}: {target['lastError']}"
            for target in self._get("targets?state=active")["activeTargets"]
            if target["health"] != "up"
        ]
        return f"alerts: {json.dumps(self._known(name, {}))}; not scraped: {down or 'none'}"

    def scraped(self) -> set[tuple[str, str]]:
        """(namespace, pod) of the targets that were scraped."""
        return {
            (target["labels"]["namespace"], target["labels"]["pod"])
            for target in self._get("targets?state=active")["activeTargets"]
            if target["health"] == "up"
        }

    def _known(self, name: str, labels: dict[str, str]) -> list[Alert]:
        """Those that fire, or would soon."""
        wanted = {"alertname": name, **labels}.items()
        return [alert for alert in self._get("alerts")["alerts"] if wanted <= alert["labels"].items()]

    def _get(self, path: str) -> dict[str, Any]:
        url = f"http://{self.address}/api/v1/{path}"
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS_MAX) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data


def chart_rules(kube: Kube) -> list[dict[str, Any]]:
    """The rule groups of the PrometheusRule, as helm renders it."""
    text = penstock.helm(
        kube,
        *("template", penstock.RELEASE, str(penstock.CHART), "--set=monitoring.rules.enabled=true"),
        "--show-only=templates/monitoring.yaml",
    )
    (rule,) = filter(None, yaml.safe_load_all(text))
    groups: list[dict[str, Any]] = rule["spec"]["groups"]
    return groups


def configuration(targets: Path, rules: Path) -> dict[str, Any]:
    """Prometheus' configuration: the page's jobs, which find their targets in a file."""
    (block,) = [block for block in PAGE.read_text().split("```yaml\n") if block.startswith("scrape_configs")]
    interval = divided(INTERVAL, FACTOR)
    content: dict[str, Any] = yaml.safe_load(block.partition("```")[0])
    for job in content["scrape_configs"]:
        del job["kubernetes_sd_configs"]
        job["file_sd_configs"] = [{"files": [str(targets)]}]
    content["rule_files"] = [str(rules)]
    content["global"] = {
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "evaluation_interval": interval,
    }
    return content


@contextmanager
def prometheus_beside(kube: Kube, folder: Path) -> Iterator[Prometheus]:
    """One that scrapes the cluster inside; its files are in `folder`."""
    subprocess.run([str(penstock.ROOT / "tools" / "install-prerequisites"), "prometheus"], check=True)
    proxy = ManagedProcess(folder / "proxy.log", kube.environment())
    proxy.launch(kube.command("proxy", "--port=0"))
    try:
        targets = TargetFile(kube, _address(proxy, _PROXY_SAYS), folder / "targets.json")
        targets.start()
        try:
            rules = folder / "rules.yml"
            rules.write_text(yaml.safe_dump({"groups": hastened(chart_rules(kube), FACTOR)}))
            with prometheus(folder, configuration(folder / "targets.json", rules)) as found:
                yield found
        finally:
            targets.stop()
    finally:
        proxy.terminate()


@contextmanager
def prometheus(folder: Path, content: dict[str, Any]) -> Iterator[Prometheus]:
    """One with this configuration runs inside, at a free port of this machine."""
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(content))
    process = ManagedProcess(folder / "prometheus.log")
    process.launch(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
    )
    try:
        found = Prometheus(_address(process, _PROMETHEUS_SAYS))
        process.wait_until(lambda: _ready(found), START_SECONDS_MAX, "an answer from Prometheus")
        yield found
    finally:
        process.terminate()


def _address(process: ManagedProcess, says: re.Pattern[str]) -> str:
    """Where a process listens, by its own log."""

    def last() -> re.Match[str] | None:
        found = list(says.finditer(process.log.read_text()))
        return found[-1] if found else None

    process.wait_until(lambda: last() is not None, START_SECONDS_MAX, "word of where it listens")
    match = last()
    assert match is not None
    return match[1]


def _ready(found: Prometheus) -> bool:
    try:
        with urllib.request.urlopen(f"http://{found.address}/-/ready", timeout=ANSWER_SECONDS_MAX):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False
