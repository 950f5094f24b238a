"""From an instrumented application through real brokers to another one: one trace, as a collector sees it.

The clients are unmodified: Confluent's, with OpenTelemetry's own instrumentation of it. The collector is a small receiver.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from opentelemetry.instrumentation.confluent_kafka import ConfluentKafkaInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from penstock.testing.otlp_receiver import OtlpReceiver, ReceivedSpan
from penstock.testing.process import BrokerProcess
from penstock.testing.shard_processes import ShardProcesses

pytestmark = pytest.mark.clients

TOPIC = "orders"
NEVER: dict[str, object] = {"tracing.sampling": 0}


class Application:
    """An instrumented producer and consumer, and the spans that they made themselves."""

    def __init__(self, bootstrap: str, sampler: Sampler = ALWAYS_ON) -> None:
        self.bootstrap = bootstrap
        self.memory = InMemorySpanExporter()
        self._provider = TracerProvider(sampler=sampler)
        self._provider.add_span_processor(SimpleSpanProcessor(self.memory))

    def send(self, *keys: str, **options: object) -> list[int]:
        """One batch for each key; gives the offsets."""
        settings = {"bootstrap.servers": self.bootstrap, "linger.ms": 0, "client.id": "shop", **options}
        producer: Any = ConfluentKafkaInstrumentor.instrument_producer(Producer(settings), self._provider)
        offsets: list[int] = []
        for key in keys:
            producer.produce(TOPIC, f"value of {key}", key=key, on_delivery=lambda error, message: offsets.append(
                -1 if error is not None else message.offset()
            ))  # fmt: skip
            producer.flush(30)
        return offsets

    def receive(self, count: int, group: str = "billing") -> list[int]:
        """Reads from the beginning and commits; gives the offsets."""
        settings = {
            "bootstrap.servers": self.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "client.id": "billing",
        }
        plain = Consumer(settings)
        consumer: Any = ConfluentKafkaInstrumentor.instrument_consumer(plain, self._provider)
        plain.subscribe([TOPIC])
        try:
            messages: list[Any] = []
            while len(messages) < count:
                message = consumer.poll(30)
                assert message is not None, f"{len(messages)} of {count} messages came"
                assert message.error() is None, message.error()
                messages.append(message)
            plain.commit(asynchronous=False)
        finally:
            consumer.close()
        return [message.offset() for message in messages]

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.memory.get_finished_spans() if span.name == name]


def create_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (made,) = admin.create_topics([NewTopic(TOPIC, 1)]).values()
    made.result(30)


def called(spans: list[ReceivedSpan], operation: str) -> list[ReceivedSpan]:
    return sorted(
        (span for span in spans if span.name == f"{operation} {TOPIC}"), key=lambda span: span.start_ns
    )


def counted(spans: list[ReceivedSpan], **wanted: int) -> bool:
    return all(len(called(spans, operation)) >= count for operation, count in wanted.items())


@pytest.mark.parametrize("compression", ["none", "lz4"])
async def test_one_trace_from_the_producer_to_the_commit(tmp_path: Path, compression: str) -> None:
    async with OtlpReceiver() as receiver:
        config = NEVER | {
            "tracing.endpoint": receiver.endpoint,
            "cluster.name": "shop",
            "broker.name": "shop-0-0",
        }
        with BrokerProcess(tmp_path, config=config) as broker:
            await asyncio.to_thread(create_topic, broker.kafka)
            application = Application(broker.kafka)
            assert await asyncio.to_thread(
                lambda: application.send("order-4711", **{"compression.type": compression})
            ) == [0]
            assert await asyncio.to_thread(application.receive, 1) == [0]
            await receiver.until(
                lambda spans: counted(spans, receive=1, append=1, replicate=1, deliver=1, settle=1)
            )
            metrics = await asyncio.to_thread(fetch_text, f"{broker.admin}/metrics")
    (send,) = application.spans(f"{TOPIC} send")
    (process,) = application.spans(f"{TOPIC} process")
    trace_id, sent_by = f"{send.context.trace_id:032x}", f"{send.context.span_id:016x}"
    assert [f"{link.context.trace_id:032x}" for link in process.links] == [trace_id]
    assert {span.trace_id for span in receiver.spans} == {trace_id}
    (receive,) = called(receiver.spans, "receive")
    tree = {
        (span.name.split()[0], span.kind, span.parent_id, tuple(span.links), span.error)
        for span in receiver.spans
    }
    below, linked = receive.span_id, ((trace_id, sent_by),)
    assert tree == {
        ("receive", "SERVER", sent_by, (), None),
        ("append", "INTERNAL", below, (), None),
        ("replicate", "INTERNAL", below, (), None),
        ("deliver", "SERVER", below, linked, None),
        ("settle", "SERVER", below, linked, None),
    }
    for span in receiver.spans:
        assert span.start_ns <= span.end_ns
        assert span.resource["service.name"] == "penstock-broker"
        assert span.resource["service.namespace"] == span.resource["penstock.cluster"] == "shop"
        assert span.resource["service.instance.id"] == "shop-0-0"
        assert span.attributes["messaging.kafka.message.key"] == "order-4711"
        assert span.attributes["messaging.kafka.offset"] == 0
    (settle,) = called(receiver.spans, "settle")
    assert settle.attributes["messaging.consumer.group.name"] == "billing"
    assert settle.attributes["messaging.client.id"] == "billing"
    assert receive.attributes["messaging.client.id"] == "shop"
    assert "penstock_spans_exported_total 5.0" in metrics


async def test_the_producers_flag_and_the_topics_settings_decide(tmp_path: Path) -> None:
    async with OtlpReceiver() as receiver:
        with BrokerProcess(tmp_path, config=NEVER | {"tracing.endpoint": receiver.endpoint}) as broker:
            await asyncio.to_thread(create_topic, broker.kafka)
            quiet = Application(broker.kafka, ALWAYS_OFF)
            await asyncio.to_thread(quiet.send, "not", "followed")
            # A rule follows what nobody else does.
            rule = {"topic": TOPIC, "key": "order-47*", "seconds": 600}
            await asyncio.to_thread(post, f"{broker.admin}/v1/tracing/rules", rule)
            await asyncio.to_thread(quiet.send, "order-4711", "order-5000")
            await receiver.until(lambda spans: counted(spans, receive=1, replicate=1))
        # The stop sent what was left.
    assert [span.attributes["messaging.kafka.offset"] for span in called(receiver.spans, "receive")] == [2]


async def test_off_makes_no_span_and_looks_into_nothing(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path) as broker:
        await asyncio.to_thread(create_topic, broker.kafka)
        application = Application(broker.kafka)
        await asyncio.to_thread(application.send, "a", "b")
        await asyncio.to_thread(application.receive, 2)
        metrics = await asyncio.to_thread(fetch_text, f"{broker.admin}/metrics")
    assert 'penstock_trace_looks_total{result="read"} 0.0' in metrics
    assert "penstock_spans_exported_total 0.0" in metrics


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    async with OtlpReceiver() as receiver:
        endpoint = receiver.endpoint
    with BrokerProcess(tmp_path, config={"tracing.endpoint": endpoint, "tracing.sampling": 1}) as broker:
        await asyncio.to_thread(create_topic, broker.kafka)
        application = Application(broker.kafka)
        keys = [f"k{number}" for number in range(50)]
        assert await asyncio.to_thread(application.send, *keys) == list(range(50))
        assert await asyncio.to_thread(broker.terminate) == 0
        log = (tmp_path / "broker.log").read_text()
    assert log.count("spans cannot be sent") == 1


async def test_a_trace_goes_on_with_the_next_leader(tmp_path: Path) -> None:
    async with OtlpReceiver() as receiver:
        config = NEVER | {"tracing.endpoint": receiver.endpoint, "min.insync.replicas": 2}
        with ShardProcesses(tmp_path, config=config) as shard:
            bootstrap = ",".join(broker.kafka for broker in shard.brokers)
            await asyncio.to_thread(create_topic, bootstrap)
            application = Application(bootstrap)
            assert await asyncio.to_thread(application.send, "before") == [0]
            await receiver.until(lambda spans: counted(spans, receive=1, append=1, replicate=1))
            leader = await asyncio.to_thread(shard.leader)
            await asyncio.to_thread(shard.kill, leader)
            await asyncio.to_thread(lambda: shard.leader(other_than=leader))
            assert await asyncio.to_thread(application.send, "after") == [1]
            assert await asyncio.to_thread(application.receive, 2) == [0, 1]
            await receiver.until(lambda spans: counted(spans, receive=2, replicate=2, deliver=2, settle=1))
            await asyncio.to_thread(shard.start)
    sent = [
        (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}")
        for span in application.spans(f"{TOPIC} send")
    ]
    received, delivered = called(receiver.spans, "receive"), called(receiver.spans, "deliver")
    assert [(span.trace_id, span.parent_id) for span in received] == sent
    first, second = received
    assert first.resource["service.instance.id"] != second.resource["service.instance.id"]
    assert int(str(first.attributes["penstock.epoch"])) < int(str(second.attributes["penstock.epoch"]))
    # The second leader never received the first message from its producer, and tells its delivery in the same trace.
    at = {span.attributes["messaging.kafka.offset"]: span for span in delivered}
    assert at[0].resource["service.instance.id"] == second.resource["service.instance.id"]
    assert (at[0].trace_id, at[0].parent_id, at[0].links) == (first.trace_id, first.span_id, [sent[0]])
    assert (at[1].trace_id, at[1].parent_id, at[1].links) == (second.trace_id, second.span_id, [sent[1]])


def fetch_text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def post(url: str, body: object) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201
