"""What clients do on one broker they do on three, with a follower as their only bootstrap address.

The administrative scenarios are those of one broker, word for word; `PENSTOCK_TEST_PEER=shard` runs all the others.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from book import judge
from client_matrix import every_client, scenario
from client_peer import create_topic
from test_clients_admin import (
    test_configs,
    test_delete_group,
    test_delete_offsets,
    test_delete_records,
    test_groups,
    test_topics,
)

if TYPE_CHECKING:
    from client_driver import Driver
    from client_peer import MakeTopic

__all__ = [
    "test_configs",
    "test_delete_group",
    "test_delete_offsets",
    "test_delete_records",
    "test_groups",
    "test_topics",
]

MESSAGES = 200


@pytest.fixture
def make_topic(bootstrap: str) -> MakeTopic:
    return lambda partitions=1, config=None: create_topic(bootstrap, partitions, config)


@scenario("idempotent producer makes the topic it writes to")
@every_client()
def test_a_topic_is_made_by_its_first_producer(driver: Driver, bootstrap: str) -> None:
    topic = f"made-{uuid.uuid4()}"
    acks = driver.start_load(bootstrap, topic, MESSAGES).finish(60)
    verdict = judge(MESSAGES, acks, driver.read_all(bootstrap, topic, MESSAGES))
    assert verdict.good, verdict.examples
    assert (verdict.acked, verdict.received, verdict.duplicated) == (MESSAGES, MESSAGES, 0)
