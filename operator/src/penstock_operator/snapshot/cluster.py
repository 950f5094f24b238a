"""One MessageCluster as observed: the live objects, the pods, the volumes, and what the brokers said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock_operator.api.names import (
    ANNOTATION_CLUSTER_ID,
    ANNOTATION_CONFIG_HASH,
    ANNOTATION_RESTART_HASH,
    ANNOTATION_SHARD_UID,
    LABEL_LISTENER,
    LABEL_SHARD,
)

if TYPE_CHECKING:
    from penstock_operator.snapshot.broker import BrokerReport

# Reasons of a waiting container that time alone does not cure: only another spec does.
STUCK_REASONS: Final = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)


# Starts after which a broker that is not ready counts as stuck, also in the moments in which it tries again: its
# condition would otherwise change with every attempt.
CRASHES_MAX: Final = 3
LAST_WORDS_MAX: Final = 400  # characters of a broker's log that reach a status


class PodSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One broker's pod."""

    name: str
    uid: str
    shard: int
    address: str | None
    ready: bool
    terminating: bool
    restart_hash: str
    config_hash: str
    trouble: str | None  # sentence why it is not ready, as Kubernetes tells it
    stuck: bool  # whether waiting longer is pointless


class ClaimSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One broker's volume claim."""

    name: str
    shard: int
    cluster_id: str | None
    shard_uid: str | None
    requested: str
    capacity: str | None
    resize: str | None  # Kubernetes' own words while a volume is being expanded
    terminating: bool


class ClusterSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one cluster that a plan may depend on."""

    objects: dict[tuple[str, str], dict[str, Any]]  # (kind, name) -> live object
    pods: dict[str, PodSeen]
    claims: dict[str, ClaimSeen]
    brokers: dict[str, BrokerReport]  # by pod name

    def node_ports(self) -> dict[str, int]:
        """Per-broker Service -> the port that Kubernetes gave it on every node."""
        ports = {}
        for (kind, name), service in self.objects.items():
            if kind == "Service" and LABEL_LISTENER in service["metadata"].get("labels", {}):
                for port in service.get("spec", {}).get("ports", []):
                    if port.get("nodePort"):
                        ports[name] = port["nodePort"]
        return ports


def parse_pod(pod: dict[str, Any]) -> PodSeen:
    """A pod as the API server returns it."""
    metadata, status = pod["metadata"], pod.get("status", {})
    annotations = metadata.get("annotations", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    ready = conditions.get("Ready", {}).get("status") == "True"
    trouble, stuck = (None, False) if ready else _trouble(pod, conditions)
    return PodSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        shard=_shard(metadata),
        address=status.get("podIP"),
        ready=ready,
        terminating=metadata.get("deletionTimestamp") is not None,
        restart_hash=annotations.get(ANNOTATION_RESTART_HASH, ""),
        config_hash=annotations.get(ANNOTATION_CONFIG_HASH, ""),
        trouble=trouble,
        stuck=stuck,
    )


def parse_claim(claim: dict[str, Any]) -> ClaimSeen:
    """A PersistentVolumeClaim as the API server returns it."""
    metadata, status = claim["metadata"], claim.get("status", {})
    annotations = metadata.get("annotations", {})
    resizing = [
        condition.get("message") or condition["type"]
        for condition in status.get("conditions", [])
        if condition.get("status") == "True"
    ]
    return ClaimSeen(
        name=metadata["name"],
        shard=_shard(metadata),
        cluster_id=annotations.get(ANNOTATION_CLUSTER_ID),
        shard_uid=annotations.get(ANNOTATION_SHARD_UID),
        requested=str(claim["spec"].get("resources", {}).get("requests", {}).get("storage", "0")),
        capacity=status.get("capacity", {}).get("storage"),
        resize=resizing[0] if resizing else None,
        terminating=metadata.get("deletionTimestamp") is not None,
    )


def _shard(metadata: dict[str, Any]) -> int:
    text = metadata.get("labels", {}).get(LABEL_SHARD, "0")
    return int(text) if text.isdecimal() else 0


def _trouble(pod: dict[str, Any], conditions: dict[str, dict[str, Any]]) -> tuple[str, bool]:
    """Why a pod is not ready, and whether waiting is pointless."""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("reason") == "Unschedulable":
        return f"no node takes the pod: {scheduled.get('message', 'unschedulable')}", True
    for container in pod.get("status", {}).get("containerStatuses", []):
        state, ended = container.get("state", {}), container.get("lastState", {}).get("terminated")
        waiting, terminated = state.get("waiting"), state.get("terminated")
        crashes = container.get("restartCount", 0) >= CRASHES_MAX
        if ended and (crashes or (waiting and waiting.get("reason") == "CrashLoopBackOff")):
            return f"the broker keeps ending, {_ending(ended)}", True
        if waiting and waiting.get("reason") in STUCK_REASONS:
            return f"{waiting['reason']}: {waiting.get('message', 'no message')}", True
        if waiting:
            return f"the container is being made ({waiting.get('reason', 'waiting')})", False
        if terminated:
            return f"the broker is being restarted, {_ending(terminated)}", False
    return "the broker is starting", False


def _ending(terminated: dict[str, Any]) -> str:
    """How a container ended: its exit code, and the end of its last words."""
    words = " ".join((terminated.get("message") or "").split())[-LAST_WORDS_MAX:]
    return f"last with exit code {terminated.get('exitCode')}" + (f": {words}" if words else "")
