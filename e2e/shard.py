"""A shard of several brokers, as its brokers and its resource's status tell of it, and the ways to break it.

What the brokers say is the truth, and the status has to follow: `wait_whole` waits for both, and holds the status to
what docs/operating.md says of a shard that is well.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docker_images import docker
from kube import condition_of, wait_for
from resources import CLUSTER, bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from kube import Kube

BACK_SECONDS_MAX = 60.0
"""How long a broker may be away whose container or pod ended."""
LEADER_SECONDS_MAX = 30.0
LEADS, FOLLOWS = ("Leader", "Master"), ("Follower", "Slave")
"""Roles in the status, in the words of either mode."""
ANSWER_SECONDS_MAX = 5.0
"""How long a broker is waited for; one on a paused node takes connections and answers none."""
WHOLE_SECONDS_MAX = 90.0
"""Longer than the operator's resync: what no object of Kubernetes tells it, it sees when it comes by."""


@dataclass(frozen=True)
class Shard:
    """Shard 0 of a MessageCluster."""

    kube: Kube
    cluster: str
    replicas: int = 3

    # --- what it says ----------------------------------------------------------------------------

    @property
    def pods(self) -> list[str]:
        """Names of its brokers."""
        return [f"{self.cluster}-0-{ordinal}" for ordinal in range(self.replicas)]

    @property
    def bootstrap(self) -> str:
        """Where clients in the cluster start."""
        return bootstrap(self.kube, self.cluster)

    def told_by(self, pod: str) -> dict[str, Any] | None:
        """The shard as one broker knows it; None when it does not answer."""
        path = self.kube.broker_path(pod, "/v1/cluster")
        try:
            done = self.kube.attempt("get", "--raw", path, seconds=ANSWER_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return None
        if done.returncode != 0:
            return None
        shard: dict[str, Any] = json.loads(done.stdout)["shards"][0]
        return shard

    def leading(self, other_than: str = "") -> dict[str, Any]:
        """The shard as its leader tells it, of the newest epoch; waits until a broker other than `other_than` leads."""

        def found() -> dict[str, Any] | None:
            told = {pod: self.told_by(pod) for pod in self.pods if pod != other_than}
            leaders = [shard for pod, shard in told.items() if shard is not None and shard["leader"] == pod]
            return max(leaders, key=lambda shard: int(shard["epoch"]), default=None)

        what = f"another leader than {other_than}" if other_than else "a leader"
        return wait_for(what, found, seconds=LEADER_SECONDS_MAX)

    def status(self) -> dict[str, Any]:
        """Its row in the resource's status."""
        row: dict[str, Any] = self.kube.get(CLUSTER, self.cluster)["status"]["shards"][0]
        return row

    def columns(self) -> list[str]:
        """Its line of `kubectl get mc`."""
        return self.kube.run("get", CLUSTER, self.cluster, "--no-headers").split()

    def wait_served(self, seconds: float = WHOLE_SECONDS_MAX) -> dict[str, Any]:
        """Waits until all brokers name one leader and are in sync; returns what the leader tells."""

        def served() -> dict[str, Any] | None:
            told = [self.told_by(pod) for pod in self.pods]
            known = [shard for shard in told if shard is not None and shard["leader"]]
            if len(known) < self.replicas or len({(shard["leader"], shard["epoch"]) for shard in known}) > 1:
                return None
            leader = next(
                shard for pod, shard in zip(self.pods, known, strict=True) if pod == shard["leader"]
            )
            copies = [member["name"] for member in leader["members"] if member["inSync"]]
            return leader if sorted(copies) == self.pods else None

        return wait_for(
            "every broker to be in sync",
            served,
            seconds=seconds,
            last_seen=lambda: json.dumps({pod: self.told_by(pod) for pod in self.pods}),
        )

    def wait_whole(self, seconds: float = WHOLE_SECONDS_MAX) -> dict[str, Any]:
        """Waits until the brokers are whole, `seconds` at most, and the status says the same as they; returns its row."""
        told = self.wait_served(seconds)
        found = wait_for(
            f"status to say that {told['leader']} leads epoch {told['epoch']} of a shard that is whole",
            lambda: self._whole(told),
            seconds=WHOLE_SECONDS_MAX,
            last_seen=lambda: json.dumps(self.kube.get(CLUSTER, self.cluster).get("status")),
        )
        row: dict[str, Any] = found["status"]["shards"][0]
        follow = [member["role"] for member in row["members"] if member["name"] != row["leader"]]
        assert all(role in FOLLOWS for role in follow), row
        return row

    def wait_reason(self, type_: str, status: str, *reasons: str) -> str:
        """Waits for a condition with one of these reasons; returns its message."""

        def holds() -> dict[str, Any] | None:
            condition = condition_of(self.kube.get(CLUSTER, self.cluster), type_)
            fits = condition.get("status") == status and condition.get("reason") in reasons
            return condition if fits else None

        found = wait_for(
            f"{type_}={status} with reason {' or '.join(reasons)}",
            holds,
            seconds=WHOLE_SECONDS_MAX,
            last_seen=lambda: json.dumps(self.kube.get(CLUSTER, self.cluster).get("status")),
        )
        return str(found["message"])

    def _whole(self, told: dict[str, Any]) -> dict[str, Any] | None:
        """The resource, if its status says what a whole shard's brokers say."""
        found = self.kube.get(CLUSTER, self.cluster)
        (row,) = found["status"].get("shards") or [{}]
        members = {member["name"]: member for member in row.get("members", [])}
        conditions = {
            type_: (condition_of(found, type_).get("status"), condition_of(found, type_).get("reason"))
            for type_ in ("Ready", "Degraded", "Progressing")
        }
        fits = (
            found["status"].get("observedGeneration") == found["metadata"]["generation"]
            and (row.get("leader"), row.get("epoch")) == (told["leader"], told["epoch"])
            and sorted(members) == self.pods
            and all(member["inSync"] for member in members.values())
            and members[told["leader"]]["role"] in LEADS
            and conditions
            == {
                "Ready": ("True", "BrokersReady"),
                "Degraded": ("False", "Healthy"),
                "Progressing": ("False", "Settled"),
            }
        )
        return found if fits else None

    # --- its brokers as pods ---------------------------------------------------------------------

    def incarnation(self, pod: str) -> tuple[str, int]:
        """Identity of a broker's process: the pod's UID and its restarts."""
        found = self.kube.get("pod", pod)
        return found["metadata"]["uid"], found["status"]["containerStatuses"][0]["restartCount"]

    def wait_back(self, pod: str, before: tuple[str, int]) -> tuple[str, int]:
        """Waits until a broker is ready whose process was `before`, and is another one now; returns that."""

        def ready() -> tuple[str, int] | None:
            found = self.kube.find("pod", pod)
            if found is None or found["metadata"].get("deletionTimestamp"):
                return None
            (container,) = found["status"].get("containerStatuses") or [{}]
            now = (found["metadata"]["uid"], container.get("restartCount", 0))
            return now if now != before and container.get("ready") else None

        return wait_for(
            f"{pod} to be back",
            ready,
            seconds=BACK_SECONDS_MAX,
            last_seen=lambda: json.dumps((self.kube.find("pod", pod) or {}).get("status")),
        )

    def claim(self, pod: str) -> str:
        """UID of a broker's volume claim; empty when there is none."""
        found = self.kube.find("pvc", f"data-{pod}")
        return "" if found is None else str(found["metadata"]["uid"])

    # --- faults ----------------------------------------------------------------------------------

    def node(self, pod: str) -> str:
        """The node that a broker runs on."""
        return str(self.kube.get("pod", pod)["spec"]["nodeName"])

    def address(self, pod: str) -> str:
        """Where the pod is in the cluster's network."""
        return str(self.kube.get("pod", pod)["status"]["podIP"])

    def stall(self, pod: str, seconds: float) -> None:
        """Nothing of the broker's container runs for so long; nobody tells it."""
        found = self.kube.get("pod", pod)
        container = found["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
        tasks = "ctr --namespace k8s.io tasks"
        command = f"{tasks} pause {container}; sleep {seconds}; {tasks} resume {container}"
        docker("exec", found["spec"]["nodeName"], "sh", "-c", command)

    def killer(self, pod: str) -> Callable[[], None]:
        """What sends SIGKILL to a broker's process, from its node: within a container nobody can kill process 1. It asks
        Kubernetes nothing any more."""
        found = self.kube.get("pod", pod)
        container = found["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
        task = ("ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)
        return lambda: print(docker("exec", found["spec"]["nodeName"], *task), end="")

    def kill_process(self, pod: str) -> None:
        """SIGKILL to a broker's process."""
        self.killer(pod)()

    def delete_pods(self, *pods: str, by_force: bool = False) -> None:
        """`kubectl delete pod`, with or without a goodbye; the StatefulSet makes them anew."""
        flags = ("--grace-period=0", "--force") if by_force else ()
        self.kube.run("delete", "pod", *pods, "--wait=false", *flags)

    def wipe(self, pod: str) -> None:
        """Takes a broker's pod and volume away, and waits until Kubernetes has made another volume."""
        before = self.claim(pod)
        self.kube.run("delete", "pvc", f"data-{pod}", "--wait=false")
        self.delete_pods(pod, by_force=True)
        wait_for(
            f"another volume of {pod}",
            lambda: self.claim(pod) not in ("", before),
            seconds=BACK_SECONDS_MAX,
        )
