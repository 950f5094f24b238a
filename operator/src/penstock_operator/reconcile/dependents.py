"""The pass over a Topic or a ConsumerGroup, but for what differs between the two.

What is common: pausing, finalizers, deletion, conflicts about a name, a cluster that is not there, errors of the
broker, and publishing. What differs is a `Dependent`: how to look, what to do, and what to delete.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from penstock_operator.api.names import ANNOTATION_PAUSED
from penstock_operator.plan.cluster_status import paused_status
from penstock_operator.plan.conditions import transitions
from penstock_operator.plan.dependents import Verdict, dependent_status, owner_of
from penstock_operator.reconcile.ports import (
    AdminError,
    AdminUnreachableError,
    Again,
    BrokerAdmin,
    Clock,
    Clusters,
    ClusterState,
    Key,
    Note,
    ResourceStore,
)
from penstock_operator.tracing.current import Outcome, current_pass

if TYPE_CHECKING:
    from penstock_operator.api.group import ConsumerGroup
    from penstock_operator.api.topic import Topic
    from penstock_operator.plan.dependents import Claimant

logger = logging.getLogger(__name__)

RETRY_S: Final = 5.0  # after a refusal; the user's next edit wakes us sooner
WAIT_S: Final = 1.0  # for what is on its way, such as the topic of a group
CLUSTER_WAIT_S: Final = 5.0  # while the cluster is not ready; its own events wake us sooner
PAUSE_ANNOTATION_OFF: Final = ("false", "no", "0")


class Dependent(Protocol):
    """What differs between topics and groups."""

    finalizer: str
    resync_s: float

    def decode(self, resource: dict[str, Any]) -> Topic | ConsumerGroup:
        """The typed resource. Raises msgspec.ValidationError."""

    async def settle(self, resource: Any, admin: BrokerAdmin) -> Verdict:
        """Look and act until the broker has what the spec says, or say why it has not."""

    async def delete(self, resource: Any, admin: BrokerAdmin) -> None:
        """Delete it in the broker."""


def is_paused(resource: dict[str, Any]) -> bool:
    """Whether the resource carries the pause annotation (any value but a clear no)."""
    value = resource["metadata"].get("annotations", {}).get(ANNOTATION_PAUSED)
    return value is not None and value.lower() not in PAUSE_ANNOTATION_OFF


async def reconcile_dependent(
    key: Key, dependent: Dependent, store: ResourceStore, clusters: Clusters, clock: Clock
) -> Again:
    """One pass over one Topic or ConsumerGroup."""
    resource = await store.get(key)
    if resource is None:
        current_pass().ends("Gone", "the resource is gone", settled=True)
        return Again()
    current_pass().looks_at(resource)
    try:
        typed = dependent.decode(resource)
    except msgspec.ValidationError as error:
        # Written past the API server's checks, or by another release.
        message = f"the resource is not understood: {error}"
        await _publish(resource, Verdict(ready=False, reason="InvalidSpec", message=message), store, clock)
        return Again()
    if is_paused(resource):
        return await _pause(resource, typed, dependent, store, clusters, clock)
    owner = owner_of(typed.wire_name, typed.spec.cluster_ref.name, store.claimants(key.kind, key.namespace))
    if typed.metadata.deletion_timestamp is not None:
        owns = owner is None or owner.uid == typed.metadata.uid
        return await _leave(resource, typed, dependent, owns, store, clusters, clock)
    if owner is not None and owner.uid != typed.metadata.uid and await _is_there(store, key, owner):
        message = f"{typed.wire_name} belongs to {key.kind} {owner.name}, which is older: delete one of the two or rename it"
        await _publish(resource, Verdict(ready=False, reason="Conflict", message=message), store, clock)
        return Again(after_s=dependent.resync_s)
    if await _keep_finalizer(resource, typed, dependent, store):
        return Again(after_s=0)
    cluster = await clusters.find(key.namespace, typed.spec.cluster_ref.name)
    verdict = await _settle(typed, dependent, cluster)
    await _publish(resource, verdict, store, clock)
    if verdict.ready:
        return Again(after_s=dependent.resync_s)
    if cluster.state != "Ready":
        return Again(after_s=CLUSTER_WAIT_S)
    return Again(after_s=WAIT_S if verdict.progressing else RETRY_S)


async def _pause(
    resource: dict[str, Any],
    typed: Any,
    dependent: Dependent,
    store: ResourceStore,
    clusters: Clusters,
    clock: Clock,
) -> Again:
    """A paused resource is left alone; but when its cluster is gone too, its deletion must not wait for ever."""
    if typed.metadata.deletion_timestamp is not None and dependent.finalizer in typed.metadata.finalizers:
        cluster = await clusters.find(typed.metadata.namespace, typed.spec.cluster_ref.name)
        if cluster.state in ("Missing", "Leaving"):
            await store.write_finalizers(resource, _without(typed.metadata.finalizers, dependent.finalizer))
            return Again()
    current_pass().ends("Paused", "the resource is paused", settled=True)
    status = paused_status(typed.metadata.generation, resource.get("status", {}), clock())
    await _write(resource, status, store)
    return Again(after_s=dependent.resync_s if typed.metadata.deletion_timestamp is not None else None)


async def _is_there(store: ResourceStore, key: Key, owner: Claimant) -> bool:
    """Whether the owner of a name still exists: nobody is turned away for the sake of a memory."""
    resource = await store.get(Key(key.kind, key.namespace, owner.name))
    return resource is not None and resource["metadata"]["uid"] == owner.uid


def _without(finalizers: list[str], ours: str) -> list[str]:
    return [name for name in finalizers if name != ours]


async def _settle(typed: Any, dependent: Dependent, cluster: ClusterState) -> Verdict:
    if cluster.state != "Ready":
        reason = "ClusterNotFound" if cluster.state == "Missing" else "ClusterNotReady"
        progressing = cluster.state != "Missing"
        return Verdict(ready=False, reason=reason, message=cluster.message, progressing=progressing)
    try:
        return await dependent.settle(typed, cluster.admin)
    except AdminUnreachableError as error:
        return Verdict(ready=False, reason="BrokerUnreachable", message=str(error), progressing=True)
    except AdminError as error:
        return Verdict(ready=False, reason=reason_of(error), message=error.detail)


def reason_of(error: AdminError) -> str:
    """A condition's reason from a broker's error name: UNKNOWN_TOPIC_OR_PARTITION -> UnknownTopicOrPartition."""
    return "".join(part.capitalize() for part in error.code.split("_")) or "RefusedByBroker"


async def _keep_finalizer(
    resource: dict[str, Any], typed: Any, dependent: Dependent, store: ResourceStore
) -> bool:
    """Hold the resource only where deleting it means deleting something in the broker. True when it was changed."""
    present = list(typed.metadata.finalizers)
    needed = typed.spec.reclaim_policy == "Delete"
    if needed == (dependent.finalizer in present):
        return False
    others = _without(present, dependent.finalizer)
    await store.write_finalizers(resource, [*others, dependent.finalizer] if needed else others)
    return True


async def _leave(
    resource: dict[str, Any],
    typed: Any,
    dependent: Dependent,
    owns: bool,
    store: ResourceStore,
    clusters: Clusters,
    clock: Clock,
) -> Again:
    """A resource that is being deleted: delete in the broker first, and never hold it when there is none any more."""
    if dependent.finalizer not in typed.metadata.finalizers:
        return Again()
    if owns and typed.spec.reclaim_policy == "Delete":
        cluster = await clusters.find(typed.metadata.namespace, typed.spec.cluster_ref.name)
        if cluster.state == "NotReady":
            message = f"waits to be deleted in the broker: {cluster.message}"
            await _publish(
                resource,
                Verdict(ready=False, reason="Deleting", message=message, progressing=True),
                store,
                clock,
            )
            return Again(after_s=CLUSTER_WAIT_S)
        if cluster.state == "Ready":
            try:
                await dependent.delete(typed, cluster.admin)
            except (AdminError, AdminUnreachableError) as error:
                message = f"waits to be deleted in the broker: {error}"
                await _publish(
                    resource,
                    Verdict(ready=False, reason="Deleting", message=message, progressing=True),
                    store,
                    clock,
                )
                return Again(after_s=RETRY_S)
            logger.info("deleted in the broker", extra={"object": typed.wire_name})
    await store.write_finalizers(resource, _without(typed.metadata.finalizers, dependent.finalizer))
    return Again()


async def _publish(resource: dict[str, Any], verdict: Verdict, store: ResourceStore, clock: Clock) -> None:
    old = resource.get("status", {})
    status = dependent_status(verdict, resource["metadata"].get("generation", 1), old, clock())
    changed = [
        c for c in transitions(status["conditions"], old.get("conditions", [])) if c["type"] == "Ready"
    ]
    await _write(resource, status, store)
    outcome: Outcome = "Settled" if verdict.ready else "Waiting" if verdict.progressing else "Problem"
    current_pass().ends(outcome, verdict.message, settled=verdict.ready)
    for condition in changed:
        wrong = not verdict.ready and not verdict.progressing
        reason, message = condition["reason"], condition["message"]
        await store.tell(
            resource, Note(type="Warning" if wrong else "Normal", reason=reason, message=message)
        )


async def _write(resource: dict[str, Any], status: dict[str, Any], store: ResourceStore) -> None:
    if status != resource.get("status"):
        await store.write_status(resource, status)
