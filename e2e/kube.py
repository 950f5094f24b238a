"""kubectl for scenarios: run it, read its JSON, wait with a deadline.

Scenarios see the cluster as its users do, through kubectl; so that is what this wraps, thinly. Every wait has a
deadline, and says what it saw last when it runs out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Manifest = str | dict[str, Any] | Path

Seen = TypeVar("Seen")

ON_FIRST_NODE = {
    "nodeSelector": {"node-role.kubernetes.io/control-plane": ""},
    "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}],
}
"""Of a pod: where the operator and all that watches run, because scenarios break the other nodes."""
COMMAND_SECONDS_MAX = 120.0
POLL_SECONDS = 1.0
"""Often enough; each look is a kubectl, which takes a tenth of a second from those that are looked at."""
READY_SECONDS_MAX = 120.0
GONE_SECONDS_MAX = 120.0


class KubectlError(AssertionError):
    """kubectl said no, or a wait ran out; the message holds the command and what it printed."""


@dataclass(frozen=True)
class Kube:
    """A cluster, through one kubeconfig, with a namespace that commands use unless they name another."""

    kubeconfig: Path
    programs: Path
    namespace: str = "default"

    def within(self, namespace: str) -> Kube:
        """The same cluster with another default namespace."""
        return dataclasses.replace(self, namespace=namespace)

    def environment(self) -> dict[str, str]:
        """Environment for kubectl, helm and kind: the cluster's own kubeconfig, the cached programs first."""
        path = f"{self.programs}:{os.environ.get('PATH', '')}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def command(self, *arguments: str) -> list[str]:
        """The command line, for callers that run it themselves."""
        return ["kubectl", "--namespace", self.namespace, *arguments]

    def attempt(
        self, *arguments: str, stdin: str | None = None, seconds: float = COMMAND_SECONDS_MAX
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl and leaves the judgement of its return code to the caller."""
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=self.environment(),
        )

    def run(self, *arguments: str, stdin: str | None = None, seconds: float = COMMAND_SECONDS_MAX) -> str:
        """Runs kubectl; returns what it printed. Raises KubectlError when it fails."""
        done = self.attempt(*arguments, stdin=stdin, seconds=seconds)
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def apply(self, *manifests: Manifest) -> None:
        """`kubectl apply` of YAML text, objects, or files. Raises KubectlError with the server's sentence."""
        self.run("apply", "-f", "-", stdin=_as_yaml(manifests))

    def refusal(self, *manifests: Manifest) -> str:
        """What `kubectl apply` says when it fails. Raises KubectlError when it does not."""
        done = self.attempt("apply", "-f", "-", stdin=_as_yaml(manifests))
        if done.returncode == 0:
            raise KubectlError(f"this was accepted and should have been refused: {done.stdout.strip()}")
        return done.stderr

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """The object, or None when there is none."""
        done = self.attempt("get", kind, name, "-o", "json", "--ignore-not-found")
        if done.returncode != 0:
            raise KubectlError(f"kubectl get {kind} {name}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """The object. Raises KubectlError when there is none."""
        found = self.find(kind, name)
        if found is None:
            raise KubectlError(f"there is no {kind} {name} in {self.namespace}")
        return found

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind, in kubectl's order; `selector` is a label selector."""
        arguments = ["get", kind, "-o", "json"] + (["-l", selector] if selector else [])
        found: list[dict[str, Any]] = json.loads(self.run(*arguments))["items"]
        return found

    def patch(self, kind: str, name: str, change: dict[str, Any]) -> None:
        """A merge patch. Raises KubectlError with the server's sentence."""
        self.run("patch", kind, name, "--type=merge", "-p", json.dumps(change))

    def delete(self, kind: str, name: str, *flags: str, wait: bool = True) -> None:
        """Deletes an object if it is there, and by default waits until it is gone."""
        waiting = ["--wait=true", f"--timeout={GONE_SECONDS_MAX:.0f}s"] if wait else ["--wait=false"]
        self.run("delete", kind, name, "--ignore-not-found", *waiting, *flags, seconds=GONE_SECONDS_MAX + 10)

    def wait_ready(self, kind: str, name: str, seconds: float = READY_SECONDS_MAX) -> dict[str, Any]:
        """Waits until the object's Ready condition is true for its present generation; returns the object."""
        return self.wait_condition(kind, name, "Ready", "True", seconds=seconds)

    def wait_condition(
        self,
        kind: str,
        name: str,
        type_: str,
        status: str,
        *,
        reason: str = "",
        seconds: float = READY_SECONDS_MAX,
    ) -> dict[str, Any]:
        """Waits for a condition that speaks of the present generation; `reason` narrows it. Returns the object."""

        def holds() -> dict[str, Any] | None:
            found = self.find(kind, name)
            if found is None:
                return None
            generation = found["metadata"]["generation"]
            if found.get("status", {}).get("observedGeneration") != generation:
                return None
            condition = condition_of(found, type_)
            if condition.get("status") != status or (reason and condition.get("reason") != reason):
                return None
            return found

        def last_seen() -> str:
            status_now = (self.find(kind, name) or {}).get("status", "nothing")
            return f"its status is {json.dumps(status_now)}"

        wanted = f"{kind} {name}: {type_}={status}" + (f" ({reason})" if reason else "")
        return wait_for(wanted, holds, seconds=seconds, last_seen=last_seen)

    def wait_gone(self, kind: str, name: str, seconds: float = GONE_SECONDS_MAX) -> None:
        """Waits until there is no such object."""
        wait_for(f"{kind} {name} to be gone", lambda: self.find(kind, name) is None, seconds=seconds)

    def raw(self, path: str) -> Any:
        """GET of an API server path, JSON decoded."""
        return json.loads(self.run("get", "--raw", path))

    def broker_admin(self, pod: str, path: str) -> Any:
        """GET from a broker's admin API through the API server's proxy, JSON decoded."""
        return self.raw(self.broker_path(pod, path))

    def broker_path(self, pod: str, path: str) -> str:
        """Where the API server passes requests on to a broker's admin API."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{pod}:8081/proxy{path}"


def condition_of(found: dict[str, Any], type_: str) -> dict[str, Any]:
    """A condition of an object's status by its type; empty when it has none."""
    conditions: list[dict[str, Any]] = found.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == type_), {})


def wait_for(
    what: str,
    probe: Callable[[], Seen | None],
    *,
    seconds: float,
    last_seen: Callable[[], str] = lambda: "",
) -> Seen:
    """Polls until `probe` returns something else than None or False. Raises KubectlError at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        seen = probe()
        if seen is not None and seen is not False:
            return seen
        if time.monotonic() > deadline:
            detail = last_seen()
            raise KubectlError(f"waited {seconds:.0f} s for {what}" + (f"; {detail}" if detail else ""))
        time.sleep(POLL_SECONDS)


def _as_yaml(manifests: Iterable[Manifest]) -> str:
    documents = []
    for manifest in manifests:
        if isinstance(manifest, Path):
            documents.append(manifest.read_text())
        elif isinstance(manifest, str):
            documents.append(manifest)
        else:
            documents.append(yaml.safe_dump(manifest))
    return "\n---\n".join(documents)
