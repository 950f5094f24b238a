"""Load pods: a real Kafka client inside the cluster, started, followed and judged from outside.

A pod runs `pod_load.py` once and ends. Its stdout is a line of JSON for each thing that happened; `follow` hands them
out while they come, so that a caller can interfere in the middle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client_pod import client_pod
from kube import KubectlError, wait_for
from penstock.testing.ledger import Silence, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kube import Kube

PAYLOAD_BYTES = 100
POD_START_SECONDS_MAX = 60.0
POD_END_SECONDS_MAX = 420.0
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Report:
    """How a load ended: the ledger's verdict and the longest times without an acknowledgement (ms since 1970)."""

    verdict: Verdict
    complete: bool
    silences: tuple[Silence, ...]
    client_errors: dict[str, int]

    @property
    def silence(self) -> Silence | None:
        """The longest of them."""
        return max(self.silences, key=lambda silence: silence.length_ms, default=None)

    def silent_ms(self, from_ms: int, until_ms: int) -> int:
        """The longest time without an acknowledgement of which some lies within that time (ms since 1970)."""
        touching = (silence.length_ms for silence in self.silences if silence.touches(from_ms, until_ms))
        return max(touching, default=0)

    def interrupted(self, at_ms: int) -> Verdict:
        """The verdict with the recovery that followed an interruption at `at_ms`, by the same machine's clock."""
        if self.silence is None or self.silence.until_ms < at_ms:
            return self.verdict  # nothing was interrupted
        return dataclasses.replace(self.verdict, recovered_ms=self.silence.until_ms - at_ms)


@dataclass(frozen=True)
class LoadPod:
    """One run of the load program in a pod of its own."""

    kube: Kube
    image: str
    name: str

    @classmethod
    def start(
        cls,
        kube: Kube,
        image: str,
        bootstrap: str,
        topic: str,
        messages: int,
        *,
        run: str = "",
        rate: float = 0.0,
        phase: str = "both",
        read_along: bool = False,
        payload_bytes: int = PAYLOAD_BYTES,
    ) -> LoadPod:
        """Starts a pod; `run` names the messages, so that a later pod can look for them (a new name by default)."""
        pod = cls(kube, image, f"load-{next(_numbers)}")
        arguments = ["--bootstrap", bootstrap, "--topic", topic, "--run", run or pod.name, "--phase", phase]
        arguments += [
            "--messages",
            str(messages),
            "--rate",
            str(rate),
            "--payload-bytes",
            str(payload_bytes),
            *(["--read-along"] if read_along else []),
        ]
        kube.apply(client_pod(pod.name, image, "pod_load.py", arguments))
        return pod

    def follow(self) -> Iterator[dict[str, Any]]:
        """What the program says, line by line, until it ends. Raises KubectlError when it never starts."""
        wait_for(
            f"load pod {self.name} to start",
            lambda: self.kube.get("pod", self.name)["status"]["phase"] not in ("Pending", "Unknown"),
            seconds=POD_START_SECONDS_MAX,
            last_seen=lambda: json.dumps(self.kube.get("pod", self.name)["status"]),
        )
        command = self.kube.command("logs", "--follow", self.name)
        with subprocess.Popen(
            command, env=self.kube.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as logs:
            assert logs.stdout is not None
            try:
                for line in logs.stdout:
                    with contextlib.suppress(
                        json.JSONDecodeError
                    ):  # anything else is for the dump after a failure
                        yield json.loads(line)
            finally:
                logs.terminate()

    def progress(self) -> dict[str, int]:
        """What the program counted last; nothing before it began. Raises KubectlError when it has failed."""
        last = _last_object(self.kube.attempt("logs", self.name, "--tail=1").stdout) or {}
        if "failed" in last:
            raise KubectlError(f"load pod {self.name} could not finish: {last['failed']}")
        counts: dict[str, int] = last.get("progress", {})
        return counts

    def stop(self) -> None:
        """Has the program send nothing more and judge what it sent; `ended` waits for that."""
        self.kube.run("exec", self.name, "--", "sh", "-c", "kill -TERM 1")

    def report(self, progress: Callable[[dict[str, Any]], None] = lambda _: None) -> Report:
        """Waits for the end. Raises KubectlError with the program's own words when it could not finish."""
        for line in self.follow():
            if "progress" in line:
                progress(line)
        return self.ended()

    def ended(self) -> Report:
        """The report of a pod that has been followed to its end."""
        wait_for(
            f"load pod {self.name} to end",
            lambda: self.kube.get("pod", self.name)["status"]["phase"] in ("Succeeded", "Failed"),
            seconds=POD_END_SECONDS_MAX,
        )
        text = self.kube.run("logs", self.name)
        last = _last_object(text)
        if last is None or "verdict" not in last:
            words = text[-2000:] if last is None else last.get("failed", text[-2000:])
            raise KubectlError(f"load pod {self.name} could not finish: {words}")
        verdict = Verdict(**{**last["verdict"], "examples": tuple(last["verdict"]["examples"])})
        silences = tuple(Silence(*silence) for silence in last["silences"])
        return Report(verdict, last["complete"], silences, last["client_errors"])


def run_load(
    kube: Kube, image: str, bootstrap: str, topic: str, messages: int, *, run: str = "", phase: str = "both"
) -> Verdict:
    """One load from start to end, which must be complete: nothing lost, moved or out of order."""
    report = LoadPod.start(kube, image, bootstrap, topic, messages, run=run, phase=phase).report()
    if not report.complete:
        raise KubectlError(f"{report.verdict.line('load')}; {'; '.join(report.verdict.examples)}")
    return report.verdict


def _last_object(text: str) -> dict[str, Any] | None:
    for line in reversed(text.splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return None
