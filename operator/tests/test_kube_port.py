"""The port to Kubernetes: the fake and a real API server pass the same tests."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from fake_kube import FakeKube
from penstock_operator.kube import AioKubeApi, KubeApi
from penstock_operator.kube_errors import KubeError

_NAMESPACES = itertools.count(1)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kube)])
async def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(kube, namespace): a fresh namespace on either."""
    namespace = f"port-{next(_NAMESPACES)}"
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    if request.param == "fake":
        kube: Any = FakeKube()
        await kube.create(manifest)
        yield kube, namespace
        return
    server = request.getfixturevalue("kube_apiserver")
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    kube = await AioKubeApi.connect()
    try:
        await kube.create(manifest)
        yield kube, namespace
    finally:
        await kube.close()


def config_map(namespace: str, name: str = "one", **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": "test"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


Port = tuple[KubeApi, str]


async def test_get_of_nothing_is_none(port: Port) -> None:
    kube, namespace = port
    assert await kube.get("v1", "ConfigMap", namespace, "nothing") is None


async def test_apply_creates_changes_and_takes_away(port: Port) -> None:
    kube, namespace = port
    first = await kube.apply(config_map(namespace, a="1", b="2"))
    second = await kube.apply(config_map(namespace, a="3"))
    assert second["data"] == {"a": "3"}
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    third = await kube.apply(config_map(namespace, a="3"))
    assert third["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_apply_keeps_what_others_added(port: Port) -> None:
    kube, namespace = port
    await kube.apply(config_map(namespace, a="1"))
    await kube.merge("v1", "ConfigMap", namespace, "one", {"metadata": {"annotations": {"x": "y"}}})
    after = await kube.apply(config_map(namespace, a="2"))
    assert after["metadata"]["annotations"] == {"x": "y"}


async def test_apply_keeps_node_ports(port: Port) -> None:
    kube, namespace = port
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {
            "type": "NodePort",
            "ports": [{"name": "kafka", "port": 9094, "targetPort": 9094, "protocol": "TCP"}],
        },
    }
    first = await kube.apply(service)
    again = await kube.apply({**service, "metadata": {**service["metadata"], "labels": {"a": "b"}}})  # type: ignore[dict-item]
    assert first["spec"]["ports"][0]["nodePort"] == again["spec"]["ports"][0]["nodePort"]


async def test_list_by_label_says_kinds(port: Port) -> None:
    kube, namespace = port
    await kube.apply(config_map(namespace, "one"))
    await kube.apply({**config_map(namespace, "two"), "metadata": {"name": "two", "namespace": namespace}})
    found = await kube.list_objects("v1", "ConfigMap", namespace, {"app": "test"})
    assert [(item["kind"], item["apiVersion"], item["metadata"]["name"]) for item in found] == [
        ("ConfigMap", "v1", "one")
    ]


async def test_create_twice_is_a_conflict(port: Port) -> None:
    kube, namespace = port
    await kube.create(config_map(namespace))
    with pytest.raises(KubeError) as caught:
        await kube.create(config_map(namespace))
    assert caught.value.status == 409


async def test_replace_is_compare_and_swap(port: Port) -> None:
    kube, namespace = port
    old = await kube.create(config_map(namespace, a="1"))
    await kube.replace({**old, "data": {"a": "2"}})
    with pytest.raises(KubeError) as caught:
        await kube.replace({**old, "data": {"a": "3"}})
    assert caught.value.status == 409


async def test_a_merge_that_names_a_version_is_compare_and_swap(port: Port) -> None:
    kube, namespace = port
    old = await kube.create(config_map(namespace, a="1"))
    patch = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"], "labels": {"b": "2"}}}
    done = await kube.merge("v1", "ConfigMap", namespace, "one", patch)
    assert done["metadata"]["labels"] == {"app": "test", "b": "2"}
    with pytest.raises(KubeError) as caught:
        await kube.merge("v1", "ConfigMap", namespace, "one", patch)
    assert caught.value.status == 409


async def test_delete_guards_the_uid_and_repeats(port: Port) -> None:
    kube, namespace = port
    made = await kube.create(config_map(namespace))
    with pytest.raises(KubeError) as caught:
        await kube.delete("v1", "ConfigMap", namespace, "one", "00000000-0000-0000-0000-000000000000")
    assert caught.value.status == 409
    await kube.delete("v1", "ConfigMap", namespace, "one", made["metadata"]["uid"])
    await kube.delete("v1", "ConfigMap", namespace, "one", made["metadata"]["uid"])
    assert await kube.get("v1", "ConfigMap", namespace, "one") is None


async def test_finalizers_hold_a_deleted_object(port: Port) -> None:
    kube, namespace = port
    made = await kube.create(config_map(namespace))
    await kube.write_finalizers(made, ["penstock.io/test"])
    with pytest.raises(KubeError):
        await kube.write_finalizers(made, [])  # somebody changed it since
    await kube.delete("v1", "ConfigMap", namespace, "one")
    held = await kube.get("v1", "ConfigMap", namespace, "one")
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]
    await kube.write_finalizers(held, [])
    assert await kube.get("v1", "ConfigMap", namespace, "one") is None


async def test_evict_removes_that_very_pod(port: Port) -> None:
    kube, namespace = port
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"containers": [{"name": "broker", "image": "none"}]},
    }
    made = await kube.create(pod)
    with pytest.raises(KubeError):
        await kube.evict(namespace, "one", "00000000-0000-0000-0000-000000000000")
    await kube.evict(namespace, "one", made["metadata"]["uid"])
    assert await kube.get("v1", "Pod", namespace, "one") is None


async def test_status_is_written_whole(port: Port) -> None:
    kube, namespace = port
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"containers": [{"name": "broker", "image": "none"}]},
    }
    made = await kube.create(pod)
    await kube.write_status(made, {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]})
    await kube.write_status(made, {"phase": "Running"})
    live = await kube.get("v1", "Pod", namespace, "one")
    assert live is not None
    assert "podIP" not in live["status"]
