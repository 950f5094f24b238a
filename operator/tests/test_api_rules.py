"""Every rule has a bad file, and that file is refused with the rule's sentence: by the Python twin here, and by a
real API server under the marker `kube`. A file is one document, or an old and a new one for rules about updates."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock_operator.api.check import check_resource
from penstock_operator.api.crd import KINDS

BAD = Path(__file__).parent / "bad"
CRDS = Path(__file__).resolve().parents[2] / "crds"
RULES = {rule.name: rule for kind in KINDS for rule in kind.rules}
FILES = sorted(BAD.glob("*.yaml"))


def read(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The sentence that the file's first line expects, and its documents."""
    text = path.read_text()
    return text.splitlines()[0].removeprefix("# expect: "), list(yaml.safe_load_all(text))


def test_every_rule_has_a_bad_file_with_its_sentence() -> None:
    assert {path.stem for path in FILES} == RULES.keys()
    for path in FILES:
        sentence, _ = read(path)
        assert sentence == RULES[path.stem].message


def test_every_sentence_says_what_to_write_instead() -> None:
    for rule in RULES.values():
        assert any(word in rule.message for word in ("write", "leave", "make a new")), rule.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_twin_refuses(path: Path) -> None:
    sentence, documents = read(path)
    old = documents[0] if len(documents) == 2 else None
    if old is not None:
        assert check_resource(old) == []
    assert any(sentence in problem for problem in check_resource(documents[-1], old))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        ({"mode": "Rafty"}, 'spec.mode: Unsupported value: "Rafty": supported values: "MasterSlave", "Raft"'),
        ({"replicas": "3"}, 'spec.replicas: Invalid value: "3": must be of type integer'),
        ({"replicas": True}, "spec.replicas: Invalid value: True: must be of type integer"),
        ({"storage": {"size": "ten"}}, "spec.storage.size: Invalid value"),
        ({"storage": {"sise": "1Gi"}}, 'unknown field "spec.storage.sise"'),
        ({"listeners": []}, "spec.listeners: Invalid value: 0: should have at least 1 items"),
        ({"listeners": [{"name": "a"}]}, "spec.listeners[0].port: Required value"),
        (
            {"listeners": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]},
            "spec.listeners[1]: Duplicate value",
        ),
        ({"flush": {"interval": "5 minutes"}}, "spec.flush.interval: Invalid value"),
        ({"flush": {"interval": "5ms\n"}}, "spec.flush.interval: Invalid value"),
        ({"config": {"a": {"b": 1}}}, "spec.config.a: Invalid value"),
    ],
)
def test_schema_sentences(edit: dict[str, Any], sentence: str) -> None:
    resource: dict[str, Any] = {
        "apiVersion": "penstock.io/v1alpha1",
        "kind": "MessageCluster",
        "metadata": {"name": "orders"},
        "spec": {"mode": "Raft"},
    }
    assert check_resource(resource) == []
    broken = copy.deepcopy(resource)
    broken["spec"].update(edit)
    assert any(problem.startswith(sentence) for problem in check_resource(broken)), check_resource(broken)


@pytest.mark.parametrize(
    "resource",
    [
        None,
        [],
        {},
        {"kind": "Pod"},
        {"kind": "Topic"},
        {"apiVersion": "penstock.io/v1alpha1", "kind": "Topic"},
    ],
)
def test_what_is_no_resource_is_refused_with_a_sentence(resource: Any) -> None:
    assert check_resource(resource)


@pytest.fixture(scope="module")
def crds(kube_apiserver: Any) -> Any:
    """The API server with our CRDs established."""
    done = kube_apiserver.kubectl("apply", "--server-side", "-f", str(CRDS))
    assert done.returncode == 0, done.stderr
    done = kube_apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))
    assert done.returncode == 0, done.stderr
    return kube_apiserver


@pytest.mark.kube
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_api_server_refuses(path: Path, crds: Any) -> None:
    sentence, documents = read(path)
    for document in documents[:-1]:
        done = crds.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(document))
        assert done.returncode == 0, done.stderr
    try:
        done = crds.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(documents[-1]))
        assert done.returncode != 0
        assert sentence in done.stderr
    finally:
        for document in documents[:-1]:
            crds.kubectl("delete", "-f", "-", stdin=yaml.safe_dump(document))


@pytest.mark.kube
def test_api_server_takes_tracing_as_the_twin_does(crds: Any) -> None:
    for endpoint in ("http://collector:4318", "https://otlp.example.com/tenants/7/", "http://[fd00::1]:4318"):
        tracing = {"endpoint": endpoint, "headersSecret": "collector.headers-1", "sampling": 1}
        document = {
            "apiVersion": "penstock.io/v1alpha1",
            "kind": "MessageCluster",
            "metadata": {"name": "orders"},
            "spec": {"mode": "Raft", "tracing": tracing},
        }
        assert check_resource(document) == []
        done = crds.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(document))
        assert done.returncode == 0, done.stderr


QUEUES: list[dict[str, Any]] = [
    {},
    {"retry": {}, "lease": {}, "deadLetter": {"topicName": "payments.v1.failed"}},
    {"retry": {"maxDeliveries": 1, "backoff": {"initial": "0s", "factor": 1, "max": "0s", "jitter": 0}}},
    {
        "retry": {
            "maxDeliveries": 1000,
            "backoff": {"initial": "24h", "factor": 100, "max": "24h", "jitter": 1},
        }
    },
    {"retry": {"backoff": {"initial": "1h59m60s", "max": "7200000ms"}}},
    {"retry": {"backoff": {"initial": "1.5s", "max": "1500ms"}}},
    {"lease": {"duration": "1ms", "maxInFlight": 1}},
    {"lease": {"duration": "12h", "maxInFlight": 100_000}},
    {"lease": {"duration": "11.5h30m"}},
]
"""What a queue group may say, at the edges of what it may."""

NO_QUEUES: list[dict[str, Any]] = [
    {"retry": {"maxDeliveries": 0}},
    {"retry": {"maxDeliveries": 1001}},
    {"retry": {"backoff": {"factor": 0.5}}},
    {"retry": {"backoff": {"factor": 101}}},
    {"retry": {"backoff": {"jitter": 1.1}}},
    {"retry": {"backoff": {"initial": "24h1ms", "max": "24h1ms"}}},
    {"retry": {"backoff": {"initial": "1.501s", "max": "1500ms"}}},
    {"retry": {"backoff": {"max": "9s"}}},
    {"lease": {"duration": "0s"}},
    {"lease": {"duration": "12.001h"}},
    {"lease": {"duration": "1d"}},
    {"lease": {"duration": "999999h"}},
    {"lease": {"maxInFlight": 0}},
    {"lease": {"maxInFlight": 100_001}},
    {"deadLetter": {"topicName": "payments.v1"}},
    {"deadLetter": {"topicName": ".."}},
    {"deadLetter": {"topicName": "a b"}},
    {"deadLetter": {"topicName": ""}},
    {"deadLetter": {}},
    {"ordering": "key"},
    {"filter": {"tags": "paid"}},
    {"groupName": "g" * 246},
]
"""What it may not say, just beyond."""


def queue_group(settings: dict[str, Any]) -> dict[str, Any]:
    """A queue group with these settings."""
    return {
        "apiVersion": "penstock.io/v1alpha1",
        "kind": "ConsumerGroup",
        "metadata": {"name": "billing"},
        "spec": {"clusterRef": {"name": "orders"}, "topics": ["payments.v1"], "mode": "queue", **settings},
    }


@pytest.mark.parametrize("settings", QUEUES)
def test_twin_takes_a_queue_group(settings: dict[str, Any]) -> None:
    assert check_resource(queue_group(settings)) == []


@pytest.mark.parametrize("settings", NO_QUEUES)
def test_twin_refuses_a_queue_group(settings: dict[str, Any]) -> None:
    assert check_resource(queue_group(settings))


@pytest.mark.kube
def test_api_server_takes_and_refuses_queue_groups_as_the_twin_does(crds: Any) -> None:
    for settings in QUEUES + NO_QUEUES:
        document = queue_group(settings)
        done = crds.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(document))
        assert (done.returncode == 0) == (settings in QUEUES), (settings, done.stderr)
