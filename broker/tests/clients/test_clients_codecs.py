"""Every client writes with every compression it has; what is stored is that compression, and all clients read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from book import judge
from client_matrix import DRIVERS, every_client_and_codec, scenario
from client_peer import create_topic
from penstock.testing.wire_probe import CODECS, end_offsets, stored_batches

if TYPE_CHECKING:
    from client_driver import Ack, Driver
    from client_peer import MakeTopic

PARTITIONS = 3
MESSAGES = 600
MESSAGES_BY_EACH = 100
LIBRARIES = [driver for driver in DRIVERS if driver.name in {"confluent-kafka", "kafka-python", "aiokafka"}]


@scenario("produce and consume")
@every_client_and_codec()
def test_codec_round_trip(driver: Driver, codec: str, bootstrap: str, make_topic: MakeTopic) -> None:
    topic = make_topic(PARTITIONS)
    acks = driver.start_load(bootstrap, topic, MESSAGES, codec=codec).finish(60)
    verdict = judge(MESSAGES, acks, driver.read_all(bootstrap, topic, MESSAGES))
    assert verdict.good, verdict.examples
    assert (verdict.acked, verdict.received, verdict.duplicated) == (MESSAGES, MESSAGES, 0)
    ends = end_offsets(bootstrap, topic, PARTITIONS)
    assert sum(ends.values()) == MESSAGES
    for partition, end in ends.items():
        batches = stored_batches(bootstrap, topic, partition)
        # Which batches a client finds worth compressing is its choice; that it can, shows in any of them.
        assert {batch.codec for batch in batches} <= {codec, "none"}
        assert codec in {batch.codec for batch in batches} or end == 0
        assert sum(batch.records for batch in batches) == end
        assert [batch.base_offset for batch in batches] == [0, *(batch.last_offset + 1 for batch in batches)][
            :-1
        ]


@pytest.fixture(scope="module")
def written(bootstrap: str) -> dict[str, tuple[str, list[Ack]]]:
    """By codec, a topic that every library that has the codec wrote to."""
    topics = {}
    for codec in CODECS:
        topic = create_topic(bootstrap, PARTITIONS)
        acks: list[Ack] = []
        for driver in LIBRARIES:
            if codec in driver.codecs:
                acks += driver.start_load(bootstrap, topic, MESSAGES_BY_EACH, codec=codec).finish(60)
        topics[codec] = topic, acks
    return topics


@scenario("consume what all libraries wrote")
@every_client_and_codec()
def test_reads_every_writer(
    driver: Driver, codec: str, bootstrap: str, written: dict[str, tuple[str, list[Ack]]]
) -> None:
    topic, acks = written[codec]
    assert len(acks) >= 2 * MESSAGES_BY_EACH
    receipts = driver.read_all(bootstrap, topic, len(acks))
    assert {(one.partition, one.offset, one.number) for one in receipts} == {
        (ack.partition, ack.offset, ack.number) for ack in acks
    }
