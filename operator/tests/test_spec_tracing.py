"""`spec.tracing`: what is accepted, what brokers are told of it, and which of them are restarted for it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from fake_broker import DEFAULTS
from fake_kube import FakeKube
from harness import Harness, condition, is_ready, running
from penstock.config.broker_config import load_config
from penstock.config.broker_options import BROKER_OPTIONS
from penstock_operator.api.check import check_resource
from penstock_operator.desired.broker_config import OF_RUN_TIME, OPTIONAL
from penstock_operator.desired.identity import Identity
from penstock_operator.local.files import load_files
from penstock_operator.plan.settings import plan_settings
from penstock_operator.snapshot.broker import Setting
from test_desired import KUBERNETES, broker_file, by_kind, hashes, made, resource, template

COLLECTOR = {"endpoint": "http://collector:4318"}
WITH_SECRET = {**COLLECTOR, "headersSecret": "collector-headers"}
EVERYTHING = {**WITH_SECRET, "sampling": 0.25, "topic": True}
CLUSTER = ("MessageCluster", "orders")


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://collector:4318",
        "https://otlp.example.com",
        "https://otlp.example.com/tenants/7/",
        "http://10.0.0.7:4318",
        "http://[fd00::1]:4318",
        "http://otel_collector.observability.svc:4318",
    ],
)
def test_addresses_of_collectors_are_accepted(endpoint: str) -> None:
    assert check_resource(resource({"tracing": {"endpoint": endpoint, "sampling": 1}})) == []


@pytest.mark.parametrize(
    ("tracing", "sentence"),
    [
        ({"endpoint": "collector:4318"}, "tracing.endpoint is no address"),
        ({"endpoint": "grpc://collector:4317"}, "tracing.endpoint is no address"),
        ({"endpoint": "http://"}, "tracing.endpoint is no address"),
        ({"endpoint": "http://user:secret@collector"}, "tracing.endpoint is no address"),
        ({"endpoint": "http://collector?token=secret"}, "tracing.endpoint is no address"),
        ({"endpoint": "http://collector\n"}, "tracing.endpoint is no address"),
        ({"sampling": 0.5}, "tracing.endpoint is missing"),
        ({"topic": False}, "tracing.endpoint is missing"),
        ({**COLLECTOR, "sampling": -0.1}, "tracing.sampling is a share"),
        ({**COLLECTOR, "sampling": 1.1}, "tracing.sampling is a share"),
        ({**COLLECTOR, "headersSecret": "../other"}, "tracing.headersSecret is no name"),
        ({**COLLECTOR, "headersSecret": "Upper"}, "tracing.headersSecret is no name"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(tracing: dict[str, Any], sentence: str) -> None:
    (problem,) = check_resource(resource({"tracing": tracing}))
    assert problem.startswith(f"spec.tracing: {sentence}")


def test_brokers_are_told_where_spans_go_and_of_how_many_batches() -> None:
    told = {
        name: value for name, value in broker_file(made({"tracing": COLLECTOR})).items() if name in OPTIONAL
    }
    assert told == {"tracing.endpoint": "http://collector:4318"}
    content = broker_file(made({"tracing": EVERYTHING}))
    assert {name: content[name] for name in OPTIONAL} == {
        "tracing.endpoint": "http://collector:4318",
        "tracing.sampling": 0.25,
        "tracing.topic.enabled": True,
        "tracing.headers.file": "/etc/penstock-tracing/headers",
    }


def test_events_may_be_kept_without_a_collector() -> None:
    tracing = {"topic": True, "sampling": 0.5}
    assert check_resource(resource({"tracing": tracing})) == []
    told = {
        name: value for name, value in broker_file(made({"tracing": tracing})).items() if name in OPTIONAL
    }
    assert told == {"tracing.topic.enabled": True, "tracing.sampling": 0.5}
    kept = {"tracing.topic.retention.ms": 3_600_000}
    assert broker_file(made({"tracing": tracing, "config": kept})).items() >= kept.items()


def test_brokers_without_it_are_told_nothing_so_that_older_ones_understand_their_file() -> None:
    assert OPTIONAL.isdisjoint(broker_file(made()))
    assert OPTIONAL.isdisjoint(made().settings[0])


def test_the_broker_understands_what_it_is_told(tmp_path: Path) -> None:
    identity = Identity(cluster_id=str(uuid.UUID(int=1)), shard_uids={0: str(uuid.UUID(int=2))})
    content = broker_file(made({"tracing": EVERYTHING}, identity=identity))
    file = tmp_path / "orders-0-0.yaml"
    file.write_text(yaml.safe_dump(content))
    config = load_config(tmp_path / "data", config_file=file)
    assert {name: config.value(name) for name in OPTIONAL} == {name: content[name] for name in OPTIONAL}
    # The fake broker says of each what the real one says.
    for name in (*OPTIONAL, *OF_RUN_TIME):
        option = BROKER_OPTIONS[name]
        assert DEFAULTS[name] == (option.default, option.dynamic)


def test_the_secret_is_a_file_for_the_broker_alone_and_pods_start_without_it() -> None:
    desired = made({"tracing": WITH_SECRET})
    spec = template(desired)["spec"]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "tracing"]
    assert volume["secret"] == {
        "secretName": "collector-headers",
        "items": [{"key": "headers", "path": "headers"}],
        "defaultMode": 0o440,
        "optional": True,
    }
    (container,) = spec["containers"]
    assert {"name": "tracing", "mountPath": "/etc/penstock-tracing", "readOnly": True} in container[
        "volumeMounts"
    ]
    for manifest in (*desired.supports, *desired.shards):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    assert "tracing" not in [
        volume["name"] for volume in template(made({"tracing": COLLECTOR}))["spec"]["volumes"]
    ]


def test_no_secret_stands_in_what_others_can_read() -> None:
    (config_map,) = by_kind(made({"tracing": WITH_SECRET}), "ConfigMap")
    assert "name: value" not in yaml.safe_dump(config_map)
    assert "/etc/penstock-tracing/headers" in yaml.safe_dump(config_map)


def test_only_another_secret_needs_another_pod() -> None:
    off, on, secret = made(), made({"tracing": COLLECTOR}), made({"tracing": WITH_SECRET})
    more = made({"tracing": {**COLLECTOR, "sampling": 1}})
    assert hashes(off)[0] == hashes(on)[0] == hashes(more)[0] != hashes(secret)[0]
    assert len({hashes(desired)[1] for desired in (off, on, secret, more)}) == 4


def test_a_static_setting_that_left_the_spec_needs_a_restart_and_one_that_nobody_set_does_not() -> None:
    def row(value: Any, default: Any, source: str) -> Setting:
        return Setting(value=value, default=default, source=source, dynamic=False)

    have = {
        "tracing.endpoint": row("http://collector:4318", "", "file"),
        "tracing.sampling": row(0.01, 0.01, "default"),
        "log.segment.bytes": row(1, 2, "file"),
        "broker.name": row("orders-0-0", "", "file"),  # the operator's own: in no spec
        "listeners": row("[...]", "", "file"),
        "computed": row("a", "b", "default"),
    }
    assert plan_settings({}, have).restart == ["log.segment.bytes", "tracing.endpoint"]


@pytest.fixture
async def harness() -> Any:
    async with running(FakeKube(), replicas=3) as running_harness:
        await running_harness.create(*CLUSTER, {"mode": "Raft", "replicas": 3, "image": "penstock:1"})
        await running_harness.settle(*CLUSTER, is_ready)
        yield running_harness


async def edited(harness: Harness, tracing: Any) -> list[str]:
    """Who is restarted until everything is as the edited spec says."""
    kube: Any = harness.kube
    kube.calls.clear()
    await harness.edit(*CLUSTER, {"spec": {"tracing": tracing}})
    for _ in range(14):
        await harness.controllers.step()
        await harness.turn(CLUSTER)
    found = await harness.get(*CLUSTER)
    assert condition(found, "Progressing")["reason"] == "Settled"
    assert condition(found, "Ready")["status"] == "True"
    return sorted(name.removeprefix("Pod/") for verb, name in kube.calls if verb == "evict")


async def test_each_broker_is_restarted_once_where_the_broker_says_it_must_be(harness: Harness) -> None:
    everybody = ["orders-0-0", "orders-0-1", "orders-0-2"]
    assert await edited(harness, COLLECTOR) == everybody
    assert {broker.file["tracing.endpoint"] for broker in harness.shard.brokers.values()} == {
        COLLECTOR["endpoint"]
    }
    assert await edited(harness, WITH_SECRET) == everybody
    assert await edited(harness, None) == everybody
    assert not any("tracing.endpoint" in broker.file for broker in harness.shard.brokers.values())


async def test_what_brokers_change_while_they_run_restarts_nobody(harness: Harness) -> None:
    await edited(harness, COLLECTOR)
    assert await edited(harness, {**COLLECTOR, "sampling": 0.5}) == []
    assert harness.shard.dynamic["tracing.sampling"] == 0.5


async def test_rules_that_people_set_at_the_broker_stay(harness: Harness) -> None:
    harness.shard.dynamic["tracing.rules"] = "[...]"
    await edited(harness, COLLECTOR)
    assert harness.shard.dynamic["tracing.rules"] == "[...]"


def local_file(folder: Path, tracing: dict[str, Any]) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(resource({"tracing": tracing})))
    return path


def test_penstock_up_takes_the_same_fields_but_no_secret(tmp_path: Path) -> None:
    loaded = load_files([local_file(tmp_path, COLLECTOR)])
    assert (loaded.problems, list(loaded.resources)) == ([], [CLUSTER])
    loaded = load_files([local_file(tmp_path, WITH_SECRET)])
    assert loaded.resources == {}
    (problem,) = loaded.problems
    assert "there are no Secrets outside Kubernetes: leave it out" in problem
