"""Spans on their way out: bounded, counted, never waited for; and what a collector sees of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from penstock.telemetry.otlp import HeadersError, OtlpSender, read_headers
from penstock.telemetry.span_exporter import SEND_SPANS_MAX, SpanExporter
from penstock.telemetry.trace_counters import TraceCounters
from penstock.testing.otlp_receiver import OtlpReceiver
from penstock.tracing.span import Event, Kind, Link, Span

RESOURCE = {"service.name": "penstock-broker", "penstock.shard": 0}


def span(number: int = 1, **more: object) -> Span:
    made = Span(
        f"receive {number}", Kind.SERVER, 0xABC, number, 0, 1000, {"messaging.system": "kafka"}, end_ns=2000
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


class FakeSender:
    """Keeps what it is sent; `answers` are given in turn, then None."""

    def __init__(self, *answers: str | None) -> None:
        self.batches: list[list[Span]] = []
        self.stopped = threading.Event()
        self._answers = list(answers)

    def send(self, spans: list[Span]) -> str | None:
        self.batches.append(spans)
        return self._answers.pop(0) if self._answers else None

    def stop(self) -> None:
        self.stopped.set()


class HangingSender(FakeSender):
    """Waits in `send` until it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.sending = threading.Event()

    def send(self, spans: list[Span]) -> str | None:
        self.sending.set()
        self.stopped.wait()
        return "stopped"


class BrokenSender(FakeSender):
    def send(self, spans: list[Span]) -> str | None:
        raise KeyError("what")


async def test_what_was_emitted_before_the_stop_is_sent() -> None:
    counters, sender = TraceCounters(), FakeSender()
    exporter = SpanExporter(sender, counters)
    for number in range(SEND_SPANS_MAX + 1):
        exporter.emit(span(number))
    exporter.start()
    await exporter.close()
    assert [len(batch) for batch in sender.batches] == [SEND_SPANS_MAX, 1]
    assert (counters.exported, counters.failed, counters.queue_full) == (SEND_SPANS_MAX + 1, 0, 0)
    assert sender.stopped.is_set()


async def test_a_full_queue_drops_and_counts() -> None:
    counters, sender = TraceCounters(), FakeSender()
    exporter = SpanExporter(sender, counters, queue_max=3)
    for number in range(5):
        exporter.emit(span(number))
    assert counters.queue_full == 2
    exporter.start()
    await exporter.close()
    assert [item.span_id for item in sender.batches[0]] == [0, 1, 2]


async def test_a_collector_that_hangs_delays_a_stop_no_longer_than_the_bound() -> None:
    counters, sender = TraceCounters(), HangingSender()
    exporter = SpanExporter(sender, counters)
    exporter.start()
    for number in range(SEND_SPANS_MAX):
        exporter.emit(span(number))
    await asyncio.to_thread(sender.sending.wait)
    # The loop went on, and takes more.
    exporter.emit(span())
    await exporter.close(0.05)
    assert sender.stopped.is_set()
    await asyncio.to_thread(exporter._thread.join)
    assert (counters.exported, counters.failed) == (0, SEND_SPANS_MAX + 1)


async def test_a_failing_collector_is_told_once_and_its_return_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counters, sender = TraceCounters(), FakeSender("it is away", "it is away still", None, None)
    exporter = SpanExporter(sender, counters)
    for number in range(SEND_SPANS_MAX * 4):
        exporter.emit(span(number))
    exporter.start()
    await exporter.close()
    assert [record.getMessage() for record in caplog.records] == [
        "spans cannot be sent: they are dropped until they can",
        "spans are sent again",
    ]
    assert (counters.exported, counters.failed) == (SEND_SPANS_MAX * 2, SEND_SPANS_MAX * 2)


async def test_a_defect_costs_spans_and_not_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    counters = TraceCounters()
    exporter = SpanExporter(BrokenSender(), counters)
    for number in range(SEND_SPANS_MAX * 2):
        exporter.emit(span(number))
    exporter.start()
    await exporter.close()
    assert counters.failed == SEND_SPANS_MAX * 2
    (record,) = caplog.records
    assert "KeyError: 'what'" in str(vars(record))


# --- by OTLP ----------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver() as receiver:
        yield receiver


async def test_a_collector_sees_spans_as_they_are(receiver: OtlpReceiver) -> None:
    sender = OtlpSender(receiver.endpoint + "/", RESOURCE, None)
    sent = [
        span(
            2,
            parent_id=7,
            parent_remote=True,
            state=(("a", "b"),),
            error="the disk is full",
            events=[Event("penstock.refused", 1500, {"error.type": "KAFKA_STORAGE_ERROR"})],
            links=(Link(0xABC, 7),),
        ),
        span(3, kind=Kind.INTERNAL),
    ]
    assert await asyncio.to_thread(sender.send, sent) is None
    sender.stop()
    first, second = receiver.spans
    assert (first.trace_id, first.span_id, first.parent_id) == (f"{0xABC:032x}", f"{2:016x}", f"{7:016x}")
    assert (first.name, first.kind, first.start_ns, first.end_ns) == ("receive 2", "SERVER", 1000, 2000)
    assert (first.attributes, first.resource) == ({"messaging.system": "kafka"}, RESOURCE)
    assert first.events == [("penstock.refused", {"error.type": "KAFKA_STORAGE_ERROR"})]
    assert first.links == [(f"{0xABC:032x}", f"{7:016x}")]
    assert (first.error, first.state) == ("the disk is full", "a=b")
    assert (second.kind, second.parent_id, second.error, second.links) == ("INTERNAL", "", None, [])


async def test_a_refusal_is_a_sentence_and_no_line_of_the_library(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    sender = OtlpSender(receiver.endpoint, RESOURCE, None)
    receiver.status = 400
    error = await asyncio.to_thread(sender.send, [span()])
    assert error is not None
    assert receiver.endpoint in error
    assert "400" in error
    receiver.status = 200
    assert await asyncio.to_thread(sender.send, [span()]) is None
    sender.stop()
    assert not caplog.records
    # Others in the process may listen to the library as well.
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    assert (logger.handlers, logger.propagate) == ([], True)


async def test_nobody_listening_is_given_up_after_a_bound() -> None:
    async with OtlpReceiver() as receiver:
        endpoint = receiver.endpoint
    sender = OtlpSender(endpoint, RESOURCE, None, seconds_max=0.2)
    assert "Failed to export" in str(await asyncio.to_thread(sender.send, [span()]))
    sender.stop()


async def test_headers_are_read_anew_for_each_request(receiver: OtlpReceiver, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("# who sends\nAuthorization: Bearer one\n\nx-tenant:  a b \n")
    sender = OtlpSender(receiver.endpoint, RESOURCE, file)
    assert await asyncio.to_thread(sender.send, [span()]) is None
    assert (receiver.headers["Authorization"], receiver.headers["x-tenant"]) == ("Bearer one", "a b")
    file.write_text("Authorization: Bearer two")
    assert await asyncio.to_thread(sender.send, [span()]) is None
    assert receiver.headers["Authorization"] == "Bearer two"
    file.unlink()
    assert "cannot be read" in str(await asyncio.to_thread(sender.send, [span()]))
    sender.stop()


@pytest.mark.parametrize(
    "content", [b"secret", b"a b: secret", b": secret", b"a: \x01secret", b"a: secret\xff", b"x" * 70_000]
)
def test_a_file_that_holds_something_else_is_refused_without_its_content(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "headers"
    file.write_bytes(content)
    with pytest.raises(HeadersError) as caught:
        read_headers(file)
    assert "secret" not in str(caught.value)
