"""What a follower passes on to its leader, and what clients see while there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.codec.kafka.apis import API_BY_NAME
from penstock.codec.kafka.generated.create_topics import CreatableTopic
from penstock.codec.kafka.generated.metadata import MetadataRequestTopic, MetadataResponse
from penstock.listeners.kafka.exchange import encode
from penstock.listeners.kafka.server import KafkaListener
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.context import RequestContext
from penstock.testing.fake_services import FakeCluster
from penstock.testing.kafka_wire import KafkaWire

VERSION = 8


class FakeLeader:
    """Implements `Forwarder`: answers every Metadata request with a cluster id of its own, or with `failure`."""

    def __init__(self) -> None:
        self.leads = False
        self.caught_up = True
        self.failure: PenstockError | None = None
        self.asked = 0

    async def forward(self, context: RequestContext, frame: bytes) -> bytes:
        """See `Forwarder.forward`."""
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        correlation_id = int.from_bytes(frame[4:8], "big")
        api = API_BY_NAME["Metadata"]
        return b"".join(encode(api, VERSION, correlation_id, MetadataResponse(cluster_id="leader"))[0])


@pytest.fixture
async def follower() -> AsyncIterator[tuple[FakeLeader, FakeCluster, KafkaWire]]:
    leader, cluster = FakeLeader(), FakeCluster()
    listener = KafkaListener("internal", "127.0.0.1", 0, cluster.services()._replace(forwarder=leader), None)
    await listener.start()
    cluster.advertise(listener.address)
    wire = await KafkaWire.connect(listener.address)
    yield leader, cluster, wire
    await wire.close()
    await listener.stop()


async def _cluster_id(wire: KafkaWire, topic: str) -> str:
    answer = await wire.ask("Metadata", VERSION, topics=[MetadataRequestTopic(name=topic)])
    return str(answer.cluster_id)


async def test_a_follower_that_has_caught_up_answers_for_topics_that_it_knows(
    follower: tuple[FakeLeader, FakeCluster, KafkaWire],
) -> None:
    leader, cluster, wire = follower
    cluster.topics.create("known")
    assert await _cluster_id(wire, "known") != "leader"
    assert await _cluster_id(wire, "new") == "leader"
    leader.caught_up = False
    assert await _cluster_id(wire, "known") == "leader"
    leader.leads = True
    asked = leader.asked
    assert await _cluster_id(wire, "known") != "leader"
    assert leader.asked == asked


async def test_metadata_without_a_leader_ends_the_connection(
    follower: tuple[FakeLeader, FakeCluster, KafkaWire],
) -> None:
    leader, _, wire = follower
    leader.caught_up = False
    leader.failure = PenstockError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "nobody leads")
    await wire.send(wire.frame("Metadata", VERSION, topics=[MetadataRequestTopic(name="known")]))
    assert await wire.is_closed()


async def test_other_requests_without_a_leader_are_refused(
    follower: tuple[FakeLeader, FakeCluster, KafkaWire],
) -> None:
    leader, _, wire = follower
    leader.failure = PenstockError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "nobody leads")
    topic = CreatableTopic(name="new", num_partitions=1, replication_factor=-1)
    answer = await wire.ask("CreateTopics", 5, topics=[topic], timeout_ms=1000)
    assert answer.topics[0].error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
