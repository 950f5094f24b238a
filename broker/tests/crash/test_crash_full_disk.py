"""A real full disk under a real broker: produce is refused, all else goes on, room brings produce back, kill -9 changes nothing.

The disk is a file system of its own, so it is the kernel that says no, and everything that a start or a checkpoint
writes has to find its room there. One producer goes on all the time and learns nothing but delays.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from penstock.testing.process import BrokerProcess
from penstock.testing.small_disk import SmallDiskError, loop_disk, namespace_disk, small_disk
from penstock.testing.wire_probe import end_offsets, start_offsets
from steady_producer import SteadyProducer, now_ms, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from penstock.testing.ledger import Ledger

MIB = 1 << 20
DISK_BYTES = 20 * MIB
TOPIC = "flood"
PARTITIONS = 2
GROUP = "reader"
VALUE_BYTES = 4096
# What waits in the client when the disk is full again: less than what retention keeps of each partition.
QUEUE_MAX = 200
RESUMED_MESSAGES = 3 * QUEUE_MAX
KEPT_BYTES = 2 * MIB
PER_SECOND = 20_000
WAIT_S = 30.0
CALL_TIMEOUT_S = 10.0


class Scene:
    """One broker, the reader that gives the ledger what it read, and the questions that the test asks."""

    def __init__(self, broker: BrokerProcess, admin: AdminClient, ledger: Ledger) -> None:
        self._broker = broker
        self._ledger = ledger
        self._admin = admin
        self._topics = 0

    @property
    def disk_state(self) -> str:
        return str(self._get("/v1/broker")["disk"]["state"])

    def read_to_the_end(self) -> None:
        """Reads on from the group's offsets, commits, and checks that the broker keeps what was committed."""
        ends = end_offsets(self._broker.kafka, TOPIC, PARTITIONS)
        starts = start_offsets(self._broker.kafka, TOPIC, PARTITIONS)
        with _consumer(self._broker.kafka) as consumer:
            known = consumer.committed([TopicPartition(TOPIC, one) for one in ends], timeout=CALL_TIMEOUT_S)
            at = {one.partition: max(one.offset, starts[one.partition]) for one in known}
            consumer.assign([TopicPartition(TOPIC, one, at[one]) for one in ends])
            deadline = time.monotonic() + WAIT_S
            while any(at[one] < ends[one] for one in ends):
                assert time.monotonic() < deadline, f"read up to {at}, the ends are {ends}"
                for message in consumer.consume(1000, 0.2):
                    assert message.error() is None, message.error()
                    partition, offset = message.partition(), message.offset()
                    assert partition is not None
                    assert offset is not None
                    self._ledger.receive(number_of(message), partition, offset)
                    at[partition] = offset + 1
            consumer.commit(offsets=[TopicPartition(TOPIC, one, at[one]) for one in ends], asynchronous=False)
        self.check_committed(at)

    def check_committed(self, expected: dict[int, int]) -> None:
        with _consumer(self._broker.kafka) as consumer:
            asked = [TopicPartition(TOPIC, one) for one in expected]
            found = consumer.committed(asked, timeout=CALL_TIMEOUT_S)
        assert {one.partition: one.offset for one in found} == expected

    def administer(self) -> None:
        """Makes a topic and changes its configuration; all topics made so far are there."""
        name = f"made-{self._topics}"
        self._topics += 1
        self._admin.create_topics([NewTopic(name, 3)])[name].result(CALL_TIMEOUT_S)
        self.configure(name, "retention.ms", "600000")
        found = self._admin.list_topics(timeout=CALL_TIMEOUT_S).topics
        assert {TOPIC, *(f"made-{one}" for one in range(self._topics))} <= set(found)

    def configure(self, topic: str, option: str, value: str) -> None:
        entry = ConfigEntry(option, value, incremental_operation=AlterConfigOpType.SET)
        change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self._admin.incremental_alter_configs([change])[change].result(CALL_TIMEOUT_S)

    def check_refused(self) -> None:
        """Both doors refuse, with a retriable code; HTTP has a sentence for people as well."""
        status, retry_after, problem = self._post()
        assert (status, problem["code"]) == (503, "KAFKA_STORAGE_ERROR"), problem
        assert retry_after is not None
        assert "disk is" in problem["detail"], problem
        error = self._produce_once()
        assert error is not None, "the full disk took a message"
        assert error.code() == KafkaError.KAFKA_STORAGE_ERROR

    def forget(self, partition: int, offset: int) -> None:
        asked = TopicPartition(TOPIC, partition, offset)
        self._admin.delete_records([asked])[asked].result(CALL_TIMEOUT_S)

    def _produce_once(self) -> KafkaError | None:
        answers: list[KafkaError | None] = []
        producer = Producer({"bootstrap.servers": self._broker.kafka, "retries": 0, "linger.ms": 0})
        # To the smallest topic, so that the ledger's offsets stay the producer's own.
        producer.produce("made-0", b"x" * VALUE_BYTES, on_delivery=lambda error, _: answers.append(error))
        assert producer.flush(CALL_TIMEOUT_S) == 0
        (answer,) = answers
        return answer

    def _post(self) -> tuple[int, str | None, Any]:
        """Status, Retry-After and document of the answer."""
        body = json.dumps({"messages": [{"value": "x" * VALUE_BYTES}]}).encode()
        url = f"{self._broker.http}/v1/topics/made-0/messages"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as answer:
                return answer.status, None, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Retry-After"], json.load(error)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._broker.admin + path, timeout=CALL_TIMEOUT_S) as answer:
            return json.load(answer)


@pytest.mark.clients
@pytest.mark.parametrize("policy", ["sync", "async"])
def test_a_full_disk(policy: str, tmp_path: Path) -> None:
    config = {
        "flush.policy": policy,
        "log.segment.bytes": MIB,
        "log.disk.warn.ratio": 1.0,
        "log.disk.refuse.ratio": 1.0,  # No mark comes before the end of the disk itself.
        "log.retention.check.interval.ms": 100,
    }
    with (
        small_disk(tmp_path / "data", DISK_BYTES) as disk,
        BrokerProcess(tmp_path, config=config, prefix=disk.prefix) as broker,
    ):
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS)])[TOPIC].result(CALL_TIMEOUT_S)
        producer = SteadyProducer(
            broker.kafka,
            TOPIC,
            PARTITIONS,
            per_second=PER_SECOND,
            value_bytes=VALUE_BYTES,
            queue_max=QUEUE_MAX,
        )
        scene = Scene(broker, admin, producer.ledger)
        scene.administer()
        _wait(lambda: scene.disk_state == "refuse", "full disk")
        assert producer.ledger.acked * VALUE_BYTES > DISK_BYTES // 3
        _check_full(scene)
        # Somebody else takes the last byte, and the power button is pressed.
        disk.fill()
        _check_full(scene)
        producer.ledger.interrupt(now_ms())
        broker.kill()
        broker.restart()
        _wait(lambda: scene.disk_state == "refuse", "full disk after the restart")
        _check_full(scene)
        pid = broker.pid
        # A person makes room.
        for partition, end in end_offsets(broker.kafka, TOPIC, PARTITIONS).items():
            scene.forget(partition, end)
        _wait_resumed(producer)
        _wait(lambda: scene.disk_state == "refuse", "disk that is full again")
        _check_full(scene)
        # Retention makes room, for the rest only: so it removes nothing that the reader has not seen.
        producer.send_no_more()
        scene.configure(TOPIC, "retention.bytes", str(KEPT_BYTES))
        producer.stop()
        scene.read_to_the_end()
        assert broker.pid == pid
        assert broker.running, broker.tail()
        verdict = producer.ledger.judge()
        print(verdict.line())
        assert verdict.good, verdict.examples
        assert verdict.duplicated == 0
        assert verdict.acked == verdict.sent, f"the client gave messages up: {verdict}"
        assert broker.terminate() == 0


def _check_full(scene: Scene) -> None:
    scene.administer()
    scene.check_refused()
    scene.read_to_the_end()


def _wait_resumed(producer: SteadyProducer) -> None:
    acked = producer.ledger.acked
    _wait(
        lambda: producer.ledger.acked > acked + RESUMED_MESSAGES, "answers to what was sent after room came"
    )


@pytest.mark.parametrize("make", [loop_disk, namespace_disk])
def test_both_kinds_of_small_disk(make: Any, tmp_path: Path) -> None:
    """Where a kind cannot be made it says so, and the test above says what is missing when neither can."""
    folder = tmp_path / "data"
    try:
        with make(folder, DISK_BYTES) as disk:
            assert DISK_BYTES // 2 < disk.fill() <= DISK_BYTES
            assert disk.seen.is_mount()
            with pytest.raises(OSError, match="No space left"):
                (disk.seen / "more").write_bytes(b"x")
    except SmallDiskError as refusal:
        print(refusal)
    assert not folder.exists()


@contextmanager
def _consumer(bootstrap: str) -> Iterator[Consumer]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP, "enable.auto.commit": False})
    try:
        yield consumer
    finally:
        consumer.close()


def _wait(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, f"no {what} within {WAIT_S:g} s"
        time.sleep(0.01)
