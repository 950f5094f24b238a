"""The leader, which coordinates all groups, is killed while two members share a topic and commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from book import judge
from client_driver import eventually
from client_matrix import every_client, scenario
from client_peer import create_topic
from replicated_load import MESSAGES, PARTITIONS, check, load_through

if TYPE_CHECKING:
    from collections.abc import Sequence

    from client_driver import Driver, Member
    from penstock.testing.shard_processes import ShardProcesses

TIMEOUT_S = 40.0


@scenario("leader and coordinator killed under two members of a group")
@every_client()
def test_coordinator_killed(driver: Driver, shard: ShardProcesses, group: str) -> None:
    topic = create_topic(shard.kafka, PARTITIONS)
    members = [driver.join(shard.kafka, topic, group) for _ in range(2)]
    try:
        eventually(lambda: _shared(members), TIMEOUT_S, "two members that share")
        changes = [member.changes() for member in members]
        leader = shard.leader()
        outcome = load_through(shard, driver, lambda: shard.kill(leader), topic)
        check(outcome, f"coordinator killed, {driver.name}")
        eventually(
            lambda: len(_read(members)) >= outcome.stored,
            TIMEOUT_S,
            lambda: f"{outcome.stored} stored, the members have {len(_read(members))}",
        )
        eventually(lambda: _shared(members), TIMEOUT_S, "two members that share again")
        kept = [member.changes() for member in members] == changes
        print(
            f"coordinator killed, {driver.name}: the members", "kept their generation" if kept else "rejoined"
        )
    finally:
        for member in members:
            member.leave()
    receipts = [receipt for member in members for receipt in member.receipts()]
    verdict = judge(MESSAGES, outcome.acks, receipts)
    assert verdict.good, verdict.examples
    assert sum(_committed(shard.kafka, group, topic).values()) == MESSAGES, "the last commits before leaving"


def _shared(members: Sequence[Member]) -> bool:
    held = [member.assigned() for member in members]
    return all(held) and sum(map(len, held)) == PARTITIONS == len(frozenset().union(*held))


def _read(members: Sequence[Member]) -> set[tuple[int, int]]:
    return {(one.partition, one.offset) for member in members for one in member.receipts()}


def _committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    try:
        asked = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        return {one.partition: max(0, one.offset) for one in consumer.committed(asked, timeout=20)}
    finally:
        consumer.close()
