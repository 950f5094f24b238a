"""`penstock trace` of messages that were followed, against real brokers that keep events, across the death of a leader."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from penstock.testing.process import BrokerProcess
from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.clients

TOPIC = "orders"
KEPT: dict[str, object] = {"tracing.topic.enabled": True, "tracing.sampling": 0}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = [("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01".encode())]
UNSAMPLED = [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")]
SECONDS_MAX = 30


def penstock(admin: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock.main", *arguments, "--admin", admin]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)


def traced(admin: str, *arguments: str) -> dict[str, Any]:
    done = penstock(admin, "trace", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def create_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (made,) = admin.create_topics([NewTopic(TOPIC, 1)]).values()
    made.result(SECONDS_MAX)


def send(
    bootstrap: str,
    key: str,
    headers: list[tuple[str, bytes]] | None = None,
    topic: str = TOPIC,
    **options: object,
) -> int:
    """One message as a batch of its own; gives its offset. Raises KafkaException."""
    told: list[tuple[Any, Any]] = []
    producer = Producer(
        {"bootstrap.servers": bootstrap, "client.id": "shop", "acks": "all", "linger.ms": 0, **options}
    )
    producer.produce(
        topic, f"value of {key}", key, headers=headers or [], on_delivery=lambda *is_: told.append(is_)
    )
    assert producer.flush(SECONDS_MAX) == 0
    ((error, message),) = told
    if error is not None:
        raise KafkaException(error)
    return int(message.offset())


def read_and_commit(bootstrap: str, count: int, group: str = "billing") -> None:
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "client.id": "books",
        "enable.auto.commit": False,
    }
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    try:
        messages = consumer.consume(count, SECONDS_MAX)
        assert [message.error() for message in messages] == [None] * count
        consumer.commit(offsets=[TopicPartition(TOPIC, 0, count)], asynchronous=False)
    finally:
        consumer.close()


def metrics(broker: BrokerProcess) -> str:
    with urllib.request.urlopen(f"{broker.admin}/metrics", timeout=SECONDS_MAX) as answer:
        text: bytes = answer.read()
        return text.decode()


def test_a_message_that_lived_through_the_death_of_its_leader_is_told_with_both_leaders(
    tmp_path: Path,
) -> None:
    with ShardProcesses(tmp_path, config=KEPT | {"min.insync.replicas": 2}) as shard:
        create_topic(shard.kafka)
        assert send(shard.kafka, "order-4711", SAMPLED) == 0
        before = shard.leader()
        admin = shard.brokers[before].admin
        first = traced(admin, "--id", TRACE_ID)
        assert [event["what"] for event in first["events"]] == [
            "produced",
            "received",
            "appended",
            "committed",
        ]
        shard.kill(before)
        after = shard.leader(other_than=before)
        read_and_commit(shard.kafka, 1)
        for asked in (
            ("--id", TRACE_ID),
            ("--topic", TOPIC, "--key", "order-4711"),
            ("--topic", TOPIC, "--partition", "0", "--offset", "0"),
        ):
            told = traced(shard.brokers[after].admin, *asked)
            assert (told["message"]["topic"], told["message"]["offset"]) == (TOPIC, 0)
            assert (told["sampled"], told["traceId"], told["next"]) == (True, TRACE_ID, None)
            assert [(event["what"], event["source"]) for event in told["events"]] == [
                ("produced", "message"),
                ("received", "trace"),
                ("appended", "trace"),
                ("committed", "trace"),
                ("delivered", "trace"),
                ("settled", "trace"),
            ]
            said = {event["what"]: f"{event['who']} {event['detail']}" for event in told["events"]}
            assert all(shard.name(before) in said[what] for what in ("received", "appended", "committed"))
            assert all(shard.name(after) in said[what] for what in ("delivered", "settled"))
            assert "client shop" in said["received"]
            assert "client books" in said["delivered"]
            assert "group billing" in said["settled"]
            times = [event["at"] for event in told["events"]]
            assert times[1:] == sorted(times[1:])
        # A follower that was never the leader passes the question on.
        (third,) = set(shard.running) - {after}
        assert traced(shard.brokers[third].admin, "--id", TRACE_ID) == told
        shard.restart(before)
        shard.wait_whole()
        shard.agreed()


def test_what_can_be_known_of_messages_that_nobody_followed(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path, config=KEPT) as broker:
        create_topic(broker.kafka)
        send(broker.kafka, "with", UNSAMPLED)
        send(broker.kafka, "without")
        read_and_commit(broker.kafka, 2)
        told = traced(broker.admin, "--topic", TOPIC, "--key", "with")
        assert told["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736"
        assert not told["sampled"]
        assert "It is not followed: its producer's context is not sampled." in told["note"]
        derived = traced(broker.admin, "--topic", TOPIC, "--key", "without")
        assert "follows from where it stands" in derived["note"]
        assert "the ratio of now does not pick it" in derived["note"]
        assert [event["what"] for event in derived["events"]] == ["produced", "appended", "committed", "read"]
        # Whoever has the id from elsewhere is led to the message, though no event is kept of it.
        by_id = traced(broker.admin, "--id", derived["traceId"])
        assert (by_id["message"]["offset"], by_id["events"]) == (1, derived["events"])
        unknown = penstock(broker.admin, "trace", "--id", "f" * 32)
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert f"Nothing is known of trace {'f' * 32}" in unknown.stderr
        assert (
            "__trace" not in AdminClient({"bootstrap.servers": broker.kafka}).list_topics(timeout=10).topics
        )
        broker.terminate()
        broker.configure({})
        broker.start()
        assert "tracing is off" in traced(broker.admin, "--topic", TOPIC, "--key", "with")["note"]


def test_clients_see_an_internal_topic_that_they_may_read_and_not_write(tmp_path: Path) -> None:
    config = KEPT | {"tracing.topic.retention.ms": 3_600_000}
    with BrokerProcess(tmp_path, config=config) as broker:
        create_topic(broker.kafka)
        send(broker.kafka, "order-1", SAMPLED)
        assert traced(broker.admin, "--id", TRACE_ID)["sampled"]
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        (described,) = admin.describe_topics(TopicCollection(["__trace"])).values()
        assert described.result(SECONDS_MAX).is_internal
        resource = ConfigResource(ConfigResource.Type.TOPIC, "__trace")
        (configured,) = admin.describe_configs([resource]).values()
        shown = {name: entry.value for name, entry in configured.result(SECONDS_MAX).items()}
        assert (shown["retention.ms"], shown["retention.bytes"]) == ("3600000", str(256 * 1024 * 1024))
        with pytest.raises(KafkaException) as refused:
            send(broker.kafka, "mine", topic="__trace")
        assert refused.value.args[0].code() == KafkaError.TOPIC_EXCEPTION
        consumer = Consumer({"bootstrap.servers": broker.kafka, "group.id": "ops"})
        consumer.assign([TopicPartition("__trace", 0, 0)])
        messages = consumer.consume(3, SECONDS_MAX)
        consumer.close()
        assert [message.key() for message in messages] == [TRACE_ID.encode()] * 3
        assert {json.loads(message.value())["v"] for message in messages} == {1}
        # Reading it is not followed, and neither is anything else of it.
        assert len(traced(broker.admin, "--id", TRACE_ID)["events"]) == 4
        said = metrics(broker)
        assert "penstock_trace_events_written_total 3.0" in said
        assert 'penstock_trace_events_dropped_total{reason="queue_full"} 0.0' in said


def test_a_message_that_was_refused_is_told_although_it_is_nowhere(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path, config=KEPT | {"min.insync.replicas": 2}) as broker:
        create_topic(broker.kafka)
        with pytest.raises(KafkaException):
            send(broker.kafka, "order-1", SAMPLED, **{"message.timeout.ms": 1000})
        done = penstock(broker.admin, "trace", "--id", TRACE_ID)
        assert done.returncode == 0, done.stderr
        first, came, refused, *_ = done.stdout.splitlines()
        assert (first, came.split()[1], refused.split()[1]) == (f"trace {TRACE_ID}", "received", "refused")
        assert "orders, partition 0: NOT_ENOUGH_REPLICAS: topic orders has min.insync.replicas=2" in refused
        assert "The message itself is not in the log" in done.stderr


def test_events_of_a_broker_that_stops_in_order_are_kept(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path, config=KEPT) as broker:
        create_topic(broker.kafka)
        send(broker.kafka, "order-1", SAMPLED)
        broker.restart()
        told = traced(broker.admin, "--id", TRACE_ID)
        assert [event["what"] for event in told["events"]] == [
            "produced",
            "received",
            "appended",
            "committed",
        ]
