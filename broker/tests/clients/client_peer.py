"""The broker that the clients talk to, and topics on it that no other scenario uses."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from client_driver import eventually
from penstock.testing.apache_kafka import ApacheKafka
from penstock.testing.process import BrokerProcess
from penstock.testing.shard_peer import ShardPeer

Peer = BrokerProcess | ApacheKafka | ShardPeer
MakeTopic = Callable[..., str]

CREATE_TIMEOUT_S = 30.0
_numbers = itertools.count()


def make_peer(folder: Path) -> Peer:
    """The broker under test, not started yet."""
    peer = os.environ.get("PENSTOCK_TEST_PEER", "penstock")
    if peer == "kafka":
        return ApacheKafka(folder, heap=("-Xmx512m",))
    if peer == "shard":
        return ShardPeer(folder)
    if peer != "penstock":
        pytest.exit(f"PENSTOCK_TEST_PEER is {peer!r}: write penstock, shard or kafka", returncode=4)
    return BrokerProcess(folder)


def create_topic(bootstrap: str, partitions: int, config: dict[str, str] | None = None) -> str:
    """A new topic under a name nobody used before; returns when the broker shows it."""
    topic = f"scenario-{next(_numbers)}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    created = admin.create_topics([NewTopic(topic, partitions, config=config or {})])
    created[topic].result(CREATE_TIMEOUT_S)

    def shown() -> bool:
        found = admin.list_topics(topic, timeout=CREATE_TIMEOUT_S).topics[topic]
        return len(found.partitions) == partitions and all(
            one.leader >= 0 for one in found.partitions.values()
        )

    eventually(shown, CREATE_TIMEOUT_S, f"topic {topic} in the metadata")
    return topic
