"""Manifests: valid for Kubernetes, restricted, the same bytes for the same spec, and hashes that mean what they say."""

from __future__ import annotations

import itertools
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

IDENTITY = Identity(cluster_id="cluster-id", shard_uids={0: "shard-uid"})
KUBERNETES = "1.34"


def resource(spec: dict[str, Any] | None = None, name: str = "orders", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "penstock.io/v1alpha1",
        "kind": "MessageCluster",
        "metadata": {"name": name, "namespace": "shop", "uid": "uid-1", **metadata},
        "spec": {"mode": "Raft", **(spec or {})},
    }


def made(spec: dict[str, Any] | None = None, image: str = "penstock:1", **metadata: Any) -> Desired:
    content = resource(spec, **metadata)
    assert check_resource(content) == []
    ports = {f"orders-0-0-{listener['name']}": 30_001 for listener in content["spec"].get("listeners", [])}
    return build(
        msgspec.convert(content, MessageCluster), IDENTITY, Environment(image=image, node_ports=ports)
    )


def by_kind(desired: Desired, kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in (*desired.supports, *desired.shards) if manifest["kind"] == kind]


def template(desired: Desired) -> dict[str, Any]:
    found: dict[str, Any] = desired.shards[0]["spec"]["template"]
    return found


SPECS: list[dict[str, Any]] = [
    {},
    {"networkPolicy": {"enabled": True, "adminFrom": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}},
    {
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
del SPECS[2]["pod"]["tolerations"][0]["tolerationSeconds"]


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


def test_no_service_leads_to_the_admin_port() -> None:
    listeners = [{"name": "in", "port": 9092}, {"name": "out", "type": "nodePort", "port": 9094}]
    for service in by_kind(made({"listeners": listeners}), "Service"):
        assert all(port["targetPort"] != 8081 for port in service["spec"]["ports"])


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


def test_brokers_advertise_addresses_that_clients_reach() -> None:
    listeners = [
        {"name": "in", "port": 9092},
        {"name": "out", "type": "nodePort", "port": 9094},
        {"name": "far", "type": "nodePort", "port": 9095, "advertisedHost": "broker.example.com"},
    ]
    arguments = template(made({"listeners": listeners}))["spec"]["containers"][0]["args"]
    advertised = [value for option, value in itertools.pairwise(arguments) if option == "--advertise"]
    assert advertised == [
        "in=$(POD_NAME).orders-0.shop.svc:9092",
        "out=$(HOST_IP):30001",
        "far=broker.example.com:30001",
    ]


def test_the_brokers_file_holds_identity_listeners_and_settings() -> None:
    desired = made({"flush": {"policy": "async", "bytes": "2Mi"}, "config": {"log.retention.ms": 5}})
    (config_map,) = by_kind(desired, "ConfigMap")
    content = yaml.safe_load(config_map["data"]["orders-0-0.yaml"])
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
    ]


def test_policies_are_made_where_asked_only() -> None:
    assert by_kind(made(), "NetworkPolicy") == []
    (policy,) = by_kind(made({"networkPolicy": {"enabled": True}}), "NetworkPolicy")
    opened, admin = policy["spec"]["ingress"]
    assert [port["port"] for port in opened["ports"]] == [9092, 8080]
    assert [port["port"] for port in admin["ports"]] == [8081]
    assert len(admin["from"]) == 1


def test_a_budget_only_for_more_than_one_broker() -> None:
    assert by_kind(made(), "PodDisruptionBudget") == []
    cluster = msgspec.convert(resource({"replicas": 3}), MessageCluster)
    desired = build(cluster, IDENTITY, Environment(image="penstock:1"))
    (budget,) = by_kind(desired, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    kubernetes_validate.validate(budget, KUBERNETES, strict=True)


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
        ({"image": "penstock:2"}, True, False),
        ({"resources": {"limits": {"memory": "1Gi"}}}, True, False),
        ({"http": {"port": 8000}}, True, False),
        ({"listeners": [{"name": "internal", "port": 9093}]}, True, False),
        ({"pod": {"nodeSelector": {"a": "b"}}}, True, False),
    ],
)
def test_hashes_change_for_what_they_stand_for(spec: dict[str, Any], restart: bool, config: bool) -> None:
    (old_restart, old_config), (new_restart, new_config) = hashes(BASE), hashes(made(spec))
    assert (old_restart != new_restart) == restart
    assert (old_config != new_config) == config


def test_a_restart_token_and_another_release_restart() -> None:
    assert hashes(made(annotations={"penstock.io/restart": "monday"}))[0] != hashes(BASE)[0]
    assert hashes(made(image="penstock:2"))[0] != hashes(BASE)[0]


@pytest.mark.parametrize("name", ["listeners", "broker.name", "flush.policy", "log.disk.bytes"])
def test_names_with_fields_of_their_own_are_refused_in_config(name: str) -> None:
    (problem,) = made({"config": {name: 1}}).problems
    assert name in problem
    assert "leave it out of spec.config" in problem


specs = st.fixed_dictionaries(
    {},
    optional={
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
