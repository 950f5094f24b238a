"""Every metric of a broker: name, kind, labels and what it says. `docs/metrics.md` is made from this table.

Nothing else may be exposed, and each has the labels that stand here: `Families` refuses the rest. Names follow
Prometheus' habits: the unit at the end, `_total` behind what only grows (added here by the kind).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.telemetry.histograms import Histogram

Kind = Literal["counter", "gauge", "histogram", "info"]


class Family(NamedTuple):
    """One metric. `name` is without what its kind adds."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()

    @property
    def exposed_name(self) -> str:
        """As queries write it; a histogram's has `_bucket`, `_sum` and `_count` behind it."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(f"penstock_{name}", "gauge", text, labels)


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(f"penstock_{name}", "counter", text, labels)


def _histogram(name: str, text: str, *labels: str) -> Family:
    return Family(f"penstock_{name}", "histogram", text, labels)


SECTIONS: Final[dict[str, tuple[Family, ...]]] = {
    "The broker": (
        Family("penstock_broker", "info", "Who this broker is.", ("name", "node_id", "version")),
        _gauge("ready", "1 when clients may be sent here."),
        _gauge("start_time_seconds", "When the broker started."),
        _gauge(
            "loop_stall_seconds_max",
            "The longest time since the start for which the event loop did nothing else.",
        ),
        _histogram("loop_delay_seconds", "How late the event loop's pulse came, 50 times a second."),
        _gauge("queue_length", "How many wait, by what waits for what.", "queue"),
        _gauge("queue_limit", "How many may wait; for queues that have a bound of their own.", "queue"),
        _gauge("queue_bytes", "How many bytes wait, by what waits for what.", "queue"),
        _gauge("queue_bytes_limit", "How many bytes may wait.", "queue"),
    ),
    "Requests": (
        _counter("requests", "Requests, by operation.", "protocol", "api"),
        _histogram(
            "request_duration_seconds",
            "From a request's decoding to its answer; a fetch's wait for messages is part of it.",
            "protocol",
            "api",
        ),
        _counter("errors", "Answers with an error.", "protocol", "code"),
        _counter("produce_refused", "Produce to a partition that was not acknowledged, by error.", "reason"),
        _counter("messages_in", "Messages stored, by all protocols."),
        _counter("batches_in", "Record batches stored, by all protocols."),
        _counter("fetches", "Fetch requests, by all protocols."),
        _counter("bytes_in", "Payload bytes received.", "protocol"),
        _counter("bytes_out", "Payload bytes sent.", "protocol"),
        _counter("requests_forwarded", "Requests passed on to the shard's leader.", "protocol"),
        _counter("connections", "Connections accepted.", "protocol"),
        _counter("connections_refused", "Connections refused at the bound.", "protocol"),
        _gauge("connections_open", "Connections open now.", "protocol"),
    ),
    "The shard": (
        _gauge("leader", "1 when this broker leads its shard and serves clients."),
        _gauge("leader_known", "1 when this broker knows who leads its shard."),
        _counter("leaderships", "How often this broker began to lead since it started."),
        _gauge("epoch", "Newest epoch of the shard's leadership that this broker knows."),
        _gauge("feature_level", "Which commands the shard's log may hold."),
        _gauge("members", "Members of the shard, learners included. Leader only."),
        _gauge("members_wanted", "How many brokers the shard is to have. Leader only."),
        _gauge("members_in_sync", "Members whose copy counts now, the leader's too. Leader only."),
        _gauge("member_lag_entries", "Entries of the log that a member lacks. Leader only.", "member"),
        _gauge("member_lag_bytes", "About how many bytes those are. Leader only.", "member"),
        _counter("state_hashes", "Comparisons with the other replicas' state."),
        _counter("state_disputes", "Comparisons in which no majority of the voters had the same state."),
    ),
    "Log and disk": (
        _counter("log_appends", "Writes to the commit log."),
        _counter("log_append_bytes", "Bytes written to the commit log."),
        _counter("log_fsyncs", "Forced writes of the commit log."),
        _counter("log_fsync_seconds", "Time spent in forced writes."),
        _counter("log_forked_entries", "Entries set aside because a new master lacked them."),
        _counter("log_forked_messages", "Messages in such entries."),
        _gauge("log_bytes", "Size of the commit log."),
        _gauge("log_last_index", "Last entry of the log."),
        _gauge("log_commit_index", "Last committed entry of the log."),
        _gauge("disk_total_bytes", "Size of the volume."),
        _gauge("disk_used_bytes", "What of it is used."),
        _gauge("disk_state", "1 for the state the disk is in: ok, warn or refuse.", "state"),
    ),
    "Topics": (
        _gauge("topics", "Topics."),
        _gauge("topic_partitions", "Partitions of a topic.", "topic"),
        _gauge("topic_messages", "Messages kept in a topic, as of this broker's copy.", "topic"),
        _gauge("topic_bytes", "Bytes kept in a topic, as of this broker's copy.", "topic"),
    ),
    "Consumer groups": (
        _gauge("groups", "Consumer groups, by state. Leader only.", "state"),
        _gauge("group_members", "Members of a group. Leader only.", "group"),
        _gauge("group_lag", "Messages a group has not read yet. Leader only.", "group"),
        _gauge(
            "group_lag_seconds",
            "Age of the oldest message that a group has not read yet, by its batch's timestamp; 0 when it has read all,"
            " absent where that is not known. Leader only.",
            "group",
        ),
    ),
    "Queue groups": (
        _counter("queue_leased", "Messages handed out, each time."),
        _counter("queue_acknowledged", "Messages that a member was done with."),
        _counter("queue_rejected", "Messages that a member said it failed with, each time."),
        _counter("queue_released", "Messages that were given back untried, each time."),
        _counter("queue_expired", "Messages whose lease ran out, each time."),
        _counter("queue_dead_lettered", "Messages written to a dead-letter topic."),
        _counter("queue_lost", "Messages that retention took before they were settled."),
        _gauge(
            "queue_open",
            "Messages of a queue group that members hold, or that wait to be handed out again. Leader only.",
            "group",
        ),
    ),
    "Tracing": (
        _counter("spans_exported", "Spans that the collector took."),
        _counter(
            "spans_dropped",
            "Spans that nobody got: the queue was full, or the collector did not take them.",
            "reason",
        ),
        _counter("trace_events_written", "Events of followed batches that were written to __trace."),
        _counter(
            "trace_events_dropped",
            "Events that were not written to __trace: the queue was full, or the log did not take them.",
            "reason",
        ),
        _counter("trace_batches_skipped", "Batches that were not followed because too many were already."),
        _counter("trace_looks", "Batches looked into for a context, by what came of it.", "result"),
    ),
}

FAMILIES: Final = tuple(family for section in SECTIONS.values() for family in section)


class Families:
    """The families of one scrape, filled in. A name or a number of labels that is not in the table is a fault of ours."""

    def __init__(self) -> None:
        self._specs = {family.name: family for family in FAMILIES}
        self._metrics = {family.name: _metric(family) for family in FAMILIES}

    def put(self, name: str, value: float, *labels: str) -> None:
        """A counter's or gauge's value."""
        metric = self._metrics[f"penstock_{name}"]
        self._check(name, labels)
        assert isinstance(metric, CounterMetricFamily | GaugeMetricFamily), f"{name} takes no single value"
        metric.add_metric(labels, value)

    def observed(self, name: str, histogram: Histogram, *labels: str) -> None:
        """A histogram's buckets."""
        metric = self._metrics[f"penstock_{name}"]
        self._check(name, labels)
        assert isinstance(metric, HistogramMetricFamily), f"{name} is no histogram"
        metric.add_metric(labels, list(histogram.up_to()), histogram.seconds)

    def says(self, name: str, values: dict[str, str]) -> None:
        """An info's labels."""
        metric = self._metrics[f"penstock_{name}"]
        self._check(name, tuple(values))
        assert isinstance(metric, InfoMetricFamily), f"{name} is no info"
        metric.add_metric([], values)

    def _check(self, name: str, labels: tuple[str, ...]) -> None:
        wanted = self._specs[f"penstock_{name}"].labels
        assert len(labels) == len(wanted), f"{name} has the labels {wanted}"

    def all(self) -> Iterable[Metric]:
        """In the table's order, those without a value too."""
        return self._metrics.values()


def _metric(family: Family) -> Metric:
    if family.kind == "counter":
        return CounterMetricFamily(family.name, family.text, labels=family.labels)
    if family.kind == "gauge":
        return GaugeMetricFamily(family.name, family.text, labels=family.labels)
    if family.kind == "histogram":
        return HistogramMetricFamily(family.name, family.text, labels=family.labels)
    return InfoMetricFamily(family.name, family.text)
