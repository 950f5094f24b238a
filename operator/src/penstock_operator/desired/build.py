"""All manifests of a MessageCluster, in the order in which they are applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from penstock_operator.api.names import ANNOTATION_APPLIED
from penstock_operator.desired import addresses, broker_config, names, policies, services, statefulset
from penstock_operator.desired.hashing import content_hash

if TYPE_CHECKING:
    from penstock_operator.api.cluster import MessageCluster
    from penstock_operator.desired.identity import Environment, Identity


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """What should exist for one MessageCluster."""

    replicas: int  # brokers of each shard
    supports: list[dict[str, Any]]  # everything that a broker needs before it starts
    shards: list[dict[str, Any]]  # StatefulSets; empty while node ports are unknown
    missing_node_ports: list[str]
    settings: dict[int, dict[str, Any]]  # shard -> settings of its brokers, by name
    bootstrap: dict[str, str]  # listener -> addresses for clients, as far as they follow from the spec
    problems: list[str]  # sentences about the spec that only the whole of it shows


def build(cluster: MessageCluster, identity: Identity, environment: Environment) -> Desired:
    """The manifests of a cluster; each carries a hash of itself, so that a later difference can be explained."""
    shards = range(cluster.spec.shards)
    rights = [policies.lease_role(cluster), policies.lease_role_binding(cluster)]
    optional = [
        *(policies.disruption_budget(cluster, identity, shard) for shard in shards),
        policies.network_policy(cluster, environment),
        *(policies.peer_policy(cluster, shard) for shard in shards),
    ]
    supports = [
        policies.service_account(cluster),
        *(manifest for manifest in rights if manifest is not None),
        *(_config_map(cluster, identity, environment, shard) for shard in shards),
        *(services.headless_service(cluster, shard) for shard in shards),
        services.bootstrap_service(cluster),
        services.leader_service(cluster),
        *services.node_port_services(cluster),
        *(manifest for manifest in optional if manifest is not None),
    ]
    missing = addresses.missing_node_ports(cluster, environment)
    sets = (
        []
        if missing
        else [statefulset.stateful_set(cluster, identity, environment, shard) for shard in shards]
    )
    return Desired(
        replicas=cluster.spec.replicas,
        supports=[_marked(manifest) for manifest in supports],
        shards=[_marked(manifest) for manifest in sets],
        missing_node_ports=missing,
        settings={shard: statefulset.shard_settings(cluster, identity, shard) for shard in shards},
        bootstrap=addresses.bootstrap(cluster, environment),
        problems=broker_config.config_problems(cluster.spec),
    )


def _config_map(
    cluster: MessageCluster, identity: Identity, environment: Environment, shard: int
) -> dict[str, Any]:
    """One file per broker of the shard, because each has a name and addresses of its own."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": names.object_metadata(cluster, names.shard_name(cluster.metadata.name, shard)),
        "data": {
            f"{pod}.yaml": _broker_file(cluster, identity, environment, shard, ordinal)
            for pod_shard, ordinal, pod in names.pod_names(cluster)
            if pod_shard == shard
        },
    }


def _broker_file(
    cluster: MessageCluster, identity: Identity, environment: Environment, shard: int, ordinal: int
) -> str:
    pod = names.pod_name(cluster.metadata.name, shard, ordinal)
    content = broker_config.broker_content(
        broker_config.BrokerIdentity(
            cluster_name=cluster.metadata.name,
            cluster_id=identity.cluster_id,
            shard=shard,
            shard_uid=identity.shard_uids[shard],
            formed=shard in identity.formed,
            ordinal=ordinal,
            name=pod,
            place=statefulset.lease_place(cluster, shard, pod),
        ),
        statefulset.pod_listeners(cluster, environment, shard, pod),
        statefulset.shard_settings(cluster, identity, shard),
    )
    return broker_config.as_yaml(content)


def _marked(manifest: dict[str, Any]) -> dict[str, Any]:
    annotations = manifest["metadata"].get("annotations", {})
    marked = {**annotations, ANNOTATION_APPLIED: content_hash(manifest)}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": marked}}
