"""Tracing of a broker, where its configuration asks for it: what decides, what sends, what writes, and the resource that spans name.

The OpenTelemetry libraries are imported here and nowhere else, and only where `tracing.endpoint` is set. Events go to the
collector, to the topic `__trace`, or to both, each with a queue of its own.
"""

from __future__ import annotations

import logging
import os
import random
import time
from pathlib import Path

from penstock import __version__
from penstock.config.broker_config import BrokerConfig
from penstock.process.opening import broker_name
from penstock.runtime.clock import Clock
from penstock.runtime.data_folder import Meta
from penstock.runtime.shard import Shard
from penstock.service.followed import FollowedBatches
from penstock.service.settings import Settings
from penstock.service.topics import TopicServiceImpl
from penstock.service.trace_topic import TraceTopic
from penstock.service.tracing import BrokerTracing
from penstock.telemetry.counters import Counters
from penstock.telemetry.logs import fields
from penstock.telemetry.span_exporter import SpanExporter, SpanSender
from penstock.tracing import attributes as names
from penstock.tracing.record import TRACE_TOPIC
from penstock.tracing.span import Attribute, Span

logger = logging.getLogger(__name__)

SERVICE = "penstock-broker"


def make_exporter(config: BrokerConfig, meta: Meta, counters: Counters) -> SpanExporter | None:
    """None where no spans are to be sent. Raises OSError with a sentence where spans could never be sent."""
    endpoint = config.text("tracing.endpoint")
    if not endpoint:
        return None
    exporter = SpanExporter(_sender(config, endpoint, resource(config, meta)), counters.tracing)
    logger.info("tracing", extra=fields(endpoint=endpoint, sampling=config.value("tracing.sampling")))
    return exporter


def make_trace_topic(
    config: BrokerConfig, meta: Meta, shard: Shard, topics: TopicServiceImpl
) -> TraceTopic | None:
    """None where events are not to be kept."""
    if not config.value("tracing.topic.enabled"):
        return None
    logger.info(
        "keeping events of followed batches",
        extra=fields(topic=TRACE_TOPIC, sampling=config.value("tracing.sampling")),
    )
    return TraceTopic(shard, lambda: topics.make_own(TRACE_TOPIC), broker_name(config, meta))


def make_tracing(
    exporter: SpanExporter | None,
    topic: TraceTopic | None,
    shard: Shard,
    settings: Settings,
    clock: Clock,
    meta: Meta,
) -> BrokerTracing | None:
    """What the use-cases are given; None where nobody wants to know."""
    takers = [taker.emit for taker in (exporter, topic) if taker is not None]
    if not takers:
        return None
    batches = FollowedBatches(settings, clock, shard.counters.tracing, meta.cluster_id, meta.shard_id)
    chance = random.Random()

    def both(span: Span) -> None:
        for emit in takers:
            emit(span)

    emit = takers[0] if len(takers) == 1 else both
    return BrokerTracing(shard, batches, emit, time.time_ns, lambda: chance.getrandbits(64) or 1)


def resource(config: BrokerConfig, meta: Meta) -> dict[str, Attribute]:
    """Whose spans they are."""
    cluster = config.text("cluster.name")
    found: dict[str, Attribute] = {
        names.SERVICE_NAME: SERVICE,
        names.SERVICE_NAMESPACE: cluster,
        names.SERVICE_INSTANCE_ID: broker_name(config, meta),
        names.SERVICE_VERSION: __version__,
        names.PENSTOCK_CLUSTER: cluster,
        names.PENSTOCK_SHARD: meta.shard_id,
    }
    pod = config.text("pod.name") or os.environ.get("POD_NAME", "")
    if pod:
        found[names.K8S_POD_NAME] = pod
    return found


def _sender(config: BrokerConfig, endpoint: str, of: dict[str, Attribute]) -> SpanSender:
    try:
        from penstock.telemetry.otlp import HeadersError, OtlpSender, read_headers
    except ImportError as error:
        raise OSError(
            f"tracing.endpoint is set, but spans cannot be sent without {error.name}: install penstock[otel]"
        ) from error
    file = config.text("tracing.headers.file")
    path = Path(file) if file else None
    try:
        if path is not None:
            read_headers(path)
    except HeadersError as error:
        # Messages matter more than spans: a Secret that was deleted must not keep a broker down.
        logger.warning("no spans are sent until tracing.headers.file can be read: %s", error)
    return OtlpSender(endpoint, of, path)
