"""The pass over a MessageCluster: observe, build, plan, act, and publish what came of it.

Passes are short. A pass acts and looks again a few times, so that a small repair is never published as a disturbance,
and comes back later for everything that takes time.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec

from penstock_operator.api.cluster import MessageCluster
from penstock_operator.api.names import ANNOTATION_TRACEPARENT
from penstock_operator.desired.build import Desired, build
from penstock_operator.desired.identity import Environment, Identity
from penstock_operator.kube import KubeApi
from penstock_operator.kube_errors import KubeError
from penstock_operator.plan.actions import (
    Action,
    ExpandClaim,
    ForgetPod,
    GiveUpClaim,
    HandOver,
    HandOverAsked,
    LabelRole,
    Plan,
    ResizeShard,
    RestartBroker,
    ShrinkStatefulSet,
    TrustMember,
)
from penstock_operator.plan.cluster import plan_cluster
from penstock_operator.plan.cluster_status import broken_status, cluster_status, paused_status
from penstock_operator.plan.conditions import transitions
from penstock_operator.plan.scale import as_built, brokers_to_run
from penstock_operator.reconcile.act import act
from penstock_operator.reconcile.answers import (
    Failure,
    hand_over_answer,
    hand_over_note,
    refused_by_broker,
    refused_by_kubernetes,
    trust_answer,
    unreachable,
)
from penstock_operator.reconcile.backoff import waiting_s
from penstock_operator.reconcile.dependents import is_paused
from penstock_operator.reconcile.nodes import Nodes
from penstock_operator.reconcile.observe import ClusterBroker, observe
from penstock_operator.reconcile.ports import (
    RESYNC_DEFAULT_S,
    AdminError,
    AdminUnreachableError,
    Again,
    Clock,
    Key,
    Note,
    ResourceStore,
)
from penstock_operator.snapshot.cluster import ClusterSnapshot
from penstock_operator.snapshot.identity import IdentityConflictError, find_identity, witness
from penstock_operator.tracing.current import Outcome as Told
from penstock_operator.tracing.current import current_pass
from penstock_operator.tracing.restarts import Restarts

logger = logging.getLogger(__name__)

ROUNDS_MAX: Final = 4  # observe-plan-act rounds in one pass
TROUBLE_S: Final = 10.0  # while a problem waits for the user, or after a refusal
_DISRUPTED: Final = 1.0  # after a restart began
_STANDSTILLS: Final = (("Degraded", "BrokerStuck"), ("Progressing", "RollStopped"))
_EVENTS: Final[dict[type[Action], str]] = {
    HandOver: "HandOver",
    HandOverAsked: "HandOver",
    ForgetPod: "BrokerReplaced",
    GiveUpClaim: "VolumeReplaced",
    ResizeShard: "Scaling",
    RestartBroker: "BrokerRestart",
    ShrinkStatefulSet: "BrokersLeft",
    TrustMember: "TrustMember",
}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass found, for publishing."""

    cluster: MessageCluster
    identity: Identity
    desired: Desired
    snapshot: ClusterSnapshot
    plan: Plan
    done: list[Action]
    delayed: bool  # whether something was refused that may succeed later


class Brokers(Protocol):
    """How to reach a broker's admin API."""

    def at(self, address: str) -> ClusterBroker:
        """The broker whose pod has this IP address."""


Wake = Callable[[str, str], Awaitable[None]]


class ClusterReconciler:
    """Reconciles MessageClusters; holds no state of its own between passes."""

    def __init__(
        self,
        kube: KubeApi,
        store: ResourceStore,
        brokers: Brokers,
        nodes: Nodes,
        environment: Environment,
        clock: Clock,
        *,
        resync_s: float = RESYNC_DEFAULT_S,
        restarts: Restarts | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self._kube = kube
        self._store = store
        self._brokers = brokers
        self._nodes = nodes
        self._restarts = restarts
        self._environment = environment
        self._clock = clock
        self._resync_s = resync_s
        self._new_id = new_id or (lambda: str(uuid.uuid4()))

    async def reconcile(self, key: Key) -> Again:
        """One pass."""
        resource = await self._store.get(key)
        if resource is None or resource["metadata"].get("deletionTimestamp") is not None:
            current_pass().ends("Gone", "the MessageCluster is gone or going", settled=True)
            return Again()  # what belongs to it goes with it, by owner references
        current_pass().looks_at(resource)
        old = resource.get("status", {})
        generation = resource["metadata"].get("generation", 1)
        if is_paused(resource):
            current_pass().ends("Paused", "the MessageCluster is paused", settled=True)
            await self._write(resource, paused_status(generation, old, self._clock()))
            return Again()
        try:
            cluster = msgspec.convert(resource, MessageCluster)
            outcome = await self._rounds(cluster)
        except msgspec.ValidationError as error:
            # Written past the API server's checks, or by another release.
            await self._broken(resource, "InvalidSpec", f"the resource is not understood: {error}")
            return Again()
        except ValueError as error:
            await self._broken(resource, "InvalidSpec", str(error))
            return Again()
        except KubeError as error:
            if error.is_namespace_leaving:
                return Again()  # the MessageCluster goes as well; there is nothing to repair
            raise
        except IdentityConflictError as error:
            await self._broken(resource, "VolumesConflict", str(error))
            return Again(after_s=TROUBLE_S)
        again = await self._publish(resource, outcome)
        await self._mark_restarted(outcome)
        return again

    async def _rounds(self, cluster: MessageCluster) -> Outcome:
        """Observe, plan and act until nothing is left to do now."""
        done: list[Action] = []
        failures: list[Failure] = []
        new_cluster_id, new_shard_uids = self._new_id(), [self._new_id() for _ in range(cluster.spec.shards)]
        for _ in range(ROUNDS_MAX):
            snapshot = await observe(self._kube, self._brokers, self._nodes, cluster, self._clock())
            identity = find_identity(
                snapshot, cluster.spec.shards, new_cluster_id, dict(enumerate(new_shard_uids))
            )
            replicas = brokers_to_run(cluster, identity, snapshot)
            identity = witness(identity, snapshot, replicas)
            environment = msgspec.structs.replace(self._environment, node_ports=snapshot.node_ports())
            desired = build(as_built(cluster, replicas), identity, environment)
            plan = plan_cluster(cluster, identity, desired, snapshot)
            if not plan.actions or failures:
                break
            await self._act(cluster, plan.actions, snapshot, done, failures)
            if any(isinstance(action, HandOver | ResizeShard | TrustMember) for action in done):
                break  # the new leader needs a moment; seen in it, the shard would look as if it had none
        delays = [failure.message for failure in failures if failure.is_delay]
        given_up = any(not failure.is_problem for failure in failures)
        plan = msgspec.structs.replace(
            plan,
            actions=[action for action in plan.actions if not (given_up and action.disruptive)],
            holds=[*delays, *plan.holds],
            problems=[
                *((failure.reason, failure.message) for failure in failures if failure.is_problem),
                *plan.problems,
            ],
            trust=trust_answer(done, failures) or plan.trust,
            hand_over=hand_over_answer(done, failures) or plan.hand_over,
        )
        return Outcome(
            cluster=cluster,
            identity=identity,
            desired=desired,
            snapshot=snapshot,
            plan=plan,
            done=done,
            delayed=bool(delays),
        )

    async def _act(
        self,
        cluster: MessageCluster,
        actions: list[Action],
        snapshot: ClusterSnapshot,
        done: list[Action],
        failures: list[Failure],
    ) -> None:
        """Act in order until something is refused that what comes next may rely on."""
        labels_end = False
        for action in actions:
            if labels_end and isinstance(action, LabelRole):
                continue  # the new leader's comes after the old one's is gone, or not at all
            failure = await self._try(cluster, action, snapshot)
            if failure is None:
                done.append(action)
                self._remember_restart(cluster, action)
                continue
            failures.append(failure)
            current_pass().is_refused(failure.message)
            if isinstance(action, LabelRole):
                labels_end = True
            elif not isinstance(action, ExpandClaim):
                break  # nothing relies on a label or on a bigger volume

    async def _try(
        self, cluster: MessageCluster, action: Action, snapshot: ClusterSnapshot
    ) -> Failure | None:
        """Act; a refusal becomes a failure with the refuser's own sentence."""
        logger.info(
            "acting",
            extra={"object": f"{cluster.metadata.namespace}/{cluster.metadata.name}", "why": action.why},
        )
        current_pass().acts(type(action).__name__, action.why)
        try:
            await act(action, cluster.metadata.namespace, self._kube, self._brokers, snapshot)
        except KubeError as error:
            if error.status in (0, 401, 409) or error.status >= 500 or error.is_namespace_leaving:
                raise  # the queue tries the whole pass again
            return refused_by_kubernetes(action, error)
        except AdminError as error:
            return refused_by_broker(action, error)
        except AdminUnreachableError as error:
            logger.info("broker cannot be asked", extra={"why": str(error)})
            return unreachable(action, error)
        return None

    async def _publish(self, resource: dict[str, Any], outcome: Outcome) -> Again:
        plan = outcome.plan
        old = resource.get("status", {})
        status = cluster_status(
            outcome.cluster, outcome.identity, outcome.desired, outcome.snapshot, plan, old, self._clock()
        )
        current_pass().ends(*_what_came(outcome, status), settled=plan.is_settled)
        await self._write(resource, status)
        for note in _notes(outcome, status, old):
            metadata = outcome.cluster.metadata
            told = {"object": f"{metadata.namespace}/{metadata.name}", "reason": note.reason}
            logger.info("telling", extra={**told, "why": note.message})
            await self._store.tell(resource, note)
        if plan.problems or outcome.delayed:
            return Again(after_s=TROUBLE_S)
        if plan.actions:
            return Again(after_s=_DISRUPTED)
        waiting = plan.waits or plan.missing or plan.holds or plan.scaling or plan.refused
        if not waiting:
            return Again(after_s=self._resync_s)
        return Again(after_s=waiting_s(status["conditions"], self._clock(), self._resync_s))

    async def _broken(self, resource: dict[str, Any], reason: str, message: str) -> None:
        old = resource.get("status", {})
        status = broken_status(resource["metadata"].get("generation", 1), reason, message, old, self._clock())
        current_pass().ends("Problem", message)
        await self._write(resource, status)
        if transitions(status["conditions"], old.get("conditions", [])):
            await self._store.tell(resource, Note(type="Warning", reason=reason, message=message))

    async def _write(self, resource: dict[str, Any], status: dict[str, Any]) -> None:
        if status != resource.get("status"):
            await self._store.write_status(resource, status)

    def _remember_restart(self, cluster: MessageCluster, action: Action) -> None:
        """That this pass restarted a pod, if anybody follows its trace."""
        traceparent = current_pass().traceparent
        if self._restarts is not None and traceparent and isinstance(action, RestartBroker | ForgetPod):
            self._restarts.began(cluster.metadata.namespace, action.pod, action.uid, traceparent)

    async def _mark_restarted(self, outcome: Outcome) -> None:
        """Say on pods that came back which pass restarted them. Nothing depends on it, so no refusal fails a pass."""
        if self._restarts is None:
            return
        namespace = outcome.cluster.metadata.namespace
        uids = {pod.name: pod.uid for pod in outcome.snapshot.pods.values()}
        for pod, traceparent in self._restarts.came_back(namespace, uids).items():
            mark = {"metadata": {"annotations": {ANNOTATION_TRACEPARENT: traceparent}}}
            try:
                await self._kube.merge("v1", "Pod", namespace, pod, mark)
            except KubeError as error:
                logger.info("restarted pod not marked", extra={"pod": pod, "why": str(error)})


def _what_came(outcome: Outcome, status: dict[str, Any]) -> tuple[Told, str]:
    """What came of a pass, for its trace: what was done and why, or else what the status says."""
    plan = outcome.plan
    messages = {condition["type"]: condition["message"] for condition in status["conditions"]}
    if plan.problems:
        return "Problem", plan.problems[0][1]
    if outcome.done:
        return "Acted", "; ".join(action.why for action in outcome.done)
    return "Settled" if plan.is_settled else "Waiting", messages["Progressing"]


def _notes(outcome: Outcome, status: dict[str, Any], old: dict[str, Any]) -> list[Note]:
    """What the user is told: restarts, hand-overs, changes of Ready, and listeners that anybody may use."""
    planned = [action for action in outcome.done if type(action) in _EVENTS]
    notes = [
        Note(
            type="Normal",
            reason=_EVENTS[type(action)],
            message=action.why,
        )
        for action in planned
    ]
    notes += [
        Note(type="Normal", reason="LeaderElected", message=action.why)
        for action in outcome.done
        if isinstance(action, LabelRole) and action.elected
    ]
    notes += hand_over_note(outcome.done, status, old)
    notes += _scaling_notes(outcome.plan, status["conditions"], old.get("conditions", []))
    notes += _recovery_notes(status["conditions"], old.get("conditions", []))
    for condition in transitions(status["conditions"], old.get("conditions", [])):
        if condition["type"] == "Ready" and condition["reason"] not in ("Reconciling",):
            reason = condition["reason"]
            expected = reason == "BrokersMissing" and planned
            well = expected or reason in ("BrokersReady", "BrokersNotReady")
            kind: Any = "Normal" if well else "Warning"
            notes.append(Note(type=kind, reason=reason, message=condition["message"]))
    notes += _standstill_notes(transitions(status["conditions"], old.get("conditions", [])))
    new_listeners = status["bootstrap"].keys() - old.get("bootstrap", {}).keys()
    for listener in outcome.cluster.spec.listeners:
        if listener.name in new_listeners:
            where = "inside Kubernetes" if listener.type == "internal" else "with a way to a node"
            message = (
                f"listener {listener.name} on port {listener.port} has no authentication: everybody {where}"
                " can read and write every topic; limit who reaches it with a NetworkPolicy or a firewall"
            )
            notes.append(Note(type="Warning", reason="ListenerWithoutAuthentication", message=message))
    return notes


def _standstill_notes(changed: list[dict[str, Any]]) -> list[Note]:
    """What a person has to mend while the shard serves on, so that Ready does not tell of it."""
    told = {condition["reason"] for condition in changed if condition["type"] == "Ready"}
    return [
        Note(type="Warning", reason=condition["reason"], message=condition["message"])
        for condition in changed
        if (condition["type"], condition["reason"]) in _STANDSTILLS and condition["reason"] not in told
    ]


def _scaling_notes(plan: Plan, new: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[Note]:
    """Each step of another number of brokers once, and once that a person has to change something for it."""
    told = [condition.get("message", "") for condition in old if condition.get("type") == "Progressing"]
    notes = [
        Note(type="Normal", reason="Scaling", message=sentence)
        for sentence in plan.scaling
        if not any(sentence in message for message in told)
    ]
    notes += [
        Note(type="Warning", reason=condition["reason"], message=condition["message"])
        for condition in transitions(new, old)
        if condition["reason"] == "ScaleDownRefused"
    ]
    return notes


def _recovery_notes(new: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[Note]:
    """That a broker was trusted or not, and what may be gone; a second recovery says so with the same reason."""
    before = {condition.get("type"): condition.get("message") for condition in old}
    return [
        Note(
            type="Warning",
            reason=condition["type"] if condition["status"] == "True" else condition["reason"],
            message=condition["message"],
        )
        for condition in new
        if condition["type"] == "UncleanRecovery" and before.get("UncleanRecovery") != condition["message"]
    ]
