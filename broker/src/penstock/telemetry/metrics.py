"""`/metrics`: the counters and what the services know, in Prometheus' words.

The event loop copies its plain integers into a `MetricsSnapshot`; a thread turns that into text through a collector
of our own, so a scrape costs the loop a copy and nothing else. Series of topics, groups and members are bounded:
beyond a named number, by name, the rest is summed up under `other`, because names are made by users and a metrics
store pays for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from penstock.telemetry.counters import Counters, ProtocolCounters
from penstock.telemetry.families import Families
from penstock.telemetry.queue_counters import QueueCounters
from penstock.telemetry.samples import (
    DISK_STATES,
    BrokerSample,
    GroupSample,
    MembersSample,
    MetricsSnapshot,
    QueueSample,
    TopicSample,
)
from penstock.telemetry.trace_counters import TraceCounters

METRICS_MEDIA_TYPE: Final = CONTENT_TYPE_LATEST

TOPIC_SERIES_MAX: Final = 500
"""Topics with series of their own; the rest is `other`."""

GROUP_SERIES_MAX: Final = 500
"""Groups with series of their own; the rest is `other`."""

OTHER: Final = "other"


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
        snapshot, families = self._snapshot, Families()
        _broker(families, snapshot.broker)
        _counters(families, snapshot.counters)
        for protocol, counters in snapshot.counters.protocols.items():
            _protocol(families, protocol, counters)
        _members(families, snapshot.broker.members)
        _queues(families, snapshot.samples.queues)
        _topics(families, snapshot.samples.topics)
        _groups(families, snapshot.samples.groups)
        _queue_groups(families, snapshot.counters.queues)
        _tracing(families, snapshot.counters.tracing)
        yield from families.all()


def _broker(families: Families, broker: BrokerSample) -> None:
    families.says("broker", {"name": broker.name, "node_id": str(broker.node_id), "version": broker.version})
    families.put("ready", int(broker.ready))
    families.put("start_time_seconds", broker.started_at_ms / 1000)
    families.put("leader", int(broker.leads))
    families.put("leader_known", int(broker.leader_known))
    for name in (
        "epoch",
        "feature_level",
        "log_bytes",
        "log_last_index",
        "log_commit_index",
        "disk_total_bytes",
        "disk_used_bytes",
    ):
        families.put(name, getattr(broker, name))
    for state in DISK_STATES:
        families.put("disk_state", int(broker.disk_state == state), state)


def _counters(families: Families, counters: Counters) -> None:
    families.put("loop_stall_seconds_max", counters.loop_stall_seconds_max)
    families.observed("loop_delay_seconds", counters.loop_delays)
    for name in (
        "messages_in",
        "batches_in",
        "fetches",
        "leaderships",
        "log_appends",
        "log_append_bytes",
        "state_hashes",
        "state_disputes",
    ):
        families.put(name, getattr(counters, name))
    families.put("log_fsyncs", counters.fsyncs)
    families.put("log_fsync_seconds", counters.fsync_seconds)
    families.put("log_forked_entries", counters.forked_entries)
    families.put("log_forked_messages", counters.forked_messages)
    for reason, count in counters.produce_refused.items():
        families.put("produce_refused", count, reason)


def _protocol(families: Families, protocol: str, counters: ProtocolCounters) -> None:
    for api, count in counters.requests.items():
        families.put("requests", count, protocol, api)
    for api, duration in counters.durations.items():
        families.observed("request_duration_seconds", duration, protocol, api)
    for code, count in counters.errors.items():
        families.put("errors", count, protocol, code)
    for name in (
        "bytes_in",
        "bytes_out",
        "requests_forwarded",
        "connections",
        "connections_refused",
        "connections_open",
    ):
        families.put(name, getattr(counters, name), protocol)


def _members(families: Families, members: MembersSample | None) -> None:
    """The leader's sight; nobody else has any."""
    if members is None:
        return
    families.put("members", members.members)
    families.put("members_wanted", members.wanted)
    families.put("members_in_sync", members.in_sync)
    for follower in members.followers:
        families.put("member_lag_entries", follower.lag_entries, follower.name)
        families.put("member_lag_bytes", follower.lag_bytes, follower.name)


def _queues(families: Families, queues: Sequence[QueueSample]) -> None:
    for queue in queues:
        length, limit = (
            ("queue_length", "queue_limit") if queue.unit == "items" else ("queue_bytes", "queue_bytes_limit")
        )
        families.put(length, queue.length, queue.name)
        if queue.limit is not None:
            families.put(limit, queue.limit, queue.name)


def _queue_groups(families: Families, counters: QueueCounters) -> None:
    for name in counters.__slots__:
        families.put(f"queue_{name}", getattr(counters, name))


def _tracing(families: Families, counters: TraceCounters) -> None:
    families.put("spans_exported", counters.exported)
    families.put("spans_dropped", counters.queue_full, "queue_full")
    families.put("spans_dropped", counters.failed, "export_failed")
    families.put("trace_events_written", counters.topic_written)
    families.put("trace_events_dropped", counters.topic_queue_full, "queue_full")
    families.put("trace_events_dropped", counters.topic_failed, "write_failed")
    families.put("trace_batches_skipped", counters.too_many_open)
    families.put("trace_looks", counters.looked - counters.unreadable, "read")
    families.put("trace_looks", counters.unreadable, "unreadable")
    families.put("trace_looks", counters.not_opened, "not_opened")


def _topics(families: Families, topics: Sequence[TopicSample]) -> None:
    families.put("topics", len(topics))
    for topic in bounded_samples(topics, TOPIC_SERIES_MAX, lambda topic: topic.name, _all_topics):
        families.put("topic_partitions", topic.partitions, topic.name)
        families.put("topic_messages", topic.messages, topic.name)
        families.put("topic_bytes", topic.bytes, topic.name)


def _groups(families: Families, groups: Sequence[GroupSample]) -> None:
    counts: dict[str, int] = {}
    for group in groups:
        counts[group.state] = counts.get(group.state, 0) + 1
    for state, count in counts.items():
        families.put("groups", count, state)
    for group in bounded_samples(groups, GROUP_SERIES_MAX, lambda group: group.name, _all_groups):
        families.put("group_members", group.members, group.name)
        families.put("group_lag", group.lag, group.name)
        if group.lag_seconds is not None:
            families.put("group_lag_seconds", group.lag_seconds, group.name)
        if group.open is not None:
            families.put("queue_open", group.open, group.name)


S = TypeVar("S")


def bounded_samples(
    samples: Sequence[S], limit: int, name: Callable[[S], str], total: Callable[[Sequence[S]], S]
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
    return [*shown, total(hidden)]


def _all_topics(topics: Sequence[TopicSample]) -> TopicSample:
    return TopicSample(
        OTHER,
        sum(topic.partitions for topic in topics),
        sum(topic.messages for topic in topics),
        sum(topic.bytes for topic in topics),
    )


def _all_groups(groups: Sequence[GroupSample]) -> GroupSample:
    """The oldest message of all of them; not known where one's is not."""
    held = [group.open for group in groups if group.open is not None]
    ages = [group.lag_seconds for group in groups if group.lag_seconds is not None]
    return GroupSample(
        OTHER,
        "",
        sum(group.members for group in groups),
        sum(group.lag for group in groups),
        max(ages) if len(ages) == len(groups) else None,
        sum(held) if held else None,
    )
