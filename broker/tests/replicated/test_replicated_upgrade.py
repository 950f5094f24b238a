"""Brokers of the first release that kept a shard together are replaced by today's, one after the other, under load.

`frozen/27a6dae` is the wheel of the commit "Run three brokers as one shard", made by `tools/freeze-release 27a6dae`: the
release of feature level 1. Its brokers and today's speak the same protocol, so nothing is translated between them.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Message, Producer

from book import judge
from client_driver import KEYS, ThreadedLoad, eventually
from client_peer import create_topic
from driver_confluent import ConfluentDriver
from penstock.replication.features import FEATURE_LEVEL
from penstock.testing.managed_process import ServerError
from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.testing.ledger import Verdict

pytestmark = [pytest.mark.clients, pytest.mark.timeout(240)]

FROZEN = Path(__file__).parent / "frozen" / "27a6dae"
FIRST_LEVEL = 1
PARTITIONS = 3
PER_SECOND = 300
# Acknowledged and read between two steps, so that each mixture of releases serves for a while.
SERVED = 300
SERVED_TIMEOUT_S = 60.0
CONFIG = {"log.segment.bytes": 1 << 20, "min.insync.replicas": 2}


@pytest.fixture(scope="module")
def first_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first release is installed."""
    folder = tmp_path_factory.mktemp("first-release")
    (wheel,) = FROZEN.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*install, "--no-deps", "--target", str(folder), str(wheel)], check=True, timeout=60)
    return folder


@pytest.fixture
def old_shard(tmp_path: Path, first_release: Path) -> Iterator[ShardProcesses]:
    """Three brokers of the first release."""
    shard = ShardProcesses(tmp_path, config=CONFIG)
    for broker in shard.brokers:
        broker.packages = first_release
    with shard:
        yield shard


class Traffic:
    """An idempotent producer with acks=all and one member of a group, from before the first step to after the last."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._topic = create_topic(bootstrap, PARTITIONS)
        self._done = threading.Event()
        self._sent = 0
        self._load = ThreadedLoad(self._produce, 0)
        self._member = ConfluentDriver().join(bootstrap, self._topic, "upgraded")

    def _produce(self, load: ThreadedLoad) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )

        def note(error: object, message: Message, number: int) -> None:
            if error is None:
                load.note(number, message.partition(), message.offset())

        while not self._done.wait(1 / PER_SECOND):
            number = self._sent
            self._sent += 1
            producer.produce(
                self._topic,
                str(number).encode(),
                str(number % KEYS).encode(),
                on_delivery=lambda error, message, number=number: note(error, message, number),
            )
            producer.poll(0)
        producer.flush()

    def flows(self) -> None:
        """Returns when SERVED more messages were acknowledged and as many more read by the group's member."""
        acked, read = self._load.acked + SERVED, len(self._member.receipts()) + SERVED
        eventually(
            lambda: self._load.acked >= acked and len(self._member.receipts()) >= read,
            SERVED_TIMEOUT_S,
            lambda: (
                f"{acked} acknowledged (now {self._load.acked}), {read} read (now {len(self._member.receipts())})"
            ),
        )

    def finish(self) -> tuple[Verdict, Verdict]:
        """What the group's member saw of all that was sent, and what somebody sees who reads everything anew."""
        self._done.set()
        acks = self._load.finish(SERVED_TIMEOUT_S)
        assert len(acks) == self._sent, "the client gave something up"
        eventually(
            lambda: len({item.number for item in self._member.receipts()}) >= self._sent,
            SERVED_TIMEOUT_S,
            "everything read by the group",
        )
        seen = self._member.receipts()
        self._member.leave()
        anew = ConfluentDriver().read_all(self._bootstrap, self._topic, self._sent)
        return judge(self._sent, acks, seen), judge(self._sent, acks, anew)


def levels(shard: ShardProcesses) -> list[Any]:
    """The shard's feature level as each broker says it; None from the first release, which does not tell."""
    found = [shard.ask(ordinal, "/v1/cluster")["shards"][0] for ordinal in range(shard.replicas)]
    return [item.get("featureLevel") for item in found]


def run_release(shard: ShardProcesses, ordinal: int, packages: Path | None) -> None:
    """Restarts one broker with another release, None for today's, and waits until it is in sync again."""
    shard.brokers[ordinal].packages = packages
    shard.restart(ordinal)
    shard.wait_whole()


def test_a_shard_is_upgraded_broker_by_broker_under_load(
    old_shard: ShardProcesses, first_release: Path
) -> None:
    shard = old_shard
    assert levels(shard) == [None, None, None]
    traffic = Traffic(shard.kafka)
    traffic.flows()
    one, two = shard.followers()
    run_release(shard, one, None)
    traffic.flows()
    # Nothing is used yet that the release before would not know.
    run_release(shard, one, first_release)
    assert levels(shard) == [None, None, None]
    traffic.flows()
    run_release(shard, one, None)
    run_release(shard, two, None)
    traffic.flows()
    # Today's release leads, and the last one of the first follows it.
    last = shard.leader()
    assert last not in (one, two)
    shard.hand_over()
    shard.wait_whole()
    traffic.flows()
    assert sorted(levels(shard), key=str) == [FIRST_LEVEL, FIRST_LEVEL, None]
    run_release(shard, last, None)
    shard.wait_until(lambda: levels(shard) == [FEATURE_LEVEL] * 3, f"feature level {FEATURE_LEVEL}")
    traffic.flows()
    for whose, verdict in zip(("the group", "a new reader"), traffic.finish(), strict=True):
        print(verdict.line(f"upgraded broker by broker, {whose}"))
        assert verdict.good, verdict.examples
        assert (verdict.received, verdict.duplicated) == (verdict.sent, 0), verdict
    assert len(shard.agreed().machines) >= 5


def test_a_release_that_knows_less_than_the_shard_uses_is_kept_out(
    tmp_path: Path, first_release: Path
) -> None:
    with ShardProcesses(tmp_path, config=CONFIG) as shard:
        shard.wait_until(lambda: levels(shard) == [FEATURE_LEVEL] * 3, f"feature level {FEATURE_LEVEL}")
        traffic = Traffic(shard.kafka)
        traffic.flows()
        leader, back = shard.leader(), shard.followers()[0]
        shard.brokers[back].packages = first_release
        # Its own snapshots have a state that the old release does not know.
        with pytest.raises(ServerError):
            shard.restart(back)
        assert "which this release does not know: upgrade Penstock" in shard.brokers[back].log.read_text()
        traffic.flows()
        # With an empty volume it gets as far as its peers, and no further.
        shard.empty(back)
        shard.brokers[back].launch_only()
        sentence = f"the shard uses feature level {FEATURE_LEVEL}, the release of {shard.name(back)} knows 1: upgrade it"
        shard.wait_until(
            lambda: all(sentence in shard.brokers[each].log.read_text() for each in (leader, back)),
            "refusal in both brokers' logs",
        )
        traffic.flows()
        assert not shard.is_ready(back)
        run_release(shard, back, None)
        traffic.flows()
        seen, anew = traffic.finish()
        assert seen.good, seen.examples
        assert anew.good, anew.examples
        shard.agreed()
