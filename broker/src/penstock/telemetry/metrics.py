"""`/metrics`: the counters and what the services know, in Prometheus' words.

The event loop copies its plain integers into a `MetricsSnapshot`; a thread turns that into text through a collector
of our own, so a scrape costs the loop a copy and nothing else. Series of topics and groups are bounded: beyond a named
number, by name, the rest is summed up under `other`, because names are made by users and a metrics store pays for
each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from penstock.telemetry.counters import Counters, ProtocolCounters
from penstock.telemetry.trace_counters import trace_metrics

METRICS_MEDIA_TYPE: Final = CONTENT_TYPE_LATEST

TOPIC_SERIES_MAX: Final = 500
"""Topics with series of their own; the rest is `other`."""

GROUP_SERIES_MAX: Final = 500
"""Groups with series of their own; the rest is `other`."""

OTHER: Final = "other"
_Family = type[CounterMetricFamily] | type[GaugeMetricFamily]

DISK_STATES: Final = ("ok", "warn", "refuse")


class TopicSample(NamedTuple):
    """One topic's numbers."""

    name: str
    partitions: int
    messages: int
    bytes: int


class GroupSample(NamedTuple):
    """One group's numbers."""

    name: str
    state: str
    members: int
    lag: int


class BrokerSample(NamedTuple):
    """The broker's own numbers. `disk_state` is one of DISK_STATES."""

    name: str
    node_id: int
    version: str
    ready: bool
    epoch: int
    started_at_ms: int
    log_bytes: int
    log_last_index: int
    log_commit_index: int
    disk_total_bytes: int
    disk_used_bytes: int
    disk_state: str
    feature_level: int = 0


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """Everything that one scrape shows, owned by the thread that writes it out."""

    counters: Counters
    broker: BrokerSample
    topics: Sequence[TopicSample]
    groups: Sequence[GroupSample]


def render(snapshot: MetricsSnapshot) -> bytes:
    """The exposition text. Takes milliseconds to tens of milliseconds: not for the event loop."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_SnapshotCollector(snapshot))
    return generate_latest(registry)


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: MetricsSnapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        """Nothing: describing would collect once more at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        yield from _broker(snapshot)
        yield from _protocols(snapshot.counters.protocols)
        yield from _log(snapshot.counters, snapshot.broker)
        yield from trace_metrics(snapshot.counters.tracing)
        yield from _topics(snapshot.topics)
        yield from _groups(snapshot.groups)


def _broker(snapshot: MetricsSnapshot) -> Iterator[Metric]:
    broker, counters = snapshot.broker, snapshot.counters
    yield InfoMetricFamily(
        "penstock_broker",
        "Who this broker is.",
        {"name": broker.name, "node_id": str(broker.node_id), "version": broker.version},
    )
    yield GaugeMetricFamily("penstock_ready", "1 when clients may be sent here.", int(broker.ready))
    yield GaugeMetricFamily(
        "penstock_start_time_seconds", "When the broker started.", broker.started_at_ms / 1000
    )
    yield GaugeMetricFamily(
        "penstock_loop_stall_seconds_max",
        "The longest time for which the event loop did nothing else.",
        counters.loop_stall_seconds_max,
    )
    yield CounterMetricFamily(
        "penstock_messages_in", "Messages stored, by all protocols.", counters.messages_in
    )
    yield CounterMetricFamily(
        "penstock_batches_in", "Record batches stored, by all protocols.", counters.batches_in
    )
    yield CounterMetricFamily("penstock_fetches", "Fetch requests, by all protocols.", counters.fetches)


def _protocols(protocols: dict[str, ProtocolCounters]) -> Iterator[Metric]:
    requests = CounterMetricFamily("penstock_requests", "Requests, by operation.", labels=["protocol", "api"])
    errors = CounterMetricFamily("penstock_errors", "Answers with an error.", labels=["protocol", "code"])
    for protocol, counters in protocols.items():
        for api, count in counters.requests.items():
            requests.add_metric([protocol, api], count)
        for code, count in counters.errors.items():
            errors.add_metric([protocol, code], count)
    yield requests
    yield errors
    plain: list[tuple[_Family, str, str, Callable[[ProtocolCounters], int]]] = [
        (CounterMetricFamily, "penstock_bytes_in", "Payload bytes received.", lambda c: c.bytes_in),
        (CounterMetricFamily, "penstock_bytes_out", "Payload bytes sent.", lambda c: c.bytes_out),
        (
            CounterMetricFamily,
            "penstock_requests_forwarded",
            "Requests passed on to the shard's leader.",
            lambda c: c.requests_forwarded,
        ),
        (CounterMetricFamily, "penstock_connections", "Connections accepted.", lambda c: c.connections),
        (
            CounterMetricFamily,
            "penstock_connections_refused",
            "Connections refused at the bound.",
            lambda c: c.connections_refused,
        ),
        (
            GaugeMetricFamily,
            "penstock_connections_open",
            "Connections open now.",
            lambda c: c.connections_open,
        ),
    ]
    for family, name, text, number in plain:
        metric = family(name, text, labels=["protocol"])
        for protocol, counters in protocols.items():
            metric.add_metric([protocol], number(counters))
        yield metric


def _log(counters: Counters, broker: BrokerSample) -> Iterator[Metric]:
    yield CounterMetricFamily("penstock_log_appends", "Writes to the commit log.", counters.log_appends)
    yield CounterMetricFamily(
        "penstock_log_append_bytes", "Bytes written to the commit log.", counters.log_append_bytes
    )
    yield CounterMetricFamily("penstock_log_fsyncs", "Forced writes of the commit log.", counters.fsyncs)
    yield CounterMetricFamily(
        "penstock_log_fsync_seconds", "Time spent in forced writes.", counters.fsync_seconds
    )
    yield CounterMetricFamily(
        "penstock_state_hashes", "Comparisons with the other replicas' state.", counters.state_hashes
    )
    yield CounterMetricFamily(
        "penstock_state_disputes",
        "Comparisons in which no majority of the voters had the same state.",
        counters.state_disputes,
    )
    yield CounterMetricFamily(
        "penstock_log_forked_entries",
        "Entries set aside because a new master lacked them.",
        counters.forked_entries,
    )
    yield CounterMetricFamily(
        "penstock_log_forked_messages", "Messages in such entries.", counters.forked_messages
    )
    yield GaugeMetricFamily("penstock_log_bytes", "Size of the commit log.", broker.log_bytes)
    yield GaugeMetricFamily("penstock_log_last_index", "Last entry of the log.", broker.log_last_index)
    yield GaugeMetricFamily(
        "penstock_log_commit_index", "Last committed entry of the log.", broker.log_commit_index
    )
    yield GaugeMetricFamily("penstock_epoch", "Epoch of the shard's leadership.", broker.epoch)
    yield GaugeMetricFamily(
        "penstock_feature_level", "Which commands the shard's log may hold.", broker.feature_level
    )
    yield GaugeMetricFamily("penstock_disk_total_bytes", "Size of the volume.", broker.disk_total_bytes)
    yield GaugeMetricFamily("penstock_disk_used_bytes", "What of it is used.", broker.disk_used_bytes)
    state = GaugeMetricFamily("penstock_disk_state", "1 for the state the disk is in.", labels=["state"])
    for name in DISK_STATES:
        state.add_metric([name], int(broker.disk_state == name))
    yield state


def _topics(topics: Sequence[TopicSample]) -> Iterator[Metric]:
    yield GaugeMetricFamily("penstock_topics", "Topics.", len(topics))
    bounded = bounded_samples(topics, TOPIC_SERIES_MAX, lambda topic: topic.name, _add_topics)
    partitions = GaugeMetricFamily("penstock_topic_partitions", "Partitions of a topic.", labels=["topic"])
    messages = GaugeMetricFamily("penstock_topic_messages", "Messages kept in a topic.", labels=["topic"])
    size = GaugeMetricFamily("penstock_topic_bytes", "Bytes kept in a topic.", labels=["topic"])
    for topic in bounded:
        partitions.add_metric([topic.name], topic.partitions)
        messages.add_metric([topic.name], topic.messages)
        size.add_metric([topic.name], topic.bytes)
    yield from (partitions, messages, size)


def _groups(groups: Sequence[GroupSample]) -> Iterator[Metric]:
    states = GaugeMetricFamily("penstock_groups", "Consumer groups, by state.", labels=["state"])
    counts: dict[str, int] = {}
    for group in groups:
        counts[group.state] = counts.get(group.state, 0) + 1
    for state, count in counts.items():
        states.add_metric([state], count)
    yield states
    bounded = bounded_samples(groups, GROUP_SERIES_MAX, lambda group: group.name, _add_groups)
    members = GaugeMetricFamily("penstock_group_members", "Members of a group.", labels=["group"])
    lag = GaugeMetricFamily("penstock_group_lag", "Messages a group has not read yet.", labels=["group"])
    for group in bounded:
        members.add_metric([group.name], group.members)
        lag.add_metric([group.name], group.lag)
    yield from (members, lag)


S = TypeVar("S")


def bounded_samples(
    samples: Sequence[S], limit: int, name: Callable[[S], str], add: Callable[[S, S], S]
) -> list[S]:
    """The first `limit` samples by name, and one named `other` with the sum of the rest.

    By name and not by size, so that series do not come and go between two scrapes. One whose own name is `other` is
    part of that sum.
    """
    if len(samples) <= limit:
        return list(samples)
    ordered = sorted(samples, key=name)
    shown = [sample for sample in ordered[:limit] if name(sample) != OTHER]
    hidden = [sample for sample in ordered[:limit] if name(sample) == OTHER] + ordered[limit:]
    total = hidden[0]
    for sample in hidden[1:]:
        total = add(total, sample)
    return [*shown, total]


def _add_topics(one: TopicSample, two: TopicSample) -> TopicSample:
    return TopicSample(
        OTHER, one.partitions + two.partitions, one.messages + two.messages, one.bytes + two.bytes
    )


def _add_groups(one: GroupSample, two: GroupSample) -> GroupSample:
    return GroupSample(OTHER, "", one.members + two.members, one.lag + two.lag)
