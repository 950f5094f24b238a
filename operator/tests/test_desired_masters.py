"""What a cluster of mode MasterSlave becomes besides: brokers that know their Lease, and may read and write it alone."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from penstock_operator.desired.broker_config import OWNED_BY_FIELDS
from penstock_operator.desired.build import Desired
from test_desired import KUBERNETES, broker_file, by_kind, made, template

MASTER_SLAVE = {"mode": "MasterSlave", "replicas": 2}


def containers(desired: Desired) -> dict[str, Any]:
    (container,) = template(desired)["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def test_brokers_are_told_of_their_lease_and_who_they_are_in_it() -> None:
    failover = {"leaseDuration": "4s", "renewInterval": "1.5s", "maxLag": 10, "allowDataLoss": True}
    file = broker_file(made({**MASTER_SLAVE, "replication": "async", "failover": failover}), 1)
    expected = {
        "mode": "MasterSlave",
        "replication": "async",
        "lease.name": "orders-0",
        "lease.duration.ms": 4000,
        "lease.renew.interval.ms": 1500,
        "failover.max.lag": 10,
        "failover.allow.data.loss": True,
        "pod.name": "orders-0-1",
        "pod.uid": "$(POD_UID)",
        "termination.message.file": "/dev/termination-log",
        "replicas": 2,
        "min.insync.replicas": 1,
    }
    assert {name: file[name] for name in expected} == expected
    defaults = broker_file(made(MASTER_SLAVE))
    values = ("replication", "lease.duration.ms", "lease.renew.interval.ms", "failover.max.lag")
    assert [defaults[name] for name in values] == ["sync", 6000, 2000, 0]
    assert defaults["failover.allow.data.loss"] is False
    environment = {
        entry["name"]: entry["valueFrom"]["fieldRef"]["fieldPath"]
        for entry in containers(made(MASTER_SLAVE))["env"]
    }
    assert environment["POD_UID"] == "metadata.uid"


def test_brokers_may_read_and_write_the_leases_of_their_shards_and_nothing_else() -> None:
    desired = made(MASTER_SLAVE)
    (account,), (role,), (binding,) = (
        by_kind(desired, kind) for kind in ("ServiceAccount", "Role", "RoleBinding")
    )
    leases = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    assert role["rules"] == [
        {**leases, "verbs": ["create"]},
        {**leases, "resourceNames": ["orders-0"], "verbs": ["get", "patch"]},
    ]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", role["metadata"]["name"])
    (subject,) = binding["subjects"]
    assert (subject["kind"], subject["name"]) == ("ServiceAccount", account["metadata"]["name"])
    assert subject["namespace"] == account["metadata"]["namespace"] == role["metadata"]["namespace"]
    assert template(desired)["spec"]["automountServiceAccountToken"] is True
    assert template(desired)["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert account["automountServiceAccountToken"] is False, "others who use the account get no token"
    # Rights first: a broker that may not read its Lease founds no shard.
    kinds = [manifest["kind"] for manifest in desired.supports]
    assert kinds[:3] == ["ServiceAccount", "Role", "RoleBinding"]
    for manifest in (role, binding):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert owner["uid"] == "uid-1"


def test_nobody_makes_a_lease_but_the_broker_that_founds_the_shard() -> None:
    assert by_kind(made(MASTER_SLAVE), "Lease") == []


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 5])
def test_the_manifests_are_valid_for_kubernetes(replicas: int) -> None:
    desired = made({"mode": "MasterSlave", "replicas": replicas})
    for manifest in (*desired.supports, *desired.shards):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_brokers_in_mode_raft_get_neither_rights_nor_a_token_nor_another_file() -> None:
    desired = made({"replicas": 3})
    assert by_kind(desired, "Role") == by_kind(desired, "RoleBinding") == []
    assert template(desired)["spec"]["automountServiceAccountToken"] is False
    assert [entry["name"] for entry in containers(desired)["env"]] == ["POD_NAME", "HOST_IP"]
    assert not [
        name for name in broker_file(desired) if name.startswith(("lease", "failover", "pod", "mode"))
    ]


def test_what_the_spec_has_fields_for_is_not_taken_from_config() -> None:
    names = {name for name in broker_file(made(MASTER_SLAVE)) if name not in ("listeners",)}
    assert names <= OWNED_BY_FIELDS.keys()
    content = made({**MASTER_SLAVE, "config": {"lease.duration.ms": 1, "pod.uid": "x"}})
    assert content.problems == [
        "spec.config cannot hold lease.duration.ms: it comes from spec.failover.leaseDuration, so leave it out of spec.config",
        "spec.config cannot hold pod.uid: it comes from the operator, so leave it out of spec.config",
    ]
