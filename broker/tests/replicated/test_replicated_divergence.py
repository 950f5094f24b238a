"""A replica whose state goes wrong ends by itself, whoever it is, and comes back with the state that the others have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client_peer import create_topic
from driver_confluent import ConfluentDriver
from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.clients

CONFIG = {"state.hash.entries": 10, "state.hash.interval.ms": 100, "min.insync.replicas": 2}
EXIT_STORAGE = 5
MESSAGES = 500
PER_SECOND = 500
# Python runs a module of this name before anything else: here, in a broker that forgets its oldest producer by each batch.
WRONG = """
from penstock.session.producers import ProducerSessions

right = ProducerSessions.apply_batch


def apply_batch(self, index, partition, header):
    right(self, index, partition, header)
    del self._committed[next(iter(self._committed))]


ProducerSessions.apply_batch = apply_batch
"""


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[ShardProcesses]:
    with ShardProcesses(tmp_path / "shard", config=CONFIG) as shard:
        yield shard


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_a_replica_whose_state_goes_wrong_ends_and_is_sent_everything_anew(
    shard: ShardProcesses, tmp_path: Path, leads: bool
) -> None:
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "sitecustomize.py").write_text(WRONG)
    topic = create_topic(shard.kafka, 1)
    wrong = shard.followers()[0]
    broker = shard.brokers[wrong]
    before = shard.ask(wrong, "/v1/broker")["storageId"]
    broker.packages = tmp_path / "wrong"
    shard.restart(wrong)
    shard.wait_whole()
    if leads:
        assert shard.hand_over(wrong) == wrong
    load = ConfluentDriver().start_load(shard.kafka, topic, MESSAGES, per_second=PER_SECOND)
    shard.wait_until(lambda: not broker.running, "end of the replica that went wrong")
    assert broker.exit_code == EXIT_STORAGE
    assert "on most of the shard's voters: this replica has gone wrong" in broker.log.read_text()
    # The others go on: a verdict is a majority's, so it cannot stop one.
    assert shard.leader() != wrong
    assert len(load.finish(30)) == MESSAGES
    broker.packages = None
    shard.restart(wrong)
    shard.wait_whole()
    assert shard.ask(wrong, "/v1/broker")["storageId"] != before
    assert "this member has forgotten: the state of producers/1" in broker.log.read_text()
    shard.agreed()
