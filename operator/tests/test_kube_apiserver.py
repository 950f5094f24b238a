"""The API server that other tests rely on behaves like one: schemas and CEL rules refuse, status is apart, RBAC is on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kube_apiserver import KubeApiServer

pytestmark = pytest.mark.kube

GROUP = "fixture.invalid"
SENTENCE = "size must be odd: write 1, 3 or 5"
DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"gadgets.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "Gadget", "plural": "gadgets"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"size": {"type": "integer"}},
                                "x-kubernetes-validations": [
                                    {"rule": "self.size % 2 == 1", "message": SENTENCE}
                                ],
                            },
                        },
                    }
                },
            }
        ],
    },
}


def gadget(name: str, size: int) -> str:
    content = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Gadget",
        "metadata": {"name": name},
        "spec": {"size": size},
    }
    return json.dumps(content)


@pytest.fixture
def server(kube_apiserver: KubeApiServer) -> KubeApiServer:
    applied = kube_apiserver.kubectl("apply", "-f", "-", stdin=json.dumps(DEFINITION))
    assert applied.returncode == 0, applied.stderr
    established = kube_apiserver.kubectl(
        "wait", "--for=condition=Established", f"crd/gadgets.{GROUP}", "--timeout=30s"
    )
    assert established.returncode == 0, established.stderr
    return kube_apiserver


def test_a_rule_of_a_resource_definition_refuses_with_its_sentence(server: KubeApiServer) -> None:
    refused = server.kubectl("apply", "-f", "-", stdin=gadget("even", 2))
    assert refused.returncode != 0
    assert SENTENCE in refused.stderr
    accepted = server.kubectl("apply", "--server-side", "-f", "-", stdin=gadget("odd", 3))
    assert accepted.returncode == 0, accepted.stderr
    assert server.kubectl("get", "gadget", "odd", "-o", "jsonpath={.spec.size}").stdout == "3"


def test_ordinary_objects_are_kept_and_defaulted(server: KubeApiServer) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "fixture"},
        "spec": {"selector": {"app": "fixture"}, "ports": [{"port": 80}]},
    }
    applied = server.kubectl("apply", "-f", "-", stdin=json.dumps(service))
    assert applied.returncode == 0, applied.stderr
    kept = json.loads(server.kubectl("get", "service", "fixture", "-o", "json").stdout)
    assert kept["spec"]["clusterIP"].startswith("10.0.0.")
    assert kept["spec"]["ports"][0]["targetPort"] == 80


def test_who_has_no_role_may_do_nothing(server: KubeApiServer) -> None:
    refused = server.kubectl("get", "services", "--as", "system:serviceaccount:default:nobody")
    assert refused.returncode != 0
    assert "forbidden" in refused.stderr.lower()
