"""What a failed scenario leaves behind for whoever looks into it, as files: objects, events, logs, what brokers say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from environment import say

if TYPE_CHECKING:
    from pathlib import Path

    from kube import Kube

KINDS = "messageclusters,topics,consumergroups,statefulsets,pods,services,configmaps,persistentvolumeclaims,leases"
LOG_LINES_MAX = "5000"
BROKER_LABEL = "penstock.io/shard"


def dump(folder: Path, namespace: Kube, operator: Kube) -> None:
    """Writes what both namespaces hold to `folder`; a question that fails leaves its error text instead."""
    folder.mkdir(parents=True, exist_ok=True)
    for label, kube in (("scenario", namespace), ("operator", operator)):
        _keep(folder / f"{label}-objects.yaml", kube, "get", KINDS, "-o", "yaml")
        _keep(folder / f"{label}-events.txt", kube, "get", "events", "--sort-by=.lastTimestamp")
        _keep(folder / f"{label}-pods.txt", kube, "describe", "pods")
        for pod in kube.items("pods"):
            name = pod["metadata"]["name"]
            _keep(
                folder / f"{label}-{name}.log",
                kube,
                "logs",
                name,
                "--all-containers",
                f"--tail={LOG_LINES_MAX}",
            )
            if BROKER_LABEL in pod["metadata"].get("labels", {}):
                for question in ("cluster", "shard/digest"):
                    answer = folder / f"{label}-{name}-{question.replace('/', '-')}.json"
                    _keep(answer, kube, "get", "--raw", kube.broker_path(name, f"/v1/{question}"))
            if any(status["restartCount"] for status in pod.get("status", {}).get("containerStatuses", [])):
                _keep(
                    folder / f"{label}-{name}-previous.log",
                    kube,
                    "logs",
                    name,
                    "--previous",
                    "--all-containers",
                )
    say(f"what the failed scenario left is in {folder}")


def _keep(path: Path, kube: Kube, *arguments: str) -> None:
    done = kube.attempt(*arguments)
    path.write_text(done.stdout or done.stderr)
