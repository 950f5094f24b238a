"""Lookup by time is exact: also in the middle of a batch, with times that are not in order, before and after all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from client_matrix import every_client, scenario
from client_peer import create_topic
from penstock.testing.wire_probe import stored_batches

if TYPE_CHECKING:
    from client_driver import Driver

PARTITIONS = 2
MESSAGES = 200
FIRST_MS = 1_700_000_000_000
STEP_MS = 1000
BATCHES = 4


@pytest.fixture(scope="module")
def timed(bootstrap: str) -> str:
    """A topic whose message n has time FIRST_MS + n * STEP_MS and lies in partition n % PARTITIONS."""
    topic = create_topic(bootstrap, PARTITIONS, {"retention.ms": "-1"})
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1000, "compression.type": "lz4"})
    for number in range(MESSAGES):
        producer.produce(
            topic, str(number), partition=number % PARTITIONS, timestamp=FIRST_MS + number * STEP_MS
        )
        if (number + 1) % (MESSAGES // BATCHES) == 0:
            producer.flush()
    batches = stored_batches(bootstrap, topic, 0)
    assert len(batches) < MESSAGES // PARTITIONS, "the lookup must have to look into batches"
    return topic


@scenario("seek by time")
@every_client()
@pytest.mark.parametrize(
    ("since_ms", "first"),
    [(FIRST_MS - 1, 0), (FIRST_MS + 77 * STEP_MS, 77), (FIRST_MS + 77 * STEP_MS + 1, 78)],
    ids=["before all", "exactly", "between"],
)
def test_seek_by_time(driver: Driver, since_ms: int, first: int, bootstrap: str, timed: str) -> None:
    receipts = driver.read_from_time(bootstrap, timed, since_ms, MESSAGES - first)
    assert sorted(one.number for one in receipts) == list(range(first, MESSAGES))
    assert all(one.timestamp_ms in (-1, FIRST_MS + one.number * STEP_MS) for one in receipts)
