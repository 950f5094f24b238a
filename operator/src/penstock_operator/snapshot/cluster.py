"""One MessageCluster as observed: the live objects, the pods, the volumes, and what the brokers said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock_operator.api.names import (
    ANNOTATION_CLUSTER_ID,
    ANNOTATION_CONFIG_HASH,
    ANNOTATION_NODE_PORTS,
    ANNOTATION_RESTART_HASH,
    ANNOTATION_ROLE_EPOCH,
    ANNOTATION_SHARD_FORMED,
    ANNOTATION_SHARD_REPLICAS,
    ANNOTATION_SHARD_UID,
    LABEL_LISTENER,
    LABEL_ROLE,
    LABEL_SHARD,
)
from penstock_operator.snapshot.endings import Ended, endings, parse_ended
from penstock_operator.snapshot.nodes import NodeSeen
from penstock_operator.snapshot.shard import ShardView, shard_view

if TYPE_CHECKING:
    from penstock_operator.snapshot.broker import BrokerReport, ClusterReport
    from penstock_operator.snapshot.lease import LeaseSeen

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
    idle: bool = False  # whether no broker runs in it now, so that nobody misses the pod
    version: str = ""  # of the object, so that what is written holds for what was seen
    role: str | None = None  # its label
    role_epoch: int = 0  # the epoch that the label is from; 0 for none
    node: str | None = None  # where it was placed
    unschedulable_since: str | None = None  # RFC 3339; None unless no node takes it
    node_ports: str = ""  # as the template had them that it was made from
    ended: list[Ended] = msgspec.field(default_factory=list)  # containers of the broker that have


class ClaimSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One broker's volume claim."""

    name: str
    uid: str
    shard: int
    cluster_id: str | None
    shard_uid: str | None
    formed: int | None  # see `desired.identity.Identity.formed`; None: this volume never held a full copy
    requested: str
    capacity: str | None
    resize: str | None  # Kubernetes' own words while a volume is being expanded
    terminating: bool
    volume: str | None = None  # the PersistentVolume that it is bound to


class ClusterSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one cluster that a plan may depend on."""

    objects: dict[tuple[str, str], dict[str, Any]]  # (kind, name) -> live object
    pods: dict[str, PodSeen]
    claims: dict[str, ClaimSeen]
    brokers: dict[str, BrokerReport]  # by pod name
    nodes: dict[str, NodeSeen] = msgspec.field(default_factory=dict)  # those of pods that could be looked at
    # Claim -> a part of a sentence why its volume is certainly gone.
    lost_volumes: dict[str, str] = msgspec.field(default_factory=dict)
    leases: dict[int, LeaseSeen] = msgspec.field(default_factory=dict)  # mode MasterSlave: by shard
    now: str = ""  # RFC 3339; without it nothing is old enough to be given up

    def node_of(self, pod: PodSeen) -> NodeSeen | None:
        """The node of a pod; None when it has none, or nobody may look at it."""
        return self.nodes.get(pod.node) if pod.node is not None else None

    def reports(self) -> dict[str, ClusterReport]:
        """What those brokers say that can be asked, by name."""
        return {name: seen.cluster for name, seen in self.brokers.items() if seen.cluster is not None}

    def shard_view(self, shard: int) -> ShardView:
        """What the brokers say about a shard."""
        return shard_view(shard, self.reports())

    def asked_replicas(self) -> int:
        """The most brokers that a StatefulSet of the cluster was made for; 0 when there is none."""
        return max(
            (
                parse_count(live["metadata"].get("annotations", {}).get(ANNOTATION_SHARD_REPLICAS)) or 0
                for (kind, _), live in self.objects.items()
                if kind == "StatefulSet"
            ),
            default=0,
        )

    def node_ports(self) -> dict[str, int]:
        """Per-broker Service -> the port that Kubernetes gave it on every node."""
        ports = {}
        for (kind, name), service in self.objects.items():
            if kind == "Service" and LABEL_LISTENER in service["metadata"].get("labels", {}):
                for port in service.get("spec", {}).get("ports", []):
                    if port.get("nodePort"):
                        ports[name] = port["nodePort"]
        return ports


def parse_count(text: str | None) -> int | None:
    """A number in an annotation; None when there is none, or something else than a number."""
    return int(text) if text is not None and text.isdecimal() else None


def parse_pod(pod: dict[str, Any]) -> PodSeen:
    """A pod as the API server returns it."""
    metadata, status = pod["metadata"], pod.get("status", {})
    annotations = metadata.get("annotations", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    ready = conditions.get("Ready", {}).get("status") == "True"
    trouble = _Trouble() if ready else _trouble(pod, conditions)
    return PodSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        shard=_shard(metadata),
        address=status.get("podIP"),
        ready=ready,
        terminating=metadata.get("deletionTimestamp") is not None,
        restart_hash=annotations.get(ANNOTATION_RESTART_HASH, ""),
        config_hash=annotations.get(ANNOTATION_CONFIG_HASH, ""),
        trouble=trouble.sentence,
        stuck=trouble.stuck,
        idle=trouble.idle,
        version=metadata.get("resourceVersion", ""),
        role=metadata.get("labels", {}).get(LABEL_ROLE),
        role_epoch=parse_count(annotations.get(ANNOTATION_ROLE_EPOCH)) or 0,
        node=pod.get("spec", {}).get("nodeName"),
        unschedulable_since=_unschedulable_since(conditions),
        node_ports=annotations.get(ANNOTATION_NODE_PORTS, ""),
        ended=endings(pod),
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
        uid=metadata["uid"],
        shard=_shard(metadata),
        cluster_id=annotations.get(ANNOTATION_CLUSTER_ID),
        shard_uid=annotations.get(ANNOTATION_SHARD_UID),
        formed=parse_count(annotations.get(ANNOTATION_SHARD_FORMED)),
        requested=str(claim["spec"].get("resources", {}).get("requests", {}).get("storage", "0")),
        capacity=status.get("capacity", {}).get("storage"),
        resize=resizing[0] if resizing else None,
        terminating=metadata.get("deletionTimestamp") is not None,
        volume=claim["spec"].get("volumeName"),
    )


def _unschedulable_since(conditions: dict[str, dict[str, Any]]) -> str | None:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    since: str | None = scheduled.get("lastTransitionTime")
    return since


def _shard(metadata: dict[str, Any]) -> int:
    text = metadata.get("labels", {}).get(LABEL_SHARD, "0")
    return int(text) if text.isdecimal() else 0


class _Trouble(msgspec.Struct, frozen=True):
    """Why a pod is not ready, whether waiting is pointless, and whether no broker runs in it."""

    sentence: str | None = None
    stuck: bool = False
    idle: bool = False


def _trouble(pod: dict[str, Any], conditions: dict[str, dict[str, Any]]) -> _Trouble:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("reason") == "Unschedulable":
        return _Trouble(
            f"no node takes the pod: {scheduled.get('message', 'unschedulable')}", stuck=True, idle=True
        )
    for container in pod.get("status", {}).get("containerStatuses", []):
        state, ended = container.get("state", {}), container.get("lastState", {}).get("terminated")
        waiting, terminated = state.get("waiting"), state.get("terminated")
        crashes = container.get("restartCount", 0) >= CRASHES_MAX
        backs_off = waiting is not None and waiting.get("reason") == "CrashLoopBackOff"
        if ended and backs_off and parse_ended(ended).is_by_rule:
            # Kubernetes takes it for a crash, and waits longer each time.
            return _Trouble(
                "Kubernetes waits before it starts the broker again, which was master and is not any more",
                idle=True,
            )
        if ended and (crashes or backs_off) and not parse_ended(ended).is_by_rule:
            sentence = f"the broker keeps ending, last with {parse_ended(ended).sentence}"
            return _Trouble(sentence, stuck=True, idle=waiting is not None)
        if waiting and waiting.get("reason") in STUCK_REASONS:
            return _Trouble(
                f"{waiting['reason']}: {waiting.get('message', 'no message')}", stuck=True, idle=True
            )
        if waiting:
            return _Trouble(f"the container is being made ({waiting.get('reason', 'waiting')})")
        if terminated:
            return _Trouble(f"the broker is being restarted, last with {parse_ended(terminated).sentence}")
    return _Trouble("the broker is starting")
