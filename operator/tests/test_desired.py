"""Manifests: valid for Kubernetes, restricted, the same bytes for the same spec, and hashes that mean what they say."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_operator.api.check import check_resource
from penstock_operator.api.cluster import MessageCluster
from penstock_operator.desired.build import Desired, build
from penstock_operator.desired.identity import Environment, Identity
from penstock_operator.desired.statefulset import own_node_ports
from penstock_operator.plan.scale import as_built

IDENTITY = Identity(cluster_id="cluster-id", shard_uids={0: "shard-uid"})
FORMED = Identity(cluster_id="cluster-id", shard_uids={0: "shard-uid"}, formed={0: 3})
KUBERNETES = "1.34"


def resource(spec: dict[str, Any] | None = None, name: str = "orders", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "penstock.io/v1alpha1",
        "kind": "MessageCluster",
        "metadata": {"name": name, "namespace": "shop", "uid": "uid-1", **metadata},
        "spec": {"mode": "Raft", **(spec or {})},
    }


def made(
    spec: dict[str, Any] | None = None,
    image: str = "penstock:1",
    identity: Identity = IDENTITY,
    **metadata: Any,
) -> Desired:
    content = resource(spec, **metadata)
    assert check_resource(content) == []
    ports = {
        f"orders-0-{ordinal}-{listener['name']}": 30_001 + ordinal
        for listener in content["spec"].get("listeners", [])
        for ordinal in range(5)
    }
    environment = Environment(image=image, node_ports=ports)
    return build(msgspec.convert(content, MessageCluster), identity, environment)


def by_kind(desired: Desired, kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in (*desired.supports, *desired.shards) if manifest["kind"] == kind]


def broker_file(desired: Desired, ordinal: int = 0) -> dict[str, Any]:
    (config_map,) = by_kind(desired, "ConfigMap")
    content: dict[str, Any] = yaml.safe_load(config_map["data"][f"orders-0-{ordinal}.yaml"])
    return content


def template(desired: Desired) -> dict[str, Any]:
    found: dict[str, Any] = desired.shards[0]["spec"]["template"]
    return found


SPECS: list[dict[str, Any]] = [
    {},
    {"replicas": 5, "minInSync": 3, "networkPolicy": {"enabled": True}},
    {"networkPolicy": {"enabled": True, "adminFrom": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}},
    {
        "replicas": 3,
        "listeners": [{"name": "in", "port": 9092}, {"name": "out", "type": "nodePort", "port": 9094}],
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        "storage": {"size": "20Gi", "storageClassName": "fast", "deleteClaim": True},
        "pod": {
            "labels": {"team": "shop"},
            "annotations": {"a": "b"},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [
                {"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": None}
            ],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "ScheduleAnyway",
                }
            ],
            "priorityClassName": "high",
        },
    },
]
del SPECS[3]["pod"]["tolerations"][0]["tolerationSeconds"]


@pytest.mark.parametrize("spec", SPECS)
def test_manifests_are_valid_for_kubernetes(spec: dict[str, Any]) -> None:
    desired = made(spec)
    for manifest in (*desired.supports, *desired.shards):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_everything_that_a_cluster_becomes() -> None:
    desired = made()
    made_objects = sorted((m["kind"], m["metadata"]["name"]) for m in (*desired.supports, *desired.shards))
    assert made_objects == [
        ("ConfigMap", "orders-0"),
        ("Service", "orders-0"),
        ("Service", "orders-bootstrap"),
        ("Service", "orders-leader"),
        ("ServiceAccount", "orders-broker"),
        ("StatefulSet", "orders-0"),
    ]
    for manifest in (*desired.supports, *desired.shards):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == (
            "MessageCluster",
            "orders",
            "uid-1",
            True,
        )


def test_pods_are_restricted_and_have_no_token() -> None:
    spec = template(made())["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_the_stateful_set_leaves_restarts_and_volumes_to_us() -> None:
    spec = made().shards[0]["spec"]
    assert spec["updateStrategy"] == {"type": "OnDelete"}
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    deleting = made({"storage": {"deleteClaim": True}}).shards[0]["spec"]
    assert deleting["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"


def test_identity_is_on_the_stateful_set_and_its_claims() -> None:
    shard = made().shards[0]
    expected = {"penstock.io/cluster-id": "cluster-id", "penstock.io/shard-uid": "shard-uid"}
    assert expected.items() <= shard["metadata"]["annotations"].items()
    assert shard["spec"]["volumeClaimTemplates"][0]["metadata"]["annotations"] == expected


def test_that_a_shard_was_formed_is_kept_outside_its_volumes_and_changes_no_pod() -> None:
    new, formed = made({"replicas": 3}), made({"replicas": 3}, identity=FORMED)
    memory = ("penstock.io/shard-formed", "penstock.io/shard-replicas")
    annotations = [desired.shards[0]["metadata"]["annotations"] for desired in (new, formed)]
    assert [[kept.get(name) for name in memory] for kept in annotations] == [[None, "3"], ["3", "3"]]
    assert [broker_file(desired)["shard.formed"] for desired in (new, formed)] == [False, True]
    # Neither the pods nor the templates of their claims differ: nothing is restarted or made anew for it.
    assert new.shards[0]["spec"] == formed.shards[0]["spec"]


PRIVATE_PORTS = {8081, 9093}


def test_no_service_for_clients_leads_to_the_admin_port_or_the_way_between_brokers() -> None:
    listeners = [{"name": "in", "port": 9092}, {"name": "out", "type": "nodePort", "port": 9094}]
    services = by_kind(made({"replicas": 3, "listeners": listeners}), "Service")
    found = {
        service["metadata"]["name"]: PRIVATE_PORTS & {port["targetPort"] for port in service["spec"]["ports"]}
        for service in services
    }
    assert found.pop("orders-0") == {9093}  # the headless one, which gives brokers their names
    assert found.keys() == {
        "orders-bootstrap",
        "orders-leader",
        *(f"orders-0-{ordinal}-out" for ordinal in range(3)),
    }
    assert not any(found.values())


def test_brokers_find_each_other_before_they_are_ready() -> None:
    desired = made({"replicas": 3})
    headless = next(s for s in by_kind(desired, "Service") if s["metadata"]["name"] == "orders-0")
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["publishNotReadyAddresses"] is True
    for ordinal in range(3):
        content = broker_file(desired, ordinal)
        assert (content["broker.ordinal"], content["broker.name"]) == (ordinal, f"orders-0-{ordinal}")
        assert content["replicas"] == 3
        assert content["shard.peers"] == ",".join(
            f"{peer}=orders-0-{peer}.orders-0.shop.svc:9093" for peer in range(3)
        )
    assert broker_file(made())["shard.peers"] == "0=orders-0-0.orders-0.shop.svc:9093"


def test_bootstrap_leads_to_internal_listeners_and_the_data_api_only() -> None:
    listeners = [{"name": "in", "port": 9092}, {"name": "out", "type": "nodePort", "port": 9094}]
    services = {
        service["metadata"]["name"]: service for service in by_kind(made({"listeners": listeners}), "Service")
    }
    assert [port["name"] for port in services["orders-bootstrap"]["spec"]["ports"]] == ["in", "http"]
    outside = services["orders-0-0-out"]["spec"]
    assert outside["type"] == "NodePort"
    assert outside["selector"]["statefulset.kubernetes.io/pod-name"] == "orders-0-0"


def test_nothing_starts_before_its_node_port_is_known() -> None:
    spec = {"listeners": [{"name": "out", "type": "nodePort", "port": 9094}]}
    content = msgspec.convert(resource(spec), MessageCluster)
    desired = build(content, IDENTITY, Environment(image="penstock:1"))
    assert desired.shards == []
    assert desired.missing_node_ports == ["orders-0-0-out"]
    assert by_kind(desired, "Service")


def test_each_broker_advertises_addresses_of_its_own() -> None:
    listeners = [
        {"name": "in", "port": 9092},
        {"name": "out", "type": "nodePort", "port": 9094},
        {"name": "far", "type": "nodePort", "port": 9095, "advertisedHost": "broker.example.com"},
    ]
    desired = made({"replicas": 3, "listeners": listeners})
    for ordinal in range(3):
        told = {item["name"]: item.get("advertise") for item in broker_file(desired, ordinal)["listeners"]}
        assert told == {
            "in": f"orders-0-{ordinal}.orders-0.shop.svc:9092",
            "out": f"$(HOST_IP):{30_001 + ordinal}",
            "far": f"broker.example.com:{30_001 + ordinal}",
            "http": None,
            "admin": None,
            "peer": None,
        }
    # Where only the brokers know their node, the spec gives nothing to start from.
    assert desired.bootstrap == {
        "in": "orders-bootstrap.shop.svc:9092",
        "far": "broker.example.com:30001,broker.example.com:30002,broker.example.com:30003",
    }
    environment = template(desired)["spec"]["containers"][0]["env"]
    assert {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}} in environment


def test_the_brokers_file_holds_identity_listeners_and_settings() -> None:
    desired = made({"flush": {"policy": "async", "bytes": "2Mi"}, "config": {"log.retention.ms": 5}})
    content = broker_file(desired)
    assert content["cluster.id"] == "cluster-id"
    assert content["shard.uid"] == "shard-uid"
    assert content["broker.name"] == "orders-0-0"
    assert content["flush.policy"] == "async"
    assert content["flush.bytes"] == 2 * 2**20
    assert content["log.retention.ms"] == 5
    assert [listener["bind"] for listener in content["listeners"]] == [
        "0.0.0.0:9092",
        "0.0.0.0:8080",
        "0.0.0.0:8081",
        "0.0.0.0:9093",
    ]


@pytest.mark.parametrize(
    ("spec", "formed", "copies"),
    [
        ({}, {}, 1),
        ({"replicas": 3}, {}, 2),
        ({"replicas": 5, "minInSync": 3}, {}, 3),
        ({"replicas": 3}, {0: 0}, 2),  # formed, but not whole yet: the full number from the start
        ({"replicas": 3}, {0: 1}, 1),  # grows from one: more copies than brokers would refuse every write
        ({"replicas": 3, "minInSync": 3}, {0: 1}, 1),
        ({"replicas": 3}, {0: 3}, 2),
        ({"replicas": 5, "minInSync": 4}, {0: 3}, 3),
    ],
)
def test_copies_that_a_write_needs_follow_the_spec_but_never_outgrow_the_shard(
    spec: dict[str, Any], formed: dict[int, int], copies: int
) -> None:
    identity = msgspec.structs.replace(IDENTITY, formed=formed)
    assert broker_file(made(spec, identity=identity))["min.insync.replicas"] == copies


def test_the_election_timeout_reaches_the_brokers() -> None:
    assert broker_file(made())["raft.election.timeout.ms"] == 1000
    slow = made({"replicas": 3, "failover": {"electionTimeout": "2.5s"}})
    assert broker_file(slow)["raft.election.timeout.ms"] == 2500


def test_policies_are_made_where_asked_only() -> None:
    assert by_kind(made(), "NetworkPolicy") == []
    policy, between = by_kind(made({"replicas": 3, "networkPolicy": {"enabled": True}}), "NetworkPolicy")
    opened, admin = policy["spec"]["ingress"]
    assert [port["port"] for port in opened["ports"]] == [9092, 8080]
    assert [port["port"] for port in admin["ports"]] == [8081]
    assert len(admin["from"]) == 1
    # The way between brokers is open to the shard's own pods and to nobody else; a broker that does not lead passes
    # requests on to the leader's admin port.
    (peers,) = between["spec"]["ingress"]
    assert [port["port"] for port in peers["ports"]] == [9093, 8081]
    assert peers["from"] == [{"podSelector": between["spec"]["podSelector"]}]
    assert between["spec"]["podSelector"]["matchLabels"]["penstock.io/shard"] == "0"


def test_a_budget_only_for_more_than_one_broker() -> None:
    assert by_kind(made(), "PodDisruptionBudget") == []
    (budget,) = by_kind(made({"replicas": 3}), "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    # Brokers that cannot start must not keep each other from being mended.
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(
    ("replicas", "whole", "allowed"),
    [
        (3, 0, {"maxUnavailable": 1}),
        (3, 1, None),  # it grows from one broker, which must be restarted before the others can be ready
        (3, 3, {"maxUnavailable": 1}),
        (5, 3, {"minAvailable": 2}),  # one of the old three may go while the new two are not ready yet
        (5, 5, {"maxUnavailable": 1}),
    ],
)
def test_a_budget_counts_the_brokers_that_a_growing_shard_had(
    replicas: int, whole: int, allowed: dict[str, int] | None
) -> None:
    identity = msgspec.structs.replace(IDENTITY, formed={0: whole})
    budgets = by_kind(made({"replicas": replicas}, identity=identity), "PodDisruptionBudget")
    found = [
        {key: spec[key] for key in ("minAvailable", "maxUnavailable") if key in spec}
        for spec in (budget["spec"] for budget in budgets)
    ]
    assert found == ([] if allowed is None else [allowed])
    for budget in budgets:
        kubernetes_validate.validate(budget, KUBERNETES, strict=True)


def test_brokers_of_a_shard_keep_apart() -> None:
    affinity = template(made({"replicas": 3}))["spec"]["affinity"]["podAntiAffinity"]
    (preferred,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert preferred["podAffinityTerm"]["labelSelector"]["matchLabels"]["penstock.io/shard"] == "0"


def test_brokers_that_are_too_many_run_on_with_what_else_the_spec_says() -> None:
    one = msgspec.convert(resource({"replicas": 1}), MessageCluster)
    built = as_built(one, 3)
    assert (built.spec.replicas, built.spec.min_in_sync) == (3, 1), "one broker can be asked for one copy"
    assert as_built(one, 1) is one
    asked = msgspec.convert(resource({"replicas": 3, "minInSync": 3}), MessageCluster)
    assert as_built(asked, 5).spec.min_in_sync == 3


BASE = made()


def hashes(desired: Desired) -> tuple[str, str]:
    annotations = template(desired)["metadata"]["annotations"]
    return annotations["penstock.io/restart-hash"], annotations["penstock.io/config-hash"]


@pytest.mark.parametrize(
    ("spec", "restart", "config"),
    [
        ({"config": {"log.retention.ms": 5}}, False, True),
        ({"flush": {"policy": "async"}}, False, True),
        ({"pod": {"labels": {"a": "b"}, "annotations": {"a": "b"}}}, False, False),
        ({"networkPolicy": {"enabled": True}}, False, False),
        ({"storage": {"deleteClaim": True}}, False, False),
        ({"minInSync": 1}, False, False),
        ({"replicas": 3}, False, True),
        ({"failover": {"electionTimeout": "2s"}}, False, True),
        ({"image": "penstock:2"}, True, False),
        ({"resources": {"limits": {"memory": "1Gi"}}}, True, False),
        ({"http": {"port": 8000}}, True, False),
        ({"listeners": [{"name": "internal", "port": 9095}]}, True, False),
        ({"pod": {"nodeSelector": {"a": "b"}}}, True, False),
    ],
)
def test_hashes_change_for_what_they_stand_for(spec: dict[str, Any], restart: bool, config: bool) -> None:
    (old_restart, old_config), (new_restart, new_config) = hashes(BASE), hashes(made(spec))
    assert (old_restart != new_restart) == restart
    assert (old_config != new_config) == config


def test_the_ports_of_a_broker_that_comes_are_no_reason_to_restart_the_others() -> None:
    spec = {"listeners": [{"name": "out", "type": "nodePort", "port": 9094}]}
    one, three = made(spec), made({**spec, "replicas": 3})
    assert hashes(one)[0] == hashes(three)[0]
    told = [
        template(desired)["metadata"]["annotations"]["penstock.io/node-ports"] for desired in (one, three)
    ]
    assert told == [
        "orders-0-0-out=30001",
        "orders-0-0-out=30001 orders-0-1-out=30002 orders-0-2-out=30003",
    ]
    assert own_node_ports(told[1], "orders-0-0") == own_node_ports(told[0], "orders-0-0")
    assert own_node_ports(told[1].replace("30001", "31001"), "orders-0-0") == {"orders-0-0-out=31001"}
    assert own_node_ports(told[1], "orders-0-3") == set()


def test_a_restart_token_and_another_release_restart() -> None:
    assert hashes(made(annotations={"penstock.io/restart": "monday"}))[0] != hashes(BASE)[0]
    assert hashes(made(image="penstock:2"))[0] != hashes(BASE)[0]


@pytest.mark.parametrize(
    "name",
    ["listeners", "broker.name", "flush.policy", "min.insync.replicas", "shard.formed", "tracing.rules"],
)
def test_names_with_fields_of_their_own_are_refused_in_config(name: str) -> None:
    (problem,) = made({"config": {name: 1}}).problems
    assert name in problem
    assert "leave it out of spec.config" in problem


specs = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.sampled_from([1, 3, 5]),
        "config": st.dictionaries(
            st.sampled_from(["log.retention.ms", "num.partitions", "x"]), st.integers(0, 9)
        ),
        "flush": st.fixed_dictionaries({}, optional={"policy": st.sampled_from(["sync", "async"])}),
        "storage": st.fixed_dictionaries({}, optional={"size": st.sampled_from(["1Gi", "10Gi", "1024Mi"])}),
        "networkPolicy": st.fixed_dictionaries({}, optional={"enabled": st.booleans()}),
        "http": st.fixed_dictionaries({}, optional={"port": st.sampled_from([8080, 8000])}),
        "pod": st.fixed_dictionaries(
            {}, optional={"labels": st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"))}
        ),
    },
)


def shuffled(value: Any) -> Any:
    """The same content with its maps in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return value


@settings(max_examples=60, deadline=None)
@given(specs)
def test_the_same_spec_gives_the_same_bytes(spec: dict[str, Any]) -> None:
    first, second = made(spec), made(shuffled(spec))
    hashes_first = [
        m["metadata"]["annotations"]["penstock.io/applied-hash"] for m in (*first.supports, *first.shards)
    ]
    hashes_second = [
        m["metadata"]["annotations"]["penstock.io/applied-hash"] for m in (*second.supports, *second.shards)
    ]
    assert json.dumps(made(spec).supports) == json.dumps(first.supports)
    assert hashes_first == hashes_second
    for manifest in (*first.supports, *first.shards):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
