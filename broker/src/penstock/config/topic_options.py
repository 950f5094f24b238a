"""A topic's settings. Where a topic sets nothing, the broker's setting of `broker_default` counts."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.config.options import Option, OptionTable
from penstock.tracing.record import TRACE_TOPIC

# The broker's setting that stands in where a topic has none of its own.
BROKER_DEFAULTS = {
    "retention.ms": "log.retention.ms",
    "retention.bytes": "log.retention.bytes",
    "max.message.bytes": "message.max.bytes",
    "message.timestamp.type": "log.message.timestamp.type",
    "min.insync.replicas": "min.insync.replicas",
    "penstock.tracing.sampling": "tracing.sampling",
}

# The broker's own topics, and the settings of the broker that stand in for these.
OWN_TOPICS: Mapping[str, Mapping[str, str]] = {
    TRACE_TOPIC: {
        "retention.ms": "tracing.topic.retention.ms",
        "retention.bytes": "tracing.topic.retention.bytes",
    }
}


def broker_default(topic: str, option: str) -> str | None:
    """The broker's setting that stands in where the topic sets nothing; None where the option has a default of its own."""
    return OWN_TOPICS.get(topic, {}).get(option) or BROKER_DEFAULTS.get(option)


TOPIC_OPTIONS = OptionTable(
    Option(
        "cleanup.policy",
        "string",
        "delete",
        "What happens to old messages: delete drops them by retention.ms and retention.bytes.",
        dynamic=True,
        choices=("delete",),
    ),
    Option(
        "compression.type",
        "string",
        "producer",
        "Batches keep the codec that the producer chose.",
        dynamic=True,
        choices=("producer",),
    ),
    Option(
        "max.message.bytes",
        "int",
        1048588,
        "The largest record batch, in bytes, that may be produced to the topic.",
        dynamic=True,
        minimum=64,
    ),
    Option(
        "message.timestamp.type",
        "string",
        "CreateTime",
        "Whether a message carries the producer's time or the time at which the leader appended it.",
        dynamic=True,
        choices=("CreateTime", "LogAppendTime"),
    ),
    Option(
        "min.insync.replicas",
        "int",
        1,
        "Copies without which a write with acks=all is refused.",
        dynamic=True,
        minimum=1,
    ),
    Option(
        "penstock.tracing",
        "boolean",
        True,
        "Whether batches of the topic are looked into for a trace's context, where the broker traces at all.",
        dynamic=True,
    ),
    Option(
        "penstock.tracing.sampling",
        "double",
        0.01,
        "Part of the batches without a context that are followed; unset: the cluster's tracing.sampling.",
        dynamic=True,
        minimum=0,
        maximum=1,
    ),
    Option(
        "retention.bytes",
        "long",
        -1,
        "Bytes that each partition keeps at least before older messages go; -1 means no bound.",
        dynamic=True,
        minimum=-1,
    ),
    Option(
        "retention.ms",
        "long",
        604800000,
        "Milliseconds after which messages go; -1 keeps them for ever.",
        dynamic=True,
        minimum=-1,
    ),
    Option(
        "segment.bytes",
        "int",
        1073741824,
        "Kept for clients that set it: Penstock's segments belong to the shard's one log (log.segment.bytes).",
        dynamic=True,
        minimum=1,
    ),
    Option(
        "segment.ms",
        "long",
        604800000,
        "Kept for clients that set it: Penstock's segments belong to the shard's one log.",
        dynamic=True,
        minimum=1,
    ),
)
