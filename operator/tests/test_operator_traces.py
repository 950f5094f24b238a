"""The operator's spans, on the fake API server with fake brokers: what a pass tells, and where its trace id goes."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from fake_kube import FakeKube
from harness import Harness, has_reason, is_ready, running
from penstock_operator.kube_errors import KubeError
from penstock_operator.logs import JsonFormatter, TextFormatter, add_trace_id
from penstock_operator.reconcile.ports import Again, Key
from penstock_operator.reconcile.queue import WorkQueue
from penstock_operator.tracing.current import UNTRACED, current_pass
from span_world import (
    PARENT,
    SPAN_ID,
    TRACE_ID,
    UNSAMPLED,
    SpanWorld,
    attributes,
    events,
    span_id,
    trace_id,
)

CLUSTER = ("MessageCluster", "orders")
TOPIC = ("Topic", "payments")
MARK = "penstock.io/traceparent"


@pytest.fixture
def world() -> SpanWorld:
    return SpanWorld()


@pytest.fixture
async def harness(world: SpanWorld) -> Any:
    async with running(FakeKube(), tracer=world) as made:
        yield made


async def seen(harness: Harness) -> None:
    """What the watch does with the cluster."""
    harness.engine.resource_seen(await harness.get(*CLUSTER), gone=False)


async def settled(harness: Harness, world: SpanWorld, **metadata: Any) -> None:
    await harness.create(*CLUSTER, {"mode": "Raft"}, **metadata)
    await seen(harness)
    await harness.settle(*CLUSTER, is_ready)


async def test_a_pass_says_what_it_was_about_and_every_call_is_its_child(
    harness: Harness, world: SpanWorld
) -> None:
    await harness.create(*CLUSTER, {"mode": "Raft"})
    await seen(harness)
    await harness.turn(CLUSTER)
    over, calls = world.one_pass()
    assert (over.name, over.kind, over.parent, over.status.status_code) == (
        "reconcile MessageCluster",
        SpanKind.INTERNAL,
        None,
        StatusCode.UNSET,
    )
    told = attributes(over)
    assert told.pop("penstock.pass.sentence").startswith("ServiceAccount orders-broker is applied because")
    assert told == {
        "penstock.object.kind": "MessageCluster",
        "k8s.namespace.name": "shop",
        "penstock.object.name": "orders",
        "penstock.object.generation": 1,
        "penstock.pass.triggers": ("MessageCluster orders changed",),
        "penstock.pass.outcome": "Acted",
    }
    assert {"ApplyObject"} == {name for name, _ in events(over)}
    assert all(call.kind is SpanKind.CLIENT for call in calls)
    assert {call.parent.span_id for call in calls if call.parent} == {int(span_id(over), 16)}
    assert {trace_id(call) for call in calls} == {trace_id(over)}
    found = {call.name for call in calls}
    assert {
        "get MessageCluster",
        "list Pod",
        "apply StatefulSet",
        "write status of MessageCluster",
        "create Event",
    } <= found
    (written,) = [call for call in calls if call.name == "apply StatefulSet"]
    assert attributes(written) == {
        "penstock.kube.verb": "apply",
        "penstock.object.kind": "StatefulSet",
        "k8s.namespace.name": "shop",
        "penstock.object.name": "orders-0",
    }


async def test_brokers_that_are_asked_are_calls_too(harness: Harness, world: SpanWorld) -> None:
    await settled(harness, world)
    world.taken()
    await harness.turn(CLUSTER)
    over, calls = world.one_pass()
    assert attributes(over)["penstock.pass.outcome"] == "Settled"
    assert attributes(over)["penstock.pass.sentence"] == "everything is as the spec says"
    assert attributes(over)["penstock.pass.triggers"] == ("its time came",)
    (asked,) = [call for call in calls if call.name == "GET /v1/config"]
    assert attributes(asked) == {
        "http.request.method": "GET",
        "url.path": "/v1/config",
        "server.address": "127.0.0.1",
        "server.port": harness.broker.port,
        "http.response.status_code": 200,
    }
    assert asked.parent is not None
    assert asked.parent.span_id == int(span_id(over), 16)


async def test_topics_and_groups_are_traced_alike_and_paths_name_no_spans(
    harness: Harness, world: SpanWorld
) -> None:
    await settled(harness, world)
    await harness.create(*TOPIC, {"clusterRef": {"name": "orders"}})
    world.taken()
    await harness.turn(TOPIC)
    over, calls = world.one_pass()
    assert over.name == "reconcile Topic"
    assert attributes(over)["penstock.pass.outcome"] == "Settled"
    (first, _) = [call for call in calls if call.name == "GET /v1/topics"]
    # That there was no such topic yet is an answer.
    assert (attributes(first)["url.path"], attributes(first)["http.response.status_code"]) == (
        "/v1/topics/payments",
        404,
    )
    assert first.status.status_code is StatusCode.UNSET
    assert "POST /v1/topics" in {call.name for call in calls}


async def test_what_a_broker_refuses_is_the_calls_status_and_a_problem_of_the_pass(
    harness: Harness, world: SpanWorld
) -> None:
    await settled(harness, world)
    await harness.create(*TOPIC, {"clusterRef": {"name": "orders"}, "config": {"retention.ms": "nonsense"}})
    world.taken()
    await harness.turn(TOPIC)
    over, calls = world.one_pass()
    (refused,) = [call for call in calls if call.name == "POST /v1/topics"]
    assert refused.status.status_code is StatusCode.ERROR
    assert attributes(refused)["error.type"] == "400"
    assert attributes(over)["penstock.pass.outcome"] == "Problem"
    assert over.status.status_code is StatusCode.UNSET, "it waits for a person"


async def test_a_broker_that_is_away_is_the_calls_error(harness: Harness, world: SpanWorld) -> None:
    await settled(harness, world)
    await harness.broker.stop()
    world.taken()
    await harness.turn(CLUSTER)
    _, calls = world.one_pass()
    (asked,) = [call for call in calls if call.name == "GET /readyz"]
    assert asked.status.status_code is StatusCode.ERROR
    assert "Connector" in attributes(asked)["error.type"]


async def test_a_pass_that_fails_says_so(harness: Harness, world: SpanWorld) -> None:
    await harness.create(*CLUSTER, {"mode": "Raft"})
    kube: Any = harness.kube
    kube.refuse["apply", "orders-0"] = KubeError(500, "InternalError", "etcd is away")
    with pytest.raises(KubeError):
        await harness.turn(CLUSTER)
    over, calls = world.one_pass()
    assert over.status.status_code is StatusCode.ERROR
    assert over.status.description == "etcd is away (500 InternalError)"
    assert attributes(over)["penstock.pass.outcome"] == "Failed"
    assert attributes(over)["error.type"] == "InternalError"
    assert "exception" not in [name for name, _ in events(over)]
    assert calls[-1].status.status_code is StatusCode.ERROR


async def test_a_refusal_that_the_pass_goes_on_after_is_an_event(harness: Harness, world: SpanWorld) -> None:
    await harness.create(*CLUSTER, {"mode": "Raft"})
    kube: Any = harness.kube
    kube.refuse["apply", "orders-broker"] = KubeError(403, "Forbidden", "no right to that")
    await harness.turn(CLUSTER)
    over, _ = world.one_pass()
    assert [name for name, _ in events(over)] == ["ApplyObject", "refused"]
    assert attributes(over)["penstock.pass.outcome"] == "Problem"
    assert "no right to that" in attributes(over)["penstock.pass.sentence"]


async def test_our_own_mistakes_come_with_a_traceback(
    harness: Harness, world: SpanWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("nobody thought of it")

    monkeypatch.setattr(harness.engine._cluster_reconciler, "reconcile", broken)
    with pytest.raises(RuntimeError):
        await harness.turn(CLUSTER)
    over, _ = world.one_pass()
    (exception,) = [event for event in over.events if event.name == "exception"]
    assert "nobody thought of it" in str((exception.attributes or {})["exception.stacktrace"])


async def test_paused_gone_and_broken_resources_end_their_passes_in_a_word(
    harness: Harness, world: SpanWorld
) -> None:
    await harness.turn(CLUSTER, TOPIC)
    await harness.create(*CLUSTER, {"mode": "Nobodys"})
    await harness.turn(CLUSTER)
    await harness.edit(*CLUSTER, {"metadata": {"annotations": {"penstock.io/paused": "true"}}})
    await harness.turn(CLUSTER)
    passes = [span for span in world.taken() if span.name.startswith("reconcile")]
    outcomes = [attributes(span)["penstock.pass.outcome"] for span in passes]
    assert outcomes == ["Gone", "Gone", "Problem", "Paused"]


def roots(spans: list[ReadableSpan]) -> list[tuple[str, str | None]]:
    """Trace and parent of each pass."""
    return [
        (trace_id(span), f"{span.parent.span_id:016x}" if span.parent else None)
        for span in spans
        if span.name.startswith("reconcile")
    ]


async def test_an_edit_with_a_traceparent_owns_the_passes_that_bring_it_about(
    harness: Harness, world: SpanWorld
) -> None:
    await settled(harness, world, annotations={"traceparent": PARENT})
    passes = roots(world.taken())
    assert len(passes) > 1
    assert set(passes) == {(TRACE_ID, SPAN_ID)}
    await harness.turn(CLUSTER)
    ((trace, parent),) = roots(world.taken())
    assert trace != TRACE_ID, "a later look has nothing to do with that edit"
    assert parent is None


@pytest.mark.parametrize("text", ["", PARENT + "x", "00-0-0-01", "\x00", "a" * 10_000])
async def test_a_hostile_traceparent_is_none(harness: Harness, world: SpanWorld, text: str) -> None:
    await settled(harness, world, annotations={"traceparent": text})
    assert {parent for _, parent in roots(world.taken())} == {None}


async def test_a_parent_that_is_not_sampled_leaves_nothing_behind(harness: Harness, world: SpanWorld) -> None:
    await settled(harness, world, annotations={"traceparent": UNSAMPLED})
    assert world.taken() == []
    assert await event_marks(harness) == {None}
    await harness.turn(CLUSTER)
    assert roots(world.taken()), "the share decides again where nobody else does"


async def test_the_share_decides_where_no_parent_does() -> None:
    world = SpanWorld(sampling=0.0)
    async with running(FakeKube(), tracer=world) as harness:
        await settled(harness, world)
        assert world.taken() == []
        assert await event_marks(harness) == {None}
        await harness.edit(*CLUSTER, {"metadata": {"annotations": {"traceparent": PARENT}}})
        await seen(harness)
        await harness.turn(CLUSTER)
        assert roots(world.taken()) == [(TRACE_ID, SPAN_ID)]


async def event_marks(harness: Harness) -> set[str | None]:
    events = await harness.kube.list_objects("v1", "Event", "shop")
    assert events
    return {(event["metadata"].get("annotations") or {}).get(MARK) for event in events}


async def test_events_say_which_pass_wrote_them(harness: Harness, world: SpanWorld) -> None:
    await harness.create(*CLUSTER, {"mode": "Raft"})
    await harness.turn(CLUSTER)
    over, _ = world.one_pass()
    assert await event_marks(harness) == {f"00-{trace_id(over)}-{span_id(over)}-01"}


async def test_a_restarted_pod_says_which_pass_restarted_it_and_its_template_does_not() -> None:
    world = SpanWorld()
    async with running(FakeKube(), replicas=3, tracer=world) as harness:
        await harness.create(*CLUSTER, {"mode": "Raft", "replicas": 3})
        await harness.settle(*CLUSTER, is_ready)
        world.taken()
        await harness.edit(*CLUSTER, {"metadata": {"annotations": {"penstock.io/restart": "monday"}}})
        for _ in range(14):
            await harness.controllers.step()
            await harness.turn(CLUSTER)
        spans = world.taken()
        evictions = {
            attributes(span)["penstock.object.name"]: span for span in spans if span.name == "evict Pod"
        }
        assert evictions.keys() == {"orders-0-0", "orders-0-1", "orders-0-2"}
        for pod in await harness.kube.list_objects("v1", "Pod", "shop"):
            eviction = evictions[pod["metadata"]["name"]]
            assert eviction.parent is not None
            expected = f"00-{trace_id(eviction)}-{eviction.parent.span_id:016x}-01"
            assert pod["metadata"]["annotations"][MARK] == expected
        (made,) = await harness.kube.list_objects("apps/v1", "StatefulSet", "shop")
        assert MARK not in json.dumps(made)


async def test_a_pod_that_cannot_be_marked_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    world = SpanWorld()
    kube = FakeKube()
    async with running(kube, tracer=world) as harness:
        await harness.create(*CLUSTER, {"mode": "Raft"})
        await harness.settle(*CLUSTER, is_ready)
        await harness.edit(*CLUSTER, {"metadata": {"annotations": {"penstock.io/restart": "monday"}}})
        with caplog.at_level(logging.INFO):
            for _ in range(6):
                await harness.controllers.step()
                # Every write to the pod but this one has been done by then.
                await harness.turn(CLUSTER)
                kube.refuse["merge", "orders-0-0"] = KubeError(403, "Forbidden", "no right to that")
        assert "restarted pod not marked" in [record.message for record in caplog.records]
        (over, *_) = [span for span in reversed(world.taken()) if span.name.startswith("reconcile")]
        assert over.status.status_code is StatusCode.UNSET


async def test_what_no_pass_asks_is_not_traced(harness: Harness, world: SpanWorld) -> None:
    await settled(harness, world)
    for pod in await harness.kube.list_objects("v1", "Pod", "shop"):
        harness.engine.child_seen({**pod, "kind": "Pod"})
    world.taken()
    await harness.engine.leader_watch.turn()
    await harness.engine._kube.list_objects("v1", "Pod", None)
    assert world.taken() == []
    assert current_pass() is UNTRACED


async def test_what_woke_a_cluster_is_named(harness: Harness, world: SpanWorld) -> None:
    await settled(harness, world)
    world.taken()
    (pod,) = await harness.kube.list_objects("v1", "Pod", "shop")
    harness.engine.child_seen({**pod, "kind": "Pod"})
    harness.engine.child_seen({**pod, "kind": "Pod"}, gone=True)
    await harness.turn(CLUSTER)
    over, _ = world.one_pass()
    assert attributes(over)["penstock.pass.triggers"] == ("Pod orders-0-0 changed", "Pod orders-0-0 went")


async def test_log_lines_of_a_pass_name_its_trace_and_others_none(
    world: SpanWorld, caplog: pytest.LogCaptureFixture
) -> None:
    key = Key(*CLUSTER[:1], "shop", "orders")
    ended = asyncio.Event()

    async def refuse(_: Key) -> Again:
        logging.getLogger("test").warning("inside")
        ended.set()
        raise KubeError(500, "InternalError", "etcd is away")

    queue = WorkQueue(refuse, lambda: 0.5, world.spans.pass_over)
    caplog.handler.addFilter(add_trace_id)
    try:
        working = asyncio.create_task(queue.run())
        queue.wake(key, after_s=0.0)
        await ended.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        logging.getLogger("test").warning("outside")
        working.cancel()
        await asyncio.wait([working])
    finally:
        caplog.handler.removeFilter(add_trace_id)
    (over,) = world.taken()
    lines = {record.message: json.loads(JsonFormatter().format(record)) for record in caplog.records}
    assert lines["inside"]["trace_id"] == trace_id(over)
    assert lines["the pass failed and is repeated"]["trace_id"] == trace_id(over)
    assert "trace_id" not in lines["outside"]
    text = TextFormatter().format(next(record for record in caplog.records if record.message == "inside"))
    assert f"trace_id={trace_id(over)}" in text


async def test_an_operator_that_does_not_trace_leaves_no_marks() -> None:
    async with running(FakeKube()) as harness:
        await harness.create(*CLUSTER, {"mode": "Raft"}, annotations={"traceparent": PARENT})
        await seen(harness)
        await harness.settle(*CLUSTER, is_ready)
        assert await event_marks(harness) == {None}
        await harness.create(*TOPIC, {"clusterRef": {"name": "nobody"}})
        await harness.settle(*TOPIC, has_reason("ClusterNotFound"))
