"""Brokers that lose their storage, fall far behind, or run with other settings than the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from client_peer import create_topic
from driver_confluent import ConfluentDriver
from penstock.testing.shard_processes import ShardProcesses
from replicated_load import check, load_through

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.clients

SEGMENT_BYTES = 1 << 20
VALUE_BYTES = 10_000


def test_a_follower_with_an_empty_folder_is_taken_in_anew(shard: ShardProcesses) -> None:
    gone = shard.followers()[0]
    before = shard.ask(gone, "/v1/broker")["storageId"]

    def replace() -> None:
        shard.kill(gone)
        shard.empty(gone)
        shard.restart(gone)

    check(load_through(shard, ConfluentDriver(), replace), "a follower lost its folder")
    assert shard.ask(gone, "/v1/broker")["storageId"] != before
    members = shard.view(shard.leader()).members
    assert sorted(members) == [0, 1, 2]


@pytest.mark.parametrize("emptied", [False, True], ids=["behind", "emptied"])
def test_a_follower_that_misses_more_than_the_log_holds_is_given_the_state(
    tmp_path: Path, emptied: bool
) -> None:
    config = {"log.segment.bytes": SEGMENT_BYTES, "log.retention.check.interval.ms": 200}
    with ShardProcesses(tmp_path, config=config) as shard:
        leader, gone = shard.leader(), shard.followers()[0]
        bulk = create_topic(shard.kafka, 1, {"retention.bytes": "1"})
        shard.kill(gone)
        if emptied:
            shard.empty(gone)
        _fill(shard, bulk, 8 * SEGMENT_BYTES)
        shard.wait_until(lambda: _first_index(shard, leader) > 1, "segment dropped by retention")

        def come_back() -> None:
            shard.restart(gone)
            _fill(shard, bulk, 2 * SEGMENT_BYTES)

        check(load_through(shard, ConfluentDriver(), come_back), "a follower was given the state")
        shard.wait_whole()
        assert "took the state as of entry" in shard.brokers[gone].log.read_text()
        assert _first_index(shard, gone) > 1
        shard.agreed()
        # It counts like the others: with it, the shard can do without the leader.
        shard.kill(leader)
        shard.leader(other_than=leader)
        shard.start()
        shard.agreed()


def test_a_broker_may_flush_in_its_own_way(shard: ShardProcesses) -> None:
    other = shard.followers()[0]
    shard.configure(other, {"flush.policy": "async"})
    try:
        shard.restart(other)
        shard.wait_whole()
        assert shard.hand_over(other) == other
        shard.wait_whole()
        check(load_through(shard, ConfluentDriver(), lambda: shard.kill(other)), "leader with flush async")
    finally:
        shard.configure(other, {})
    shard.restart(other)
    shard.wait_whole()


def _first_index(shard: ShardProcesses, ordinal: int) -> int:
    return int(shard.ask(ordinal, "/v1/broker")["log"]["firstIndex"])


def _fill(shard: ShardProcesses, topic: str, size_bytes: int) -> None:
    """Writes about that many bytes."""
    producer = Producer({"bootstrap.servers": shard.kafka, "linger.ms": 5, "log_level": 0})
    for _ in range(size_bytes // VALUE_BYTES):
        producer.produce(topic, bytes(VALUE_BYTES))
        producer.poll(0)
    assert producer.flush(30) == 0
