"""The plan of one MessageCluster.

Order matters: what brokers need comes first, then volumes, then StatefulSets, then settings, and only when nothing else
is left, one restart or hand-over (`roll`). A broker that cannot be asked is never restarted for it: not knowing is no
reason to destroy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from penstock_operator.api.names import (
    ANNOTATION_APPLIED,
    ANNOTATION_CLUSTER_ID,
    ANNOTATION_CONFIG_HASH,
    ANNOTATION_NODE_PORTS,
    ANNOTATION_RESTART_HASH,
    ANNOTATION_SHARD_FORMED,
    ANNOTATION_SHARD_REPLICAS,
    ANNOTATION_SHARD_UID,
    LABEL_CLUSTER,
    LABEL_SHARD,
)
from penstock_operator.api.units import quantity_exact
from penstock_operator.desired import names
from penstock_operator.desired.broker_config import copies_to_keep
from penstock_operator.desired.statefulset import own_node_ports
from penstock_operator.plan.actions import (
    Action,
    AnnotateClaim,
    ApplyObject,
    DeleteObject,
    ExpandClaim,
    HandOver,
    PatchSettings,
    Plan,
    RecreateStatefulSet,
    RestartBroker,
    ShrinkStatefulSet,
)
from penstock_operator.plan.drift import drift, first_difference
from penstock_operator.plan.masters import adopt_leases
from penstock_operator.plan.roles import plan_roles
from penstock_operator.plan.roll import GiveUpLeadership, Hold, Restart, RollBroker, next_step
from penstock_operator.plan.scale import claims_left_behind, scale_shard
from penstock_operator.plan.settings import plan_settings
from penstock_operator.plan.shards import ShardState, shard_states
from penstock_operator.plan.upkeep import plan_upkeep
from penstock_operator.plan.words import counted
from penstock_operator.snapshot.cluster import parse_count

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.desired.build import Desired
    from penstock_operator.desired.identity import Identity
    from penstock_operator.snapshot.cluster import ClaimSeen, ClusterSnapshot, PodSeen

# Kinds whose objects are deleted when the spec no longer asks for them. StatefulSets are not: they hold data.
# The rights of brokers in mode MasterSlave are not either: the mode cannot change.
PRUNED_KINDS: Final = ("Service", "ConfigMap", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy")
# Fields of a StatefulSet that the API server lets nobody change.
_FIXED_FIELDS: Final = ("serviceName", "podManagementPolicy", "selector", "volumeClaimTemplates")


def plan_cluster(
    cluster: MessageCluster, identity: Identity, desired: Desired, snapshot: ClusterSnapshot
) -> Plan:
    """What to do for a cluster now; `desired` may have more brokers than its spec, while some of them still have to leave."""
    problems = [("InvalidConfiguration", sentence) for sentence in desired.problems]
    problems += _foreign_objects(cluster, desired, snapshot)
    states = shard_states(cluster, identity, snapshot)
    roles = plan_roles(states, snapshot)
    if problems:
        # A failover shows in the labels whatever is wrong with the spec.
        return Plan(actions=[*roles], waits=[], problems=problems)
    actions: list[Action] = [*roles]
    waits: list[str] = []
    leaving = [name for (_, name), live in snapshot.objects.items() if _is_leaving(live)]
    for manifest in desired.supports:
        actions += _apply(manifest, snapshot)
    if desired.missing_node_ports:
        waits.append(f"Kubernetes has not yet given a node port to {', '.join(desired.missing_node_ports)}")
    actions += _claims(cluster, identity, snapshot)
    for manifest in desired.shards:
        actions += _stateful_set(manifest, snapshot)
    actions += _prune(desired, snapshot)
    actions += claims_left_behind(cluster, identity, snapshot, desired.replicas)
    actions += adopt_leases(cluster, identity, snapshot)
    if leaving:
        waits.append(f"Kubernetes has not yet removed {', '.join(sorted(leaving))}")
        # Applying to what is going away would be lost.
        actions = [
            action for action in actions if not (isinstance(action, ApplyObject) and _name(action) in leaving)
        ]
    problems += [("ShardLost", state.lost) for state in states.values() if state.lost is not None]
    missing, unserved = _brokers(states)
    waits += unserved + _waits(desired, snapshot)
    unknown_names, setting_actions, restart_reasons = _settings(cluster, desired, states, snapshot)
    problems += unknown_names
    actions += setting_actions
    holds: list[str] = []
    upkeep = plan_upkeep(cluster, identity, states, snapshot)
    keep = {shard: copies_to_keep(cluster.spec, identity.formed.get(shard, 0)) for shard in states}
    scales = [
        scale_shard(state.view, cluster.spec.replicas, desired.replicas, keep[shard])
        for shard, state in states.items()
    ]
    resize = next((scale.action for scale in scales if scale.action is not None), None)
    # A volume that cannot grow (its class may not allow it) is tried again and again; nothing else waits for it.
    if (
        not leaving
        and desired.shards
        and all(action.incidental or isinstance(action, ExpandClaim) for action in actions)
    ):
        if upkeep.action is not None:
            actions.append(upkeep.action)
        elif resize is not None:
            actions.append(resize)
        else:
            disruption, holds = _disruption(desired, states, snapshot, restart_reasons, keep)
            actions += disruption
    return Plan(
        actions=actions,
        waits=waits,
        missing=missing,
        holds=[*upkeep.holds, *holds],
        roll_held=bool(holds),
        scaling=[scale.under_way for scale in scales if scale.under_way is not None],
        refused=[scale.refused for scale in scales if scale.refused is not None],
        problems=problems,
        trust=upkeep.trust,
        hand_over=upkeep.hand_over,
    )


def _name(action: ApplyObject) -> str:
    name: str = action.manifest["metadata"]["name"]
    return name


def _is_made_by_us(live: dict[str, Any]) -> bool:
    """Whether the operator applied the object; people may put our label on objects of their own."""
    return ANNOTATION_APPLIED in live["metadata"].get("annotations", {})


def _is_leaving(live: dict[str, Any]) -> bool:
    return live["metadata"].get("deletionTimestamp") is not None


def _foreign_objects(
    cluster: MessageCluster, desired: Desired, snapshot: ClusterSnapshot
) -> list[tuple[str, str]]:
    """Objects that have our names but are not ours: taking them over could break what they belong to."""
    foreign = []
    for manifest in (*desired.supports, *desired.shards):
        live = snapshot.objects.get((manifest["kind"], manifest["metadata"]["name"]))
        if (
            live is not None
            and live["metadata"].get("labels", {}).get(LABEL_CLUSTER) != cluster.metadata.name
        ):
            foreign.append(
                (
                    "NameTaken",
                    f"{manifest['kind']} {manifest['metadata']['name']} exists and is not this cluster's:"
                    " delete it or give the MessageCluster another name",
                )
            )
    return foreign


def _apply(manifest: dict[str, Any], snapshot: ClusterSnapshot) -> list[Action]:
    live = snapshot.objects.get((manifest["kind"], manifest["metadata"]["name"]))
    reason = drift(manifest, live)
    if reason is None:
        return []
    why = f"{manifest['kind']} {manifest['metadata']['name']} is applied because {reason}"
    return [ApplyObject(why=why, manifest=manifest)]


def _claims(cluster: MessageCluster, identity: Identity, snapshot: ClusterSnapshot) -> list[Action]:
    """Volumes grow, never shrink, and carry the identity of what is on them."""
    actions: list[Action] = []
    size = str(cluster.spec.storage.size)
    in_sync = {
        names.claim_name(voter.name)
        for shard in identity.formed
        if (view := snapshot.shard_view(shard)).from_leader
        for voter in view.voters
        if voter.in_sync
    }
    for claim in snapshot.claims.values():
        if claim.terminating or claim.shard not in identity.shard_uids:
            continue
        annotations = _claim_annotations(claim, identity, claim.name in in_sync)
        if annotations:
            why = f"claim {claim.name} does not say yet whose data it holds"
            actions.append(AnnotateClaim(why=why, name=claim.name, annotations=annotations))
        if quantity_exact(claim.requested) < quantity_exact(size):
            why = f"claim {claim.name} grows from {claim.requested} to {size} because storage.size grew"
            actions.append(ExpandClaim(why=why, name=claim.name, size=size))
    return actions


def _claim_annotations(claim: ClaimSeen, identity: Identity, in_sync: bool) -> dict[str, str]:
    """What is missing on a claim; that it holds its formed shard's data is only said of a copy that was in sync."""
    annotations = {}
    if claim.cluster_id is None or claim.shard_uid is None:
        annotations[ANNOTATION_CLUSTER_ID] = identity.cluster_id
        annotations[ANNOTATION_SHARD_UID] = identity.shard_uids[claim.shard]
    formed = identity.formed.get(claim.shard)
    if formed is not None and in_sync and claim.formed != formed:
        annotations[ANNOTATION_SHARD_FORMED] = str(formed)
    return annotations


def _stateful_set(manifest: dict[str, Any], snapshot: ClusterSnapshot) -> list[Action]:
    name = manifest["metadata"]["name"]
    live = snapshot.objects.get(("StatefulSet", name))
    if live is not None and not _is_leaving(live):
        for field in _FIXED_FIELDS:
            if first_difference(manifest["spec"][field], live["spec"].get(field)):
                why = f"StatefulSet {name} is made anew around its running pods because {field} cannot be changed"
                return [RecreateStatefulSet(why=why, name=name, uid=live["metadata"]["uid"])]
        replicas, before = manifest["spec"]["replicas"], live["metadata"].get("annotations", {})
        # Pods that somebody else asked for are no brokers that have left.
        if (parse_count(before.get(ANNOTATION_SHARD_REPLICAS)) or 0) > replicas:
            why = f"StatefulSet {name} goes down to {counted(replicas, 'pod')} because the other brokers have left their shard"
            return [ShrinkStatefulSet(why=why, manifest=manifest)]
    return _apply(manifest, snapshot)


def _prune(desired: Desired, snapshot: ClusterSnapshot) -> list[Action]:
    wanted = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in desired.supports}
    return [
        DeleteObject(
            why=f"{kind} {name} is deleted because the spec no longer asks for it",
            api_version=live["apiVersion"],
            kind=kind,
            name=name,
            uid=live["metadata"]["uid"],
        )
        for (kind, name), live in sorted(snapshot.objects.items())
        if kind in PRUNED_KINDS
        and (kind, name) not in wanted
        and _is_made_by_us(live)
        and not _is_leaving(live)
    ]


def _is_observed(live: dict[str, Any] | None) -> bool:
    """Whether the StatefulSet controller has seen the current template; before, it makes pods from the old one."""
    if live is None:
        return False
    observed: int = live.get("status", {}).get("observedGeneration", 0)
    return observed >= int(live["metadata"]["generation"])


def _brokers(states: dict[int, ShardState]) -> tuple[list[str], list[str]]:
    """Brokers that are away: missing where a shard that was whole serves without them, awaited everywhere else."""
    missing, waits = [], []
    for state in states.values():
        if state.serves and state.was_whole:
            missing += state.away
            continue
        waits += state.away
        if not state.serves and not (state.away and len(state.expected) == 1):
            waits.append(f"shard {state.view.id} has no leader")
    return missing, waits


def _waits(desired: Desired, snapshot: ClusterSnapshot) -> list[str]:
    """What only time or Kubernetes can bring."""
    waits = [
        f"Kubernetes has not yet looked at StatefulSet {manifest['metadata']['name']}"
        for manifest in desired.shards
        if not _is_observed(snapshot.objects.get(("StatefulSet", manifest["metadata"]["name"])))
    ]
    waits += [
        f"claim {claim.name} is being resized: {claim.resize}"
        for claim in snapshot.claims.values()
        if claim.resize is not None
    ]
    return waits


def _settings(
    cluster: MessageCluster, desired: Desired, states: dict[int, ShardState], snapshot: ClusterSnapshot
) -> tuple[list[tuple[str, str]], list[Action], dict[str, list[str]]]:
    """Problems with names, changes to running brokers, and per pod the settings that only a restart brings.

    Dynamic settings are the shard's: its leader is told, and the others learn of them from the log.
    """
    unknown: set[str] = set()
    actions: list[Action] = []
    restart: dict[str, list[str]] = {}
    for pod, report in sorted(snapshot.brokers.items()):
        seen = snapshot.pods.get(pod)
        if report.settings is None or seen is None or seen.shard not in desired.settings:
            continue
        resizable = states[seen.shard].view.resizable
        difference = plan_settings(desired.settings[seen.shard], report.settings, resizable=resizable)
        # A name of our own that a broker does not know is another release's, and goes with its restart.
        unknown |= set(difference.unknown) & cluster.spec.config.keys()
        if difference.patch and states[seen.shard].view.leader == pod:
            listed = ", ".join(sorted(difference.patch))
            why = f"{listed} of {pod} changes while it runs because the spec says so"
            actions.append(PatchSettings(why=why, pod=pod, settings=difference.patch))
        if difference.restart:
            restart[pod] = difference.restart
    if not unknown:
        return [], actions, restart
    sentence = f"the broker does not know {', '.join(sorted(unknown))}: correct or remove it in spec.config"
    return [("InvalidConfiguration", sentence)], actions, restart


def _disruption(
    desired: Desired,
    states: dict[int, ShardState],
    snapshot: ClusterSnapshot,
    settings: dict[str, list[str]],
    keep: dict[int, int | None],
) -> tuple[list[Action], list[str]]:
    """The one restart or hand-over to do now, if any, and sentences about restarts that have to wait."""
    holds: list[str] = []
    nodes = {pod.name: snapshot.node_of(pod) for pod in snapshot.pods.values()}
    cordoned = {name for name, node in nodes.items() if node is not None and node.cordoned}
    for manifest in desired.shards:
        if not _is_observed(snapshot.objects.get(("StatefulSet", manifest["metadata"]["name"]))):
            continue  # the pod would be made from the old template
        shard = int(manifest["spec"]["template"]["metadata"]["labels"][LABEL_SHARD])
        pods = [pod for pod in snapshot.pods.values() if pod.shard == shard]
        brokers = [
            RollBroker(
                name=pod.name,
                reason=_restart_reason(manifest, pod, settings.get(pod.name, [])),
                well=pod.ready and not pod.terminating,
                idle=pod.idle,
                trouble=pod.trouble,
                leaving=pod.name in cordoned,
            )
            for pod in pods
        ]
        match next_step(states[shard].view, brokers, keep[shard]):
            case Restart(name=name, why=why):
                return [RestartBroker(why=why, pod=name, uid=snapshot.pods[name].uid)], holds
            case GiveUpLeadership(leader=leader, to=heir, why=why):
                return [HandOver(why=why, pod=leader, to=heir)], holds
            case Hold(why=why):
                holds.append(why)
    return [], holds


def _restart_reason(manifest: dict[str, Any], pod: PodSeen, settings: list[str]) -> str | None:
    if pod.terminating:
        return None  # it is being restarted
    annotations = manifest["spec"]["template"]["metadata"]["annotations"]
    stale_file = pod.config_hash != annotations[ANNOTATION_CONFIG_HASH]
    ports = own_node_ports(annotations[ANNOTATION_NODE_PORTS], pod.name)
    moved = ports != own_node_ports(pod.node_ports, pod.name)
    if moved or pod.restart_hash != annotations[ANNOTATION_RESTART_HASH]:
        if pod.ready or pod.stuck:
            return f"{pod.name} is restarted because its image, listeners, resources or placement changed"
        return None  # it is still recovering; what it is doing now would be lost
    if stale_file and pod.stuck:
        return f"{pod.name} is restarted because it cannot start ({pod.trouble}) and its configuration changed since"
    # A pod that was started from this very file would come back the same: then a restart helps nobody.
    if stale_file and settings:
        return f"{pod.name} is restarted because {', '.join(settings)} cannot change while it runs"
    return None
