"""Metrics and log lines: names, bounds on series, and that a value cannot break out of its place."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.admin.health import broker_sample
from penstock.telemetry import logs, metrics
from penstock.telemetry.counters import ProtocolCounters
from penstock.telemetry.metrics import OTHER, GroupSample, MetricsSnapshot, TopicSample, render
from penstock.testing.memory_services import MemoryServices


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name to label values, by label name, to value; fails when a series is there twice."""
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = samples.setdefault(sample.name, {})
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            assert labels not in series, f"{sample.name}{labels} is there twice"
            series[labels] = sample.value
    return samples


@pytest.mark.parametrize("admin", ["asks the leader"], indirect=True)
async def test_metrics_show_counters_topics_groups_and_the_broker(
    services: MemoryServices, admin: aiohttp.ClientSession, data: aiohttp.ClientSession
) -> None:
    services.add_topic('odd "name"\n', 2)
    services.counters.fsyncs = 7
    services.counters.fsync_seconds = 0.25
    async with data.post("/v1/topics/orders/messages", json={"messages": [{"value": "a"}] * 3}) as answer:
        assert answer.status == 200
    async with data.get("/v1/topics/none") as answer:
        assert answer.status == 404
    await services.groups.declare(None, "billing", "stream", ["orders"], _earliest())  # type: ignore[arg-type]
    async with admin.get("/metrics") as answer:
        assert answer.content_type == "text/plain"
        samples = parsed(await answer.text())
    assert samples["penstock_requests_total"]["produce", "http"] == 1
    assert samples["penstock_errors_total"]["UNKNOWN_TOPIC_OR_PARTITION", "http"] == 1
    assert samples["penstock_log_fsyncs_total"] == {(): 7}
    assert samples["penstock_log_fsync_seconds_total"] == {(): 0.25}
    assert samples["penstock_topic_messages"]["orders",] == 3
    assert samples["penstock_topic_partitions"]['odd "name"\n',] == 2
    assert samples["penstock_group_lag"]["billing",] == 3
    assert samples["penstock_groups"]["Empty",] == 1
    assert samples["penstock_ready"] == {(): 1}
    assert samples["penstock_disk_state"] == {("ok",): 1, ("warn",): 0, ("refuse",): 0}
    assert samples["penstock_connections_open"]["http",] == 1
    assert samples["penstock_bytes_in_total"]["http",] > 0


def _earliest() -> object:
    from penstock.service.group_api import StartPosition

    return StartPosition(at="earliest")


def test_series_of_topics_and_groups_are_bounded_with_the_rest_as_other(
    services: MemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "TOPIC_SERIES_MAX", 3)
    monkeypatch.setattr(metrics, "GROUP_SERIES_MAX", 2)
    names = ["d", "a", OTHER, "b", "c", "z"]
    snapshot = MetricsSnapshot(
        services.counters.copy(),
        broker_sample(services.broker),
        [TopicSample(name, 1, 10, 100) for name in names],
        [GroupSample(name, "Stable", 1, 5) for name in ("a", "b", "c", "d")],
    )
    samples = parsed(render(snapshot).decode())
    assert samples["penstock_topic_messages"] == {("a",): 10, ("b",): 10, ("c",): 10, (OTHER,): 30}
    assert samples["penstock_topics"] == {(): 6}
    assert samples["penstock_group_lag"] == {("a",): 5, ("b",): 5, (OTHER,): 10}


def test_numbers_of_a_listener_that_counts_by_itself_are_added(services: MemoryServices) -> None:
    def counted() -> ProtocolCounters:
        counters = ProtocolCounters()
        counters.bytes_in, counters.connections_open, counters.requests = 5, 2, {"Produce": 3}
        return counters

    services.counters.watch("kafka", counted)
    services.counters.watch("kafka", counted)
    copy = services.counters.copy().protocols["kafka"]
    assert (copy.bytes_in, copy.connections_open, copy.requests) == (10, 4, {"Produce": 6})


def test_a_copy_of_the_counters_does_not_change(services: MemoryServices) -> None:
    services.counters.protocol("kafka").request("Produce")
    copy = services.counters.copy()
    services.counters.protocol("kafka").request("Produce")
    services.counters.protocol("http").request("fetch")
    assert {name: each.requests for name, each in copy.protocols.items()} == {"kafka": {"Produce": 1}}


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_console_lines_are_words_and_fields(stream: io.StringIO) -> None:
    logs.configure_logging("console", "info", stream)
    log = logging.getLogger("penstock.test")
    log.info("listening", extra=logs.fields(listener="kafka", address="127.0.0.1:9092", port=9092))
    log.debug("not shown")
    line = stream.getvalue()
    assert line.endswith(" INFO listening listener=kafka address=127.0.0.1:9092 port=9092\n")
    assert line[10] == "T"
    assert line.split(" ", 1)[0].endswith("Z")


def test_a_value_cannot_write_a_line_or_a_field_of_its_own(stream: io.StringIO) -> None:
    logs.configure_logging("console", "info", stream)
    value = 'a\nINFO forged x=1 "quoted" \x1b[2J'
    logging.getLogger("penstock.test").info("closed", extra=logs.fields(why=value, empty="", long="x" * 5000))
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue().split("why=", 1)[1].split(" empty=")[0]) == value
    assert 'empty="" long=' in stream.getvalue()
    assert len(stream.getvalue()) < 2 * logs.VALUE_LENGTH_MAX


def test_json_lines_hold_fields_and_the_exception(stream: io.StringIO) -> None:
    logs.configure_logging("json", "info", stream)
    try:
        raise ZeroDivisionError("on purpose")
    except ZeroDivisionError:
        logging.getLogger("penstock.test").exception("failed", extra=logs.fields(level="mine", n=1))
    document = json.loads(stream.getvalue())
    assert (document["message"], document["level"], document["n"]) == ("failed", "ERROR", 1)
    assert "on purpose" in document["exception"]
