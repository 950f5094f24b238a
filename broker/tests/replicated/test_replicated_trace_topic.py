"""A leader of today keeps events while a broker of the first release follows it, and then leads: neither harms the other."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from client_peer import create_topic
from penstock.testing.shard_processes import ShardProcesses
from penstock.tracing.record import TRACE_TOPIC

# Fixtures of the upgrade.
from test_replicated_upgrade import first_release, old_shard, run_release  # noqa: F401

pytestmark = [pytest.mark.clients, pytest.mark.timeout(240)]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = [("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01".encode())]
SECONDS_MAX = 30


def send(bootstrap: str, topic: str) -> None:
    told: list[Any] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(topic, b"value", headers=SAMPLED, on_delivery=lambda error, _: told.append(error))
    assert producer.flush(SECONDS_MAX) == 0
    if told != [None]:
        raise KafkaException(told[0])


def test_brokers_of_an_older_release_follow_and_lead_a_shard_that_keeps_events(
    old_shard: ShardProcesses,  # noqa: F811
) -> None:
    shard = old_shard
    topic = create_topic(shard.kafka, 1)
    newer = shard.followers()
    for ordinal in newer:
        shard.configure(ordinal, {"tracing.topic.enabled": True, "tracing.sampling": 0})
        run_release(shard, ordinal, None)
    old = shard.leader()
    leader = shard.hand_over()
    shard.wait_whole()
    assert leader in newer
    send(shard.kafka, topic)
    events = shard.ask(leader, f"/v1/traces?id={TRACE_ID}")["events"]
    assert [event["what"] for event in events] == ["produced", "received", "appended", "committed"]
    shard.hand_over(old)
    shard.wait_whole()
    send(shard.kafka, topic)
    # The old release kept the topic and counts it as one of its own.
    admin = AdminClient({"bootstrap.servers": shard.kafka})
    assert TRACE_TOPIC in admin.list_topics(timeout=SECONDS_MAX).topics
    run_release(shard, old, None)
    shard.agreed()
