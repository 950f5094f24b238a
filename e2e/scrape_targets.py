"""Which pods Prometheus finds: what its search for pods in Kubernetes would, in files, because Debian builds it without.

Each port of a pod with a name is a target with the labels that the search gives it (`__meta_kubernetes_…`). Which of them
are kept, and what becomes of the labels, is left to the configuration that users have: docs/monitoring.md. The host does not
reach pods, so targets are scraped through `kubectl proxy` and the API server.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kube import Kube

SELECTOR = "app.kubernetes.io/name in (penstock, penstock-operator)"
LOOK_SECONDS = 2.0
"""How old the file may be. The search in Kubernetes watches instead."""
ANSWER_SECONDS_MAX = 10.0
_NOT_IN_LABELS = re.compile("[^a-zA-Z0-9_]")


def target_groups(pods: Iterable[dict[str, Any]], proxy: str) -> list[dict[str, Any]]:
    """Pods as the API server lists them, as groups of Prometheus' file discovery; `proxy` is HOST:PORT of `kubectl proxy`."""
    return [
        {"targets": [proxy], "labels": _labels(pod, port)}
        for pod in pods
        if pod.get("status", {}).get("podIP")  # the search leaves out pods without an address, too
        for container in pod["spec"]["containers"]
        for port in container.get("ports", ())
        if "name" in port
    ]


def _labels(pod: dict[str, Any], port: dict[str, Any]) -> dict[str, str]:
    metadata = pod["metadata"]
    namespace, name, number = metadata["namespace"], metadata["name"], port["containerPort"]
    labels = {
        f"__meta_kubernetes_pod_label_{_NOT_IN_LABELS.sub('_', label)}": value
        for label, value in metadata.get("labels", {}).items()
    }
    return {
        **labels,
        "__meta_kubernetes_namespace": namespace,
        "__meta_kubernetes_pod_name": name,
        "__meta_kubernetes_pod_container_port_name": port["name"],
        "__metrics_path__": f"/api/v1/namespaces/{namespace}/pods/{name}:{number}/proxy/metrics",
        "instance": f"{pod['status']['podIP']}:{number}",
    }


class TargetFile:
    """Keeps the file up to date in a thread, from `start` to `stop`."""

    def __init__(self, kube: Kube, proxy: str, path: Path) -> None:
        self._kube = kube
        self._proxy = proxy
        self._path = path
        self._written = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pods for Prometheus")

    def start(self) -> None:
        """Writes the file once, then whenever it changes."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing is written any more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        try:
            done = self._kube.attempt(
                *("get", "pods", "--all-namespaces", "-o", "json", "-l", SELECTOR), seconds=ANSWER_SECONDS_MAX
            )
        except subprocess.TimeoutExpired:
            print("the pods cannot be listed in time; Prometheus keeps its targets", file=sys.stderr)
            return
        if done.returncode != 0:
            print(f"the pods cannot be listed; Prometheus keeps its targets: {done.stderr}", file=sys.stderr)
            return
        text = json.dumps(target_groups(json.loads(done.stdout)["items"], self._proxy), indent=1)
        if text != self._written:
            # Prometheus reads the file when it changes, so it must never be half of one.
            new = self._path.with_suffix(".new")
            new.write_text(text)
            new.replace(self._path)
            self._written = text
