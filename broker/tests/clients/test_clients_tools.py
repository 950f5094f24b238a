"""What only single tools do: the performance tests that the bench uses, listings, lookups, the table of versions."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from client_matrix import scenario
from client_process import run
from driver_kcat import kcat
from penstock.testing.apache_kafka import java_command
from penstock.testing.wire_probe import end_offsets

if TYPE_CHECKING:
    from client_peer import MakeTopic

TOOLS = "org.apache.kafka.tools"
RECORDS = 20_000
PARTITIONS = 3
only_java = pytest.mark.parametrize(
    "client", [pytest.param(None, id="Apache_Kafka_tools", marks=pytest.mark.java)]
)
only_kcat = pytest.mark.parametrize("client", [pytest.param(None, id="kcat", marks=pytest.mark.kcat)])


@scenario("kafka-producer-perf-test and kafka-consumer-perf-test")
@only_java
def test_performance_tools(client: None, bootstrap: str, make_topic: MakeTopic) -> None:
    topic = make_topic(PARTITIONS)
    told = run(
        java_command(
            f"{TOOLS}.ProducerPerformance",
            *("--bootstrap-server", bootstrap, "--topic", topic, "--num-records", str(RECORDS)),
            *("--throughput", "-1", "--record-size", "100", "--command-property", "acks=all"),
        )
    )
    assert f"{RECORDS} records sent" in told.splitlines()[-1]
    assert sum(end_offsets(bootstrap, topic, PARTITIONS).values()) == RECORDS
    told = run(
        java_command(
            f"{TOOLS}.ConsumerPerformance",
            *("--bootstrap-server", bootstrap, "--topic", topic, "--num-records", str(RECORDS)),
            *("--timeout", "20000"),
        )
    )
    header, row = (line.split(", ") for line in told.splitlines() if "," in line)
    assert int(row[header.index("data.consumed.in.nMsg")]) == RECORDS


@scenario("kafka-get-offsets: earliest, latest, by time")
@only_java
def test_get_offsets(client: None, bootstrap: str, make_topic: MakeTopic) -> None:
    topic = make_topic(1, {"retention.ms": "-1"})
    _produce(bootstrap, topic, times=(1000, 2000, 3000))
    for asked, expected in (("earliest", 0), ("latest", 3), ("1500", 1), ("max-timestamp", 2)):
        told = run(
            java_command(
                f"{TOOLS}.GetOffsetShell",
                *("--bootstrap-server", bootstrap, "--topic", topic, "--time", asked),
            )
        )
        assert told.strip() == f"{topic}:0:{expected}", asked


@scenario("kafka-broker-api-versions")
@only_java
def test_api_versions(client: None, bootstrap: str) -> None:
    told = run(java_command(f"{TOOLS}.BrokerApiVersionsCommand", "--bootstrap-server", bootstrap))
    served = dict(re.findall(r"^\s+(\w+)\(\d+\): (\d+ to \d+|\d+)", told, re.MULTILINE))
    # Produce from 0, or librdkafka stops compressing (KAFKA-18659); Fetch to 12 at least, or its 2.6.0 hangs.
    assert served["Produce"].startswith("0 to ")
    assert int(served["Fetch"].split()[-1]) >= 12


@scenario("metadata listing and query by time")
@only_kcat
def test_kcat_listing_and_query(client: None, bootstrap: str, make_topic: MakeTopic) -> None:
    topic = make_topic(1, {"retention.ms": "-1"})
    _produce(bootstrap, topic, times=(1000, 2000, 3000))
    listing = json.loads(run([kcat(), "-L", "-J", "-b", bootstrap]))
    (found,) = [one for one in listing["topics"] if one["topic"] == topic]
    assert len(found["partitions"]) == 1
    told = run([kcat(), "-Q", "-b", bootstrap, "-t", f"{topic}:0:1500"])
    assert told.split() == [topic, "[0]", "offset", "1"]


def _produce(bootstrap: str, topic: str, times: tuple[int, ...]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for time_ms in times:
        producer.produce(topic, b"value", timestamp=time_ms)
    assert producer.flush(20) == 0
