"""The operator's traces with nothing faked between kopf's watch and the collector: a real API server, OTLP over HTTP."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest

from fake_broker import FakeShard
from harness import eventually, fake_shard, is_ready
from otlp_receiver import OtlpReceiver, otlp_receiver
from penstock_operator.desired.identity import Environment
from penstock_operator.engine import Engine
from penstock_operator.kube import AioKubeApi
from penstock_operator.kube_store import HttpBrokers
from penstock_operator.run import _end, _work
from penstock_operator.settings import TracingSettings
from penstock_operator.tracing.tracer import open_tracer
from span_world import PARENT, SPAN_ID, TRACE_ID
from test_operator_kube import Live
from test_operator_kube import settings as plain_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kube_apiserver import KubeApiServer

pytestmark = pytest.mark.kube
_NAMESPACES = itertools.count(1)
CLUSTER = ("MessageCluster", "orders")


@pytest.fixture
async def kube(kube_apiserver: KubeApiServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The API server with our CRDs."""
    from test_api_rules import CRDS

    for arguments in (
        ("apply", "--server-side", "-f", str(CRDS)),
        ("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS)),
    ):
        done = kube_apiserver.kubectl(*arguments)
        assert done.returncode == 0, done.stderr
    monkeypatch.setenv("KUBECONFIG", str(kube_apiserver.kubeconfig))
    connected = await AioKubeApi.connect()
    yield connected
    await connected.close()


@pytest.fixture
async def namespace(kube: AioKubeApi) -> str:
    name = f"traced-{next(_NAMESPACES)}"
    await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@asynccontextmanager
async def traced_operator(
    kube: AioKubeApi, namespace: str, shard: FakeShard, receiver: OtlpReceiver
) -> AsyncIterator[Live]:
    """What `run_operator` puts together, without the election; what waits is sent at the end."""
    tracing = TracingSettings(endpoint=receiver.url, sampling=1.0)
    settings = msgspec.structs.replace(plain_settings(namespace), tracing=tracing)
    tracer = open_tracer(settings)
    async with aiohttp.ClientSession(trace_configs=list(tracer.hooks)) as session:
        loop = asyncio.get_running_loop()
        engine = Engine(
            tracer.seeing(kube),
            HttpBrokers(session, shard.brokers["orders-0-0"].port),
            Environment(image="penstock:test"),
            clock=loop.time,
            random=lambda: 0.5,
            spans=tracer.spans,
        )
        work = asyncio.create_task(_work(settings, engine))
        try:
            yield Live(kube, namespace, shard, engine)
            if work.done():
                work.result()
        finally:
            await _end(work)
            await tracer.close()


async def test_a_pipelines_trace_goes_on_in_the_operator_and_arrives_whole(
    kube: AioKubeApi, namespace: str
) -> None:
    async with otlp_receiver() as receiver, fake_shard(1) as shard:
        async with traced_operator(kube, namespace, shard, receiver) as live:
            await live.create(*CLUSTER, {"mode": "Raft"}, annotations={"traceparent": PARENT})
            await live.until(*CLUSTER, is_ready, "the cluster")

            async def restarted() -> Any:
                await live.controllers.step()
                pod = await kube.get("v1", "Pod", namespace, "orders-0-0")
                return ((pod or {}).get("metadata", {}).get("annotations") or {}).get(
                    "penstock.io/traceparent"
                )

            await live.edit(*CLUSTER, {"metadata": {"annotations": {"penstock.io/restart": "monday"}}})
            mark = await eventually(restarted, "the pod that was restarted is marked")
        told = await kube.list_objects("v1", "Event", namespace)
    passes = {span.span_id: span for span in receiver.spans if span.name.startswith("reconcile ")}
    firsts = [span for span in passes.values() if span.trace_id == TRACE_ID]
    assert firsts
    assert {span.parent for span in firsts} == {SPAN_ID}
    assert "MessageCluster orders changed" in firsts[0].attributes["penstock.pass.triggers"]
    # Every call arrived together with its pass, and nothing was sent that belongs to none.
    calls = [span for span in receiver.spans if span.span_id not in passes]
    assert {"apply StatefulSet", "GET /v1/cluster", "evict Pod"} <= {span.name for span in calls}
    assert all(passes[call.parent].trace_id == call.trace_id for call in calls)
    assert {span.resource["service.name"] for span in receiver.spans} == {"penstock-operator"}
    # Where people look first leads to the trace.
    _, trace_id, span_id, _ = mark.split("-")
    (eviction,) = [call for call in calls if call.name == "evict Pod"]
    assert (eviction.trace_id, eviction.parent) == (trace_id, span_id)
    marks = {event["metadata"]["annotations"]["penstock.io/traceparent"] for event in told}
    assert mark in marks
    assert {text.split("-")[2] for text in marks} <= passes.keys()
