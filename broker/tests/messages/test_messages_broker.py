"""`penstock message` and `penstock trace` against real brokers, with messages that librdkafka wrote."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from penstock.codec.murmur2 import partition_for_key
from penstock.testing.shard_processes import ShardProcesses
from penstock_command import penstock_against

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.testing.process import BrokerProcess
    from penstock_command import Penstock

pytestmark = pytest.mark.clients
BINARY = b"\x00\xff\x1b[2J\x80"
DELIVERY_S = 20.0
FIND = ("message", "find", "--json", "--topic")


def send(bootstrap: str, topic: str, messages: list[dict[str, Any]], **options: Any) -> list[tuple[int, int]]:
    """Where each message went: partition and offset."""
    places: dict[int, tuple[int, int]] = {}
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, **options})
    for number, message in enumerate(messages):

        def delivered(error: object, at: Any, number: int = number) -> None:
            assert error is None, error
            places[number] = (at.partition(), at.offset())

        producer.produce(topic, on_delivery=delivered, **message)
    assert producer.flush(DELIVERY_S) == 0
    return [places[number] for number in range(len(messages))]


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def ask(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_a_message_is_shown_as_it_was_sent(broker: BrokerProcess, penstock: Penstock, codec: str) -> None:
    topic = f"shown-{codec}"
    assert penstock("topic", "create", topic).code == 0
    headers = [("traceparent", b"00-1-2-01"), ("again", b"1"), ("again", BINARY), ("none", None)]
    messages = [
        {"key": b"k", "value": b"text " * 100, "headers": headers, "timestamp": 1_795_262_400_123},
        {"key": None, "value": BINARY},
        {"key": b"k", "value": None},
        {"key": b"", "value": b""},
    ]
    options = {"compression.type": codec, "enable.idempotence": True}
    assert send(broker.kafka, topic, messages, **options) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    shown = [json.loads(penstock("message", "get", topic, "0", str(n), "--json").out) for n in range(4)]
    first = shown[0]
    assert (first["time"], first["timestampType"]) == ("2026-11-21T12:00:00.123000Z", "CreateTime")
    assert first["key"] == {"bytes": 1, "text": "k", "base64": None, "truncated": False}
    assert first["value"]["text"] == "text " * 100
    assert [(each["name"], each["value"] and each["value"]["bytes"]) for each in first["headers"]] == [
        ("traceparent", 9),
        ("again", 1),
        ("again", len(BINARY)),
        ("none", None),
    ]
    assert [each["batch"]["compression"] for each in shown] == [codec] * 4
    assert [each["producer"]["sequence"] for each in shown] == [0, 1, 2, 3]
    assert (first["shard"], first["epoch"], first["committed"], first["leader"]) == (
        0,
        1,
        True,
        "penstock-0-0",
    )
    assert [shown[1]["key"], shown[2]["value"], shown[3]["value"]["bytes"]] == [None, None, 0]
    assert shown[1]["value"]["text"] is None
    assert penstock("message", "get", topic, "0", "1", "--body", "-").out == BINARY
    text = penstock("message", "get", topic, "0", "1").text
    assert "\x1b" not in text
    assert "(null)" in text
    assert [each["offset"] for each in lines(penstock(*FIND, topic, "--key", "k").text)] == [2, 0]
    assert [each["offset"] for each in lines(penstock(*FIND, topic, "--key", "").text)] == [3]


def test_a_producer_without_an_id_has_none(broker: BrokerProcess, penstock: Penstock) -> None:
    penstock("topic", "create", "plain", "--config", "message.timestamp.type=LogAppendTime")
    send(broker.kafka, "plain", [{"value": b"v"}], **{"enable.idempotence": False})
    shown = json.loads(penstock("message", "get", "plain", "0", "0", "--json").out)
    assert (shown["producer"], shown["timestampType"]) == (None, "LogAppendTime")
    assert "without an id" in penstock("message", "get", "plain", "0", "0").text
    [produced, appended, _] = json.loads(
        penstock("trace", "--topic", "plain", "--partition", "0", "--offset", "0", "--json").out
    )["events"]
    assert (produced["at"], appended["at"]) == (None, shown["time"])


def test_keys_are_found_wherever_a_partitioner_put_them(broker: BrokerProcess, penstock: Penstock) -> None:
    penstock("topic", "create", "keys", "--partitions", "6")
    key = next(
        text for number in range(100) if zlib.crc32(text := b"%d" % number) % 6 != partition_for_key(text, 6)
    )
    other = [{"key": b"other-%d" % n, "value": b"x"} for n in range(300)]
    by_crc = send(broker.kafka, "keys", [{"key": key, "value": b"crc"}, *other])[0]
    by_murmur = send(broker.kafka, "keys", [{"key": key, "value": b"m"}], partitioner="murmur2")[0]
    assert by_crc[0] == zlib.crc32(key) % 6
    assert by_murmur[0] == partition_for_key(key, 6)
    found = [
        (each["partition"], each["offset"])
        for each in lines(penstock(*FIND, "keys", "--key", key.decode()).text)
    ]
    assert found == [by_murmur, by_crc]
    only = penstock(*FIND, "keys", "--key", key.decode(), "--partition", str(by_crc[0]))
    assert [(each["partition"], each["offset"]) for each in lines(only.text)] == [by_crc]
    newest = penstock("trace", "--topic", "keys", "--key", key.decode()).text
    assert newest.startswith(f"keys, partition {by_murmur[0]}, offset {by_murmur[1]}\n")
    binary = send(broker.kafka, "keys", [{"key": BINARY, "value": b"b"}])
    by_base64 = penstock(*FIND, "keys", "--key-base64", "AP8bWzJKgA==")
    assert [(each["partition"], each["offset"]) for each in lines(by_base64.text)] == binary


def test_since_leaves_out_what_is_older(broker: BrokerProcess, penstock: Penstock) -> None:
    penstock("topic", "create", "times", "--config", "retention.ms=-1")
    for timestamp in (1000, 2000, 3000):
        send(broker.kafka, "times", [{"key": b"k", "value": b"v", "timestamp": timestamp}])
    found = penstock(*FIND, "times", "--key", "k", "--since", "1970-01-01T00:00:02Z")
    assert [each["timestamp"] for each in lines(found.text)] == [3000, 2000]
    gone = penstock(*FIND, "times", "--key", "k", "--since", "1h")
    assert (gone.code, gone.out) == (1, b"")
    assert "0 messages, 0 B" in gone.err


def test_groups_are_told_by_who_has_read_the_message(broker: BrokerProcess, penstock: Penstock) -> None:
    penstock("topic", "create", "read")
    send(broker.kafka, "read", [{"key": b"k", "value": b"%d" % n} for n in range(5)])
    for group, position in (("ahead", 5), ("behind", 1)):
        consumer = Consumer(
            {"bootstrap.servers": broker.kafka, "group.id": group, "enable.auto.commit": False}
        )
        consumer.commit(offsets=[TopicPartition("read", 0, position)], asynchronous=False)
        consumer.close()
    shown = json.loads(penstock("message", "get", "read", "0", "3", "--json").out)
    assert [(g["group"], g["read"], g["position"], g["ahead"], g["lag"]) for g in shown["groups"]] == [
        ("ahead", True, 5, 0, 0),
        ("behind", False, 1, 2, 4),
    ]
    trace = json.loads(
        penstock("trace", "--topic", "read", "--partition", "0", "--offset", "3", "--json").out
    )
    assert [(event["what"], event["who"]) for event in trace["events"][3:]] == [
        ("read", "group ahead"),
        ("unread", "group behind"),
    ]
    assert trace["events"][3]["at"] == shown["groups"][0]["committedAt"]


def test_what_is_not_there_is_said_and_why(broker: BrokerProcess, penstock: Penstock) -> None:
    penstock("topic", "create", "gaps", "--partitions", "2")
    send(broker.kafka, "gaps", [{"value": b"v", "partition": 0}] * 3)
    asked = penstock("message", "get", "gaps", "0", "3")
    assert (asked.code, asked.out) == (1, b"")
    assert (
        "Offset 3 of partition 0 of 'gaps' is not written yet: the next message there gets offset 3."
        in asked.err
    )
    assert "has 2 partitions, 0 to 1; there is no 2" in penstock("message", "get", "gaps", "2", "0").err
    assert "There is no topic 'nope'" in penstock("message", "get", "nope", "0", "0").err
    assert "There is no topic 'nope'" in penstock(*FIND, "nope", "--key", "k").err
    assert "There is no topic '../x'" in penstock("message", "get", "../x", "0", "0").err


def test_hostile_questions_are_refused_and_the_broker_goes_on(
    broker: BrokerProcess, penstock: Penstock
) -> None:
    penstock("topic", "create", "asked")
    send(broker.kafka, "asked", [{"key": b"k", "value": b"v"}])
    huge = "9" * 6000
    one, find = "/v1/topics/asked/partitions/0/messages", "/v1/topics/asked/messages?key=k"
    hostile = [
        f"{one}/{huge}",
        f"{one}/-1",
        f"{one}/0%00",
        f"{one}/%FF%FE",
        f"{one}/0?preview={huge}",
        f"{one}/..%2F..%2F0/value",
        f"/v1/topics/{'%2e' * 500}/partitions/0/messages/0",
        "/v1/topics/%FF/messages?key=%FF",
        f"{find}&cursor={'A' * 6000}",
        f"{find}&cursor=%FF%00",
        f"{find}&since={huge}",
        f"{find}&limit=-1",
        f"{find}&partition={huge}",
        "/v1/traces?topic=%00&partition=0&offset=0",
        f"/v1/traces?topic=asked&partition=0&offset={2**63}",
    ]
    for where in hostile:
        status, body = ask(broker.admin + where)
        assert 400 <= status < 500, (where, body)
        assert json.loads(body)["detail"].endswith("."), body
    assert penstock("message", "get", "asked", "0", "0").code == 0


def test_every_broker_answers_and_an_older_epoch_is_told(tmp_path: Path) -> None:
    with ShardProcesses(tmp_path) as shard:
        brokers = [penstock_against(each.admin, each.http) for each in shard.brokers]
        assert brokers[0]("topic", "create", "orders").code == 0
        send(shard.kafka, "orders", [{"key": b"k", "value": b"before"}])
        epoch = json.loads(brokers[0]("message", "get", "orders", "0", "0", "--json").out)["epoch"]
        shard.hand_over()
        send(shard.kafka, "orders", [{"key": b"k", "value": b"after"}])
        leader = shard.leader()
        for penstock in brokers:
            first, second = (
                json.loads(penstock("message", "get", "orders", "0", offset, "--json").out)
                for offset in ("0", "1")
            )
            assert (first["epoch"], first["leader"]) == (epoch, "")
            assert second["epoch"] > epoch
            assert second["leader"] == shard.name(leader)
            found = lines(penstock(*FIND, "orders", "--key", "k").text)
            assert [each["value"]["text"] for each in found] == ["after", "before"]
            assert penstock("message", "get", "orders", "0", "1", "--body", "-").out == b"after"
            assert (
                "a leader before the one of now"
                in penstock("trace", "--topic", "orders", "--partition", "0", "--offset", "0").text
            )
