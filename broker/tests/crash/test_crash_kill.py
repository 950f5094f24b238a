"""kill -9 at random moments under load: nothing acknowledged is lost, moved, doubled or out of order, offsets are dense.

An idempotent producer sends without pause to one topic; meanwhile topics are created and a group's offsets committed.
The moments are drawn from a seed, and some come while the broker is still recovering from the last one. Five rounds
are a smoke test; PENSTOCK_CRASH_ROUNDS=50 is what a release runs. A failure names its seed: set PENSTOCK_CRASH_SEED.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from penstock.testing.process import BrokerProcess
from penstock.testing.wire_probe import end_offsets, stored_batches
from steady_producer import SteadyProducer, now_ms, number_of

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.testing.ledger import Ledger

ROUNDS = int(os.environ.get("PENSTOCK_CRASH_ROUNDS", "5"))
SEED = int(os.environ.get("PENSTOCK_CRASH_SEED", str(random.SystemRandom().randrange(1 << 32))))
TOPIC = "crash"
GROUP = "crash-group"
PARTITIONS = 4
SHORTEST_LIFE_S = 0.02
LONGEST_LIFE_S = 1.5
KILL_DURING_RECOVERY = 0.3
PER_SECOND = 4000
CALL_TIMEOUT_S = 30.0


@pytest.mark.clients
@pytest.mark.timeout(120 + 10 * ROUNDS)
@pytest.mark.parametrize("policy", ["sync", "async"])
def test_kill_at_random_moments(policy: str, tmp_path: Path) -> None:
    seed = f"PENSTOCK_CRASH_SEED={SEED}"
    moments = random.Random(SEED)
    config = {"flush.policy": policy, "log.segment.bytes": 1 << 20}
    broker = BrokerProcess(tmp_path, config=config, listeners=("kafka",))
    with broker:
        _create(broker.kafka, TOPIC, PARTITIONS)
        producer = SteadyProducer(broker.kafka, TOPIC, PARTITIONS, per_second=PER_SECOND)
        for number in range(ROUNDS):
            _create(broker.kafka, f"round-{number}", 1)
            _commit(broker.kafka, number)
            acked = producer.ledger.acked
            _await_answer(producer, acked, f"in round {number}; {seed}")
            time.sleep(moments.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S))
            producer.ledger.interrupt(now_ms())
            broker.kill()
            if moments.random() < KILL_DURING_RECOVERY:
                broker.launch_only()
                time.sleep(moments.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S))
                broker.kill()
            broker.restart()
            topics = (
                AdminClient({"bootstrap.servers": broker.kafka}).list_topics(timeout=CALL_TIMEOUT_S).topics
            )
            assert {f"round-{one}" for one in range(number + 1)} <= set(topics), seed
            assert _committed(broker.kafka) == number, seed
        producer.stop()
        _check(broker.kafka, producer.ledger, seed)
        assert broker.terminate() == 0


def _check(bootstrap: str, ledger: Ledger, seed: str) -> None:
    ends = end_offsets(bootstrap, TOPIC, PARTITIONS)
    for partition, end in ends.items():
        expected = 0
        for batch in stored_batches(bootstrap, TOPIC, partition):
            assert batch.base_offset == expected, f"a gap before {batch} of partition {partition}; {seed}"
            assert batch.last_offset - batch.base_offset + 1 == batch.records, f"{batch}; {seed}"
            expected = batch.last_offset + 1
        assert expected == end, f"partition {partition}; {seed}"
    _read(bootstrap, ledger, sum(ends.values()))
    verdict = ledger.judge()
    print(verdict.line(), f"unacked={verdict.unacked}", seed)
    assert verdict.good, (verdict.examples, seed)
    assert verdict.duplicated == 0, f"an idempotent producer doubled messages; {seed}"
    assert verdict.acked == verdict.sent, f"the client gave messages up: {verdict}; {seed}"


def _read(bootstrap: str, ledger: Ledger, count: int) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    read = 0
    deadline = time.monotonic() + 60
    try:
        while read < count:
            assert time.monotonic() < deadline, f"{read} of {count} messages read after a minute"
            for message in consumer.consume(10_000, 0.2):
                assert message.error() is None, message.error()
                ledger.receive(number_of(message), message.partition(), message.offset())
                read += 1
    finally:
        consumer.close()


def _create(bootstrap: str, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(CALL_TIMEOUT_S)


def _commit(bootstrap: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP, "enable.auto.commit": False})
    try:
        consumer.commit(offsets=[TopicPartition(TOPIC, 0, offset)], asynchronous=False)
    finally:
        consumer.close()


def _committed(bootstrap: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP, "enable.auto.commit": False})
    try:
        (found,) = consumer.committed([TopicPartition(TOPIC, 0)], timeout=CALL_TIMEOUT_S)
        if found.error is not None:
            raise KafkaException(found.error)
        return int(found.offset)
    finally:
        consumer.close()


def _await_answer(producer: SteadyProducer, acked: int, when: str) -> None:
    deadline = time.monotonic() + CALL_TIMEOUT_S
    while not producer.has_more_than(acked):
        late = f"no answer within {CALL_TIMEOUT_S:g} s {when}; the client said last:"
        assert time.monotonic() < deadline, f"{late}\n{producer.said()}"
        time.sleep(0.005)
