"""Two of three brokers are lost for good in the middle of a load, and the third one is trusted."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from confluent_kafka import Producer

from client_peer import create_topic
from driver_confluent import ConfluentDriver
from penstock.process.run import EXIT_DATA_FOLDER
from penstock.testing.managed_process import ServerError
from penstock.testing.shard_processes import ShardProcesses
from penstock.testing.wire_probe import end_offsets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client_driver import Receipt

pytestmark = pytest.mark.clients

PARTITIONS = 3
BEFORE = 2_000
AFTER = 300
MESSAGE_TIMEOUT_MS = 3_000
EXIT_TIMEOUT_S = 20.0


class Written(NamedTuple):
    """What a producer was told: number by (partition, offset), and how many were given up."""

    acked: dict[tuple[int, int], int]
    failed: int


def write(shard: ShardProcesses, topic: str, numbers: range, halfway: Callable[[], None]) -> Written:
    """With acks=all; `halfway` happens between two messages."""
    acked: dict[tuple[int, int], int] = {}
    failures: list[str] = []

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            failures.append(str(error))
        else:
            acked[message.partition(), message.offset()] = int(message.value())

    producer = Producer(
        {"bootstrap.servers": shard.kafka, "acks": "all", "message.timeout.ms": MESSAGE_TIMEOUT_MS}
    )
    for number in numbers:
        if number == numbers[len(numbers) // 2]:
            halfway()
        producer.produce(topic, str(number), partition=number % PARTITIONS, on_delivery=delivered)
        producer.poll(0.001)
        if number == numbers[0]:
            producer.flush(MESSAGE_TIMEOUT_MS / 1000)  # It has found the shard.
    producer.flush(3 * MESSAGE_TIMEOUT_MS / 1000)
    return Written(acked, len(failures))


def read(shard: ShardProcesses, topic: str) -> dict[tuple[int, int], int]:
    leader = shard.brokers[shard.leader()].kafka
    stored = sum(end_offsets(leader, topic, PARTITIONS).values())
    receipts: list[Receipt] = list(ConfluentDriver().read_all(leader, topic, stored))
    return {(receipt.partition, receipt.offset): receipt.number for receipt in receipts}


def test_the_third_broker_goes_on_alone_and_others_join_it(tmp_path: Path) -> None:
    with ShardProcesses(tmp_path, config={"log.segment.bytes": 8 << 20}) as shard:
        topic = create_topic(shard.kafka, PARTITIONS)
        trusted = shard.followers()[0]
        lost = [ordinal for ordinal in range(3) if ordinal != trusted]
        with pytest.raises(ServerError, match="a majority: nothing is lost"):
            shard.trust(trusted)
        old = tmp_path / "old"

        def lose_two() -> None:
            for ordinal in lost:
                shard.kill(ordinal)
            shutil.copytree(shard.brokers[lost[0]].data, old)
            for ordinal in lost:
                shard.empty(ordinal)

        written = write(shard, topic, range(BEFORE), lose_two)
        assert len(written.acked) >= BEFORE // 3
        assert written.failed, "without a majority nothing is acknowledged"
        assert not shard.is_ready(trusted)
        last = shard.ask(trusted, "/v1/broker")["log"]["lastIndex"]
        epoch = shard.view(trusted).epoch

        with pytest.raises(ServerError, match="it was replaced, or another broker is meant"):
            shard.trust(trusted, storageId="00000000-0000-0000-0000-000000000001")
        recovery = shard.trust(trusted)
        assert (recovery["generation"], recovery["broker"]) == (1, shard.name(trusted))
        assert recovery["lastIndex"] == last >= recovery["commitIndex"] > 0
        assert shard.leader() == trusted
        assert shard.view(trusted).epoch > recovery["epoch"] > epoch
        # It leads a moment before it has applied the entry that says so.
        shard.wait_until(lambda: _told(shard, trusted) is not None, "recovery")
        assert _told(shard, trusted) == recovery
        assert "may be gone" in shard.brokers[trusted].log.read_text()

        # Its whole copy is there; what is not was never on it.
        ends = end_offsets(shard.brokers[trusted].kafka, topic, PARTITIONS)
        kept = {place: number for place, number in written.acked.items() if place[1] < ends[place[0]]}
        found = read(shard, topic)
        assert kept.items() <= found.items()
        gone = len(written.acked) - len(kept)
        print(
            f"acknowledged {len(written.acked)}, gone {gone}, kept though never acknowledged {len(found) - len(kept)}"
        )

        # The only broker serves, and goes on to serve while two empty ones join.
        more = write(shard, topic, range(BEFORE, BEFORE + AFTER), lambda: None)
        assert (len(more.acked), more.failed) == (AFTER, 0)
        with pytest.raises(ServerError, match="1 of the shard's 1 voters are there"):
            shard.trust(trusted)
        shard.start()
        shard.agreed()
        everything = {**found, **more.acked}
        assert read(shard, topic) == everything
        assert shard.view(trusted).members.keys() == {0, 1, 2}

        _returns(shard, lost[0], old, tmp_path / "new")
        shard.start()
        shard.agreed()
        assert read(shard, topic) == everything
        assert not [broker for broker in shard.brokers if "Traceback" in broker.log.read_text()]


def _returns(shard: ShardProcesses, ordinal: int, old: Path, aside: Path) -> None:
    """A broker that comes back with its former volume is sent away, then and at every later start, and keeps its data."""
    broker = shard.brokers[ordinal]
    shard.kill(ordinal)
    shutil.move(broker.data, aside)
    shutil.copytree(old, broker.data)
    for sentence in ("holds the shard from before it was recovered without it", "is left as it is"):
        broker.launch_only()
        shard.wait_until(lambda: not broker.running, "exit of the broker", EXIT_TIMEOUT_S)
        assert broker.exit_code == EXIT_DATA_FOLDER
        assert sentence in broker.log.read_text()
    logs = {path.name: path.read_bytes() for path in (old / "log").glob("*.log")}
    assert logs
    for name in logs:
        assert (broker.data / "log" / name).exists()
    shutil.rmtree(broker.data)
    shutil.move(aside, broker.data)


def _told(shard: ShardProcesses, ordinal: int) -> Any:
    return shard.ask(ordinal, "/v1/cluster")["shards"][0]["recovery"]
