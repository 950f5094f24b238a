"""Spans on their way out: bounded, counted, told once; and an operator that does not trace imports none of it."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from fake_kube import FakeKube
from penstock_operator import main as operator_main
from penstock_operator.health import Health
from penstock_operator.reconcile.ports import Again, Key
from penstock_operator.reconcile.queue import WorkQueue
from penstock_operator.settings import OperatorSettings, TracingSettings
from penstock_operator.tracing import exporting
from penstock_operator.tracing.exporting import Export, otlp_export, resource_of, shown
from penstock_operator.tracing.spans import Spans
from penstock_operator.tracing.tracer import open_tracer
from span_world import StubExporter

KEY = Key("Topic", "shop", "payments")
NOWHERE = TracingSettings(endpoint="http://127.0.0.1:1", sampling=1.0)  # nobody listens there
HOURS_MS = 1e7  # no batch is sent for its age


def settings(tracing: TracingSettings | None) -> OperatorSettings:
    return OperatorSettings(
        namespaces=[],
        image="penstock:test",
        own_namespace="penstock-system",
        lease_name="penstock-operator",
        identity="operator-1_a",
        resync_s=30.0,
        health_host="127.0.0.1",
        health_port=0,
        pod_name="operator-1",
        tracing=tracing,
    )


def passes(spans: Spans, count: int) -> None:
    for _ in range(count):
        with spans.pass_over(KEY):
            pass


def test_what_a_slow_collector_leaves_no_room_for_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporting, "SPANS_WAITING_MAX", 5)
    monkeypatch.setattr(exporting, "BATCH_MAX", 2)
    entered, go_on = threading.Event(), threading.Event()

    class Slow(StubExporter):
        def export(self, spans: Any) -> SpanExportResult:
            entered.set()
            assert go_on.wait(30)
            return super().export(spans)

    export = Export(Slow(), "http://slow", delay_ms=HOURS_MS)
    spans = Spans(export, Resource.create({}), 1.0)
    passes(spans, 2)
    assert entered.wait(30), "a whole batch is sent at once"
    passes(spans, 8)
    assert (export.taken, export.dropped, export.sent) == (5, 5, 0)
    go_on.set()
    export.shutdown()
    assert (export.sent, export.refused) == (5, 0)


def test_a_collector_that_refuses_is_told_once_and_so_is_its_return(caplog: pytest.LogCaptureFixture) -> None:
    class Talkative(StubExporter):
        def export(self, spans: Any) -> SpanExportResult:
            for words in ("Connection refused", "gave up", "and more"):
                logging.getLogger("opentelemetry.exporter.otlp").warning(words)
            return super().export(spans)

    stub = Talkative()
    export = Export(stub, "http://collector:4318", delay_ms=HOURS_MS)
    spans = Spans(export, Resource.create({}), 1.0)
    with caplog.at_level(logging.INFO):
        for result in (
            SpanExportResult.FAILURE,
            RuntimeError("out of breath"),
            SpanExportResult.SUCCESS,
            SpanExportResult.SUCCESS,
        ):
            stub.result = result
            passes(spans, 1)
            export.force_flush()
    export.shutdown()
    assert (export.sent, export.refused, export.dropped) == (2, 2, 0)
    told = [record for record in caplog.records if record.name == exporting.logger.name]
    assert [record.message for record in told] == [
        "the collector does not take spans",
        "the collector takes spans again",
    ]
    assert vars(told[0])["why"] == "Connection refused; gave up"
    assert logging.getLogger("opentelemetry.exporter").propagate, "nobody listens there any more"


def test_nothing_is_sent_any_more_when_the_time_to_stop_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "STOP_S", -1.0)
    stub = StubExporter()
    export = Export(stub, "http://collector", delay_ms=HOURS_MS)
    passes(Spans(export, Resource.create({}), 1.0), 3)
    export.shutdown()
    assert (export.taken, export.refused, stub.get_finished_spans()) == (3, 3, ())


def test_a_collector_that_is_not_there_neither_fails_nor_holds_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exporting, "EXPORT_S", 0.2)
    export = otlp_export(NOWHERE)
    passes(Spans(export, resource_of(settings(NOWHERE)), 1.0), 3)
    export.shutdown()
    assert (export.sent, export.refused) == (0, 3)
    (told,) = [record for record in caplog.records if record.name == exporting.logger.name]
    assert "Failed to export spans batch" in vars(told)["why"]


def test_a_password_in_the_address_stays_out_of_the_log() -> None:
    assert shown("https://user:secret@collector:4318/tenants/7?key=secret") == "https://collector:4318"
    assert shown("http://[fd00::1]:4318") == "http://[fd00::1]:4318"


def test_spans_say_which_operator_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    told = resource_of(settings(NOWHERE)).attributes
    assert (
        told.items()
        >= {
            "service.name": "penstock-operator",
            "service.instance.id": "operator-1_a",
            "k8s.namespace.name": "penstock-system",
            "k8s.pod.name": "operator-1",
            "deployment.environment.name": "test",
        }.items()
    )


async def test_what_was_sent_and_lost_is_on_the_metrics_page() -> None:
    async def pass_over(_: Key) -> Again:
        return Again()

    export = Export(StubExporter(), "http://collector", delay_ms=HOURS_MS)
    passes(Spans(export, Resource.create({}), 1.0), 2)
    export.dropped = 7
    export.shutdown()
    health = Health(WorkQueue(pass_over, lambda: 0.5))
    health.add(export)
    runner = await health.serve("127.0.0.1", 0)
    try:
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/metrics") as answer:
            page = await answer.text()
    finally:
        await runner.cleanup()
    for line in (
        "penstock_operator_spans_sent_total 2.0",
        'penstock_operator_spans_lost_total{reason="queue"} 7.0',
        'penstock_operator_spans_lost_total{reason="export"} 0.0',
    ):
        assert line in page


async def test_without_a_collector_everything_is_what_it_would_be_without_tracing() -> None:
    tracer, kube = open_tracer(settings(None)), FakeKube()
    assert tracer.spans is None
    assert tracer.seeing(kube) is kube
    assert (list(tracer.hooks), list(tracer.collectors)) == ([], [])
    await tracer.close()


def test_an_operator_that_does_not_trace_imports_no_opentelemetry() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None;"
        "import penstock_operator.main, penstock_operator.run, penstock_operator.tracing.tracer as t;"
        "from types import SimpleNamespace as S; t.open_tracer(S(tracing=None))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def started(monkeypatch: pytest.MonkeyPatch, *arguments: str, **environment: str) -> tuple[Any, Any]:
    """The outcome of the command line, and the settings that the operator would run with."""
    found: list[OperatorSettings] = []

    async def run(chosen: OperatorSettings) -> int:
        found.append(chosen)
        return 0

    monkeypatch.setattr("penstock_operator.run.run_operator", run)
    monkeypatch.setattr(operator_main, "set_up_logging", lambda **_: None)
    clean = {"OTEL_EXPORTER_OTLP_ENDPOINT": None, "PENSTOCK_TRACING_ENDPOINT": None, **environment}
    done = CliRunner().invoke(operator_main.main, ["--image", "x", *arguments], env=clean)
    return done, found[0].tracing if found else None


def test_the_variable_that_people_know_switches_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started(monkeypatch)[1] is None
    known = started(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318")[1]
    assert known == TracingSettings(endpoint="http://collector:4318", sampling=1.0)
    ours = started(
        monkeypatch,
        "--tracing-sampling=0.1",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://other:4318",
        PENSTOCK_TRACING_ENDPOINT="https://ours:4318",
    )[1]
    assert ours == TracingSettings(endpoint="https://ours:4318", sampling=0.1)
    assert started(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="")[1] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tracing-endpoint=collector:4318"], "no http or https URL"),
        (["--tracing-endpoint=http://collector:4318", "--tracing-sampling=2"], "0<=x<=1"),
    ],
)
def test_what_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    done, _ = started(monkeypatch, *arguments)
    assert done.exit_code == 2
    assert words in done.output


def test_where_opentelemetry_is_missing_the_operator_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operator_main.importlib.util, "find_spec", lambda _: None)
    done, _ = started(monkeypatch, "--tracing-endpoint=http://collector:4318")
    assert done.exit_code == 2
    assert "install penstock[operator,otel]" in done.output
