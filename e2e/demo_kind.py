"""`make demo-kind`: the same as `make demo`, on a real Kubernetes cluster.

1. A kind cluster, the image from this source tree, the chart.
2. `kubectl apply -f examples/raft.yaml`, `kubectl wait --for=condition=Ready`: three brokers. (`--mode` chooses another
   example; `make demo-kind MODE=…`.)
3. A pod with confluent-kafka produces 100,000 messages at acks=all.
4. In the middle `kubectl delete pod --force` takes the leader away: another broker leads, and the StatefulSet brings the
   pod back on its volume.
5. The pod reads everything back and compares it with its ledger. Exit 0 only when nothing acknowledged is missing or
   out of order within its partition.
6. Once all are level, their logs and states are compared by hash.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

import yaml

import environment as penstock
import show
from kube import KubectlError
from load import LoadPod
from penstock.testing.replicas import DisagreementError
from replicas_compared import compare_all
from resources import bootstrap

if TYPE_CHECKING:
    from pathlib import Path

    from environment import Environment
    from kube import Kube

KIND_CLUSTER = "penstock-demo"
NAMESPACE = "demo"
EXAMPLES = {"Raft": "raft.yaml", "MasterSlave": "master-slave.yaml"}
"""The example of each mode."""
TOPIC = "orders"
MESSAGES = 100_000
RATE = 10_000.0
"""Messages per second: slow enough that the kill comes in the middle, fast enough not to be waited for."""
READY_SECONDS_MAX = 120


def apply_example(kube: Kube, example: Path) -> str:
    """Applies an example and waits until everything in it is Ready; returns the name of its cluster."""
    kube.run("create", "namespace", NAMESPACE)
    name = str(next(yaml.safe_load_all(example.read_text()))["metadata"]["name"])
    show.step(f"kubectl apply -f {example.relative_to(penstock.ROOT)}")
    kube.run("apply", "-f", str(example))
    for resource in (f"mc/{name}", "topic/orders", "cg/billing"):
        kube.run(
            "wait",
            "--for=condition=Ready",
            resource,
            f"--timeout={READY_SECONDS_MAX}s",
            seconds=READY_SECONDS_MAX + 10,
        )
    for line in kube.run("get", "mc,topic,cg").splitlines():
        show.step(line)
    return name


def _leader(kube: Kube, cluster: str) -> str:
    """The leader's name as the cluster's status has it."""
    return str(kube.get("mc", cluster)["status"]["shards"][0]["leader"])


def carry_out(ready: Environment, example: Path, messages: int) -> int:
    """The demo itself; returns the exit code."""
    kube = ready.kube.within(NAMESPACE)
    started = time.monotonic()
    cluster = apply_example(kube, example)
    ready_s = time.monotonic() - started
    broker = _leader(kube, cluster)
    before = kube.get("pod", broker)["metadata"]["uid"]

    show.step(
        f"{messages:,} messages at acks=all from a pod, kubectl delete pod {broker} (the leader) --force halfway"
    )
    load = LoadPod.start(kube, ready.client_image, bootstrap(kube, cluster), TOPIC, messages, rate=RATE)
    killed_ms = 0
    with show.flow(messages) as move:
        for line in load.follow():
            counts: dict[str, Any] | None = line.get("progress")
            if counts is None:
                continue
            move(counts["sent"], counts["acked"], counts["received"])
            if not killed_ms and counts["acked"] >= messages // 2:
                killed_ms = time.time_ns() // 1_000_000  # kind's nodes have this machine's clock
                kube.run("delete", "pod", broker, "--force", "--grace-period=0")
    report = load.ended()
    verdict = report.interrupted(killed_ms) if killed_ms else report.verdict
    kube.run("wait", "--for=condition=Ready", f"mc/{cluster}", f"--timeout={READY_SECONDS_MAX}s")
    after = kube.get("pod", broker)["metadata"]["uid"]
    (agreement,) = compare_all(ready.kube, {NAMESPACE})
    show.step(agreement)
    rows = [
        ("resources Ready after", f"{ready_s:.1f} s"),
        ("leader deleted", broker),
        ("leader now", _leader(kube, cluster)),
        ("its pod is another one", "yes" if after != before else "NO"),
        ("replicas compared", "all logs and states are the same"),
    ]
    code = show.result(verdict, rows, "demo")
    return code if after != before else 1


def main() -> int:
    """Reads the command line, brings everything up, runs the demo and takes the cluster away."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", choices=EXAMPLES, default="Raft")
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--keep", action="store_true", help="leave the cluster running for a look")
    arguments = parser.parse_args()
    kept = False
    try:
        ready = penstock.bring_up(KIND_CLUSTER)
        # A kept cluster may hold an earlier run's messages; a namespace that is gone holds none.
        ready.kube.delete("namespace", NAMESPACE)
        code = carry_out(ready, penstock.ROOT / "examples" / EXAMPLES[arguments.mode], arguments.messages)
        if arguments.keep:
            kept = True
            show.step(f"the cluster is left running: export KUBECONFIG={ready.kube.kubeconfig}")
        return code
    except (penstock.SetupError, KubectlError, DisagreementError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        if not kept:
            penstock.tear_down(KIND_CLUSTER)


if __name__ == "__main__":
    sys.exit(main())
