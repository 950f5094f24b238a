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
from penstock.telemetry.families import Families
from penstock.telemetry.metrics import OTHER, render
from penstock.telemetry.samples import (
    BrokerSample,
    GroupSample,
    MemberSample,
    MembersSample,
    MetricsSnapshot,
    Queue,
    Samples,
    TopicSample,
    queue_samples,
)
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


def shown(
    services: MemoryServices, samples: Samples, broker: BrokerSample | None = None
) -> dict[str, dict[tuple[str, ...], float]]:
    """What a scrape shows of these."""
    snapshot = MetricsSnapshot(services.counters.copy(), broker or broker_sample(services.broker), samples)
    return parsed(render(snapshot).decode())


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
    assert samples["penstock_request_duration_seconds_count"]["produce", "http"] == 1
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
    groups = [GroupSample(name, "Stable", 1, 5, 2.0) for name in ("a", "b", "c", "d")]
    topics = [TopicSample(name, 1, 10, 100) for name in names]
    samples = shown(services, Samples(topics, groups))
    assert samples["penstock_topic_messages"] == {("a",): 10, ("b",): 10, ("c",): 10, (OTHER,): 30}
    assert samples["penstock_topics"] == {(): 6}
    assert samples["penstock_group_lag"] == {("a",): 5, ("b",): 5, (OTHER,): 10}


def test_one_topic_too_many_is_other_and_keeps_no_name(
    services: MemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "TOPIC_SERIES_MAX", 2)
    samples = shown(services, Samples([TopicSample(name, 1, 10, 100) for name in "abc"]))
    assert samples["penstock_topic_messages"] == {("a",): 10, ("b",): 10, (OTHER,): 10}


def test_the_age_of_what_is_unread_is_absent_where_it_is_not_known(
    services: MemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "GROUP_SERIES_MAX", 2)
    ages = {"a": 3.5, "b": None, "c": 7.0, "d": 9.0}
    groups = [GroupSample(name, "Empty", 0, 1, age) for name, age in ages.items()]
    assert shown(services, Samples((), groups))["penstock_group_lag_seconds"] == {("a",): 3.5, (OTHER,): 9.0}
    groups[3] = groups[3]._replace(lag_seconds=None)
    assert shown(services, Samples((), groups))["penstock_group_lag_seconds"] == {("a",): 3.5}


def test_what_only_a_leader_knows_is_shown_by_the_leader_alone(services: MemoryServices) -> None:
    sample = broker_sample(services.broker)
    assert sample.members is not None
    members = MembersSample(3, 2, 5, [MemberSample("b-0-1", 4, 400), MemberSample("b-0-2", 0, 0)])
    leads = shown(services, Samples(), sample._replace(members=members))
    assert leads["penstock_members"] == {(): 3}
    assert leads["penstock_members_in_sync"] == {(): 2}
    assert leads["penstock_members_wanted"] == {(): 5}
    assert leads["penstock_member_lag_entries"] == {("b-0-1",): 4, ("b-0-2",): 0}
    assert leads["penstock_member_lag_bytes"] == {("b-0-1",): 400, ("b-0-2",): 0}
    follows = shown(services, Samples(), sample._replace(leads=False, members=None))
    assert not any(name.startswith("penstock_member") for name in follows)
    assert (follows["penstock_leader"], follows["penstock_leader_known"]) == ({(): 0}, {(): 1})


def test_queues_of_one_name_are_shown_as_their_sum(services: MemoryServices) -> None:
    queues = [
        Queue("waiting", "items", lambda: 2, 10),
        Queue("waiting", "items", lambda: 3, 10),
        Queue("waiting", "bytes", lambda: 700, 1000),
        Queue("unbounded", "items", lambda: 4),
    ]
    samples = shown(services, Samples(queues=queue_samples(queues)))
    assert samples["penstock_queue_length"] == {("waiting",): 5, ("unbounded",): 4}
    assert samples["penstock_queue_limit"] == {("waiting",): 20}
    assert samples["penstock_queue_bytes"] == {("waiting",): 700}
    assert samples["penstock_queue_bytes_limit"] == {("waiting",): 1000}


def test_how_long_requests_take_is_counted_in_buckets(services: MemoryServices) -> None:
    kafka = services.counters.protocol("kafka")
    for seconds in (0.0005, 0.003, 0.003, 99.0):
        kafka.took("Produce", seconds)
    services.counters.loop_was_late(0.03)
    samples = shown(services, Samples())
    buckets = {
        labels[2 - 1]: value for labels, value in samples["penstock_request_duration_seconds_bucket"].items()
    }
    assert (buckets["0.0005"], buckets["0.0025"], buckets["0.005"], buckets["30.0"], buckets["+Inf"]) == (
        1,
        1,
        3,
        3,
        4,
    )
    assert samples["penstock_request_duration_seconds_count"] == {("Produce", "kafka"): 4}
    assert samples["penstock_request_duration_seconds_sum"]["Produce", "kafka"] == pytest.approx(99.0065)
    assert samples["penstock_loop_delay_seconds_bucket"]["0.025",] == 0
    assert samples["penstock_loop_delay_seconds_bucket"]["0.05",] == 1
    assert samples["penstock_loop_stall_seconds_max"] == {(): 0.03}


def test_a_metric_that_the_table_lacks_is_a_fault_of_ours() -> None:
    families = Families()
    with pytest.raises(KeyError):
        families.put("no_such_metric", 1)
    with pytest.raises(AssertionError, match="has the labels"):
        families.put("group_lag", 1)


def test_numbers_of_a_listener_that_counts_by_itself_are_added(services: MemoryServices) -> None:
    def counted() -> ProtocolCounters:
        counters = ProtocolCounters()
        counters.bytes_in, counters.connections_open, counters.requests = 5, 2, {"Produce": 3}
        counters.took("Produce", 0.2)
        return counters

    services.counters.watch("kafka", counted)
    services.counters.watch("kafka", counted)
    copy = services.counters.copy().protocols["kafka"]
    assert (copy.bytes_in, copy.connections_open, copy.requests) == (10, 4, {"Produce": 6})
    assert copy.durations["Produce"].count == 2


def test_a_copy_of_the_counters_does_not_change(services: MemoryServices) -> None:
    services.counters.protocol("kafka").request("Produce")
    copy = services.counters.copy()
    services.counters.protocol("kafka").request("Produce")
    services.counters.protocol("http").request("fetch")
    services.counters.refused("NOT_ENOUGH_REPLICAS")
    services.counters.loop_was_late(1.0)
    assert (copy.produce_refused, copy.loop_delays.count) == ({}, 0)
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


def test_json_lines_say_whose_they_are(stream: io.StringIO) -> None:
    logs.configure_logging("json", "info", stream)
    log, epoch = logging.getLogger("penstock.test"), 3
    log.info("before anything is known")
    logs.describe_process(lambda: {"broker": "b-0-1", "shard": 0, "epoch": epoch, "level": "mine"})
    log.info("leading")
    epoch = 4
    log.info("led until then", extra=logs.fields(epoch=3))
    log.warning("following")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line.get("broker"), line.get("shard"), line.get("epoch")) for line in lines] == [
        (None, None, None),
        ("b-0-1", 0, 3),
        ("b-0-1", 0, 3),
        ("b-0-1", 0, 4),
    ]
    assert [line["level"] for line in lines] == ["INFO", "INFO", "INFO", "WARNING"]


def test_console_lines_do_not_repeat_whose_they_are(stream: io.StringIO) -> None:
    logs.configure_logging("console", "info", stream)
    logs.describe_process(lambda: {"broker": "b-0-1"})
    logging.getLogger("penstock.test").info("leading")
    assert stream.getvalue().endswith(" INFO leading\n")
