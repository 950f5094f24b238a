"""Whether the replicas of every shard hold the same, asked of the brokers' admin API after each scenario.

Every StatefulSet of a broker shard in the scenarios' namespaces is compared, with as many brokers as it asks for: a
scenario has to leave its shards whole, or without their StatefulSet.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from penstock.testing.replicas import Digest, read_digest, replicas_agree

if TYPE_CHECKING:
    from kube import Kube

SHARD_SELECTOR = "penstock.io/shard"
AGREE_SECONDS_MAX = 60.0
"""How long brokers may take that were started last to hold what the others do."""


def compare_all(kube: Kube, namespaces: set[str]) -> list[str]:
    """Compares every shard in these namespaces; a line for each. Raises AssertionError when replicas differ or are away."""
    found = json.loads(kube.run("get", "statefulsets", "-A", "-l", SHARD_SELECTOR, "-o", "json"))["items"]
    return [
        f"{where} {_compare(kube.within(where), shard)}"
        for shard in found
        if (where := shard["metadata"]["namespace"]) in namespaces
        and shard["metadata"].get("deletionTimestamp") is None
    ]


def compare(kube: Kube, pods: list[str]) -> str:
    """Compares the brokers in these pods. Raises AssertionError when they differ, or are not level in time."""

    def ask(pod: str, first: int | None) -> Digest:
        path = "/v1/shard/digest" + ("" if first is None else f"?first={first}")
        done = kube.attempt("get", "--raw", kube.broker_path(pod, path))
        if done.returncode != 0:
            raise OSError(f"{pod} does not tell its digest: {done.stderr.strip()}")
        return read_digest(pod, json.loads(done.stdout))

    return replicas_agree(pods, timeout_s=AGREE_SECONDS_MAX, ask=ask).line()


def _compare(kube: Kube, shard: dict[str, Any]) -> str:
    name, replicas = shard["metadata"]["name"], shard["spec"]["replicas"]
    return f"{name}: {compare(kube, [f'{name}-{ordinal}' for ordinal in range(replicas)])}"
