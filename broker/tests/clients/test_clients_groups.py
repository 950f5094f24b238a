"""Consumer groups: a second member joins and leaves, a static member goes and comes back, offsets are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from book import judge
from client_driver import eventually
from client_matrix import every_client, every_client_and_protocol, scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from client_driver import Driver, Member, Receipt
    from client_peer import MakeTopic

PARTITIONS = 4
MESSAGES = 900
PER_SECOND = 150
REBALANCE_TIMEOUT_S = 40.0
ALL = frozenset(range(PARTITIONS))


@scenario("group: second member joins and leaves under load")
@every_client_and_protocol()
def test_rebalance(
    driver: Driver, cooperative: bool, bootstrap: str, make_topic: MakeTopic, group: str
) -> None:
    topic = make_topic(PARTITIONS)
    members: list[Member] = []
    try:
        members.append(driver.join(bootstrap, topic, group, cooperative=cooperative))
        eventually(_share(members), REBALANCE_TIMEOUT_S, _holdings(members, "one member with all partitions"))
        load = driver.start_load(bootstrap, topic, MESSAGES, per_second=PER_SECOND)
        members.append(driver.join(bootstrap, topic, group, cooperative=cooperative))
        eventually(_share(members), REBALANCE_TIMEOUT_S, _holdings(members, "two members that share"))
        members[1].leave()
        eventually(
            _share(members[:1]), REBALANCE_TIMEOUT_S, _holdings(members[:1], "the first takes all over")
        )
        acks = load.finish(60)
        eventually(
            lambda: len({(one.partition, one.offset) for one in _received(members)}) >= len(acks),
            REBALANCE_TIMEOUT_S,
            lambda: f"{len(acks)} messages, {len(_received(members))} were read",
        )
    finally:
        for member in members:
            member.leave()
    verdict = judge(MESSAGES, acks, _received(members))
    assert verdict.good, verdict.examples
    assert (verdict.acked, verdict.received, verdict.duplicated) == (MESSAGES, MESSAGES, 0)
    assert sum(_committed(bootstrap, group, topic).values()) == MESSAGES, "the last commits before leaving"


@scenario("group: static member restarts without a rebalance")
@every_client()
def test_static_member(driver: Driver, bootstrap: str, make_topic: MakeTopic, group: str) -> None:
    topic = make_topic(PARTITIONS)
    staying = driver.join(bootstrap, topic, group, instance="staying")
    going = driver.join(bootstrap, topic, group, instance="going")
    try:
        eventually(
            _share([staying, going]), REBALANCE_TIMEOUT_S, _holdings([staying, going], "two that share")
        )
        held = going.assigned()
        changes = staying.changes()
        going.leave()
        going = driver.join(bootstrap, topic, group, instance="going")
        eventually(
            lambda: going.assigned() == held,
            REBALANCE_TIMEOUT_S,
            lambda: f"the returned member holds {sorted(going.assigned())} and held {sorted(held)}",
        )
        # It reads on, and so does the other, whom nobody disturbed.
        acks = driver.start_load(bootstrap, topic, 100).finish(60)
        eventually(
            lambda: len(staying.receipts()) + len(going.receipts()) >= 100,
            REBALANCE_TIMEOUT_S,
            "100 messages read by both",
        )
        assert staying.changes() == changes, "the other member saw a rebalance"
        verdict = judge(100, acks, [*staying.receipts(), *going.receipts()])
        assert verdict.good, verdict.examples
    finally:
        staying.leave()
        going.leave()


def _share(members: Sequence[Member]) -> Callable[[], bool]:
    """Whether every member holds something, together everything, and nothing twice."""

    def shared() -> bool:
        held = [member.assigned() for member in members]
        return all(held) and frozenset().union(*held) == ALL and sum(map(len, held)) == PARTITIONS

    return shared


def _holdings(members: Sequence[Member], what: str) -> Callable[[], str]:
    return lambda: f"{what}; they hold {[sorted(member.assigned()) for member in members]}"


def _received(members: Sequence[Member]) -> list[Receipt]:
    return [receipt for member in members for receipt in member.receipts()]


def _committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        asked = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        return {one.partition: max(0, one.offset) for one in consumer.committed(asked, timeout=20)}
    finally:
        consumer.close()
