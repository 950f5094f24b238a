"""The pass over a MessageCluster: observe, build, plan, act, and publish what came of it.

Passes are short. A pass acts and looks again a few times, so that a small repair is never published as a disturbance,
and comes back later for everything that takes time.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, Protocol

import msgspec

from penstock_operator.api.cluster import MessageCluster
from penstock_operator.desired.build import Desired, build
from penstock_operator.desired.identity import Environment, Identity
from penstock_operator.kube import KubeApi
from penstock_operator.kube_errors import KubeError
from penstock_operator.plan.actions import (
    Action,
    ExpandClaim,
    HandOver,
    Plan,
    ResizeShard,
    RestartBroker,
    ShrinkStatefulSet,
    TrustAnswer,
    TrustMember,
)
from penstock_operator.plan.cluster import plan_cluster
from penstock_operator.plan.cluster_status import broken_status, cluster_status, paused_status
from penstock_operator.plan.conditions import transitions
from penstock_operator.plan.scale import as_built, brokers_to_run
from penstock_operator.reconcile.act import act
from penstock_operator.reconcile.dependents import is_paused
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

logger = logging.getLogger(__name__)

ROUNDS_MAX: Final = 4  # observe-plan-act rounds in one pass
WAIT_S: Final = 2.0  # while something is awaited
TROUBLE_S: Final = 10.0  # while a problem waits for the user, or after a refusal
_DISRUPTED: Final = 1.0  # after a restart began
_EVENTS: Final[dict[type[Action], str]] = {
    HandOver: "HandOver",
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


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An action that was refused: a problem for the user, or only a delay."""

    reason: str
    message: str
    is_delay: bool = False
    pod: str | None = None  # whose copy is not trusted

    @property
    def is_problem(self) -> bool:
        """Whether it stands in the way until the user solves it."""
        return not self.is_delay and self.pod is None


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
        environment: Environment,
        clock: Clock,
        *,
        resync_s: float = RESYNC_DEFAULT_S,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self._kube = kube
        self._store = store
        self._brokers = brokers
        self._environment = environment
        self._clock = clock
        self._resync_s = resync_s
        self._new_id = new_id or (lambda: str(uuid.uuid4()))

    async def reconcile(self, key: Key) -> Again:
        """One pass."""
        resource = await self._store.get(key)
        if resource is None or resource["metadata"].get("deletionTimestamp") is not None:
            return Again()  # what belongs to it goes with it, by owner references
        old = resource.get("status", {})
        generation = resource["metadata"].get("generation", 1)
        if is_paused(resource):
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
        return await self._publish(resource, outcome)

    async def _rounds(self, cluster: MessageCluster) -> Outcome:
        """Observe, plan and act until nothing is left to do now."""
        done: list[Action] = []
        failures: list[Failure] = []
        new_cluster_id, new_shard_uids = self._new_id(), [self._new_id() for _ in range(cluster.spec.shards)]
        for _ in range(ROUNDS_MAX):
            snapshot = await observe(self._kube, self._brokers, cluster)
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
            for action in plan.actions:
                failure = await self._try(cluster, action, snapshot)
                if failure is None:
                    done.append(action)
                    continue
                failures.append(failure)
                if not isinstance(action, ExpandClaim):
                    break  # what comes next may rely on it; nothing relies on a bigger volume
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
            trust=_trust_answer(done, failures) or plan.trust,
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

    async def _try(
        self, cluster: MessageCluster, action: Action, snapshot: ClusterSnapshot
    ) -> Failure | None:
        """Act; a refusal becomes a failure with the refuser's own sentence."""
        logger.info(
            "acting",
            extra={"object": f"{cluster.metadata.namespace}/{cluster.metadata.name}", "why": action.why},
        )
        try:
            await act(action, cluster.metadata.namespace, self._kube, self._brokers, snapshot)
        except KubeError as error:
            if error.status in (0, 401, 409) or error.status >= 500 or error.is_namespace_leaving:
                raise  # the queue tries the whole pass again
            if error.status == 429:
                message = f"{action.why}, but a disruption budget forbids it now: {error.message}"
                return Failure(reason="DisruptionBudget", message=message, is_delay=True)
            message = f"{action.why}, but Kubernetes refuses: {error.message}"
            return Failure(reason="RefusedByKubernetes", message=message)
        except AdminError as error:
            message = f"{action.why}, but the broker refuses: {error.detail}"
            if isinstance(action, TrustMember):
                return Failure(
                    reason="TrustRefused", message=message, is_delay=error.status >= 500, pod=action.pod
                )
            # A leader that changed meanwhile, or that cannot hand over now, is asked again later.
            delay = action.disruptive or error.is_not_leader
            return Failure(reason="InvalidConfiguration", message=message, is_delay=delay)
        except AdminUnreachableError as error:
            logger.info("broker cannot be asked", extra={"why": str(error)})
            if action.disruptive:
                message = f"{action.why}, but {error}"
                return Failure(reason="BrokerUnreachable", message=message, is_delay=True)
        return None

    async def _publish(self, resource: dict[str, Any], outcome: Outcome) -> Again:
        plan = outcome.plan
        old = resource.get("status", {})
        status = cluster_status(
            outcome.cluster, outcome.identity, outcome.desired, outcome.snapshot, plan, old, self._clock()
        )
        await self._write(resource, status)
        for note in _notes(outcome, status, old):
            await self._store.tell(resource, note)
        if plan.problems or outcome.delayed:
            return Again(after_s=TROUBLE_S)
        if plan.actions:
            return Again(after_s=_DISRUPTED)
        waiting = plan.waits or plan.missing or plan.holds or plan.scaling or plan.refused
        return Again(after_s=WAIT_S if waiting else self._resync_s)

    async def _broken(self, resource: dict[str, Any], reason: str, message: str) -> None:
        old = resource.get("status", {})
        status = broken_status(resource["metadata"].get("generation", 1), reason, message, old, self._clock())
        await self._write(resource, status)
        if transitions(status["conditions"], old.get("conditions", [])):
            await self._store.tell(resource, Note(type="Warning", reason=reason, message=message))

    async def _write(self, resource: dict[str, Any], status: dict[str, Any]) -> None:
        if status != resource.get("status"):
            await self._store.write_status(resource, status)


def _trust_answer(done: list[Action], failures: list[Failure]) -> TrustAnswer | None:
    """What came of the wish to trust a broker in this pass."""
    for action in done:
        if isinstance(action, TrustMember):
            return TrustAnswer(pod=action.pod, outcome="Done", message=action.why)
    for failure in failures:
        if failure.pod is not None:
            outcome: Literal["Waiting", "Refused"] = "Waiting" if failure.is_delay else "Refused"
            return TrustAnswer(pod=failure.pod, outcome=outcome, message=failure.message)
    return None


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
    notes += _scaling_notes(outcome.plan, status["conditions"], old.get("conditions", []))
    notes += _recovery_notes(status["conditions"], old.get("conditions", []))
    for condition in transitions(status["conditions"], old.get("conditions", [])):
        if condition["type"] == "Ready" and condition["reason"] not in ("Reconciling",):
            reason = condition["reason"]
            expected = reason == "BrokersMissing" and planned
            well = expected or reason in ("BrokersReady", "BrokersNotReady")
            kind: Any = "Normal" if well else "Warning"
            notes.append(Note(type=kind, reason=reason, message=condition["message"]))
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
