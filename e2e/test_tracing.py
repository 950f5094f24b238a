"""Messages followed by OpenTelemetry through a failover: every span of brokers and applications is as docs/tracing.md says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import environment as penstock
from client_pod import client_pod
from collectors import OpenTelemetryCollector, Receiver, start_collector, start_receiver
from expected_spans import Expected, Led
from kube import wait_for
from modes import RAFT
from resources import CLUSTER, TOPIC, topic
from shard import Shard
from trace_story import TOPIC as FOLLOWED
from trace_story import play
from traced_app import TracedApp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Operator
    from environment import Environment
    from kube import Kube
    from modes import Mode
    from penstock.testing.otlp_receiver import ReceivedSpan

    Tell = Callable[[str, object], None]

MESSAGES_CLUSTER = "orders"
START_SECONDS_MAX = 60.0
SPANS_SECONDS_MAX = 60.0
"""Brokers send once a second, the operator every two; the rest is for two cores that do much else."""
PASS, CALLS = "reconcile MessageCluster", {"apply StatefulSet", "GET /v1/cluster"}
"""A pass of the operator that makes a cluster, and some of its calls."""
PIPELINE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""A `traceparent` that somebody's pipeline hands over."""


@dataclass
class KindStage:
    """See `trace_story.Stage`."""

    shard: Shard
    image: str
    collector: Receiver | OpenTelemetryCollector
    expected: Expected

    def application(self, role: str, name: str) -> TracedApp:
        kube = self.shard.kube
        arguments = [role, name, "--bootstrap", self.shard.bootstrap, "--topic", FOLLOWED]
        arguments += ["--collector", self.collector.endpoint]
        kube.apply(client_pod(name, self.image, "pod_traced.py", arguments, stdin=True, stdinOnce=True))
        wait_for(
            f"pod {name} to run",
            lambda: kube.get("pod", name)["status"]["phase"] == "Running",
            seconds=START_SECONDS_MAX,
            last_seen=lambda: json.dumps(kube.get("pod", name)["status"]),
        )
        return TracedApp(kube.command("attach", "--stdin", "--quiet", name), kube.environment())

    def leading(self) -> Led:
        told = self.shard.leading()
        return Led(told["leader"], told["epoch"])

    def take_leader_away(self) -> None:
        self.shard.kill_process(self.shard.leading()["leader"])

    def wait_whole(self) -> None:
        self.shard.wait_whole()

    def spans(self) -> list[ReceivedSpan]:
        return self.collector.spans()

    def wait_for(self, what: str, holds: Callable[[], bool], seen: Callable[[], str]) -> None:
        wait_for(what, holds, seconds=SPANS_SECONDS_MAX, last_seen=seen)


def traced_shard(
    kube: Kube, mode: Mode, image: str, collector: Receiver | OpenTelemetryCollector
) -> KindStage:
    """A shard of the mode that sends its spans there, and a topic of one partition."""
    tracing = {"endpoint": collector.endpoint, "sampling": 0}
    kube.apply(
        mode.cluster(MESSAGES_CLUSTER, tracing=tracing), topic(FOLLOWED, MESSAGES_CLUSTER, partitions=1)
    )
    kube.wait_ready(TOPIC, FOLLOWED)
    shard = Shard(kube, MESSAGES_CLUSTER, mode.replicas)
    shard.wait_whole()
    return KindStage(shard, image, collector, Expected(FOLLOWED, MESSAGES_CLUSTER, tuple(shard.pods)))


def test_each_span_arrives_where_it_belongs_across_a_failover(
    environment: Environment, kube: Kube, mode: Mode, record_property: Tell
) -> None:
    """
    1. Applications whose Kafka clients are instrumented send, read and commit, before and after the leader is killed, and while
       nobody leads.
    2. The spans that a receiver got from them and from the brokers are exactly those that are expected, in one trace for
       each message: names, kinds, parents, links, attributes, resources, epochs.
    """
    receiver = start_receiver(kube, environment.client_image)
    stage = traced_shard(kube, mode, environment.client_image, receiver)
    record_property("load", f"{mode.name}: {play(stage)}")


def test_opentelemetrys_own_collector_takes_the_same_spans(
    environment: Environment, kube: Kube, collector_image: str, record_property: Tell
) -> None:
    """
    1. The Collector is installed as docs/tracing.md says, and writes what it takes into a file as well.
    2. The same happens, and what stands in the file is exactly what is expected; its log names the spans.
    """
    collector = start_collector(kube, collector_image)
    stage = traced_shard(kube, RAFT, environment.client_image, collector)
    record_property("load", f"{RAFT.name}, OpenTelemetry's Collector: {play(stage)}")
    assert f"replicate {FOLLOWED}" in collector.log()


@pytest.fixture
def traced_operator(environment: Environment, kube: Kube, operator: Operator) -> Iterator[Receiver]:
    """The operator sends its spans to a receiver in the test's namespace; afterwards to nobody, as before."""
    receiver = start_receiver(kube, environment.client_image)
    operator.log.gather()
    penstock.set_chart_values(environment.kube, f"tracing.endpoint={receiver.endpoint}")
    yield receiver
    operator.log.gather()
    penstock.set_chart_values(environment.kube, "tracing.endpoint=")


def test_a_pipelines_trace_goes_on_in_the_operator(
    traced_operator: Receiver, operator: Operator, kube: Kube
) -> None:
    """
    1. The operator is told a collector through the chart; a cluster is made whose annotation hands a trace over.
    2. Passes over the cluster arrive below that span, each with its trigger and its outcome, and their calls below them.
    3. An Event of the cluster leads to the trace.
    """
    manifest = RAFT.cluster(MESSAGES_CLUSTER, replicas=1)
    manifest["metadata"]["annotations"] = {"traceparent": PIPELINE}
    kube.apply(manifest)
    kube.wait_ready(CLUSTER, MESSAGES_CLUSTER)
    _, trace_id, span_id, _ = PIPELINE.split("-")

    def followed() -> list[ReceivedSpan]:
        return [span for span in traced_operator.spans() if span.trace_id == trace_id]

    wait_for(
        "the operator's passes",
        lambda: {PASS, *CALLS} <= {span.name for span in followed()},
        seconds=SPANS_SECONDS_MAX,
        last_seen=lambda: str(sorted((span.name, span.trace_id) for span in traced_operator.spans())),
    )
    spans = followed()
    passes = {span.span_id: span for span in spans if span.name == PASS}
    first = min(passes.values(), key=lambda span: span.start_ns)
    assert {span.parent_id for span in passes.values()} == {span_id}
    assert first.attributes["penstock.pass.triggers"] == [f"MessageCluster {MESSAGES_CLUSTER} changed"]
    for span in passes.values():
        about = [span.attributes[name] for name in ("k8s.namespace.name", "penstock.object.name")]
        assert about == [kube.namespace, MESSAGES_CLUSTER]
        assert (span.error is None) == ("penstock.pass.sentence" in span.attributes), span
    # Calls of a pass that has not ended yet may have come before it.
    calls = [span for span in spans if span.parent_id in passes]
    assert {span.name for span in calls} >= CALLS
    assert {span.resource["service.name"] for span in spans} == {"penstock-operator"}
    assert {span.resource["k8s.pod.name"] for span in spans} <= set(operator.pods())
    marks = {
        event["metadata"].get("annotations", {}).get("penstock.io/traceparent", "")
        for event in kube.items("events")
    }
    assert any(mark.split("-")[1:2] == [trace_id] for mark in marks), marks
